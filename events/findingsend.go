// SPDX-License-Identifier: Apache-2.0

package events

// findingsAtTheEnd are about sockets, and about what arrived and still deserves a
// warning.
var findingsAtTheEnd = []Finding{
	{
		Where: "socket", Reason: "no-socket", Title: "nothing listens there",
		Advice: "`ss -lntup` in that namespace: does the process run, on this port and address (not only 127.0.0.1)? If the namespace is a node's and the address a service's, no virtual service or rule took it: look at kube-proxy.",
		Unless: "ss shows a socket for it at that time",
	},
	{
		Where: "socket", Reason: "listen-overflow", Title: "the accept queue is full",
		Says:     []string{"the listening socket at {dst} did not answer: its accept queue is full"},
		Evidence: []string{"a listening socket took the SYN, freed it, and neither answered nor made a connection"},
		Advice:   "`ss -lnt`: Recv-Q at or above Send-Q. The process does not accept: it hangs, or its backlog (and net.core.somaxconn) is too small. `nstat -az TcpExtListenOverflows` counts.",
		Unless:   "TcpExtListenOverflows and TcpExtListenDrops did not move",
	},
	{
		Where: "socket", Reason: "rcvbuf-full", Title: "the receive buffer is full",
		Says:     []string{"the receive buffer of {dst} is full, or UDP has no memory left"},
		Evidence: []string{"a UDP socket was given it, and freed it, but not because it was closed; the kernel (below 5.17) gave no drop reason"},
		Advice:   "`ss -nump`: Recv-Q near the limit (rb). The process reads too slowly; net.core.rmem_max and SO_RCVBUF only help with bursts. `nstat -az UdpRcvbufErrors` counts.",
		Unless:   "UdpRcvbufErrors did not move",
	},
	{
		Where: "socket", Reason: "backlog-full", Title: "the socket's backlog is full",
		Advice: "The process holds its socket for too long, or gets more than one CPU can take. `nstat -az TcpExtTCPBacklogDrop` counts.",
		Unless: "TcpExtTCPBacklogDrop did not move",
	},
	{
		Where: "socket", Reason: "socket-filter", Title: "a filter of the socket refused it",
		Advice: "The process itself attached a filter (SO_ATTACH_FILTER, SO_ATTACH_BPF): `ss -0b` and `ss -np --bpf` show them.",
		Unless: "the socket has no filter",
	},
	{
		Where: "socket", Reason: "socket-refused", Title: "the socket refused it",
		Advice: "This kernel does not say why: a filter of the socket, or a wrong checksum. `nstat -az UdpInErrors UdpInCsumErrors` tells the second.",
		Unless: "neither count moved",
	},
	{
		Where: "socket", Reason: "memory", Title: "the protocol has no memory left",
		Advice: "`cat /proc/net/sockstat` against net.ipv4.tcp_mem or udp_mem (pages): some process leaves much unread, or the limit is too small. In a container also its memory limit.",
		Unless: "the use is far below the limit",
	},
	{
		Where: "socket", Reason: "reset", Title: "a socket answered with RST",
		Says:     []string{"the socket at {dst} answered with RST"},
		Evidence: []string{"TCP made an RST because of it, after a socket had been found"},
		Advice:   "The process closed its end with data unread, or is gone; or the segment fits no connection any more (a middlebox or a conntrack entry that outlived it). Follow the RST that it caused.",
		Unless:   "it caused no RST",
	},

	{
		Where: whereNote, Reason: "client-address-lost", Title: "the server does not see the client's address",
		Says:     []string{"client address lost: {server} sees {seen} instead of {client}"},
		Evidence: []string{"the source was translated on the way, and not by IPVS's way back"},
		Advice:   "Expected for external addresses with policy Cluster, and for pods to the outside. If the server needs the address: externalTrafficPolicy Local, or the PROXY protocol at the load balancer.",
		Unless:   "the server's log shows the client's own address",
	},
	{
		Where: whereNote, Reason: "wrong-server", Title: "a process of the node answers in place of the service",
		Says:     []string{"wrong server: {process} of {node} took it; IPVS has no virtual service {dst} here, an address of {service}"},
		Evidence: []string{"the packet was sent to a service's address, IPVS was asked and let it go, and a socket in the node's own namespace took it untranslated"},
		Advice:   "kube-proxy did not make the virtual service (`ipvsadm -Ln`, its log), or the port is not one of the service's; something on the node listens on 0.0.0.0 with that port (`ss -lntup`).",
		Unless:   "ipvsadm lists the virtual service at that time",
	},
	{
		Where: whereNote, Reason: "not-translated-back", Title: "a reply came back with the server's own address",
		Says:     []string{"reply not translated back: {it comes from another address than the client had sent to}"},
		Evidence: []string{"the request's destination was translated on the way, and the reply reached the client with the server's own address as its source", "the client answered such a reply with an RST"},
		Advice:   "The reply took a way past the translation: net.bridge.bridge-nf-call-iptables must be 1 where client and server share a bridge; between nodes it is an asymmetric route. Masquerading the request forces it back.",
		Unless:   "the client had sent to that address, too",
	},
	{
		Where: whereNote, Reason: "sent-again", Title: "a retransmission",
		Says:     []string{"sent again: {how much} later; the first copy ended: {how}"},
		Evidence: []string{"the same socket's addresses and sequence number were sent before"},
		Advice:   "Follow how the first copy ended. If it was delivered, its acknowledgement was lost or late: look at the replies of this flow.",
		Unless:   "`nstat -az TcpRetransSegs` did not move",
	},
	{
		Where: whereNote, Reason: "closed-unread", Title: "its socket was closed before it was read",
		Says:     []string{"closed unread: the socket at {dst} was closed before anybody read it"},
		Evidence: []string{"a UDP socket took it into its queue, and it was freed with the socket (in udp_destruct_…, or with drop reason QUEUE_PURGE)"},
		Advice:   "The process ended, or had given up waiting: of an answer that came too late, look at when the request was sent; of a request, at why the server stopped (`kubectl get events`).",
		Unless:   "the process logged what was in it",
	},
	{
		Where: whereNote, Reason: "conntrack-evicted", Title: "conntrack gave up another connection for it",
		Says:     []string{"conntrack evicted {an entry without traffic in both directions}"},
		Evidence: []string{"conntrack's early_drop succeeded while it made the packet's entry"},
		Advice:   "The table is full (nf_conntrack_count at nf_conntrack_max), and connections that have not been answered yet are thrown out: the next ones fail. Raise the limit, or find who opens so many: `conntrack -L`.",
		Unless:   "`conntrack -S` does not count early_drop",
	},
}
