// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// TestExpectations: each case has one, whose counts are those of its visits.
func TestExpectations(t *testing.T) {
	if len(expectations) != ten || len(expectations)+len(extraExpectations) != len(cases) {
		t.Fatalf("%d and %d expectations for %d cases", len(expectations), len(extraExpectations), len(cases))
	}
	for i, c := range cases {
		want, err := expectationOf(c.id)
		if err != nil {
			t.Error(err)
			continue
		}
		if i < ten && expectations[i].id != c.id {
			t.Errorf("expectation %d is of case %s", i, expectations[i].id)
		}
		for _, l := range []leg{want.request, want.reply} {
			if stacks, l3 := countStacks(l.visits); stacks != l.stacks || l3 != l.l3 {
				t.Errorf("case %s: the visits %q are %v stacks, %v with IP; the table says %v, %v", c.id, l.visits, stacks, l3, l.stacks, l.l3)
			}
		}
	}
}

// refused is what must be seen of case 7.
func refused() []*events.Traversal {
	client := events.Endpoint{IP: "172.23.96.23", Port: 4000, Pod: "default/centos", Process: "lab", PID: 9}
	vip := events.Endpoint{IP: vipLocal, Port: 80, Service: "default/nginx1-local"}
	syn := &events.Traversal{
		ID: "1", Flow: "f", Direction: "request", Proto: "tcp", TCPFlags: "S", Src: client, Dst: vip, Stacks: 1.5, L3Stacks: 1.5,
		Verdict: events.Terminated, Where: "ipvs", Reason: "no-destination", Complete: true, Causes: []string{"2"},
		Summary:  "1.5 stacks, terminated in IPVS: 8.219.164.113:80 has no destination on this node",
		DataLink: []string{"centos eth0", "vethcentos", "cni0"},
		Visits: []events.Visit{
			{Name: "centos", Entered: events.ViaSocket, Left: events.ViaDevice},
			{Name: "n1", Entered: events.ViaDevice, Left: events.ViaTerminated},
		},
	}
	icmp := &events.Traversal{
		ID: "2", Flow: "f", Direction: "reply", Proto: "icmp", ICMP: "3/3", Src: vip, Dst: client, Stacks: 1.5, L3Stacks: 1.5,
		Verdict: events.Delivered, Complete: true, CausedBy: "1", DataLink: []string{"cni0", "vethcentos", "centos eth0"},
		Visits: []events.Visit{
			{Name: "n1", Entered: events.ViaKernel, Left: events.ViaDevice},
			{Name: "centos", Entered: events.ViaDevice, Left: events.ViaSocket},
		},
	}
	return []*events.Traversal{syn, icmp}
}

// TestCompare: what is right passes, and each slip is found.
// TestCompareLate: what a connection refuses that has ended is no difference, if
// something was sent again in it.
func TestCompareLate(t *testing.T) {
	for _, again := range []bool{true, false} {
		all := refused()
		late := *all[0]
		late.TCPFlags, late.Where, late.Reason = "A", "socket", "no-socket"
		end := *all[0] // as it is expected of a request here
		end.TCPFlags = "FA"
		if all = append(all, &end, &late); again {
			all[0].Notes = append(all[0].Notes, sentAgain+"203ms later")
		}
		c, _ := findCase("7")
		want, _ := expectationOf("7")
		v := &verified{c: c, want: want, r: result{ClientLocal: "172.23.96.23:4000", Dialed: c.dial, PID: 9}}
		assign([]*verified{v}, all)
		v.compare()
		if faults := v.faults(); (len(faults) == 0) != again {
			t.Errorf("sent again: %t, faults %q", again, faults)
		}
	}
}

