// SPDX-License-Identifier: Apache-2.0

package events

import "strings"

// reasonOtherHost is the reason of frames that were meant for another machine.
const reasonOtherHost = "other-host"

// reasonTableFull is the reason of packets for which conntrack had no entry left.
const reasonTableFull = "table-full"

// rule is a row of the table that turns what was seen before a drop into
// where and why. Every condition that a row has must hold.
type rule struct {
	nf      bool      // netfilter dropped it: NETFILTER_DROP, or freed in nf_hook_slow
	reject  bool      // it was answered with an ICMP error or an RST
	culprit []Station // the last function entered, where that is one of these
	clash   clashKind // its new conntrack entry clashed so with another one
	queued  bool      // freed where the answer to an NFQUEUE is carried out, and no table was seen to say drop
	invalid bool      // conntrack looked it up, and it has no entry, and no rule said that it needs none
	seen    Station   // met since the packet last came in from a device
	icmp    []uint32  // answered with one of these ICMP errors: type<<8 | code, | icmp6
	itself  []uint32  // it is one of these ICMP messages, likewise
	reasons []string  // the kernel's drop reason; "*" at the end: any with this prefix
	sites   []string  // the function that dropped it, likewise
	more    *proof    // evidence of another kind; nil: none is asked for

	where, reason string
	// say completes "terminated in …:". Words in braces: see evidence.fill.
	say string
}

// icmp6 marks a type and code as those of ICMPv6.
const icmp6 = 1 << 16

