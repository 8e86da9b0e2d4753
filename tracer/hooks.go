// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events"
)

// point is what a row of the hook table is attached to.
type point uint8

const (
	onEntry      point = iota // a kernel function is called
	onReturn                  // a kernel function returns; its arguments are still known
	onTracepoint              // a tracepoint with BTF
	onTC                      // tc of every device
)

// row is one hook: what it is attached to, which program runs there, and where
// that program finds its arguments. Adding a hook is adding a row.
//
// Where the kernel has BTF for the function, an skb, net, sock or
// nf_hook_state argument is found by its type, so that prototypes may change
// between kernels. noBTF gives the positions for kernels without (modules on
// 5.10).
type row struct {
	name    string // as shown; also the function or tracepoint, unless target is set
	target  string
	at      point
	prog    string
	station events.Station
	// a, b and c are what the program takes beyond skb, net, sock and state.
	a, b, c arg
	noBTF   positions
	// skb is the argument's number where there are two of them; noSkb says that
	// there is none, and that the program knows the skb from a hook before.
	skb   uint8
	noSkb bool
	// derefSkb marks a function whose first argument points to a structure with
	// the skb's address; derefA that a points to such a one.
	derefSkb, derefA bool
	derefAt          int32 // where in that structure the address is
	// unless names a function that serves instead where the kernel has it.
	unless   string
	required bool
	kernels  string // where it is not on all of 5.10 to 7.x
	means    string
}

// positions are argument numbers, from 1; 0 is none.
type positions struct{ skb, net, sk, state uint8 }

// arg is where a value comes from.
type arg struct {
	from argFrom
	n    uint8 // argument number, from 1
	// optional: 0 where the function has fewer arguments.
	optional bool
}

type argFrom uint8

const (
	argNone argFrom = iota
	argNumber
	argReturn
)

func nth(n uint8) arg      { return arg{from: argNumber, n: n} }
func nthIfAny(n uint8) arg { return arg{from: argNumber, n: n, optional: true} }
func returned() arg        { return arg{from: argReturn} }

// derefSlot is the slot of struct hook_args that holds a pointer to its value.
func (r *row) derefSlot() int16 {
	switch {
	case r.derefSkb:
		return bpf.ArgSkb
	case r.derefA:
		return bpf.ArgA
	}
	return -1
}

func (r *row) symbol() string {
	if r.target != "" {
		return r.target
	}
	return r.name
}

