// SPDX-License-Identifier: Apache-2.0

package events

import (
	"slices"
	"strings"
	"testing"
)

// tabled is a lab whose IPVS table was read.
type tabled struct {
	*lab
	facts map[string]VirtualFacts // by IP
}

func (n *tabled) Virtual(netns uint32, ip string, port uint16, proto uint8) (VirtualFacts, bool) {
	f, ok := n.facts[ip]
	return f, ok && netns == 13 && port == 81 && proto == protoTCP
}

// TestNoDestination: IPVS's table says why it had no real server, where it says.
func TestNoDestination(t *testing.T) {
	const script = fromEth + "real/eth0 nf_hook_slow nf=1\nreal/eth0 ip_vs_in_hook\nreal/eth0 ip_vs_schedule\nreal/eth0 ip_vs_leave\nreal/eth0 kfree_skb site=nf_hook_slow"
	for _, tt := range []struct {
		name    string
		facts   map[string]VirtualFacts
		reason  string
		summary string
	}{
		{"not read", nil, "no-destination", "172.23.97.2:81 has no destination on this node"},
		{"another service", map[string]VirtualFacts{"172.23.97.9": {Destinations: 1, Idle: 1}}, "no-destination", ""},
		{"none", map[string]VirtualFacts{"172.23.97.2": {}}, "no-destination", "172.23.97.2:81 has no destination on this node"},
		{"one by now", map[string]VirtualFacts{"172.23.97.2": {Destinations: 2, Idle: 1}}, "no-destination", ""},
		{"one, weight 0", map[string]VirtualFacts{"172.23.97.2": {Destinations: 1, Idle: 1}}, "all-weights-zero", "the only destination of 172.23.97.2:81 has weight 0: IPVS begins no new connections to it"},
		{"all weights 0", map[string]VirtualFacts{"172.23.97.2": {Destinations: 3, Idle: 3}}, "all-weights-zero", "all 3 destinations of 172.23.97.2:81 have weight 0"},
		{"one, full", map[string]VirtualFacts{"172.23.97.2": {Destinations: 1, Full: 1}}, "overload", "the only destination of 172.23.97.2:81 has as many connections as the upper threshold allows"},
		{"full or idle", map[string]VirtualFacts{"172.23.97.2": {Destinations: 2, Full: 1, Idle: 1}}, "overload", "all 2 destinations of 172.23.97.2:81 have as many connections as the upper threshold allows, or weight 0 (1)"},
		{"nonsense", map[string]VirtualFacts{"172.23.97.2": {Destinations: -1, Idle: 5}}, "no-destination", ""},
	} {
		l := newLab()
		s := NewStitcher(Config{Hooks: l.hooks, Names: &tabled{l, tt.facts}, HasFunctions: true}, func(got *Traversal) {
			if got.Where != "ipvs" || got.Reason != tt.reason || !strings.HasSuffix(got.Summary, tt.summary) && !strings.Contains(got.Summary, tt.summary) {
				t.Errorf("%s: %s/%s %q, want %s %q", tt.name, got.Where, got.Reason, got.Summary, tt.reason, tt.summary)
			}
		})
		for _, e := range l.script(t).add(script).events {
			s.Add(&e)
		}
		s.Flush()
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
