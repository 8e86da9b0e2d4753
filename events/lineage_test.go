// SPDX-License-Identifier: Apache-2.0

package events

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// one stitches a script and wants exactly one traversal of it.
func one(t *testing.T, text string, change func(*Config)) *Traversal {
	t.Helper()
	l := newLab()
	out, _ := stitch(l, l.script(t).add(text).events, change)
	if len(out) != 1 {
		t.Fatalf("%d traversals, want 1", len(out))
	}
	return out[0]
}

func TestCopies(t *testing.T) {
	const in = "real/eth0 netif_receive_skb h=198.51.100.9:5555>172.23.97.2:81,S\n"
	const up = "pod/eth0 netif_receive_skb\npod/eth0 ip_rcv_core\npod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv\npod consume_skb\n"
	for _, tt := range []struct{ name, script, note, verdict string }{
		{"tap", in + "pkt=2\nother=1\nreal/eth0 skb_clone\nreal/eth0 consume_skb\npkt=1\nreal/eth0 ip_rcv_core\nreal/eth0 ip_forward\nreal/vethpod net_dev_start_xmit\n" + up, "", "delivered"},
		{"the copy goes on", in + "pkt=2\nother=1\nreal/eth0 skb_clone\nreal/eth0 ip_rcv_core\npkt=1\nreal/eth0 consume_skb\npkt=2\nreal/eth0 ip_forward\nreal/vethpod net_dev_start_xmit\n" + up, "", "delivered"},
		{"flood", in + "real/eth0 br_flood\npkt=2\nother=1\nreal/eth0 skb_clone\nreal/vethpod __br_forward\nreal/vethpod net_dev_start_xmit\npod/eth0 netif_receive_skb\npod/eth0 ip_rcv_core\npod/eth0 kfree_skb reason=OTHERHOST\npkt=1\nreal/vethpod __br_forward\nreal/vethpod net_dev_start_xmit\n" + up, "the bridge flooded it: 1 more copy", "delivered"},
		{"flood, for the copy", in + "real/eth0 br_flood\npkt=2\nother=1\nreal/eth0 skb_clone\nreal/vethpod __br_forward\nreal/vethpod net_dev_start_xmit\n" + up + "pkt=1\nreal/vethpod __br_forward\nreal/vethpod net_dev_start_xmit\npod/eth0 netif_receive_skb\npod/eth0 ip_rcv_core\npod/eth0 kfree_skb reason=OTHERHOST\n", "the bridge flooded it: 1 more copy", "delivered"},
		{"flood, the rest goes up", in + "real/eth0 br_flood\npkt=2\nother=1\nreal/eth0 skb_clone\nreal/vethpod nf_hook_slow nf=2\nreal/vethpod net_dev_start_xmit\n" + up + "pkt=1\nreal/eth0 br_pass_frame_up\nreal/cni0 netif_receive_skb\nreal/cni0 ip_rcv_core\nreal/cni0 nf_hook_slow nf=0\nreal kfree_skb site=ip6_mc_input\n", "the bridge flooded it: 1 more copy", "delivered"},
		{"flood, a copy is refused", in + "real/eth0 br_flood\npkt=2\nother=1\nreal/eth0 skb_clone\nreal/vethpod nf_hook_slow nf=2\nreal/vethpod kfree_skb reason=NETFILTER_DROP\npkt=1\nreal/vethpod __br_forward\nreal/vethpod net_dev_start_xmit\n" + up, "the bridge flooded it: 1 more copy, 1 ended in netfilter", "delivered"},
		{"neighbour's probe", in + "real/cni0 ip_finish_output2\npkt=2\nother=1\nreal skb_clone\nreal consume_skb\npkt=1\nreal/vethpod net_dev_start_xmit\n" + up, "waited for the link address of its next hop: 3.0µs at real cni0", "delivered"},
		{"neighbour's probes", in + "real/cni0 ip_finish_output2\npkt=2\nother=1\nreal skb_clone\nreal consume_skb\npkt=3\nother=1\nreal skb_clone\nreal consume_skb\npkt=1\nreal/vethpod net_dev_start_xmit\n" + up, "waited for the link address of its next hop: 5.0µs at real cni0", "delivered"},
		{"error queue", in + "real/vethpod net_dev_start_xmit\n" + strings.Replace(up, "pod consume_skb\n", "pkt=2\nother=1\npod skb_clone\npkt=1\npod consume_skb\npkt=2\npod kfree_skb\n", 1), "", "delivered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := one(t, tt.script, nil)
			if string(got.Verdict) != tt.verdict || strings.Join(got.Notes, ";") != tt.note || got.Stacks != 2 {
				t.Errorf("%s, %v stacks, notes %q: %s", got.Verdict, got.Stacks, got.Notes, got.Summary)
			}
		})
	}
}

