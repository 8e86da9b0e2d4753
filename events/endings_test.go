// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// toPod brings a packet into the pod nginx by a node's real eth0.
func toPod(flags string) string {
	return `
	real/eth0 netif_receive_skb h=198.51.100.9:5555>172.23.97.2:81,` + flags + `
	real/eth0 ip_rcv_core
	real/eth0 ip_forward
	real/cni0 ip_output
	real/cni0 net_dev_queue
	real/cni0 br_dev_xmit
	real/vethpod net_dev_queue
	real/vethpod net_dev_start_xmit
	pod/eth0 netif_receive_skb
	pod/eth0 ip_rcv_core
	pod/eth0 ip_local_deliver
`
}

const fromEth = `
	real/eth0 netif_receive_skb h=198.51.100.9:5555>172.23.97.2:81,S
	real/eth0 ip_rcv_core
`

// endings are ways to end, with what must be said of each.
var endings = []struct {
	name, script  string
	stacks        float64
	verdict       Verdict
	where, reason string
	summary       string // a part of it
}{
	{"left", "real/eth0 __ip_local_out h=172.23.97.1:999>198.51.100.9:443,S task=curl:7\nreal/eth0 ip_output\nreal/eth0 net_dev_queue\nreal/eth0 net_dev_start_xmit", 1, LeftNode, "device", "", "1 stack, left the node by eth0"},
	{"left and freed", "real/eth0 __ip_local_out h=172.23.97.1:999>198.51.100.9:443,S\nreal/eth0 net_dev_start_xmit\nreal/eth0 consume_skb", 1, LeftNode, "device", "", "left the node by eth0"},
	{"left, freed by a careless driver", "real/eth0 __ip_local_out h=172.23.97.1:999>198.51.100.9:443,S\nreal/eth0 net_dev_start_xmit\nreal/eth0 kfree_skb reason=NOT_SPECIFIED site=net_tx_action", 1, LeftNode, "device", "", "left the node by eth0"},
	{"queued", "real/eth0 __ip_local_out h=172.23.97.1:999>198.51.100.9:443,S\nreal/eth0 net_dev_queue", 0.5, InFlight, "queue", "", "0.5 stacks so far, in flight: last seen in the queue of a device, at net_dev_queue on real (eth0)"},
	{"delivered", toPod("PA") + "pod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv task=nginx:512", 2, Delivered, "socket", "", "2 stacks, delivered to default/pod (nginx 512)"},
	{"tcp frees in name only", toPod("PA") + "pod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv\npod kfree_skb reason=TCP_OLD_DATA site=tcp_data_queue", 2, Delivered, "socket", "", "delivered to default/pod"},
	{"tcp frees in name only, that a socket took it was left out", toPod("PA") + "pod/eth0 tcp_v4_rcv\npod kfree_skb reason=TCP_OLD_DATA site=tcp_data_queue", 1.5, Incomplete, "socket", "not-observed", "that a socket took it was not seen"},
	{"a FIN that was purged, its socket left out", toPod("FA") + "pod/eth0 tcp_v4_rcv\npod kfree_skb reason=QUEUE_PURGE site=sk_stream_kill_queues", 1.5, Incomplete, "socket", "not-observed", "that a socket took it was not seen"},
	{"an ACK for a socket that was closed by the other end, left out", toPod("A") + "pod/eth0 tcp_v4_rcv\npod kfree_skb reason=NOT_SPECIFIED site=tcp_rcv_state_process", 1.5, Incomplete, "socket", "not-observed", "that a socket took it was not seen"},
	{"an ACK whose connection waits for data", toPod("A") + "pod/eth0 tcp_v4_rcv\npod kfree_skb reason=NOT_SPECIFIED site=tcp_v4_rcv", 1.5, Incomplete, "socket", "not-observed", "waits for data (TCP_DEFER_ACCEPT), or its accept queue is full"},
	{"a SYN that nobody answers, 5.10", toPod("S") + "pod/eth0 tcp_v4_rcv\npod kfree_skb site=tcp_v4_rcv", 1.5, Terminated, "socket", "dropped", "dropped at tcp_v4_rcv"},
	{"udp buffer full", strings.ReplaceAll(toPod("udp"), ",S", "") + "pod/eth0 udp_rcv\npod udp_queue_rcv_skb\npod kfree_skb reason=SOCKET_RCVBUFF site=__udp_queue_rcv_skb", 1.5, Terminated, "socket", "rcvbuf-full", "the receive buffer of 172.23.97.2:81 is full"},
	{"udp read", toPod("udp") + "pod/eth0 udp_rcv\npod udp_queue_rcv_skb task=nginx:512\npod consume_skb", 2, Delivered, "socket", "", "2 stacks, delivered to default/pod (nginx 512)"},
	{"udp read, 5.19", toPod("udp") + "pod/eth0 udp_rcv\npod udp_queue_rcv_skb task=nginx:512\npod skb_attempt_defer_free", 2, Delivered, "socket", "", "delivered to default/pod"},
	{"udp, its drop left out", toPod("udp") + "pod/eth0 udp_rcv\npod udp_queue_rcv_skb\npod __kfree_skb", 1.5, Incomplete, "socket", "", "incomplete: how it was freed was not seen, it may have been dropped there; last: delivered to default/pod"},
	{"udp, its drop left out, 5.10", toPod("udp") + "pod/eth0 udp_rcv\npod udp_queue_rcv_skb\npod kfree_skbmem", 1.5, Incomplete, "socket", "", "it may have been dropped there"},
	{"tcp freed by itself", toPod("PA") + "pod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv task=nginx:512\npod __kfree_skb", 2, Delivered, "socket", "", "delivered to default/pod"},
	{"udp buffer full, 5.10", toPod("udp") + "pod/eth0 udp_rcv\npod udp_queue_rcv_skb\npod kfree_skb site=__udp_queue_rcv_skb", 1.5, Terminated, "socket", "rcvbuf-full", "the receive buffer of 172.23.97.2:81 is full"},
	{"udp memory, 5.10", toPod("udp") + "pod/eth0 udp_rcv\npod udp_queue_rcv_skb\npod kfree_skb site=udp_queue_rcv_one_skb", 1.5, Terminated, "socket", "rcvbuf-full", "is full, or UDP has no memory left"},
	{"backlog full, 5.10", toPod("A") + "pod/eth0 tcp_v4_rcv\npod tcp_add_backlog\npod kfree_skb site=tcp_v4_rcv", 1.5, Terminated, "socket", "backlog-full", "the backlog of 172.23.97.2:81 is full, or its checksum is wrong"},
	{"no socket", toPod("S") + "pod/eth0 tcp_v4_rcv\npod/eth0 tcp_v4_send_reset\npod/eth0 kfree_skb reason=NO_SOCKET site=tcp_v4_rcv", 1.5, Terminated, "socket", "no-socket", "nothing listens on 172.23.97.2:81, answered with RST"},
	{"no socket, 5.10", toPod("S") + "pod/eth0 tcp_v4_rcv\npod/eth0 tcp_v4_send_reset\npod/eth0 kfree_skb site=tcp_v4_rcv", 1.5, Terminated, "socket", "no-socket", "nothing listens on 172.23.97.2:81"},
	{"no socket for data", toPod("A") + "pod/eth0 tcp_v4_rcv\npod/eth0 kfree_skb reason=NO_SOCKET site=tcp_v4_rcv", 1.5, Terminated, "socket", "no-socket", "no socket for 198.51.100.9:5555→172.23.97.2:81"},
	{"accept queue", toPod("S") + "pod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv\npod tcp_conn_request\npod consume_skb", 1.5, Terminated, "socket", "listen-overflow", "its accept queue is full"},
	{"backlog full", toPod("A") + "pod/eth0 tcp_v4_rcv\npod tcp_add_backlog\npod kfree_skb reason=SOCKET_BACKLOG", 1.5, Terminated, "socket", "backlog-full", "backlog of 172.23.97.2:81 is full"},
	{"in the backlog", toPod("A") + "pod/eth0 tcp_v4_rcv\npod tcp_add_backlog", 1.5, InFlight, "socket", "", "waiting in the backlog of its socket"},
	{"joined in the backlog", toPod("A") + "pod/eth0 tcp_v4_rcv\npod tcp_add_backlog task=nginx:512\npod kfree_skb_partial", 2, Delivered, "socket", "", "2 stacks, delivered to default/pod (nginx 512)"},
	{"freed in the backlog", toPod("A") + "pod/eth0 tcp_v4_rcv\npod tcp_add_backlog\npod consume_skb", 1.5, Incomplete, "socket", "consumed", "freed without a drop or a delivery"},
	{"joined by GRO", fromEth + "real/eth0 kfree_skb reason=NOT_SPECIFIED site=skb_release_data", 0.5, Incomplete, "gro", "merged", "incomplete: merged into another packet by GRO"},
	{"other host, 5.10", fromEth + "real/eth0 kfree_skb site=ip_rcv_core.constprop.0", 0.5, Terminated, "ip", "other-host", "another host's"},
	{"no header for a moment", fromEth + "real/cni0 ip_output h=:0>:0\nreal/eth0 net_dev_start_xmit", 1, LeftNode, "device", "", "left the node by eth0"},
	{"time wait", toPod("A") + "pod/eth0 tcp_v4_rcv\npod tcp_timewait\npod consume_skb", 2, Delivered, "socket", "", "to a connection in TIME_WAIT"},
	{"rule", fromEth + "real/eth0 nf_hook_slow nf=2\nreal/eth0 nf_conntrack_in\nreal/eth0 nft_do_chain nf=2\nreal/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow", 0.5, Terminated, "netfilter", "rule-drop", "0.5 stacks, terminated in netfilter: dropped by a rule in netfilter FORWARD (nft_do_chain)"},
	{"rule in a chain that does not say where", fromEth + "real/eth0 nf_hook_slow nf=2\nreal/eth0 nft_do_chain\nreal/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow", 0.5, Terminated, "netfilter", "rule-drop", "dropped by a rule in netfilter FORWARD (nft_do_chain)"},
	{"rule, 5.10", fromEth + "real/eth0 nf_hook_slow nf=1\nreal/eth0 ipt_do_table nf=1\nreal/eth0 kfree_skb site=nf_hook_slow", 0.5, Terminated, "netfilter", "rule-drop", "netfilter INPUT (ipt_do_table)"},
	{"rule's verdict", fromEth + "real/eth0 nf_hook_slow nf=1\nreal/eth0 nft_do_chain nf=1\nreal/eth0 nft_do_chain_ret ret=0\nreal/eth0 kfree_skb site=nf_hook_slow", 0.5, Terminated, "netfilter", "rule-drop", "netfilter INPUT"},
	{"reject", fromEth + "real/eth0 nf_hook_slow nf=1\nreal/eth0 ipt_do_table nf=1\nreal/eth0 __icmp_send icmp=3/3\nreal/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow", 0.5, Terminated, "netfilter", "rule-reject", "answered with ICMP 3/3"},
	{"conntrack", fromEth + "real/eth0 nf_hook_slow nf=0\nreal/eth0 nf_conntrack_in\nreal/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow", 0.5, Terminated, "conntrack", "refused", "PREROUTING"},
	{"race", fromEth + "real/eth0 nf_hook_slow nf=4\nreal/eth0 __nf_conntrack_confirm\nreal/eth0 kfree_skb site=nf_hook_slow", 0.5, Terminated, "conntrack", "confirm-failed", "a hash chain is too long for it, or another entry was there first"},
	{"bridge finds a header bad", fromEth + "real/eth0 br_nf_pre_routing\nreal/eth0 kfree_skb reason=IP_INHDR site=br_nf_pre_routing", 0.5, Terminated, "bridge", "bad-header", "its IP header is invalid: the bridge looks before it calls netfilter"},
	{"bridge finds a header bad, 5.10", fromEth + "real/eth0 br_nf_pre_routing\nreal/eth0 kfree_skb site=br_handle_frame", 0.5, Terminated, "bridge", "bad-header", "its IP header is invalid"},
	{"bridge drops before netfilter", fromEth + "real/eth0 kfree_skb site=br_handle_frame", 0.5, Terminated, "bridge", "not-forwarded", "the bridge did not pass it on (br_handle_frame)"},
	{"a rule of the bridge family", fromEth + "real/eth0 nft_do_chain nf=0\nreal/eth0 br_nf_pre_routing\nreal/eth0 br_handle_frame_finish\nreal/eth0 kfree_skb site=br_handle_frame", 0.5, Terminated, "bridge", "not-forwarded", ""},
	{"server gone", fromEth + "real/eth0 nf_hook_slow nf=1\nreal/eth0 ipt_do_table nf=1\nreal/eth0 ip_vs_in_hook\nreal/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow", 0.5, Terminated, "ipvs", "destination-gone", "172.23.97.2:81 is gone"},
	{"rp_filter behind a table", fromEth + "real/eth0 nf_hook_slow nf=0\nreal/eth0 ipt_do_table nf=0\nreal/eth0 kfree_skb reason=IP_RPFILTER site=ip_rcv_finish_core", 0.5, Terminated, "routing", "rp-filter", "198.51.100.9:5555 is not reached by eth0"},
	{"route, 5.10", fromEth + "real/eth0 nf_hook_slow nf=0\nreal/eth0 ipt_do_table nf=0\nreal/eth0 kfree_skb site=ip_rcv_finish_core", 0.5, Terminated, "routing", "refused", "routing refused"},
	{"prohibited", fromEth + "real/eth0 ip_error\nreal/eth0 kfree_skb site=ip_error", 0.5, Terminated, "routing", "unreachable", "172.23.97.2:81 is unreachable from real"},
	{"no protocol", fromEth + "real/eth0 ip_local_deliver\nreal/eth0 kfree_skb reason=IP_NOPROTO site=ip_protocol_deliver_rcu", 0.5, Terminated, "ip", "no-protocol", "nothing in real takes its protocol"},
	{"no protocol, 5.10", fromEth + "real/eth0 ip_local_deliver\nreal/eth0 ipt_do_table nf=1\nreal/eth0 __icmp_send icmp=3/2\nreal/eth0 kfree_skb site=ip_local_deliver_finish", 0.5, Terminated, "ip", "no-protocol", "nothing in real takes its protocol"},
	{"relayed by IPVS", fromEth + "real/eth0 ip_vs_in_hook\nreal/eth0 __icmp_send icmp=3/2\nreal/eth0 consume_skb", 0.5, Terminated, "ipvs", "relayed", "IPVS tells it to the client"},
	{"ttl", fromEth + "real/eth0 ip_forward\nreal/eth0 __icmp_send icmp=11/0\nreal/eth0 kfree_skb site=ip_forward", 0.5, Terminated, "forward", "ttl", "its TTL ended"},
	{"mtu", fromEth + "real/eth0 ip_forward\nreal/eth0 __icmp_send icmp=3/4\nreal/eth0 kfree_skb site=ip_forward", 0.5, Terminated, "forward", "too-big", "60 bytes are too big"},
	{"neighbour", fromEth + "real/eth0 ip_forward\nreal/cni0 ip_output\nreal/cni0 ip_finish_output2\nreal/cni0 __icmp_send icmp=3/1\nreal/cni0 kfree_skb reason=NEIGH_FAILED site=arp_error_report", 0.5, Terminated, "neighbour", "unresolved", "(cni0)"},
	{"waits for a neighbour", fromEth + "real/eth0 ip_forward\nreal/cni0 ip_finish_output2", 0.5, InFlight, "neighbour", "", "last seen waiting for a neighbour's link address, at ip_finish_output2 on real (cni0)"},
	{"other host", fromEth + "real/eth0 kfree_skb reason=OTHERHOST site=ip_rcv_core", 0.5, Terminated, "ip", "other-host", "another host's"},
	{"icmp6, freed as a drop", "real/eth0 netif_receive_skb h=[fe80::9]:0>[ff02::1]:0 icmp=136/0\nreal/eth0 ip_rcv_core\nreal/eth0 ip_local_deliver\nreal/eth0 icmpv6_rcv\nreal kfree_skb site=icmpv6_rcv", 1, Delivered, "icmp", "", "delivered to real: ICMP 136/0, neighbour advertisement"},
	{"no such group here", "real/eth0 netif_receive_skb h=[fe80::9]:0>[ff02::1:ff00:24]:0 icmp=135/0\nreal/eth0 ip_rcv_core\nreal kfree_skb reason=NOT_SPECIFIED site=ip6_mc_input", 0.5, Terminated, "ip", "other-host", "nobody in real listens to ff02::1:ff00:24"},
	{"redirect behind a table", "other=9\nreal __ip_local_out h=172.23.97.1:0>198.51.100.9:0 icmp=5/1 inner=198.51.100.9:5>172.23.97.1:80\nreal nf_hook_slow nf=3\nreal nf_conntrack_in\nreal ipt_do_table nf=3\nreal kfree_skb site=nf_hook_slow", 0.5, Terminated, "conntrack", "nat-redirect", "0.5 stacks, terminated in conntrack: NAT passes on no ICMP redirect of a connection that it translates, or whose first packet is still under way; or a rule in netfilter OUTPUT dropped it"},
	{"redirect through NAT", "other=9\nreal __ip_local_out h=172.23.97.1:0>198.51.100.9:0 icmp=5/1 inner=198.51.100.9:5>172.23.97.1:80\nreal nf_hook_slow nf=3\nreal nf_conntrack_in\nreal kfree_skb site=nf_hook_slow", 0.5, Terminated, "conntrack", "nat-redirect", "0.5 stacks, terminated in conntrack: NAT passes on no ICMP redirect"},
	{"unknown reason", fromEth + "real/eth0 ip_forward\nreal/eth0 kfree_skb reason=SOME_NEW_REASON site=some_function", 0.5, Terminated, "forward", "some-new-reason", "dropped at some_function (SOME_NEW_REASON)"},
	{"no reason at all", fromEth + "real/eth0 kfree_skb", 0.5, Terminated, "ip", "dropped", "dropped at an unknown function"},
	{"consumed", fromEth + "real/eth0 consume_skb", 0.5, Incomplete, "ip", "consumed", "incomplete: freed without a drop or a delivery"},
}

