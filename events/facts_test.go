// SPDX-License-Identifier: Apache-2.0

package events

import (
	"strings"
	"testing"
)

// factEndings are ways to end that only what a hook says beside its name tells
// apart; the last of each kind is what is said without it.
var factEndings = []struct {
	name, script  string
	where, reason string
	summary       string // a part of it
}{
	{"prohibited", fromEth + "real/eth0 ip_error ret=65549\nreal/eth0 kfree_skb reason=NOT_SPECIFIED site=ip_error", "routing", "prohibited", "the route to 172.23.97.2:81 in real says prohibited"},
	{"blackhole", fromEth + "real/eth0 ip_error ret=65558\nreal/eth0 kfree_skb reason=NOT_SPECIFIED site=ip_error", "routing", "blackhole", "is a blackhole"},
	{"no route", fromEth + "real/eth0 ip_error ret=65637\nreal/eth0 kfree_skb site=ip_error", "routing", "no-route", "no route from real to 172.23.97.2:81"},
	{"unreachable", fromEth + "real/eth0 ip_error ret=65649\nreal/eth0 kfree_skb site=ip_error", "routing", "unreachable", "says unreachable"},
	{"not forwarding", fromEth + "real/eth0 ip_error ret=113\nreal/eth0 kfree_skb site=ip_error", "routing", "not-forwarding", "real does not forward what comes in by eth0"},
	{"route error, unknown", fromEth + "real/eth0 ip_error\nreal/eth0 kfree_skb site=ip_error", "routing", "unreachable", "172.23.97.2:81 is unreachable from real"},

	{"own address", fromEth + "real/eth0 ip_handle_martian_source\nreal/eth0 kfree_skb reason=NOT_SPECIFIED site=ip_rcv_finish_core", "routing", "martian-source", "198.51.100.9:5555 cannot be a source on eth0: it is an address of real"},
	{"loopback", "real/eth0 netif_receive_skb h=127.0.0.9:5555>172.23.97.2:81,S\nreal/eth0 ip_rcv_core\nreal/eth0 ip_handle_martian_source\nreal/eth0 kfree_skb site=ip_rcv_finish_core.constprop.0", "routing", "martian-source", "127.0.0.9:5555 cannot be a source on eth0"},
	{"to loopback", "real/eth0 netif_receive_skb h=198.51.100.9:5555>127.0.0.1:81,S\nreal/eth0 ip_rcv_core\nreal/eth0 kfree_skb site=ip_rcv_finish_core", "routing", "martian-destination", "127.0.0.1:81 cannot be the destination"},
	{"to loopback by NAT", fromEth + "real/eth0 nf_conntrack_in\nreal/eth0 kfree_skb reason=IP_LOCALNET site=ip_rcv_finish_core", "routing", "martian-destination", "NAT gave it a destination"},
	{"from loopback, told", fromEth + "real/eth0 ip_handle_martian_source\nreal/eth0 kfree_skb reason=IP_LOCALNET site=ip_rcv_finish_core", "routing", "martian-source", "cannot be a source"},
	{"refused in some way", fromEth + "real/eth0 kfree_skb reason=NOT_SPECIFIED site=ip_rcv_finish_core", "routing", "refused", "routing refused a packet from 198.51.100.9:5555 to 172.23.97.2:81 by eth0"},

	{"hairpin", fromPort + "real/vethpod br_forward ret=771\nreal/vethpod kfree_skb site=br_forward", "bridge", "hairpin", "leave the bridge by vethpod, where it came in"},
	{"port disabled", fromPort + "real/vethpod br_forward ret=256\nreal/vethpod kfree_skb site=br_handle_frame_finish", "bridge", "port-blocked", "port eth0 of the bridge is disabled (STP state)"},
	{"port blocking, its own", fromPort + "real/vethpod br_forward ret=772\nreal/vethpod kfree_skb site=br_forward", "bridge", "port-blocked", "port vethpod of the bridge is blocking"},
	{"port isolated", fromPort + "real/vethpod br_forward ret=259\nreal/vethpod kfree_skb site=br_forward", "bridge", "not-forwarded", "the bridge did not let it out by port eth0: both ports are isolated"},
	{"VLAN", fromPort + "real/vethpod kfree_skb site=__allowed_ingress", "bridge", "not-forwarded", "its VLAN is not allowed in by port vethpod"},
	{"port unknown", fromPort + "real/vethpod br_forward\nreal/vethpod kfree_skb site=br_forward", "bridge", "not-forwarded", "no port to pass it on to"},
	{"port does not take", fromPort + "real/vethpod kfree_skb reason=BRIDGE_INGRESS_STP_STATE site=br_handle_frame", "bridge", "port-blocked", "port vethpod of the bridge is not forwarding"},
	{"port does not take, perhaps", fromPort + "real/vethpod kfree_skb site=br_handle_frame", "bridge", "not-forwarded", "did not pass it on (br_handle_frame)"},

	{"route, IPv6", fromEth6 + "real/eth0 __icmp_send icmp=1/0\nreal/eth0 kfree_skb reason=IP_INNOROUTES site=ip6_pkt_drop", "routing", "no-route", "no route from real to [fd00::2]:81, or one that says unreachable"},
	{"prohibited, IPv6", fromEth6 + "real/eth0 __icmp_send icmp=1/1\nreal/eth0 kfree_skb reason=IP_INNOROUTES site=ip6_pkt_drop", "routing", "prohibited", "says prohibited"},
	{"route, IPv6, no error", fromEth6 + "real/eth0 kfree_skb reason=IP_INNOROUTES site=ip6_pkt_drop", "routing", "unreachable", "[fd00::2]:81 is unreachable from real"},
	{"blackhole, IPv6", fromEth6 + "real/eth0 kfree_skb site=dst_discard", "routing", "blackhole", "is a blackhole"},
	{"not forwarding IPv6", fromEth6 + "real/eth0 ip_forward\nreal/eth0 kfree_skb reason=IP_INADDRERRORS site=ip6_forward", "routing", "not-forwarding", "real does not forward IPv6, and [fd00::2]:81 is none of its addresses"},
	{"not forwarding IPv6, 5.10", fromEth6 + "real/eth0 ip_forward\nreal/eth0 kfree_skb site=ip6_forward", "forward", "not-forwarded", "real does not forward IPv6, or [fd00:9::9]:5555 is no source beyond its link"},
	{"link-local source", strings.ReplaceAll(fromEth6, "fd00:9::9", "fe80::9") + "real/eth0 ip_forward\nreal/eth0 kfree_skb reason=IP_INADDRERRORS site=ip6_forward", "forward", "not-forwarded", "[fe80::9]:5555 is no source beyond its link"},
	{"cut off", fromEth + "real/eth0 kfree_skb reason=PKT_TOO_SMALL site=ip_rcv_core.isra.0", "ip", "bad-header", "shorter than its IP header says"},
	{"IPv6 disabled, 5.10", fromEth6 + "real/eth0 kfree_skb site=ip6_rcv_core.constprop.0", "ip", "other-host", "or IPv6 is disabled on eth0"},
	{"redirect, first packet", strings.ReplaceAll(fromEth, "172.23.97.2:81,S", "172.23.97.2:0 icmp=5/1") + "real/eth0 nf_hook_slow nf=3\nreal/eth0 nf_conntrack_in\nreal/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow", "conntrack", "nat-redirect", "or whose first packet is still under way"},
	{"IPVS has no way", fromEth + "real/eth0 ip_vs_in_hook\nreal/eth0 ip_vs_nat_xmit\nreal/eth0 kfree_skb reason=NOT_SPECIFIED site=ip_vs_nat_xmit", "ipvs", "transmit-failed", "could not be sent on to the real server of 172.23.97.2:81"},
	{"IPVS has no way back", fromEth + "real/eth0 ip_forward\nreal/eth0 handle_response\nreal/eth0 kfree_skb site=handle_response", "ipvs", "reply-refused", "a reply from 198.51.100.9:5555 was not translated back"},
	{"dropped behind IPVS", fromEth + "real/eth0 ip_forward\nreal/eth0 handle_response\nreal/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow", "netfilter", "dropped", "dropped in"},
	{"peer's MTU", fromEth + "real/eth0 kfree_skb site=__dev_forward_skb", "device", "device", "the other end of eth0 did not take it"},
	{"VXLAN without a peer, no reason", toEth + "real/eth0 net_dev_start_xmit\nreal/eth0 kfree_skb site=vxlan_xmit", "device", "device", "eth0 knows no other end"},
	{"VXLAN without a way", toEth + "real/eth0 net_dev_start_xmit\nreal/eth0 kfree_skb reason=IP_OUTNOROUTES site=vxlan_xmit_one", "device", "device", "eth0 has no route to the tunnel's other end"},
	{"VXLAN without a way, no reason", toEth + "real/eth0 net_dev_start_xmit\nreal/eth0 kfree_skb site=vxlan_xmit_one", "device", "device", "eth0 could not send it on: what carries it is too big, or there is no route to the tunnel's other end"},
	{"VXLAN without a peer", fromEth + "real/eth0 kfree_skb reason=NO_TX_TARGET site=vxlan_xmit", "device", "device", "eth0 knows no other end"},

	{"generic XDP, 5.10", "real/eth0 netif_receive_skb h=198.51.100.9:5555>172.23.97.2:81,S\nreal/eth0 kfree_skb site=do_xdp_generic", "device", "xdp", "an XDP program of eth0"},
	{"cgroup, 5.10", "pod/eth0 __ip_local_out h=172.23.97.2:5555>198.51.100.9:81,S\npod/eth0 ip_output\npod/eth0 kfree_skb site=ip_finish_output", "policy", "policy", "its sender's cgroup refused it"},

	{"tc in, 5.10", "real/eth0 netif_receive_skb h=198.51.100.9:5555>172.23.97.2:81,S\nreal/eth0 tc_ingress\nreal/eth0 kfree_skb site=__netif_receive_skb_core", "tc", "tc-drop", "filter of eth0"},
	{"tc in before ours, 5.10", "real/eth0 netif_receive_skb h=198.51.100.9:5555>172.23.97.2:81,S\nreal/eth0 kfree_skb site=__netif_receive_skb_core", "tc", "tc-drop", "filter of eth0"},
	{"tc out before ours, 5.10", fromEth + "real/eth0 ip_forward\nreal/eth0 ip_output\nreal/eth0 ip_finish_output2\nreal/eth0 kfree_skb ret=1 site=__dev_queue_xmit", "tc", "tc-drop", "filter of eth0"},
	{"tc out, 5.10", fromEth + "real/eth0 ip_forward\nreal/eth0 ip_output\nreal/eth0 tc_egress\nreal/eth0 kfree_skb ret=1 site=__dev_queue_xmit", "tc", "tc-drop", "filter of eth0"},

	{"no carrier", toEth + "real/eth0 kfree_skb reason=QDISC_DROP ret=5 site=__dev_queue_xmit", "device", "device-down", "eth0 is down"},
	{"not up, 5.10", toEth + "real/eth0 kfree_skb ret=3 site=kfree_skb_list", "device", "device-down", "eth0 is down"},
	{"queue full", toEth + "real/eth0 kfree_skb reason=QDISC_DROP ret=1 site=__dev_queue_xmit", "queue", "qdisc-full", "the queue of eth0 dropped it"},
	{"queue full, 5.10", toEth + "real/eth0 kfree_skb ret=1 site=kfree_skb_list", "queue", "qdisc-full", "the queue of eth0 dropped it"},
	{"queue full, of a device not known", toEth + "real/eth0 kfree_skb reason=QDISC_DROP ret=6", "queue", "qdisc-full", "the queue of eth0 dropped it"},
}