func TestParts(t *testing.T) {
	const whole = "real/eth0 __ip_local_out h=172.23.97.1:9>172.23.97.2:81,PA\nreal/vethpod net_dev_queue\n"
	part := func(n, how string, rest string) string {
		return "pkt=" + n + "\nother=1\nreal/vethpod " + how + "\nreal/vethpod net_dev_start_xmit\n" + rest
	}
	const arrive = "pod/eth0 netif_receive_skb\npod/eth0 ip_rcv_core\npod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv\n"
	const lost = "pod/eth0 netif_receive_skb\npod/eth0 kfree_skb\n"
	for _, tt := range []struct{ name, script, note, verdict string }{
		{"segments", whole + part("2", "skb_segment", arrive) + part("3", "skb_segment", arrive) + "pkt=1\nreal/vethpod consume_skb\n", "sent as 2 segments", "delivered"},
		{"a segment is lost", whole + part("2", "skb_segment", arrive) + part("3", "skb_segment", lost) + "pkt=1\nreal/vethpod consume_skb\n", "sent as 2 segments, 1 of them arrived", "terminated"},
		{"fragments, joined", whole + part("2", "ip_fragment", "pod/eth0 netif_receive_skb\nother=3\npod/eth0 skb_gro_receive\n") + part("3", "ip_fragment", arrive) + "pkt=1\nreal/vethpod consume_skb\n", "sent as 2 fragments", "delivered"},
		{"fragments, joined without a trace", whole + part("2", "ip_fragment", "pod/eth0 netif_receive_skb\npod/eth0 ip_rcv_core\npod/eth0 ip_local_deliver\npod/eth0 consume_skb\n") + part("3", "ip_fragment", arrive) + "pkt=1\nreal/vethpod consume_skb\n", "sent as 2 fragments", "delivered"},
		{"a fragment is lost", whole + part("2", "ip_fragment", "pod/eth0 netif_receive_skb\npod/eth0 ip_rcv_core\npod/eth0 ip_local_deliver\n") + part("3", "ip_fragment", lost) + "pkt=1\nreal/vethpod consume_skb\n", "sent as 2 fragments, 0 of them arrived", "terminated"},
		{"the rest goes on itself", whole + part("2", "skb_segment", arrive) + "pkt=1\nreal/vethpod net_dev_start_xmit\n" + lost, "sent as 2 segments, 1 of them arrived", "terminated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := one(t, tt.script, nil)
			if string(got.Verdict) != tt.verdict || strings.Join(got.Notes, ";") != tt.note {
				t.Errorf("%s, notes %q: %s", got.Verdict, got.Notes, got.Summary)
			}
		})
	}
}

// TestMerged: a packet that GRO merged into another one shares its way on.
func TestMerged(t *testing.T) {
	l := newLab()
	send := "real/eth0 __ip_local_out h=172.23.97.1:9>172.23.97.2:81,PA\nreal/vethpod net_dev_start_xmit\n"
	out, _ := stitch(l, l.script(t).add("pkt=1\n"+send+"pkt=2\n"+send+"other=1\nreal/vethpod skb_gro_receive\npkt=1\npod/eth0 netif_receive_skb\npod/eth0 ip_rcv_core\npod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv\n").events, nil)
	if len(out) != 2 {
		t.Fatalf("%d traversals, want 2", len(out))
	}
	for _, got := range out {
		if got.Verdict != Delivered || got.Stacks != 2 || len(got.Visits) != 2 {
			t.Errorf("%s: %s", got.ID, got.Summary)
		}
	}
	if out[0].ID == out[1].ID {
		t.Error("two traversals with one id")
	}
}