// drops is matched from the top; the first row that fits decides.
//
// Kernels below 5.17 give no reason, so that rows for them name the function
// that freed the packet. A packet dropped by netfilter is freed by
// nf_hook_slow whoever dropped it: the last function entered is the culprit,
// since hooks run one after the other.
var drops = []rule{
	{nf: true, culprit: []Station{StationIPVSLeave, StationIPVSSchedule}, where: "ipvs", reason: reasonNoDestination, say: "{dst} has no destination on this node"},
	{nf: true, culprit: []Station{StationIPVSConn, StationIPVSXmit}, where: "ipvs", reason: "transmit-failed", say: "it could not be sent on to the real server of {dst}"},
	{nf: true, culprit: []Station{StationIPVSIn}, where: "ipvs", reason: "destination-gone", say: "the real server of this connection to {dst} is gone"},
	// IPVS frees these itself, and tells netfilter that it took them (NF_STOLEN).
	{reasons: []string{""}, culprit: []Station{StationIPVSXmit}, sites: []string{"ip_vs_*"}, where: "ipvs", reason: "transmit-failed", say: "it could not be sent on to the real server of {dst}"},
	{reasons: []string{""}, culprit: []Station{StationIPVSOut}, sites: []string{"handle_response*", "ip_vs_*"}, where: "ipvs", reason: "reply-refused", say: "a reply from {src} was not translated back"},
	{nf: true, reject: true, culprit: []Station{StationTable, StationNetfilter}, where: "netfilter", reason: "rule-reject", say: "rejected by a rule in {chain} ({hook}), answered with {answer}"},
	{nf: true, queued: true, culprit: []Station{StationTable, StationNetfilter}, where: "netfilter", reason: "queue-drop", say: "queued for a process (NFQUEUE) in {chain}, and dropped when that had answered: by its answer, or by a rule behind the queue"},
	// NAT has no station for what it refuses; below 6.1 and with nftables no table's verdict is seen.
	{nf: true, itself: redirects, culprit: []Station{StationTable}, more: noneDenied, where: "conntrack", reason: "nat-redirect", say: "NAT passes on no ICMP redirect of a connection that it translates, or whose first packet is still under way; or a rule in {chain} dropped it"},
	{nf: true, invalid: true, culprit: []Station{StationTable}, where: "netfilter", reason: "invalid-drop", say: "conntrack knows no connection that it belongs to (INVALID), and a rule in {chain} ({hook}) dropped it"},
	{nf: true, culprit: []Station{StationTable}, where: "netfilter", reason: "rule-drop", say: "dropped by a rule in {chain} ({hook})"},
	{nf: true, clash: clashSame, culprit: []Station{StationConntrackConfirm}, where: "conntrack", reason: "clash-lost", say: "lost a race: {winner}"},
	{nf: true, clash: clashTaken, culprit: []Station{StationConntrackConfirm}, where: "conntrack", reason: "nat-exhausted", say: "no free translation: {winner}"},
	{nf: true, seen: StationConntrackClash, culprit: []Station{StationConntrackConfirm}, where: "conntrack", reason: "confirm-failed", say: "its new entry clashed with another one"},
	{nf: true, culprit: []Station{StationConntrackConfirm}, where: "conntrack", reason: "confirm-failed", say: "its new entry could not be kept: a hash chain is too long for it, or another entry was there first"},
	{nf: true, itself: redirects, culprit: []Station{StationConntrackIn, StationNAT}, where: "conntrack", reason: "nat-redirect", say: "NAT passes on no ICMP redirect of a connection that it translates, or whose first packet is still under way"},
	{nf: true, seen: StationConntrackFull, culprit: []Station{StationConntrackIn}, where: "conntrack", reason: reasonTableFull, say: "the conntrack table of {ns} is full: there is no room for a new connection to {dst}"},
	{nf: true, culprit: []Station{StationConntrackIn}, where: "conntrack", reason: "refused", say: "conntrack refused it in {chain}"},
	{reasons: []string{""}, sites: []string{"nf_queue", "__nf_queue"}, where: "netfilter", reason: "no-queue", say: "a rule in {chain} ({hook}) queued it for a process (NFQUEUE), and none takes it: none reads the queue, or it is full"},
	{nf: true, where: "netfilter", reason: "dropped", say: "dropped in {chain}"},

	{reasons: []string{"NO_SOCKET"}, where: "socket", reason: "no-socket", say: "{nosocket}"},
	{reasons: []string{"SOCKET_RCVBUFF"}, where: "socket", reason: "rcvbuf-full", say: "the receive buffer of {dst} is full"},
	{reasons: []string{"SOCKET_BACKLOG"}, where: "socket", reason: "backlog-full", say: "the backlog of {dst} is full"},
	// tcp_v4_rcv goes on to a socket that is not held; whatever it frees behind tcp_add_backlog, that refused.
	{reasons: []string{""}, sites: []string{"tcp_v4_rcv", "tcp_v6_rcv"}, culprit: []Station{StationBacklog}, where: "socket", reason: "backlog-full", say: "the backlog of {dst} is full, or its checksum is wrong"},
	{reasons: []string{"SOCKET_FILTER"}, where: "socket", reason: "socket-filter", say: "a filter of the socket at {dst} refused it"},
	{reasons: []string{"TCP_LISTEN_OVERFLOW"}, where: "socket", reason: "listen-overflow", say: "the accept queue of {dst} is full"},
	{reasons: []string{"PROTO_MEM"}, where: "socket", reason: "memory", say: "the protocol's memory limit is reached"},
	{reasons: []string{"TCP_CSUM", "UDP_CSUM", "IP_CSUM", "ICMP_CSUM", "SKB_CSUM"}, where: "ip", reason: "checksum", say: "its checksum is wrong"},
	{reasons: []string{"OTHERHOST"}, where: "ip", reason: reasonOtherHost, say: "its link address is another host's"},
	{reasons: []string{""}, sites: []string{"ip_rcv_core*"}, where: "ip", reason: reasonOtherHost, say: "its link address is another host's, or its IP header is invalid"},
	{reasons: []string{""}, sites: []string{"ip6_rcv_core*"}, where: "ip", reason: reasonOtherHost, say: "its link address is another host's, or its IP header is invalid, or IPv6 is disabled on {dev}"},
	{sites: []string{"ip6_mc_input"}, where: "ip", reason: reasonOtherHost, say: "nobody in {ns} listens to {dst}"},
	{reasons: []string{"IP_RPFILTER"}, where: "routing", reason: "rp-filter", say: "rp_filter: {src} is not reached by {dev}"},
	// The destination may have become such a one by NAT, in a function that no hook followed.
	{reasons: []string{"IP_LOCALNET", ""}, sites: routeInput, more: oddDestination, where: "routing", reason: "martian-destination", say: "{dst} cannot be the destination of a packet that comes in by {dev}"},
	{reasons: []string{"IP_LOCALNET"}, more: sourceTaken, where: "routing", reason: "martian-destination", say: "NAT gave it a destination that cannot be one on {dev} (loopback, and route_localnet is off)"},
	{reasons: []string{"IP_INVALID_DEST"}, where: "routing", reason: "martian-destination", say: "{dst} cannot be a destination"},
	{reasons: []string{"IP_LOCAL_SOURCE", "IP_INVALID_SOURCE", "IP_LOCALNET"}, where: "routing", reason: "martian-source", say: "{src} cannot be a source on {dev}"},
	{seen: StationMartian, reasons: []string{""}, sites: routeInput, more: oddSource, where: "routing", reason: "martian-source", say: "{src} cannot be a source on {dev}"},
	// Where rp_filter has a reason of its own, what has none is not its doing.
	{seen: StationMartian, reasons: []string{""}, sites: routeInput, more: rpFilterTold, where: "routing", reason: "martian-source", say: "{src} cannot be a source on {dev}: it is an address of {ns}, or not reached by unicast"},
	{seen: StationMartian, reasons: []string{""}, sites: routeInput, where: "routing", reason: "source-refused", say: "{src} is refused as a source on {dev}: by rp_filter, or because it is an address of {ns}"},

	{reasons: []string{"IP_NOPROTO"}, where: "ip", reason: "no-protocol", say: "nothing in {ns} takes its protocol"},
	{reasons: []string{""}, sites: []string{"ip_local_deliver_finish", "ip_protocol_deliver_rcu"}, icmp: []uint32{3<<8 | 2}, where: "ip", reason: "no-protocol", say: "nothing in {ns} takes its protocol"},
	{icmp: []uint32{11 << 8, icmp6 | 3<<8}, where: "forward", reason: "ttl", say: "its TTL ended on the way to {dst}"},
	{icmp: []uint32{3<<8 | 4, icmp6 | 2<<8}, where: "forward", reason: "too-big", say: "{length} bytes are too big for the way to {dst}, and must not be fragmented"},
	{reasons: []string{"PKT_TOO_BIG"}, where: "forward", reason: "too-big", say: "{length} bytes are too big for the way to {dst}"},
	{seen: StationRouteError, more: noForwarding, where: "routing", reason: "not-forwarding", say: "{ns} does not forward what comes in by {dev}, and {dst} is none of its addresses"},
	{seen: StationRouteError, more: prohibited, where: "routing", reason: "prohibited", say: "the route to {dst} in {ns} says prohibited"},
	{seen: StationRouteError, more: blackhole, where: "routing", reason: "blackhole", say: "the route to {dst} in {ns} is a blackhole"},
	{seen: StationRouteError, more: noRoute, where: "routing", reason: "no-route", say: "no route from {ns} to {dst}"},
	{seen: StationRouteError, more: unreachable, where: "routing", reason: "unreachable", say: "the route to {dst} in {ns} says unreachable"},
	{seen: StationRouteError, reasons: []string{"IP_INADDRERRORS"}, where: "routing", reason: "not-forwarding", say: "{ns} does not forward, or has no route to {dst}"},
	{seen: StationRouteError, where: "routing", reason: "unreachable", say: "{dst} is unreachable from {ns}"},
	// ip6_forward looks whether it forwards at all before it looks at the source.
	{reasons: []string{"IP_INADDRERRORS"}, sites: []string{"ip6_forward*"}, more: globalSource, where: "routing", reason: "not-forwarding", say: "{ns} does not forward IPv6, and {dst} is none of its addresses"},
	{reasons: []string{"IP_INADDRERRORS"}, sites: []string{"ip6_forward*"}, where: "forward", reason: "not-forwarded", say: "it was not forwarded to {dst}: {src} is no source beyond its link, or {ns} does not forward IPv6"},
	{reasons: []string{""}, sites: []string{"ip6_forward*"}, where: "forward", reason: "not-forwarded", say: "it was not forwarded to {dst}: {ns} does not forward IPv6, or {src} is no source beyond its link"},
	// IPv6 has one function for routes that refuse, and no error number.
	{sites: ip6Refused, icmp: []uint32{icmp6 | 1<<8 | 1}, where: "routing", reason: "prohibited", say: "the route to {dst} in {ns} says prohibited"},
	{sites: ip6Refused, icmp: []uint32{icmp6 | 1<<8}, where: "routing", reason: "no-route", say: "no route from {ns} to {dst}, or one that says unreachable"},
	{sites: ip6Refused, where: "routing", reason: "unreachable", say: "{dst} is unreachable from {ns}"},
	{reasons: []string{""}, sites: []string{"dst_discard*"}, culprit: []Station{StationIPIn, StationTable, StationNetfilter, StationConntrackIn, StationNAT}, where: "routing", reason: "blackhole", say: "the route to {dst} in {ns} is a blackhole"},
	{reasons: []string{"IP_OUTNOROUTES"}, sites: []string{"vxlan_xmit*"}, where: "device", reason: "device", say: "{dev} has no route to the tunnel's other end"},
	{reasons: []string{"IP_INNOROUTES", "IP_OUTNOROUTES", "IP_INADDRERRORS"}, where: "routing", reason: "no-route", say: "no route from {ns} to {dst}"},
	{culprit: []Station{StationTransportIn}, reject: true, reasons: []string{""}, where: "socket", reason: "no-socket", say: "{nosocket}"},
	{culprit: []Station{StationTransportIn}, reasons: []string{""}, sites: refusedByQueue, where: "socket", reason: "socket-refused", say: "the socket at {dst} refused it: its filter, or a wrong checksum"},
	{reasons: []string{""}, sites: routeInput, where: "routing", reason: "refused", say: "routing refused a packet from {src} to {dst} by {dev}"},
	{reasons: []string{""}, sites: []string{"ip_error"}, where: "routing", reason: "unreachable", say: "{dst} is unreachable from {ns}"},
	{reasons: []string{"IPV6DISABLED"}, where: "ip", reason: "ipv6-disabled", say: "IPv6 is disabled on {dev}"},
	// br_nf_pre_routing passes on to IP's hook what it finds good, and says drop of all else; with a reason of its own on newer kernels.
	{reasons: []string{"", "IP_INHDR"}, sites: bridgeLooks, culprit: []Station{StationBridgeNF}, where: "bridge", reason: "bad-header", say: "its IP header is invalid: the bridge looks before it calls netfilter (bridge-nf-call-iptables)"},
	{reasons: []string{"IP_INHDR"}, where: "ip", reason: "bad-header", say: "its IP header is invalid"},
	{reasons: []string{"PKT_TOO_SMALL"}, sites: []string{"ip_rcv_core*", "ip6_rcv_core*"}, where: "ip", reason: "bad-header", say: "it is shorter than its IP header says"},

	{reasons: []string{"NEIGH_*"}, where: "neighbour", reason: "unresolved", say: "the link address of the next hop to {dst} did not resolve ({dev})"},
	{sites: []string{"neigh_*", "__neigh*", "arp_*", "ndisc_*"}, where: "neighbour", reason: "unresolved", say: "the link address of the next hop to {dst} did not resolve ({dev})"},
	{reasons: []string{"TC_INGRESS", "TC_EGRESS", "TC_*"}, where: "tc", reason: "tc-drop", say: "a tc program or filter of {dev} dropped it"},
	// Below 5.17: between these stations and the next there is nothing else that drops
	// IP. The program or filter may come before or behind our own, which is StationTC….
	{reasons: []string{""}, sites: []string{"__netif_receive_skb_core*"}, culprit: []Station{StationTCIngress, StationReceive}, where: "tc", reason: "tc-drop", say: "a tc program or filter of {dev} dropped it"},
	{reasons: []string{""}, sites: []string{"__dev_queue_xmit"}, culprit: []Station{StationTCEgress, StationNeighbour}, where: "tc", reason: "tc-drop", say: "a tc program or filter of {dev} dropped it"},
	{reasons: []string{"XDP", "XDP_*"}, where: "device", reason: "xdp", say: "an XDP program of {dev} dropped it"},
	{reasons: []string{""}, sites: []string{"do_xdp_generic*", "netif_receive_generic_xdp*"}, where: "device", reason: "xdp", say: "an XDP program of {dev} dropped it"},
	// Without its link, a device's queue is one that takes nothing (noop_qdisc).
	{reasons: []string{"QDISC_*", "DEV_READY"}, more: linkDown, where: "device", reason: "device-down", say: "{dev} is down"},
	{reasons: []string{""}, sites: queueSites, culprit: []Station{StationQueue, StationTCEgress, StationNeighbour}, more: linkDown, where: "device", reason: "device-down", say: "{dev} is down"},
	{reasons: []string{"QDISC_*"}, where: "queue", reason: "qdisc-full", say: "the queue of {dev} dropped it"},
	{reasons: []string{"FULL_RING"}, where: "queue", reason: "ring-full", say: "the ring of {dev} is full"},
	{reasons: []string{"CPU_BACKLOG"}, where: "queue", reason: "cpu-backlog", say: "the CPU's input queue is full"},
	{reasons: []string{""}, sites: []string{"enqueue_to_backlog", "netif_rx*"}, where: "queue", reason: "cpu-backlog", say: "the CPU's input queue is full"},
	{reasons: []string{""}, sites: queueSites, culprit: []Station{StationQueue, StationTCEgress, StationNeighbour}, where: "queue", reason: "qdisc-full", say: "the queue of {dev} dropped it"},
	{culprit: []Station{StationBridgeForward}, sites: bridgeForward, more: hairpin, where: "bridge", reason: "hairpin", say: "it would leave the bridge by {dev}, where it came in, and hairpin_mode is off there"},
	{culprit: []Station{StationBridgeForward}, sites: bridgeForward, more: portBlocked, where: "bridge", reason: "port-blocked", say: "port {port} of the bridge is {stp}"},
	{culprit: []Station{StationBridgeForward}, sites: bridgeForward, more: portOpen, where: "bridge", reason: "not-forwarded", say: "the bridge did not let it out by port {port}: both ports are isolated, or its VLAN is not allowed there"},
	{reasons: []string{""}, sites: []string{"__allowed_ingress*", "br_allowed_ingress*"}, where: "bridge", reason: "not-forwarded", say: "its VLAN is not allowed in by port {dev} of the bridge"},
	{reasons: []string{"BRIDGE_INGRESS_STP_STATE"}, where: "bridge", reason: "port-blocked", say: "port {dev} of the bridge is not forwarding: nothing is taken from it"},
	{reasons: []string{"BRIDGE_*", "LOCAL_MAC"}, where: "bridge", reason: "not-forwarded", say: "the bridge did not pass it on ({kernel})"},
	{reasons: []string{""}, sites: []string{"br_forward*", "__br_forward*"}, where: "bridge", reason: "not-forwarded", say: "no port to pass it on to: it would leave where it came in, or the port is blocked"},
	{sites: []string{"br_*", "__br_*"}, where: "bridge", reason: "not-forwarded", say: "the bridge did not pass it on ({site})"},
	{reasons: []string{"XFRM_*", "SECURITY_HOOK", "BPF_CGROUP_EGRESS"}, where: "policy", reason: "policy", say: "a policy refused it ({kernel})"},
	{reasons: []string{""}, sites: []string{"ip_finish_output", "ip6_finish_output"}, where: "policy", reason: "policy", say: "a BPF program of its sender's cgroup refused it"},
	{reasons: []string{""}, sites: []string{"ip_forward*"}, where: "forward", reason: "not-forwarded", say: "it was not forwarded to {dst}"},
	{reasons: []string{""}, sites: forwardedToPeer, where: "device", reason: "device", say: "the other end of {dev} did not take it: it is down, or its MTU is smaller"},
	{reasons: []string{""}, sites: []string{"vxlan_xmit_one*"}, where: "device", reason: "device", say: "{dev} could not send it on: what carries it is too big, or there is no route to the tunnel's other end"},
	{reasons: []string{"", "NO_TX_TARGET"}, sites: []string{"vxlan_xmit*"}, where: "device", reason: "device", say: "{dev} knows no other end to send it to"},
	{reasons: []string{"DEV_*", "TAP_*", "VXLAN_*", "NOMEM"}, where: "device", reason: "device", say: "{dev} did not take it ({kernel})"},
	{reasons: []string{""}, sites: []string{"veth_xmit", "dev_*", "__dev_*", "validate_xmit*", "vxlan_*", "tun_*"}, where: "device", reason: "device", say: "{dev} did not take it ({site})"},
}