func TestEndings(t *testing.T) {
	for _, tt := range endings {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			out, _ := stitch(l, l.script(t).add(tt.script).events, nil)
			if len(out) != 1 {
				t.Fatalf("%d traversals, want 1", len(out))
			}
			got := out[0]
			if got.Stacks != tt.stacks || got.Verdict != tt.verdict || got.Where != tt.where || got.Reason != tt.reason || !strings.Contains(got.Summary, tt.summary) {
				t.Errorf("%v %s %s/%s %q\nwant %v %s %s/%s %q", got.Stacks, got.Verdict, got.Where, got.Reason, got.Summary, tt.stacks, tt.verdict, tt.where, tt.reason, tt.summary)
			}
			if done := got.Verdict != InFlight && got.Verdict != Incomplete; got.Complete != done {
				t.Errorf("complete is %v with verdict %s", got.Complete, got.Verdict)
			}
			checkExplained(t, got)
		})
	}
}

// TestClosedUnread: a datagram that is freed with its socket had arrived.
func TestClosedUnread(t *testing.T) {
	for name, tt := range map[string]struct{ dropped, note string }{
		"6.1":       {"site=udp_destruct_common", "closed unread: the socket at 172.23.97.2:81 was closed before anybody read it"},
		"5.10":      {"site=udp_destruct_sock", "closed unread: the socket at 172.23.97.2:81 was closed before anybody read it"},
		"reason":    {"reason=QUEUE_PURGE site=skb_queue_purge_reason", "closed unread: the socket at 172.23.97.2:81 was closed before anybody read it"},
		"no room":   {"site=udp_queue_rcv_one_skb", ""},
		"no memory": {"reason=PROTO_MEM site=__udp_queue_rcv_skb", ""},
	} {
		l := newLab()
		script := toPod("udp") + "pod/eth0 udp_rcv\npod udp_queue_rcv_skb\npod kfree_skb " + tt.dropped
		out, _ := stitch(l, l.script(t).add(script).events, nil)
		if len(out) != 1 || strings.Join(out[0].Notes, "") != tt.note || (out[0].Verdict == Delivered) != (tt.note != "") {
			t.Errorf("%s: %+v, want the note %q", name, out, tt.note)
		}
	}
}