// The hook table. A packet's way through it is told by events.Station.
var table = []row{
	// Devices and lives: BTF tracepoints, on every kernel and for every device.
	{name: "netif_receive_skb", at: onTracepoint, prog: "receive", station: events.StationReceive, required: true, means: "the packet came in from a device"},
	{name: "net_dev_queue", at: onTracepoint, prog: "device", station: events.StationQueue, required: true, means: "the packet was handed to a device"},
	{name: "net_dev_start_xmit", at: onTracepoint, prog: "transmit", station: events.StationTransmit, required: true, means: "the device's driver transmits it"},
	{name: "kfree_skb", at: onTracepoint, prog: "drop", station: events.StationDrop, a: nthIfAny(3), b: nth(2), required: true, means: "the packet was dropped; reasons from 5.17 on"},
	{name: "consume_skb", at: onTracepoint, prog: "end", station: events.StationEnd, required: true, means: "the packet was freed without complaint"},
	{name: "tc_ingress", target: "ingress", at: onTC, prog: "tc_path", station: events.StationTCIngress, means: "the packet passed the tc layer on its way in"},
	{name: "tc_egress", target: "egress", at: onTC, prog: "tc_path", station: events.StationTCEgress, means: "the packet passed the tc layer on its way out"},

	// Lives that no tracepoint tells of.
	{name: "__kfree_skb", prog: "end", station: events.StationEnd, means: "freed by a function of its own, as TCP does"},
	{name: "kfree_skbmem", prog: "end", station: events.StationEnd, means: "its memory is given back"},
	{name: "kfree_skb_partial", prog: "end", station: events.StationEnd, means: "its data lives on in another skb"},
	{name: "skb_attempt_defer_free", prog: "end", station: events.StationEnd, kernels: "5.19 and later", means: "a process has read it; the CPU that allocated it will free it"},
	{name: "napi_skb_free_stolen_head", prog: "end", station: events.StationEnd, means: "GRO kept its data"},
	{name: "skb_clone", at: onReturn, prog: "clone", station: events.StationClone, a: returned(), means: "a clone was made: for a tap, by a flooding bridge"},
	{name: "skb_copy", at: onReturn, prog: "clone", station: events.StationClone, a: returned(), means: "a copy was made"},
	{name: "__pskb_copy_fclone", at: onReturn, prog: "clone", station: events.StationClone, a: returned(), means: "a copy with shared data was made"},
	{name: "skb_segment", at: onReturn, prog: "segment", station: events.StationSegment, a: returned(), means: "cut into segments, because the device cannot"},
	{name: "ip_frag_next", at: onReturn, prog: "clone", station: events.StationFragment, a: returned(), means: "a fragment was cut off"},
	{name: "ip6_frag_next", at: onReturn, prog: "clone", station: events.StationFragment, a: returned(), means: "a fragment was cut off"},
	{name: "ip_fraglist_prepare", prog: "clone", station: events.StationFragment, a: nth(2), derefA: true, means: "sent in fragments that the socket had prepared"},
	{name: "ip6_fraglist_prepare", prog: "clone", station: events.StationFragment, a: nth(2), derefA: true, derefAt: 8, means: "sent in fragments that the socket had prepared"},
	{name: "skb_gro_receive", at: onReturn, prog: "merge", station: events.StationMerge, skb: 2, a: nth(1), b: returned(), means: "merged into another packet by GRO"},

	// Socket and IP output.
	{name: "__ip_local_out", prog: "socket_out", station: events.StationSocketOut, required: true, means: "a socket, or the kernel itself, sends"},
	{name: "__ip6_local_out", prog: "socket_out", station: events.StationSocketOut, means: "a socket, or the kernel itself, sends"},
	{name: "ip_output", prog: "path", station: events.StationIPOut, means: "routed, on its way to a device"},
	{name: "ip6_output", prog: "socket_out", station: events.StationIPOut, means: "routed, on its way to a device; TCP over IPv6 begins here"},
	{name: "ip_do_fragment", prog: "path", station: events.StationFragmenting, means: "larger than the device's MTU"},
	{name: "ip_finish_output2", prog: "path", station: events.StationNeighbour, means: "needs its neighbour's link address"},
	{name: "ip6_finish_output2", prog: "path", station: events.StationNeighbour, means: "needs its neighbour's link address"},
	{name: "veth_xmit", prog: "path", station: events.StationVeth, noBTF: positions{skb: 1}, means: "crosses to the other end of the veth pair"},

	// Bridge.
	{name: "br_handle_frame_finish", prog: "path", station: events.StationBridgeIn, noBTF: positions{net: 1, skb: 3}, means: "the bridge decides where to"},
	{name: "br_forward", prog: "bridge_port", station: events.StationBridgeForward, a: nth(1), noBTF: positions{skb: 2}, means: "bridged to one port"},
	{name: "br_flood", prog: "path", station: events.StationBridgeFlood, noBTF: positions{skb: 2}, means: "bridged to every port"},
	{name: "br_pass_frame_up", prog: "path", station: events.StationBridgeUp, noBTF: positions{skb: 1}, means: "for the bridge's own address: handed up to IP"},
	{name: "br_dev_xmit", prog: "path", station: events.StationBridgeOut, noBTF: positions{skb: 1}, means: "IP sends through the bridge device"},
	{name: "br_nf_pre_routing", prog: "path", station: events.StationBridgeNF, noBTF: positions{skb: 2, state: 3}, means: "netfilter is called from the bridge"},
	{name: "br_nf_forward", prog: "path", station: events.StationBridgeNF, kernels: "6.12 and later", means: "netfilter is called from the bridge, FORWARD"},
	{name: "br_nf_forward_ip", prog: "path", station: events.StationBridgeNF, noBTF: positions{skb: 2, state: 3}, kernels: "up to 6.1", means: "netfilter is called from the bridge, FORWARD"},
	{name: "br_nf_post_routing", prog: "path", station: events.StationBridgeNF, noBTF: positions{skb: 2, state: 3}, means: "netfilter is called from the bridge, POSTROUTING"},

	// IP input and forwarding.
	{name: "ip_rcv_core", prog: "path", station: events.StationIPIn, means: "IP input"},
	{name: "ip6_rcv_core", prog: "path", station: events.StationIPIn, means: "IP input"},
	{name: "ip_local_deliver", prog: "path", station: events.StationLocalDeliver, means: "addressed to this namespace"},
	{name: "ip6_input", prog: "path", station: events.StationLocalDeliver, means: "addressed to this namespace"},
	{name: "ip_forward", prog: "path", station: events.StationForward, means: "to be sent on"},
	{name: "ip6_forward", prog: "path", station: events.StationForward, means: "to be sent on"},
	{name: "ip_handle_martian_source", prog: "path", station: events.StationMartian, means: "the routing code refuses its source: rp_filter, or an address that cannot be one"},
	{name: "ip_error", prog: "route_error", station: events.StationRouteError, means: "the route says unreachable, prohibited or blackhole"},

	// Netfilter.
	{name: "nf_hook_slow", prog: "netfilter", station: events.StationNetfilter, means: "a netfilter hook point begins"},
	{name: "ipt_do_table", prog: "netfilter", station: events.StationTable, noBTF: positions{skb: 1, state: 2}, means: "an iptables table judges"},
	{name: "ip6t_do_table", prog: "netfilter", station: events.StationTable, noBTF: positions{skb: 1, state: 2}, means: "an ip6tables table judges"},
	{name: "nft_do_chain", prog: "netfilter", station: events.StationTable, derefSkb: true, means: "an nftables base chain judges"},
	{name: "ipt_do_table.verdict", target: "ipt_do_table", at: onReturn, prog: "verdict", station: events.StationVerdict, a: returned(), kernels: "6.1 and later", means: "the iptables table said drop"},

	// Conntrack and NAT.
	{name: "nf_conntrack_in", prog: "look_up", station: events.StationConntrackIn, noBTF: positions{skb: 1, state: 2}, means: "conntrack looks it up"},
	{name: "nf_conntrack_in.verdict", target: "nf_conntrack_in", at: onReturn, prog: "verdict", station: events.StationVerdict, a: returned(), kernels: "6.1 and later", means: "conntrack said drop"},
	{name: "early_drop", prog: "table_full", station: events.StationConntrackFull, noSkb: true, noBTF: positions{net: 1}, means: "conntrack's table is at its limit: an entry must go for the new one"},
	{name: "__nf_conntrack_confirm", prog: "track", station: events.StationConntrackConfirm, noBTF: positions{skb: 1}, means: "its conntrack entry is about to become valid"},
	{name: "nf_ct_resolve_clash", prog: "clash", station: events.StationConntrackClash, noBTF: positions{skb: 1}, a: nth(2), means: "its new conntrack entry clashes with another one"},
	{name: "nf_nat_manip_pkt", prog: "path", station: events.StationNAT, noBTF: positions{skb: 1}, means: "conntrack's NAT rewrites its headers"},

	// IPVS.
	{name: "ip_vs_in_hook", prog: "netfilter", station: events.StationIPVSIn, kernels: "6.1 and later", means: "is it for a virtual service?"},
	{name: "ip_vs_remote_request4", prog: "netfilter", station: events.StationIPVSIn, noBTF: positions{skb: 2, state: 3}, kernels: "5.10", means: "is it for a virtual service?"},
	{name: "ip_vs_local_request4", prog: "netfilter", station: events.StationIPVSIn, noBTF: positions{skb: 2, state: 3}, kernels: "5.10", means: "is it for a virtual service?"},
	{name: "ip_vs_remote_request6", prog: "netfilter", station: events.StationIPVSIn, noBTF: positions{skb: 2, state: 3}, kernels: "5.10", means: "is it for a virtual service?"},
	{name: "ip_vs_schedule", prog: "schedule", station: events.StationIPVSSchedule, noBTF: positions{skb: 2}, means: "a virtual service looks for a real server"},
	{name: "ip_vs_conn_new", prog: "conn_new", station: events.StationIPVSConn, noSkb: true, a: nth(3), b: nth(4), c: nth(2), means: "a real server was chosen"},
	{name: "ip_vs_nat_xmit", prog: "path", station: events.StationIPVSXmit, noBTF: positions{skb: 1}, means: "sent to the real server, by NAT"},
	{name: "ip_vs_nat_xmit_v6", prog: "path", station: events.StationIPVSXmit, noBTF: positions{skb: 1}, means: "sent to the real server, by NAT"},
	{name: "ip_vs_dr_xmit", prog: "path", station: events.StationIPVSXmit, noBTF: positions{skb: 1}, means: "sent to the real server, by its link address"},
	{name: "ip_vs_tunnel_xmit", prog: "path", station: events.StationIPVSXmit, noBTF: positions{skb: 1}, means: "sent to the real server, in a tunnel"},
	{name: "ip_vs_bypass_xmit", prog: "path", station: events.StationIPVSXmit, noBTF: positions{skb: 1}, means: "sent past the virtual service"},
	{name: "ip_vs_null_xmit", prog: "path", station: events.StationIPVSXmit, noBTF: positions{skb: 1}, means: "the real server is this node"},
	{name: "ip_vs_leave", prog: "path", station: events.StationIPVSLeave, noBTF: positions{skb: 2}, means: "the virtual service has no destination"},
	{name: "handle_response", prog: "path", station: events.StationIPVSOut, noBTF: positions{skb: 2}, means: "a real server's reply is translated back"},

	// Socket input.
	{name: "tcp_v4_rcv", prog: "path", station: events.StationTransportIn, means: "TCP input; the socket is not yet known"},
	{name: "tcp_v6_rcv", prog: "path", station: events.StationTransportIn, means: "TCP input; the socket is not yet known"},
	{name: "udp_rcv", prog: "path", station: events.StationTransportIn, means: "UDP input; the socket is not yet known"},
	{name: "udpv6_rcv", prog: "path", station: events.StationTransportIn, means: "UDP input; the socket is not yet known"},
	{name: "tcp_rcv_established", prog: "socket_in", station: events.StationSocketIn, means: "given to a connected TCP socket"},
	{name: "tcp_rcv_state_process", prog: "socket_in", station: events.StationSocketIn, means: "given to a TCP socket that listens, connects or closes"},
	{name: "tcp_add_backlog", prog: "socket_in", station: events.StationBacklog, means: "waits until the socket's process lets go of it"},
	{name: "tcp_timewait_state_process", prog: "path", station: events.StationTimeWait, means: "for a connection in TIME_WAIT"},
	{name: "tcp_conn_request", prog: "answer", station: events.StationListen, means: "a SYN reached a listening socket"},
	{name: "__udp_enqueue_schedule_skb", prog: "socket_in", station: events.StationSocketIn, means: "given to a UDP socket"},
	{name: "raw_rcv", prog: "socket_in", station: events.StationRawIn, means: "a copy for a raw socket"},
	{name: "icmp_rcv", prog: "path", station: events.StationICMPIn, means: "ICMP input"},
	{name: "icmpv6_rcv", prog: "path", station: events.StationICMPIn, means: "ICMP input"},
	{name: "ping_rcv", prog: "path", station: events.StationPingIn, means: "an echo reply for a ping socket"},
	{name: "tcp_v4_err", prog: "path", station: events.StationErrorIn, means: "an ICMP error is told to its TCP socket"},
	{name: "tcp_v6_err", prog: "path", station: events.StationErrorIn, means: "an ICMP error is told to its TCP socket"},
	{name: "udp_err", prog: "path", station: events.StationErrorIn, means: "an ICMP error is told to its UDP socket"},
	{name: "__udp6_lib_err", prog: "path", station: events.StationErrorIn, kernels: "up to 6.18", means: "an ICMP error is told to its UDP socket"},
	{name: "udpv6_err", prog: "path", station: events.StationErrorIn, unless: "__udp6_lib_err", kernels: "7.x", means: "an ICMP error is told to its UDP socket"},

	// What the kernel answers.
	{name: "__icmp_send", prog: "icmp_send", station: events.StationICMPSend, a: nth(2), b: nth(3), means: "answered with an ICMP error"},
	{name: "icmp6_send", prog: "icmp_send", station: events.StationICMPSend, a: nth(2), b: nth(3), means: "answered with an ICMP error"},
	{name: "tcp_v4_send_reset", prog: "answer", station: events.StationResetSend, means: "answered with an RST"},
	{name: "tcp_v6_send_reset", prog: "answer", station: events.StationResetSend, means: "answered with an RST"},
	// 5.10's point releases got the socket argument of 5.11 in front of the skb.
	{name: "nf_send_reset", prog: "answer", station: events.StationReject, noBTF: positions{skb: 3}, means: "a REJECT rule answers with an RST"},
	{name: "nf_send_reset6", prog: "answer", station: events.StationReject, noBTF: positions{skb: 3}, means: "a REJECT rule answers with an RST"},
}
