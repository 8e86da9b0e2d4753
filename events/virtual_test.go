// SPDX-License-Identifier: Apache-2.0

package events

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// tabled is a lab whose IPVS table is read. It answers from a list, the last answer
// for ever.
type tabled struct {
	*lab
	answers []VirtualFacts
	asked   []VirtualQuery
}

func (n *tabled) Virtual(q *VirtualQuery) (VirtualFacts, bool) {
	n.asked = append(n.asked, *q)
	if len(n.answers) == 0 {
		return VirtualFacts{}, false
	}
	f := n.answers[0]
	if len(n.answers) > 1 {
		n.answers = n.answers[1:]
	}
	// Given as µs before and after.
	if f.After.At != 0 {
		f.After.At = q.Time + f.After.At*1e3
	}
	if f.Before.At != 0 {
		f.Before.At = q.Time - f.Before.At*1e3
	}
	return f, true
}

// refused is a SYN for which IPVS has no real server.
const refused = fromEth + "real/eth0 nf_hook_slow nf=1\nreal/eth0 ip_vs_in_hook\nreal/eth0 ip_vs_schedule\nreal/eth0 ip_vs_leave\nreal/eth0 kfree_skb site=nf_hook_slow"

// TestNoDestination: IPVS's table says why it had no real server, where it says.
func TestNoDestination(t *testing.T) {
	type state = VirtualState
	read := func(s state) []VirtualFacts { return []VirtualFacts{{After: s}} }
	changed := func(before, after state) []VirtualFacts {
		before.At, after.At = 300, 12
		return []VirtualFacts{{After: after, Before: before}}
	}
	const none, chosen = "172.23.97.2:81 has no destination on this node", "no destination of 172.23.97.2:81 could be chosen"
	const idle = "the only destination of 172.23.97.2:81 has weight 0: IPVS begins no new connections to it"
	const full = "the only destination of 172.23.97.2:81 has as many connections as the upper threshold allows"
	const about = "IPVS's table changed about then: 300µs before it had "
	for _, tt := range []struct {
		name                  string
		facts                 []VirtualFacts
		reason, summary, note string
	}{
		{"not read", nil, "no-destination", none, ""},
		{"none", read(state{}), "no-destination", none, ""},
		{"another service", read(state{Absent: true, At: 12}), "no-destination", chosen, "IPVS's table had no service 172.23.97.2:81, 12µs after"},
		{"one by now", read(state{Destinations: 2, Idle: 1, At: 12}), "no-destination", chosen, "IPVS's table had 2 destinations, 1 of weight 0, 12µs after"},
		{"one, weight 0", read(state{Destinations: 1, Idle: 1}), "all-weights-zero", idle, ""},
		{"all weights 0", read(state{Destinations: 3, Idle: 3}), "all-weights-zero", "all 3 destinations of 172.23.97.2:81 have weight 0: IPVS begins no new connections to it", ""},
		{"one, full", read(state{Destinations: 1, Full: 1}), "overload", full, ""},
		{"full or idle", read(state{Destinations: 2, Full: 1, Idle: 1}), "overload", "all 2 destinations of 172.23.97.2:81 have as many connections as the upper threshold allows, or weight 0 (1)", ""},
		{"none, long after", read(state{At: 3e6}), "no-destination", chosen, "IPVS's table had no destination, 3.0s after"},
		{"nonsense", read(state{Destinations: -1, Idle: 5}), "no-destination", chosen, "IPVS's table had no destination, about then"},

		{"unchanged", changed(state{Destinations: 1, Idle: 1}, state{Destinations: 1, Idle: 1}), "all-weights-zero", idle, ""},
		{"unchanged, and chosen from", changed(state{Destinations: 1}, state{Destinations: 1}), "no-destination", chosen, "IPVS's table had 1 destination, 12µs after"},
		// What refuses it now may not have done so then.
		{"full, then idle", changed(state{Destinations: 1, Full: 1}, state{Destinations: 1, Idle: 1}), "no-destination", chosen, about + "1 destination, 1 at the upper threshold, 12µs after 1 destination, 1 of weight 0"},
		{"full, then none", changed(state{Destinations: 1, Full: 1}, state{}), "no-destination", chosen, about + "1 destination, 1 at the upper threshold, 12µs after no destination"},
		{"none, then idle", changed(state{}, state{Destinations: 1, Idle: 1}), "no-destination", chosen, about + "no destination, 12µs after 1 destination, 1 of weight 0"},
		{"full, then free", changed(state{Destinations: 1, Full: 1}, state{Destinations: 1}), "no-destination", chosen, about + "1 destination, 1 at the upper threshold, 12µs after 1 destination"},
		{"full, then removed", changed(state{Destinations: 1, Full: 1}, state{Absent: true}), "no-destination", chosen, about + "1 destination, 1 at the upper threshold, 12µs after no service 172.23.97.2:81"},
		// What would not have refused it had changed before it came.
		{"free, then full", changed(state{Destinations: 1}, state{Destinations: 1, Full: 1}), "overload", full, about + "1 destination, 12µs after 1 destination, 1 at the upper threshold"},
		{"free, then none", changed(state{Destinations: 1}, state{}), "no-destination", none, about + "1 destination, 12µs after no destination"},
		{"two full, then one", changed(state{Destinations: 2, Full: 2}, state{Destinations: 1, Full: 1}), "overload", full, about + "2 destinations, 2 at the upper threshold, 12µs after 1 destination, 1 at the upper threshold"},
	} {
		n := &tabled{lab: newLab(), answers: tt.facts}
		sc := n.script(t).add(refused)
		out, _ := stitch(n.lab, sc.events, func(c *Config) { c.Names = n })
		if got := out[0]; got.Where != "ipvs" || got.Reason != tt.reason || !strings.HasSuffix(got.Summary, "terminated in IPVS: "+tt.summary) || strings.Join(got.Notes, "|") != tt.note {
			t.Errorf("%s: %s/%s %q %q, want %s %q %q", tt.name, got.Where, got.Reason, got.Summary, got.Notes, tt.reason, tt.summary, tt.note)
		}
		want := VirtualQuery{Time: sc.events[len(sc.events)-2].Time, Netns: 13, Service: netip.MustParseAddrPort("172.23.97.2:81"), Proto: protoTCP}
		if n.asked = slices.Compact(n.asked); len(n.asked) != 1 || n.asked[0] != want {
			t.Errorf("%s: asked %+v, want %+v", tt.name, n.asked, want)
		}
	}
}