// checkExplained wants the steps of a traversal in the order of time, one that
// decides, and for each end that has a reason of ours what is known of it.
func checkExplained(t *testing.T, got *Traversal) {
	t.Helper()
	x := Explain(got)
	decides := 0
	for i, s := range x.Steps {
		if s.Decides {
			decides++
		}
		if s.Text == "" || s.Hook == "" || s.Netns == "" || strings.ContainsAny(s.Text, "{}") || i > 0 && s.NS < x.Steps[i-1].NS {
			t.Errorf("step %d: %+v", i, s)
		}
	}
	if decides == 0 {
		t.Errorf("nothing decides: %+v", x.Steps)
	}
	if _, known := findingOf(got.Where, got.Reason); known != (len(x.Findings) > 0) {
		t.Errorf("%s/%s: findings %+v", got.Where, got.Reason, x.Findings)
	}
}

// TestSYNAnswered: a SYN that a listening socket answered was delivered,
// whether the answer is linked to it or only seen in its flow.
func TestSYNAnswered(t *testing.T) {
	syn := toPod("S") + "pod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv\npod tcp_conn_request\n"
	answer := "pod/eth0 __ip_local_out h=172.23.97.2:81>198.51.100.9:5555,SA\npod/eth0 net_dev_queue\n"
	for name, text := range map[string]string{
		"linked":                  syn + "pkt=2\nother=1\nreply\n" + answer + "reply=no\npkt=1\npod consume_skb\n",
		"by flow":                 syn + "pkt=2\nreply\n" + answer + "reply=no\npkt=1\npod consume_skb\n",
		"sent again":              toPod("S") + "pod/eth0 tcp_v4_rcv\npkt=2\nreply\n" + answer + "reply=no\npkt=1\npod kfree_skb reason=NOT_SPECIFIED site=tcp_v4_rcv\n",
		"its first hook left out": syn + "pkt=2\nreply\npod/eth0 ip_output h=172.23.97.2:81>198.51.100.9:5555,SA\npod/eth0 net_dev_queue\nreply=no\npkt=1\npod consume_skb\n",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab()
			out, _ := stitch(l, l.script(t).add(text).events, nil)
			if len(out) != 2 || out[0].Verdict != Delivered {
				t.Fatalf("%d traversals, the first %+v", len(out), out[0])
			}
			if v := out[1].Visits[0]; v.Entered != ViaSocket {
				t.Errorf("the SYN-ACK entered by %s, want socket", v.Entered)
			}
		})
	}
}