// Functions that drop, by what they do.
var (
	routeInput    = []string{"ip_route_input*", "ip_rcv_finish*", "ip6_rcv_finish*", "br_nf_pre_routing_finish*"}
	queueSites    = []string{"__dev_queue_xmit", "__dev_xmit_skb", "kfree_skb_list*", "*fifo_enqueue", "qdisc_*"}
	bridgeForward = []string{"br_*", "__br_*"} // br_forward is part of its callers on some kernels
	bridgeLooks   = []string{"br_handle_frame*", "nf_hook_bridge_pre*", "br_nf_pre_routing*"}
	redirects     = []uint32{5 << 8, 5<<8 | 1}
	ip6Refused    = []string{"ip6_pkt_*"}
	// Drivers that free with kfree_skb only what they do not send.
	driverDrops = []string{"vxlan_xmit*", "tun_*"}
	// By which veth and bridges hand a frame to their other end.
	forwardedToPeer = []string{"dev_forward_skb*", "__dev_forward_skb*", "____dev_forward_skb*"}
	queueAnswered   = []string{"nf_reinject*", "nfqnl_*"} // nf_reinject is part of its callers from 6.10 on
)

// socketDrops are the reasons for which a packet that reached a TCP socket is
// really lost. With any other, the kernel has used it and frees it as dropped
// only in name: pure acknowledgements, duplicates, segments out of the window.
var socketDrops = []string{
	"SOCKET_RCVBUFF", "SOCKET_BACKLOG", "SOCKET_FILTER", "PROTO_MEM", "TCP_CSUM", "SKB_CSUM",
	"TCP_LISTEN_OVERFLOW", "NO_SOCKET", "XFRM_*", "TCP_MD5*", "TCP_AO*", "TCP_AUTH*", "NOMEM",
}

