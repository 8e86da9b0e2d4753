// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// TestHealth: each warning must be true of the connection that has it.
func TestHealth(t *testing.T) {
	lost := map[string]bool{"10.0.0.1:5 → 10.0.0.2:80": true, "10.0.0.1:6 → 10.0.0.2:80": false}
	packet := func(port uint16, direction string, notes ...string) *events.Traversal {
		return &events.Traversal{Direction: direction, Proto: "tcp", Verdict: events.Delivered, Notes: notes,
			Src: events.Endpoint{IP: "10.0.0.1", Port: port}, Dst: events.Endpoint{IP: "10.0.0.2", Port: 80}}
	}
	const note = clientLost + "10.0.0.2 sees 10.0.0.9 instead of 10.0.0.1"
	ended := packet(6, "request")
	ended.Verdict = events.Terminated
	late := packet(6, "request")
	late.Verdict, late.Where, late.Reason, late.Flow = events.Terminated, "socket", "reset", "again"
	overtaken, data := *late, *late
	overtaken.TCPFlags, overtaken.Flow = "A", "overtaken"
	data.TCPFlags, data.Flow = "PA", "overtaken"
	open := packet(6, "request")
	open.Verdict = events.InFlight
	for _, tt := range []struct {
		name   string
		t      *events.Traversal
		resent int
		want   string // part of a fault; empty: none
	}{
		{"true", packet(5, "request", note), 0, ""},
		{"nothing to say", packet(6, "request", "sent as 2 fragments"), 0, ""},
		{"missing", packet(5, "request"), 0, "has no note"},
		{"not true", packet(6, "request", note), 0, "it has the note"},
		{"of another kind", packet(6, "reply", "reply not translated back: it comes from elsewhere"), 0, "it has the note"},
		{"sent again", packet(6, "request", sentAgain+"1s later"), 1, ""},
		{"not sent again", packet(6, "request", sentAgain+"1s later"), 0, "the kernel has sent 0"},
		{"ended", ended, 0, "request tcp"},
		{"ended late", late, 0, ""},
		{"overtaken by the end", &overtaken, 0, ""},
		{"data refused", &data, 0, "request tcp PA"},
		{"open", open, 0, "1 packets were not delivered, 0 hook runs"},
	} {
		h := newHealth(lost, []*events.Traversal{
			{Flow: "again", TCPFlags: "FA", Notes: []string{sentAgain + "1s later"}}, {Flow: "overtaken", TCPFlags: "FA", Summary: "2 stacks, " + timeWait},
		})
		h.look(tt.t)
		h.compare(tt.resent, 0)
		if tt.want == "" && len(h.faults) > 0 || tt.want != "" && !slices.ContainsFunc(h.faults, func(f string) bool { return strings.Contains(f, tt.want) }) {
			t.Errorf("%s: faults %q, want %q", tt.name, h.faults, tt.want)
		}
	}
}

func TestSNMPValue(t *testing.T) {
	const text = "Ip: Forwarding\nIp: 1\nTcp: RtoMin RetransSegs InErrs\nTcp: 200 17 0\n"
	if n, err := snmpValue(text, "Tcp:", "RetransSegs"); n != 17 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range []string{"", "Tcp: RtoMin\nTcp: 200\n", "Tcp: RetransSegs\n", "Tcp: RetransSegs\nTcp: x\n"} {
		if n, err := snmpValue(bad, "Tcp:", "RetransSegs"); err == nil {
			t.Errorf("%q: %d", bad, n)
		}
	}
}

// TestChores: each comes from a namespace of the lab, and has a name of its own.
func TestChores(t *testing.T) {
	names := map[string]bool{}
	for _, c := range chores {
		if names[c.name] || c.every <= 0 {
			t.Errorf("%s: there are two, or it has no pace", c.name)
		}
		names[c.name] = true
		if _, err := findPod(c.from); err != nil {
			t.Error(err)
		}
	}
}