// TestOnlyNode: as if the tool ran on one node of the kernel.
func TestOnlyNode(t *testing.T) {
	var text string
	for _, c := range labCases() {
		if c.name == "9" {
			text = c.script
		}
	}
	for _, tt := range []struct {
		node, verdict, link string
		stacks              float64
	}{
		{"n1", "left-node", "eth0 eth0", 1},
		{"n2", "delivered", "eth0 cni0 vethnginx1a nginx1a eth0", 2},
	} {
		t.Run(tt.node, func(t *testing.T) {
			got := one(t, text, func(c *Config) { c.OnlyNode = tt.node })
			if string(got.Verdict) != tt.verdict || strings.Join(got.DataLink, " ") != tt.link || got.Stacks != tt.stacks || !got.Complete || got.Node != tt.node {
				t.Errorf("%s, %v, %v, %v: %s", got.Verdict, got.DataLink, got.Stacks, got.Complete, got.Summary)
			}
		})
	}
	// What happened where nothing is observed is not told.
	waits := strings.Replace(text, "outside/eth0 ip_output\n", "outside/eth0 ip_output\noutside/eth0 ip_finish_output2\npkt=7\nother=1\noutside skb_clone\noutside consume_skb\npkt=1\n", 1)
	if got := one(t, waits, func(c *Config) { c.OnlyNode = "n1" }); strings.Contains(strings.Join(got.Notes, ";"), "waited") {
		t.Errorf("notes %q", got.Notes)
	}
	if got := one(t, waits, nil); !strings.Contains(strings.Join(got.Notes, ";"), "waited") {
		t.Errorf("notes %q", got.Notes)
	}
	// A packet that comes back is another traversal.
	l := newLab()
	text = "n1/eth0 __ip_local_out h=10.0.0.180:9>10.0.0.180:80,S\nn1/eth0 net_dev_start_xmit\nn1/eth0 veth_xmit\nvpc/n1 netif_receive_skb\nvpc/n1 ip_forward\nvpc/n1 veth_xmit\nn1/eth0 netif_receive_skb\nn1/eth0 tcp_v4_rcv\nn1 tcp_v4_do_rcv\n"
	out, _ := stitch(l, l.script(t).add(text).events, func(c *Config) { c.OnlyNode = "n1" })
	if len(out) != 2 || out[0].Verdict != LeftNode || out[1].Verdict != Delivered || out[0].ID == out[1].ID {
		t.Errorf("U-turn: %d traversals", len(out))
	}
}

// TestTracepoints: without function hooks nothing is claimed about sockets.
func TestTracepoints(t *testing.T) {
	off := func(c *Config) { c.HasFunctions = false }
	const send = "pod/eth0 net_dev_queue h=172.23.97.2:5>10.9.9.9:6,S\npod/eth0 net_dev_start_xmit\nreal/vethpod netif_receive_skb\n"
	for _, tt := range []struct {
		name, script, verdict, reason string
		stacks                        float64
	}{
		{"silent behind a receive", send, "incomplete", "not-observed", 1},
		{"consumed", send + "real/vethpod consume_skb\n", "incomplete", "not-observed", 1},
		{"a closed socket's FIN", send + "real/vethpod kfree_skb reason=QUEUE_PURGE site=sk_stream_kill_queues\n", "incomplete", "not-observed", 1},
		{"a closed socket's FIN, up to 6.5", send + "real/vethpod kfree_skb reason=NOT_SPECIFIED site=sk_stream_kill_queues\n", "incomplete", "not-observed", 1},
		{"icmp6, freed as a drop", send + "real/vethpod kfree_skb reason=NOT_SPECIFIED site=icmpv6_rcv\n", "incomplete", "not-observed", 1},
		{"tcp consumes as a drop", send + "real/vethpod kfree_skb reason=TCP_OLD_DATA site=tcp_data_queue\n", "incomplete", "not-observed", 1},
		{"dropped", send + "real/vethpod kfree_skb reason=NETFILTER_DROP site=nf_hook_slow\n", "terminated", "dropped", 1},
		{"left", send + "real/cni0 netif_receive_skb\nreal/eth0 net_dev_queue\nreal/eth0 net_dev_start_xmit\n", "left-node", "", 1.5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := one(t, tt.script, off)
			if string(got.Verdict) != tt.verdict || got.Reason != tt.reason || got.Stacks != tt.stacks || got.Complete || len(got.NotObserved) == 0 || len(got.Notes) > 0 ||
				strings.Contains(got.Summary, "stack") && !strings.HasPrefix(got.Summary, "at least ") && !strings.HasPrefix(got.Summary, "no count") {
				t.Errorf("%s %s, %v, complete %v: %s", got.Verdict, got.Reason, got.Stacks, got.Complete, got.Summary)
			}
		})
	}
	got := one(t, send+"n1/vethnginx net_dev_queue\nn1/vethnginx net_dev_start_xmit\n", off)
	if got.Visits[1].Bridged {
		t.Error("not bridged: the ports are in two namespaces")
	}
	got = one(t, "centos/eth0 net_dev_queue h=172.23.96.23:5>172.23.96.24:6,S\nn1/vethcentos netif_receive_skb\nn1/vethnginx net_dev_queue\nn1/vethnginx net_dev_start_xmit\nnginx/eth0 netif_receive_skb\n", off)
	if !got.Visits[1].Bridged || got.Stacks != 2 || got.L3Stacks != 1 {
		t.Errorf("bridged %v, %v stacks, %v l3", got.Visits[1].Bridged, got.Stacks, got.L3Stacks)
	}
}

