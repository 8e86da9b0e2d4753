// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// TestOddities: their packets can be told apart, and each says what it wants.
func TestOddities(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range oddities {
		network := o.network
		if network == "ping" || network == "raw" {
			network = "icmp"
		}
		for _, key := range []string{o.name, network + " " + o.dial} {
			if seen[key] {
				t.Errorf("there are two of %s", key)
			}
			seen[key] = true
		}
		if _, err := findPod(o.from); err != nil || len(o.want) == 0 {
			t.Errorf("%s: wants %d kinds of packets from %s: %v", o.name, len(o.want), o.from, err)
		}
		for _, w := range o.want {
			ends := w.verdict != "" && w.verdict != delivered
			if ends != strings.Contains(w.visits, ">terminated") || ends != (w.reason != "") {
				t.Errorf("%s: %s has visits %q, verdict %q, reason %q", o.name, w.kind, w.visits, w.verdict, w.reason)
			}
		}
	}
}

// rejected is what must be seen of a bridged SYN that a rule refuses.
func rejected() (oddity, []*events.Traversal) {
	chosen, _ := findOddities([]string{"reject-reset-bridged"})
	client := events.Endpoint{IP: "172.23.96.23", Port: 4000, Process: "lab", PID: 9}
	server := events.Endpoint{IP: "172.23.96.24", Port: 4001}
	syn := &events.Traversal{
		ID: "1", Flow: "f", Direction: "request", Proto: "tcp", TCPFlags: "S", Src: client, Dst: server, Stacks: 1.5, L3Stacks: 1,
		Verdict: events.Terminated, Where: "netfilter", Reason: "rule-reject", Complete: true, Causes: []string{"2"},
		DataLink: []string{"centos eth0", "vethcentos", "(cni0)"},
		Visits: []events.Visit{
			{Name: "centos", Entered: "socket", Left: "device"},
			{Name: "n1", Entered: "device", Left: "terminated", Bridged: true, Hooks: []events.HookVisit{{Hook: "nf_send_reset"}}},
		},
	}
	rst := &events.Traversal{
		ID: "2", Flow: "f", Direction: "reply", Proto: "tcp", TCPFlags: "RA", Src: server, Dst: client, Stacks: 1.5, L3Stacks: 1.5,
		Verdict: events.Delivered, Complete: true, CausedBy: "1", DataLink: []string{"vethcentos", "centos eth0"},
		Visits: []events.Visit{{Name: "n1", Entered: "kernel", Left: "device"}, {Name: "centos", Entered: "device", Left: "socket"}},
	}
	return chosen[0], []*events.Traversal{syn, rst}
}

func TestCompareOddity(t *testing.T) {
	result := oddResult{Local: "172.23.96.23:4000", PID: 9}
	tests := []struct {
		name   string
		damage func(all []*events.Traversal) []*events.Traversal
		want   string
	}{
		{"as it should be", func(all []*events.Traversal) []*events.Traversal { return all }, ""},
		{"no link", func(all []*events.Traversal) []*events.Traversal { all[1].CausedBy = ""; return all }, "want request tcp S"},
		{"a link that should not be", func(all []*events.Traversal) []*events.Traversal { all[0].CausedBy = "2"; return all }, "want nothing"},
		{"another hook", func(all []*events.Traversal) []*events.Traversal { all[0].Visits[1].Hooks = nil; return all }, "did not pass nf_send_reset"},
		{"another reason", func(all []*events.Traversal) []*events.Traversal { all[0].Reason = "rule-drop"; return all }, "reason is"},
		{"another process", func(all []*events.Traversal) []*events.Traversal { all[0].Src.PID = 1; return all }, "process is"},
		{"no reset", func(all []*events.Traversal) []*events.Traversal { return all[:1] }, "no reply tcp RA was seen"},
		{"something else", func(all []*events.Traversal) []*events.Traversal { all[1].TCPFlags = "A"; return all }, "not expected: reply tcp A"},
		{"lost", func(all []*events.Traversal) []*events.Traversal { all[1].Complete = false; return all }, "complete is false"},
	}
	o, all := rejected()
	failed := result
	failed.Fault = "i/o timeout"
	if faults := strings.Join(o.compare(failed, packetsOf(&o, failed, all)), "\n"); !strings.Contains(faults, "for its client: i/o timeout") || !strings.Contains(faults, "then seen: request tcp S: ") {
		t.Errorf("of a failed one: %q", faults)
	}
	for _, test := range tests {
		o, all := rejected()
		faults := o.compare(result, packetsOf(&o, result, test.damage(all)))
		if test.want == "" && len(faults) > 0 {
			t.Errorf("%s: %q", test.name, faults)
		}
		if test.want != "" && !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, test.want) }) {
			t.Errorf("%s: faults %q, want one with %q", test.name, faults, test.want)
		}
	}
}