// TestResetIsAnEndpoints: an RST of a transport layer starts in a visit that
// counts 1, one of a netfilter rule has only the way out.
func TestResetIsAnEndpoints(t *testing.T) {
	const rst = "other=1\npkt=2\nreply\npod/eth0 __ip_local_out h=172.23.97.2:81>198.51.100.9:5555,R\npod/eth0 net_dev_queue\npod/eth0 net_dev_start_xmit\nreal/vethpod netif_receive_skb\nreal/vethpod ip_rcv_core\n"
	for _, tt := range []struct {
		name, before string
		entered      string
		stacks       float64
	}{
		{"transport", "pod/eth0 tcp_v4_rcv\npod/eth0 tcp_v4_send_reset\n", ViaSocket, 1},
		{"rule", "pod/eth0 nf_hook_slow nf=1\npod/eth0 ipt_do_table nf=1\npod/eth0 nf_send_reset\n", ViaKernel, 0.5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			out, _ := stitch(l, l.script(t).add(toPod("S")+tt.before+rst).events, nil)
			if len(out) != 2 {
				t.Fatalf("%d traversals, want 2", len(out))
			}
			if v := out[1].Visits[0]; v.Entered != tt.entered || v.Stacks != tt.stacks {
				t.Errorf("entered %s, %v stacks; want %s, %v", v.Entered, v.Stacks, tt.entered, tt.stacks)
			}
			if out[1].CausedBy != out[0].ID {
				t.Errorf("caused by %q, want %q", out[1].CausedBy, out[0].ID)
			}
		})
	}
}