// TestTentative: a packet that never matched is only given out if its flow,
// or what caused it, did.
func TestTentative(t *testing.T) {
	l := newLab()
	n := func(text string) int {
		out, s := stitch(l, l.script(t).add(text).events, nil)
		if st := s.Stats(); st.Packets != uint64(len(out))+st.Discarded {
			t.Errorf("stats %+v", st)
		}
		return len(out)
	}
	if got := n("tentative\n" + toPod("S")); got != 0 {
		t.Errorf("an unmatched packet gave %d traversals", got)
	}
	if got := n("tentative\nflow=9\n" + toPod("S") + "pkt=2\ntentative=no\n" + toPod("S")); got != 2 {
		t.Errorf("a flow that matched later gave %d traversals, want 2", got)
	}
	if got := n(toPod("S") + "flow=8\ntentative\npkt=2\nother=1\n" + toPod("R")); got != 2 {
		t.Errorf("an effect gave %d traversals, want 2", got)
	}
}

// goldenRun is a request and what it causes, of several packets.
func goldenRun(t testing.TB, l *lab) []Event {
	var text string
	for _, c := range labCases() {
		if c.name == "6" {
			text = "flow=21\npkt=11\n" + c.script
		}
	}
	return l.script(t).add(text + "flow=20\npkt=1\n" + case7 + case7icmp).events
}

// TestGaps: whichever event is missing, its traversal is not complete. The
// last event of a delivered packet is no part of its way.
func TestGaps(t *testing.T) {
	l := newLab()
	all := goldenRun(t, l)
	for i := range all {
		rest := append(append([]Event(nil), all[:i]...), all[i+1:]...)
		out, _ := stitch(l, rest, nil)
		end := all[i].Flags&FlagEnd != 0 && l.hooks[all[i].Hook-1].Station == StationEnd
		complete := 0
		for _, tr := range out {
			if tr.Complete {
				complete++
			}
			if tr.Complete && tr.Lost > 0 || tr.Lost > 0 && tr.Verdict != Incomplete {
				t.Errorf("event %d: lost %d, but %s, complete %v", i, tr.Lost, tr.Verdict, tr.Complete)
			}
			if tr.Lost > 0 && !strings.Contains(tr.Summary, "1 event lost ") {
				t.Errorf("event %d: %s", i, tr.Summary)
			}
		}
		if want := map[bool]int{true: 3, false: 2}[end]; complete != want {
			t.Errorf("without event %d (%s): %d complete, want %d", i, l.hooks[all[i].Hook-1].Name, complete, want)
		}
	}
}

// TestOrder: the events of one packet may come from several CPUs' rings, in
// any order within the window.
func TestOrder(t *testing.T) {
	l := newLab()
	all := goldenRun(t, l)
	want, _ := stitch(l, all, nil)
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's shuffle
	for range 50 {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		got := map[string]*Traversal{}
		s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true}, func(t *Traversal) { got[t.ID] = t })
		for i := range all {
			s.Add(&all[i])
			s.Advance(2_000_000 + uint64(i)*uint64(time.Millisecond)/2) //nolint:gosec // a small index
		}
		s.Flush()
		for _, w := range want {
			if g := got[w.ID]; !reflect.DeepEqual(g, w) {
				t.Fatalf("another order, another traversal:\n%+v\n%+v", g, w)
			}
		}
	}
}