func TestCompare(t *testing.T) {
	tests := []struct {
		name, want string
		edit       func(syn, icmp *events.Traversal)
	}{
		{"right", "", func(_, _ *events.Traversal) {}},
		{"stacks", `stacks is "2"`, func(syn, _ *events.Traversal) { syn.Stacks = 2 }},
		{"reason", "reason", func(syn, _ *events.Traversal) { syn.Reason = "drop" }},
		{"link", "data_link", func(syn, _ *events.Traversal) { syn.DataLink = syn.DataLink[:2] }},
		{"visits", "visits", func(syn, _ *events.Traversal) { syn.Visits = syn.Visits[:1] }},
		{"lost", "lost is 1", func(syn, _ *events.Traversal) { syn.Lost = 1 }},
		{"incomplete", "complete is false", func(_, icmp *events.Traversal) { icmp.Complete = false }},
		{"process", "process", func(syn, _ *events.Traversal) { syn.Src.PID = 8 }},
		{"other process", "went to process", func(_, icmp *events.Traversal) { icmp.Dst.PID = 8 }},
		{"not linked", "not linked", func(_, icmp *events.Traversal) { icmp.CausedBy = "" }},
		{"one link only", "not linked", func(syn, _ *events.Traversal) { syn.Causes = nil }},
		{"other error", "no reply icmp3/3", func(_, icmp *events.Traversal) { icmp.ICMP = "3/1" }},
		{"translation", "nat", func(syn, _ *events.Traversal) {
			syn.Visits[1].NAT = []events.NAT{{By: "ipvs", Kind: "dnat"}}
		}},
		{"no error", "no reply icmp3/3", func(_, icmp *events.Traversal) { icmp.Flow = "g" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all := refused()
			tt.edit(all[0], all[1])
			c, _ := findCase("7")
			want, _ := expectationOf("7")
			v := &verified{c: c, want: want, r: result{ClientLocal: "172.23.96.23:4000", Dialed: c.dial, PID: 9}}
			left := assign([]*verified{v}, all)
			v.compare()
			got := strings.Join(v.faults(), "\n")
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("faults %q, want one with %q", got, tt.want)
			}
			if tt.name == "right" && len(left) > 0 {
				t.Errorf("%d traversals are of no case", len(left))
			}
		})
	}
}

// TestBook: a packet that is seen twice, or another way, or not at all is found.
func TestBook(t *testing.T) {
	run := churnRun{proto: "udp", flows: 1, packets: 3}
	report := churnReport{Received: 3, Echoed: 3, Flows: []flowCount{{Sent: 3, Received: 3, Echoed: 3, Locals: []string{"172.23.96.23:4000"}}}}
	want, _ := expectationOf("dns")
	packet := func(length int, reply bool) *events.Traversal {
		client, server := events.Endpoint{IP: "172.23.96.23", Port: 4000}, events.Endpoint{IP: vipDNS, Port: 53}
		tr := &events.Traversal{Proto: "udp", Src: client, Dst: server, Length: uint32(length), Verdict: events.Delivered,
			Complete: true, Stacks: 4, DataLink: strings.Split(want.request.link, " → ")}
		names := []string{"centos", "n1", "vpc", "n2", "dns"}
		if reply {
			tr.Src, tr.Dst, tr.DataLink = server, client, strings.Split(want.reply.link, " → ")
			names = []string{"dns", "n2", "vpc", "n1", "centos"}
		}
		for _, n := range names {
			tr.Visits = append(tr.Visits, events.Visit{Name: n, Entered: events.ViaDevice, Left: events.ViaDevice})
		}
		tr.Visits[0].Entered, tr.Visits[4].Left = events.ViaSocket, events.ViaSocket
		return tr
	}
	tests := []struct {
		name              string
		edit              func([]*events.Traversal) []*events.Traversal
		conflated, missed int
		faults            bool
	}{
		{"right", func(p []*events.Traversal) []*events.Traversal { return p }, 0, 0, false},
		{"missed", func(p []*events.Traversal) []*events.Traversal { return p[1:] }, 0, 1, true},
		{"another's length", func(p []*events.Traversal) []*events.Traversal { p[0].Length = p[2].Length; return p }, 1, 0, true},
		{"another's way", func(p []*events.Traversal) []*events.Traversal { p[0].Visits = p[0].Visits[1:]; return p }, 1, 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var all []*events.Traversal
			for i := range 3 {
				all = append(all, packet(churnSize+ipUDP+i, false), packet(churnSize+ipUDP+i, true))
			}
			b := newBook(run, report)
			if unknown := distribute(map[string]*book{"udp 172.23.96.23:4000": b}, tt.edit(all)); len(unknown) > 0 {
				t.Errorf("%d of no flow", len(unknown))
			}
			faults := b.close(false)
			if b.conflated != tt.conflated || b.missed != tt.missed || (len(faults) > 0) != tt.faults {
				t.Errorf("%d conflated, %d missed, faults %q", b.conflated, b.missed, faults)
			}
		})
	}
}