const fromEth6 = `
	real/eth0 netif_receive_skb h=[fd00:9::9]:5555>[fd00::2]:81,S
	real/eth0 ip_rcv_core
`

// fromPort comes in by a port of the bridge, which is device 3 there.
const fromPort = `
	pod/eth0 __ip_local_out h=172.23.97.2:5555>172.23.97.2:81,S
	pod/eth0 net_dev_queue
	pod/eth0 net_dev_start_xmit
	real/vethpod netif_receive_skb
`

const toEth = fromEth + `
	real/eth0 ip_forward
	real/eth0 ip_output
	real/eth0 net_dev_queue
`

func TestEndingsByFacts(t *testing.T) {
	for _, tt := range factEndings {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			l.reasons[80], l.reasons[81], l.reasons[82] = "IP_LOCALNET", "QDISC_DROP", "BRIDGE_INGRESS_STP_STATE"
			l.reasons[83], l.reasons[84], l.reasons[85], l.reasons[86] = "IP_INADDRERRORS", "IP_INNOROUTES", "PKT_TOO_SMALL", "NO_TX_TARGET"
			l.reasons[87] = "IP_OUTNOROUTES"
			out, _ := stitch(l, l.script(t).add(tt.script).events, nil)
			if len(out) != 1 {
				t.Fatalf("%d traversals, want 1", len(out))
			}
			if got := out[0]; got.Verdict != Terminated || got.Where != tt.where || got.Reason != tt.reason || !strings.Contains(got.Summary, tt.summary) {
				t.Errorf("%s %s/%s %q\nwant %s/%s %q", got.Verdict, got.Where, got.Reason, got.Summary, tt.where, tt.reason, tt.summary)
			}
		})
	}
}