// TestResetBeside: the REJECT of a bridged frame sends its RST out of the port
// at once, past IP. It is known for what it is by its cause.
func TestResetBeside(t *testing.T) {
	l := newLab()
	out, _ := stitch(l, l.script(t).add(toPod("S")+"real/vethpod nf_hook_slow nf=2\nreal/vethpod ipt_do_table nf=2\nreal/vethpod nf_send_reset\n"+
		"other=1\npkt=2\nreply\nreal/vethpod net_dev_queue h=172.23.97.2:81>198.51.100.9:5555,R\nreal/vethpod net_dev_start_xmit\n"+
		"pod/eth0 netif_receive_skb\npod/eth0 ip_rcv_core\npod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv\n").events, nil)
	if len(out) != 2 {
		t.Fatalf("%d traversals, want 2", len(out))
	}
	if rst := out[1]; rst.Visits[0].Entered != ViaKernel || rst.Stacks != 1.5 || rst.Verdict != Delivered || !rst.Complete {
		t.Errorf("entered %s, %v stacks: %s", rst.Visits[0].Entered, rst.Stacks, rst.Summary)
	}
}

// TestAnswerWithoutBeginning: an answer of a transport layer whose first hook the
// kernel left out is known by its cause, but where it was made was not seen.
func TestAnswerWithoutBeginning(t *testing.T) {
	l := newLab()
	out, _ := stitch(l, l.script(t).add(toPod("S")+"pod/eth0 tcp_v4_rcv\npod/eth0 tcp_conn_request\n"+
		"other=1\npkt=2\nreply\npod/eth0 net_dev_queue h=172.23.97.2:81>198.51.100.9:5555,SA\npod/eth0 net_dev_start_xmit\n"+
		"real/vethpod netif_receive_skb\nreal/vethpod ip_rcv_core\nreal/eth0 net_dev_start_xmit\n").events, nil)
	if len(out) != 2 {
		t.Fatalf("%d traversals, want 2", len(out))
	}
	if a := out[1]; a.Verdict != Incomplete || a.Complete || a.CausedBy != out[0].ID {
		t.Errorf("%s, caused by %q, want incomplete, by %q: %s", a.Verdict, a.CausedBy, out[0].ID, a.Summary)
	}
}