// insideTCPSocket are functions that a TCP packet reaches by its socket's own receiving
// function only.
var insideTCPSocket = []string{"tcp_drop*", "tcp_data_queue*", "tcp_ofo_queue*", "tcp_rcv_*", "tcp_validate_incoming*", "tcp_prune_*"}

// purgeSites free what is in the queues of a socket that is closed.
var purgeSites = []string{"udp_destruct_*", "udpv6_destruct_*", "inet_sock_destruct", "sk_stream_kill_queues", "skb_queue_purge*", "skb_rbtree_purge"}

// refusedByQueue are the functions that free a datagram which its socket does not
// take. One that was taken is freed by others, when the socket is closed.
var refusedByQueue = []string{"__udp_queue_rcv*", "udp_queue_rcv*", "__udpv6_queue_rcv*", "udpv6_queue_rcv*"}

// closedUnread says whether a datagram was freed with the socket that had it in its
// queue: no kernel up to 7 gives a reason for that but QUEUE_PURGE (since 6.6, and
// not for UDP), so the function tells. What a process has read is consumed.
func closedUnread(kernel, site string) bool {
	return kernel == "QUEUE_PURGE" || kernel == "" && matchAny(purgeSites, site)
}

// quietDrops are reasons of such frees that are not worth a note.
var quietDrops = []string{"", "TCP_RESET", "TCP_OLD_ACK"}