// TestSourceRefused: without a reason for rp_filter it may have been that.
func TestSourceRefused(t *testing.T) {
	l := newLab()
	l.reasons = nil
	out, _ := stitch(l, l.script(t).add(fromEth+"real/eth0 ip_handle_martian_source\nreal/eth0 kfree_skb site=ip_rcv_finish_core").events, nil)
	if len(out) != 1 || out[0].Reason != "source-refused" {
		t.Fatalf("%d traversals, the first %+v", len(out), out[0])
	}
}

// TestHalfOpen: an RST for a connection that was being opened has been used; one
// that finds no socket has not.
func TestHalfOpen(t *testing.T) {
	for _, tt := range []struct {
		name, end string
		verdict   Verdict
		summary   string
	}{
		{"used", "pod/eth0 tcp_v4_rcv\npod kfree_skb reason=NOT_SPECIFIED site=tcp_v4_rcv", Delivered, "delivered to default/pod: it ended a connection that was being opened"},
		{"used, 5.10", "pod/eth0 tcp_v4_rcv\npod kfree_skb site=tcp_v4_rcv", Delivered, "it ended a connection"},
		{"no socket", "pod/eth0 tcp_v4_rcv\npod tcp_v4_send_reset\npod kfree_skb reason=NO_SOCKET site=tcp_v4_rcv", Terminated, "no socket for"},
		{"no socket, 5.10", "pod/eth0 tcp_v4_rcv\npod tcp_v4_send_reset\npod kfree_skb site=tcp_v4_rcv", Terminated, "no socket for"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			out, _ := stitch(l, l.script(t).add(toPod("R")+tt.end).events, nil)
			if len(out) != 1 || out[0].Verdict != tt.verdict || !strings.Contains(out[0].Summary, tt.summary) {
				t.Fatalf("%d traversals, the first %s %s", len(out), out[0].Verdict, out[0].Summary)
			}
		})
	}
}