// TestBeginnings: a packet that is first seen where it came from an observed
// place has an unknown beginning, and is never delivered.
func TestBeginnings(t *testing.T) {
	const rest = "pod/eth0 netif_receive_skb\npod/eth0 ip_rcv_core\npod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv\n"
	for _, tt := range []struct {
		name, script string
		known        bool
	}{
		{"by a real device", toPod("S") + "pod tcp_v4_do_rcv\n", true},
		{"by a veth from a pod", "real/vethpod netif_receive_skb h=172.23.97.2:5>172.23.97.3:6,S\nreal/vethpod ip_rcv_core\n" + rest, false},
		{"in the pod", strings.Replace(rest, "_skb", "_skb h=172.23.97.2:5>172.23.97.3:6,S", 1), false},
		{"out of nowhere", "pod/eth0 net_dev_queue h=172.23.97.2:5>172.23.97.3:6,S\nreal/vethpod netif_receive_skb\nreal tcp_v4_do_rcv\n", false},
		{"a copy of something unseen", "other=99\nreal/eth0 skb_clone h=172.23.97.2:5>172.23.97.3:6,S\nreal/eth0 ip_rcv_core\n" + rest, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			out, _ := stitch(l, l.script(t).add(tt.script).events, nil)
			if len(out) != 1 {
				t.Fatalf("%d traversals, want 1", len(out))
			}
			if known := out[0].Verdict == Delivered; known != tt.known || out[0].Complete != tt.known {
				t.Errorf("%s, complete %v: %s", out[0].Verdict, out[0].Complete, out[0].Summary)
			}
		})
	}
}