// stationWhere is where a packet ended, as far as its last station tells.
var stationWhere = map[Station]string{
	StationSocketOut: "ip", StationIPOut: "ip", StationFragmenting: "ip", StationNeighbour: "neighbour",
	StationTCEgress: "tc", StationQueue: "queue", StationTransmit: "device", StationVeth: "device",
	StationReceive: "device", StationTCIngress: "tc",
	StationBridgeIn: "bridge", StationBridgeForward: "bridge", StationBridgeFlood: "bridge", StationBridgeUp: "bridge",
	StationBridgeOut: "bridge", StationBridgeNF: "netfilter",
	StationIPIn: "ip", StationLocalDeliver: "ip", StationForward: "forward", StationRouteError: "routing", StationMartian: "routing",
	StationNetfilter: "netfilter", StationTable: "netfilter", StationVerdict: "netfilter",
	StationConntrackIn: "conntrack", StationConntrackFull: "conntrack", StationConntrackClash: "conntrack", StationConntrackConfirm: "conntrack", StationNAT: "conntrack",
	StationIPVSIn: "ipvs", StationIPVSSchedule: "ipvs", StationIPVSConn: "ipvs", StationIPVSXmit: "ipvs",
	StationIPVSLeave: "ipvs", StationIPVSOut: "ipvs",
	StationTransportIn: "socket", StationSocketIn: "socket", StationTimeWait: "socket", StationListen: "socket",
	StationBacklog: "socket", StationRawIn: "socket", StationPingIn: "socket", StationICMPIn: "icmp", StationErrorIn: "socket", StationMerge: "gro",
}

// whereWords are the words of the summary for where, if others.
var whereWords = map[string]string{
	"ipvs": "IPVS", "ip": "IP", "icmp": "ICMP", "socket": "the socket layer", "queue": "a queue", "tc": "tc",
	"neighbour": "neighbour resolution", "forward": "forwarding", "bridge": "the bridge", "device": "a device", "policy": "a policy",
}

// matchAny says whether s is one of the patterns; a "*" at the end of a
// pattern stands for any rest, one at its beginning for any start.
func matchAny(patterns []string, s string) bool {
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			if strings.HasPrefix(s, prefix) {
				return true
			}
		} else if suffix, ok := strings.CutPrefix(p, "*"); ok {
			if strings.HasSuffix(s, suffix) {
				return true
			}
		} else if p == s {
			return true
		}
	}
	return false
}

// kebab writes a kernel reason as one of ours: NETFILTER_DROP, netfilter-drop.
func kebab(reason string) string {
	return strings.ToLower(strings.ReplaceAll(reason, "_", "-"))
}