// TestLate: what comes behind a traversal that was given out is counted.
func TestLate(t *testing.T) {
	l := newLab()
	sc := l.script(t).add(toPod("S") + "pod tcp_v4_do_rcv\npod consume_skb\n")
	n := 0
	s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true}, func(*Traversal) { n++ })
	last := len(sc.events) - 1
	for i := range sc.events[:last] {
		s.Add(&sc.events[i])
	}
	s.Advance(sc.time + uint64(time.Second))
	s.Add(&sc.events[last])
	s.Flush()
	if st := s.Stats(); n != 1 || st.Late != 1 || st.Delivered != 1 {
		t.Errorf("%d traversals, %+v", n, st)
	}
}

// TestSlowCPU: while reading one CPU's events takes long, another one goes on: a packet
// whose end is among the other's is not given out before the rest of it was read.
func TestSlowCPU(t *testing.T) {
	l := newLab()
	sc := l.script(t).add(toPod("S") + "pod tcp_v4_do_rcv\npod consume_skb\n")
	var got []*Traversal
	s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true}, func(t *Traversal) { got = append(got, t) })
	last := len(sc.events) - 1
	begun := sc.events[0].Time

	s.Add(&sc.events[last])
	later := sc.events[0]
	later.Packet, later.Time = later.Packet+1, sc.time+uint64(time.Second)
	s.Add(&later)
	s.Advance(begun) // when it was begun to read
	for i := range sc.events[:last] {
		s.Add(&sc.events[i])
	}
	s.Advance(sc.time + uint64(time.Second))
	s.Flush()
	if st := s.Stats(); st.Late != 0 || st.Delivered != 1 || !got[0].Complete {
		t.Errorf("%+v, first %s", st, got[0].Summary)
	}
}

// TestEviction: the number of open packets is bounded, and what is given out
// early for that says so.
func TestEviction(t *testing.T) {
	l := newLab()
	sc := l.script(t).add(fromEth)
	s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true, MaxPackets: 10}, func(*Traversal) {})
	for i := range uint64(100) {
		for _, e := range sc.events {
			e.Packet = i + 1
			s.Add(&e)
		}
		if st := s.Stats(); st.Open > 10 {
			t.Fatalf("%d packets are open", st.Open)
		}
	}
	if st := s.Stats(); st.Incomplete != st.Evicted || st.Evicted < 90 {
		t.Errorf("%+v", st)
	}
}

// TestRaw: a raw socket's copy of somebody else's packet is no delivery, a
// ping's copy of its answer is.
func TestRaw(t *testing.T) {
	const in = "real/eth0 netif_receive_skb h=198.51.100.9:0>172.23.97.1:0 icmp=ECHO\nreal/eth0 ip_rcv_core\nreal/eth0 ip_local_deliver\npkt=2\nother=1\nreal/eth0 skb_clone\nreal/eth0 raw_rcv task=ping:77\npkt=1\n"
	got := one(t, strings.Replace(in, "ECHO", "0/0", 1)+"real/eth0 icmp_rcv\nreal/eth0 consume_skb\n", nil)
	if got.Verdict != Delivered || got.Dst.Process != "ping" || got.Where != "socket" || got.Stacks != 1 {
		t.Errorf("echo reply: %s to %s: %s", got.Verdict, got.Dst.Process, got.Summary)
	}
	got = one(t, strings.Replace(in, "ECHO", "8/0", 1)+"real/eth0 icmp_rcv\nreal/eth0 consume_skb\n", nil)
	if got.Verdict != Delivered || got.Dst.Process != "" || got.Where != "icmp" || got.Summary != "1 stack, delivered to real, answered by its kernel" {
		t.Errorf("echo request: %s to %s: %s", got.Verdict, got.Dst.Process, got.Summary)
	}
	got = one(t, strings.Replace(in, " icmp=ECHO", "", 1)+"real/eth0 tcp_v4_rcv\nreal/eth0 tcp_v4_send_reset\nreal/eth0 kfree_skb reason=NO_SOCKET\n", nil)
	if got.Verdict != Terminated || got.Reason != "no-socket" {
		t.Errorf("no socket, beside a raw one: %s: %s", got.Verdict, got.Summary)
	}
}