// TestSettling: each kind of ending is finished after its own silence, and
// given out at once if there is nothing that it must wait for.
func TestSettling(t *testing.T) {
	ms := uint64(time.Millisecond)
	for _, tt := range []struct {
		name, script string
		after        uint64 // ms of silence
	}{
		{"ended", fromEth + "real/eth0 kfree_skb", 100},
		{"delivered", toPod("S") + "pod tcp_v4_do_rcv", 100},
		{"data for a connection that is not accepted", toPod("PA") + "pod tcp_v4_do_rcv", 500},
		{"data for an unknown process", toPod("PA") + "pod tcp_v4_do_rcv inode=4711", 500},
		{"data that was read by nobody known", toPod("PA") + "pod tcp_v4_do_rcv\npod consume_skb", 500},
		{"data for its process", toPod("PA") + "pod tcp_v4_do_rcv task=lab:9", 100},
		{"left", "real/eth0 __ip_local_out h=172.23.97.1:9>198.51.100.9:4,S\nreal/eth0 net_dev_start_xmit", 250},
		{"queued", "real/eth0 __ip_local_out h=172.23.97.1:9>198.51.100.9:4,S\nreal/eth0 net_dev_queue", 3000},
		{"neighbour", "real/eth0 __ip_local_out h=172.23.97.1:9>198.51.100.9:4,S\nreal/eth0 ip_finish_output2", 4500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			sc := l.script(t).add(tt.script)
			n := 0
			s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true}, func(*Traversal) { n++ })
			for i := range sc.events {
				s.Add(&sc.events[i])
			}
			for at := uint64(50); at < tt.after; at += 50 {
				s.Advance(sc.time + at*ms - 1)
			}
			if s.Stats().Traversals != 0 {
				t.Fatal("finished too early")
			}
			s.Advance(sc.time + tt.after*ms)
			if n != 1 {
				t.Fatalf("given out %d times, want once", n)
			}
			if st := s.Stats(); st.Open != 0 || st.Traversals != 1 || st.Packets != 1 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

// TestPurgeNote: data that a socket's process never read is worth a note, the
// other end's FIN alone is not.
func TestPurgeNote(t *testing.T) {
	for flags, want := range map[string]int{"FA": 0, "FPA": 1, "PA": 1} {
		l := newLab()
		script := toPod(flags) + "pod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv\npod kfree_skb reason=QUEUE_PURGE site=skb_queue_purge"
		out, _ := stitch(l, l.script(t).add(script).events, nil)
		if len(out) != 1 || len(out[0].Notes) != want {
			t.Errorf("%s: %d traversals, the first %+v, want %d notes", flags, len(out), out[0], want)
		}
	}
}

// TestSettlingTracepoints: with tracepoints alone nothing more is heard of a packet that
// came to a device with its address, while others may be forwarded.
func TestSettlingTracepoints(t *testing.T) {
	const to = "real/vethpod net_dev_start_xmit h=172.23.97.1:9>%s:80,S\nn1/eth0 netif_receive_skb\n"
	const toPod = "real/vethpod net_dev_start_xmit h=10.0.0.180:9>%s:80,S\npod/eth0 netif_receive_skb\n"
	for _, tt := range []struct {
		name, script string
		functions    bool
		want         time.Duration
	}{
		{"its own address", fmt.Sprintf(to, "10.0.0.180"), false, 250 * time.Millisecond},
		{"behind tc", fmt.Sprintf(to, "10.0.0.180") + "n1/eth0 tc_ingress\n", false, 250 * time.Millisecond},
		{"a pod's own address", fmt.Sprintf(toPod, "172.23.97.2"), false, 100 * time.Millisecond},
		{"another's address", fmt.Sprintf(to, "10.0.0.181"), false, 3 * time.Second},
		{"functions are hooked", fmt.Sprintf(to, "10.0.0.180"), true, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, given := newLab(), false
			sc := l.script(t).add(tt.script)
			s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: tt.functions}, func(*Traversal) { given = true })
			for i := range sc.events {
				s.Add(&sc.events[i])
			}
			end := sc.events[len(sc.events)-1].Time
			if s.Advance(end + uint64(tt.want) - 1); given {
				t.Error("given out too early")
			}
			if s.Advance(end + uint64(tt.want)); !given {
				t.Error("not given out")
			}
		})
	}
}