// TestNoDestinationPending: while IPVS's table is read a traversal waits, but not for
// ever, and is told then as if it had been read at once.
func TestNoDestinationPending(t *testing.T) {
	pending, full := VirtualFacts{Pending: true}, VirtualFacts{After: VirtualState{Destinations: 1, Full: 1, At: 40}}
	const late = "IPVS's table was not read in time to say why"
	for _, tt := range []struct {
		name    string
		answers []VirtualFacts
		reason  string
		want    string
		note    string
		late    bool
	}{
		{"read in time", []VirtualFacts{pending, pending, pending, full}, "overload", "as many connections as the upper threshold allows", "", false},
		{"never read", []VirtualFacts{pending}, "no-destination", "no destination of 172.23.97.2:81 could be chosen", late, true},
	} {
		n := &tabled{lab: newLab(), answers: tt.answers}
		var out []*Traversal
		s := NewStitcher(Config{Hooks: n.hooks, Names: n, HasFunctions: true}, func(tr *Traversal) { out = append(out, tr) })
		sc := n.script(t).add(refused)
		for i := range sc.events {
			s.Add(&sc.events[i])
		}
		waited := time.Duration(0)
		for ; len(out) == 0 && waited < 10*time.Second; waited += 50 * time.Millisecond {
			s.Advance(sc.time + uint64(waited))
		}
		if len(out) != 1 || s.Waiting() != 0 {
			t.Fatalf("%s: after %v: %d traversals, %d wait", tt.name, waited, len(out), s.Waiting())
		}
		got := out[0]
		if (waited > 5*time.Second) != tt.late || waited > 6*time.Second || got.Reason != tt.reason || !strings.HasSuffix(got.Summary, tt.want) || strings.Join(got.Notes, "|") != tt.note {
			t.Errorf("%s: after %v: %s %q %q", tt.name, waited, got.Reason, got.Summary, got.Notes)
		}
	}
	n := &tabled{lab: newLab(), answers: []VirtualFacts{pending}}
	out, _ := stitch(n.lab, n.script(t).add(refused).events, func(c *Config) { c.Names = n })
	if len(out) != 1 || !slices.Equal(out[0].Notes, []string{late}) {
		t.Errorf("at the end: %+v", out)
	}
}

// TestWrongServer: a process of a node took what was meant for a service, and
// what only looks so.
func TestWrongServer(t *testing.T) {
	const note = "wrong server: "
	way := func(to, flags, node string) string {
		return replace("NODE/eth0 netif_receive_skb h=198.51.100.9:5555>"+to+","+flags+"\nNODE/eth0 ip_rcv_core\nNODE/eth0 ip_local_deliver\n", "NODE", node)
	}
	const asks = "real/eth0 nf_hook_slow nf=1\nreal/eth0 ip_vs_in_hook\n"
	const takes = "real/eth0 tcp_v4_rcv\nreal tcp_v4_do_rcv task=sshd:9\n"
	for name, tt := range map[string]struct {
		script string
		want   string // the note; "": none
	}{
		"of a service":      {way("192.168.13.23:81", "S", "real") + asks + takes, note + "sshd 9 of real took it; IPVS has no virtual service 192.168.13.23:81 here, an address of default/nginx1"},
		"later packets":     {way("192.168.13.23:81", "PA", "real") + asks + takes, ""},
		"without IPVS":      {way("192.168.13.23:81", "S", "real") + takes, ""},
		"the node's own":    {way("172.23.97.1:81", "S", "real") + asks + takes, ""},
		"nobody took it":    {way("192.168.13.23:81", "S", "real") + asks + "real/eth0 tcp_v4_rcv\nreal/eth0 kfree_skb reason=NO_SOCKET site=tcp_v4_rcv", ""},
		"a pod's own alias": {replace(way("192.168.13.23:81", "S", "pod")+asks+takes, "real", "pod"), ""},
	} {
		l := newLab()
		out, _ := stitch(l, l.script(t).add(tt.script).events, nil)
		i := slices.IndexFunc(out[0].Notes, func(n string) bool { return strings.HasPrefix(n, note) })
		if got := i >= 0; got != (tt.want != "") || got && out[0].Notes[i] != tt.want {
			t.Errorf("%s: %s, notes are %q, want %q", name, out[0].Summary, out[0].Notes, tt.want)
		}
	}
}
