// SPDX-License-Identifier: Apache-2.0

package events

// Station is a place on a packet's way through one protocol stack. Several
// hooks may stand for one station, on different kernels or for IPv4 and IPv6.
type Station uint8

// Stations, in the order in which a packet may meet them.
const (
	StationNone Station = iota

	StationSocketOut   // a transport layer or the kernel hands a new packet to IP; the only station that begins a life in a visit entered from a socket
	StationIPOut       // ip_output: routed, on its way to a device
	StationFragmenting // ip_do_fragment: about to be cut to the device's MTU
	StationNeighbour   // ip_finish_output2: needs the neighbour's link address
	StationTCEgress    // tc egress of a device
	StationQueue       // net_dev_queue: handed to a device's queue
	StationTransmit    // net_dev_start_xmit: handed to the device's driver
	StationVeth        // veth_xmit: crosses to the peer, in another namespace as a rule

	StationReceive   // netif_receive_skb: came in from a device
	StationTCIngress // tc ingress of a device

	StationBridgeIn      // br_handle_frame_finish: the bridge decides where to
	StationBridgeForward // br_forward, __br_forward: to one port (Ret)
	StationBridgeFlood   // br_flood: to all ports
	StationBridgeUp      // br_pass_frame_up: to the bridge device itself, and so to IP
	StationBridgeOut     // br_dev_xmit: IP sends through the bridge device
	StationBridgeNF      // br_nf_*: netfilter is called from the bridge

	StationIPIn         // ip_rcv_core: IP input
	StationLocalDeliver // ip_local_deliver: addressed to this namespace
	StationForward      // ip_forward: to be sent on
	StationRouteError   // ip_error: the route says unreachable, prohibited or blackhole (Ret)
	StationMartian      // ip_handle_martian_source: the source is refused

	StationNetfilter        // nf_hook_slow: one netfilter hook point begins (NFFamily, NFHook)
	StationTable            // ipt_do_table, nft_do_chain: a rule set judges (NFFamily, NFHook)
	StationVerdict          // the return value of a netfilter function (Ret: NF_*)
	StationConntrackIn      // nf_conntrack_in
	StationConntrackFull    // early_drop: the table is at its limit, for the new entry of the packet in nf_conntrack_in
	StationConntrackClash   // nf_ct_resolve_clash: the packet's new entry clashes with another one (CT, with CTOther in Info)
	StationConntrackConfirm // __nf_conntrack_confirm
	StationNAT              // nf_nat_manip_pkt and alike: conntrack's NAT rewrites headers

	StationIPVSIn       // ip_vs_in: is it for a virtual service?
	StationIPVSSchedule // ip_vs_schedule: a virtual service looks for a real server
	StationIPVSConn     // ip_vs_conn_new: a real server was chosen (Backend)
	StationIPVSXmit     // ip_vs_nat_xmit and alike: sent to the real server
	StationIPVSLeave    // ip_vs_leave: the virtual service has no destination
	StationIPVSOut      // handle_response: a reply of a real server, translated back

	StationTransportIn // tcp_v4_rcv, udp_rcv: transport input, socket not yet found
	StationSocketIn    // given to a socket (Socket)
	StationTimeWait    // given to a connection in TIME_WAIT, which has no process any more
	StationBacklog     // tcp_add_backlog: waits for the process that owns the socket
	StationRawIn       // raw_rcv: a copy for a raw socket
	StationPingIn      // ping_rcv: an echo reply for a ping socket
	StationListen      // tcp_conn_request: a SYN reached a listening socket
	StationICMPIn      // icmp_rcv
	StationErrorIn     // tcp_v4_err, udp_err: an ICMP error is told to the socket it is about

	StationICMPSend  // __icmp_send: the kernel answers this packet with an ICMP error (ICMPType, ICMPCode)
	StationResetSend // tcp_v4_send_reset: TCP answers it with an RST

	StationReject   // nf_send_reset: a REJECT rule answers it with an RST
	StationClone    // this packet began as a clone or copy of Other
	StationSegment  // … as a segment of Other
	StationFragment // … as a fragment of Other
	StationMerge    // GRO: merged into Other; its life ends

	StationDrop // freed as dropped (Reason, Location); its life ends
	StationEnd  // freed without complaint; its life ends
)

// evidence.seen has a bit for each.
const _ = uint(63 - StationEnd)
