// SPDX-License-Identifier: Apache-2.0

package events

// findingsOnTheWay are about devices, queues, bridges, neighbours and routes.
var findingsOnTheWay = []Finding{
	{
		Where: "device", Reason: "xdp", Title: "an XDP program dropped it",
		Advice: "`ip link show DEV` names the program, `bpftool net` who attached it. Cilium, Calico and load balancers use XDP.",
		Unless: "no program is attached to the device",
	},
	{
		Where: "device", Reason: "device-down", Title: "the device is down",
		Advice: "`ip link show DEV`: not UP, or NO-CARRIER because the other end is down or gone (a pod that is being removed, a cable). `ip monitor link` shows when it changes.",
		Unless: "the device is UP with LOWER_UP at that time",
	},
	{
		Where: "device", Reason: "device", Title: "a device did not take it",
		Advice: "Is the device up, at both ends, and has it the same MTU there? Has a VXLAN device the other node's address (`bridge fdb show dev DEV`)? `ip -s link show DEV` counts drops and carrier losses; `ethtool -S DEV` has the driver's own counts.",
		Unless: "the device's counts of drops did not move",
	},
	{
		Where: "queue", Reason: "cpu-backlog", Title: "the input queue of a CPU was full",
		Advice: "Look at the second column of /proc/net/softnet_stat. Raise net.core.netdev_max_backlog, or spread the load over CPUs (RPS, queues of the card).",
		Unless: "that column did not move",
	},
	{
		Where: "queue", Reason: "qdisc-full", Title: "the queue of a device dropped it",
		Advice: "`tc -s qdisc show dev DEV` counts drops: a limit of bandwidth (also the CNI's bandwidth plugin), netem, or a queue that is too short.",
		Unless: "its count of drops did not move",
	},
	{
		Where: "queue", Reason: "ring-full", Title: "the ring of a device was full",
		Advice: "The receiver does not keep up: a tap's or tunnel's reader, or the other end of a veth pair. `ip -s link show DEV` counts it.",
		Unless: "the device's count of drops did not move",
	},
	{
		Where: "tc", Reason: "tc-drop", Title: "a tc program or filter dropped it",
		Advice: "`tc filter show dev DEV ingress` and `egress`, and `bpftool net`, name the program. It belongs to a CNI plugin or a policy engine as a rule.",
		Unless: "the device has neither a filter nor a program",
	},
	{
		Where: "bridge", Reason: "hairpin", Title: "it would leave by the port it came in by",
		Advice: "A pod that reaches itself through a service needs hairpin on its port: `bridge -d link show dev DEV`; CNI bridge has hairpinMode, kubelet had --hairpin-mode. `bridge link set dev DEV hairpin on` tries it.",
		Unless: "hairpin is on there, or another port has the address (`bridge fdb show`)",
	},
	{
		Where: "bridge", Reason: "port-blocked", Title: "the port is not forwarding",
		Advice: "`bridge -d link show`: the state of the port. STP blocks or still listens (30 s after the port came up), or somebody set the state by hand; a bridge of pods needs no STP.",
		Unless: "the port is forwarding at that time",
	},
	{
		Where: "bridge", Reason: "not-forwarded", Title: "a bridge did not pass it on",
		Advice: "`bridge -d link show` has each port's state, hairpin and isolated: nothing passes between two isolated ports (CNI bridge: portIsolation). `bridge vlan show` has the VLANs, where vlan_filtering is on; `bridge fdb show` which port an address is on.",
		Unless: "the port is forwarding, it is not the one the frame came in by, and neither isolated nor without its VLAN",
	},
	{
		Where: "bridge", Reason: "bad-header", Title: "a bridge found its IP header invalid",
		Advice: "With net.bridge.bridge-nf-call-iptables=1 a bridge looks at length and checksum before any rule. `tcpdump -vv` at the port that it came in by shows who sends it: a raw socket, a driver or device that rewrites headers wrongly.",
		Unless: "the header has a good checksum, and is no longer than the frame",
	},
	{
		Where: "neighbour", Reason: "unresolved", Title: "the link address of the next hop did not resolve",
		Advice: "`ip neigh show dev DEV`: FAILED means that nobody answered. Is the address in use, in the same network, and ARP not filtered? A pod that is gone looks like this.",
		Unless: "the neighbour is REACHABLE at that time",
	},
	{
		Where: "routing", Reason: "rp-filter", Title: "the source is not reached by the device it came in by",
		Advice: "`ip route get SRC` must name the device that it came in by. Otherwise the way is asymmetric: mend the route, or set net.ipv4.conf.DEV.rp_filter (and conf.all) to 2 or 0.",
		Unless: "rp_filter is 0 for the device and for all",
	},
	{
		Where: "routing", Reason: "martian-source", Title: "its source cannot be one",
		Advice: "The source is the node's own address, loopback, multicast or broadcast. net.ipv4.conf.all.log_martians=1 logs them; look for SNAT to a wrong address, or for an address that two machines have.",
		Unless: "the address is not this namespace's",
	},
	{
		Where: "routing", Reason: "martian-destination", Title: "its destination cannot be one",
		Advice: "A destination such as 0.0.0.0 or 127.0.0.1 came in from a device. Look at the DNAT that wrote it (net.ipv4.conf.DEV.route_localnet for 127.0.0.1).",
		Unless: "the address is an ordinary one",
	},
	{
		Where: "routing", Reason: "source-refused", Title: "routing refused its source",
		Advice: "This kernel does not say which of two: rp_filter (`ip route get SRC` names another device than it came in by), or the source is an address of this very namespace (`ip addr`). log_martians=1 tells them apart.",
		Unless: "rp_filter is 0 for the device and for all, and the address is not this namespace's",
	},
	{
		Where: "routing", Reason: "prohibited", Title: "a route says prohibited",
		Advice: "`ip route get DST from SRC iif DEV` and `ip rule` name the route or rule of type prohibit; its sender gets ICMP 3/13. Somebody set it on purpose: a policy engine, or an administrator.",
		Unless: "`ip route get` finds a way out",
	},
	{
		Where: "routing", Reason: "blackhole", Title: "a route is a blackhole",
		Advice: "`ip route show type blackhole`: CNI plugins (Calico, Cilium, kube-router) set one for a block of pod addresses; a more specific route of the pod is missing, as when the pod is gone. Nobody is told of the drop.",
		Unless: "`ip route get` finds a way out",
	},
	{
		Where: "routing", Reason: "refused", Title: "routing refused it",
		Advice: "This kernel does not say why: rp_filter, a source or destination that cannot be one, or no route. `ip route get DST from SRC iif DEV` and log_martians=1 tell.",
		Unless: "`ip route get` finds a way, and nothing is logged",
	},
	{
		Where: "routing", Reason: "not-forwarding", Title: "forwarding is off, or there is no route",
		Advice: "`sysctl net.ipv4.ip_forward net.ipv4.conf.DEV.forwarding` (IPv6: net.ipv6.conf.all.forwarding) must be 1 on a node; a restart of the network or of a container runtime may have set them back. If they are: `ip route get DST from SRC iif DEV`.",
		Unless: "`ip route get` finds a way out",
	},
	{
		Where: "routing", Reason: "unreachable", Title: "a route says unreachable",
		Advice: "`ip route get DST from SRC iif DEV` and `ip rule` name the route. CNI plugins set one for a block of addresses whose pods are gone.",
		Unless: "`ip route get` finds a way out",
	},
	{
		Where: "routing", Reason: "no-route", Title: "there is no route",
		Advice: "`ip route get DST from SRC iif DEV` in that namespace. Between nodes: is the other node's pod CIDR there (`ip route`), and does the network agent run?",
		Unless: "`ip route get` finds a way out",
	},
	{
		Where: "forward", Reason: "ttl", Title: "its TTL ended",
		Advice: "A packet that meets the same devices again and again is in a routing loop: compare `ip route get DST` on each node of its way. One of traceroute's ends so on purpose.",
		Unless: "the sender set a small TTL itself",
	},
	{
		Where: "forward", Reason: "too-big", Title: "larger than the MTU ahead, and not to be cut",
		Advice: "Compare the MTU of the pod's eth0, the overlay's device (flannel.1: 50 less) and the node's. The sender must get the ICMP 3/4 (or ICMPv6 2/0): see whether that arrived.",
		Unless: "the packet is not larger than the smallest MTU of the way",
	},
	{
		Where: "forward", Reason: "not-forwarded", Title: "IP did not forward it",
		Advice: "The kernel does not say why. IPv6: `sysctl net.ipv6.conf.all.forwarding` must be 1 on a node, and a link-local source (fe80::) stays on its link. Else look at `nstat -az | grep -i -e discard -e err`, at forwarding and at the route.",
		Unless: "it is seen leaving by a device",
	},
	{
		Where: "ip", Reason: "checksum", Title: "its checksum is wrong",
		Advice: "Between two pods of a node this is an offload bug: try `ethtool -K DEV tx off` at the sender. vxlan over some cards needs tx-checksum-ip-generic off.",
		Unless: "the same packets arrive with offloads off and on",
	},
	{
		Where: "ip", Reason: reasonOtherHost, Title: "a frame for another machine",
		Advice: "Usually harmless: a bridge flooded it. If it was meant for this one: a stale neighbour entry at the sender (`ip neigh`), or two ports with one address (`bridge fdb show`).",
		Unless: "its link address is this device's",
	},
	{
		Where: "ip", Reason: "no-protocol", Title: "nothing takes its protocol",
		Advice: "The namespace has no tunnel or socket for that IP protocol: a tunnel (IPIP, GRE) that only one end has, or a module that is not loaded.",
		Unless: "`ip -d link` shows a tunnel for it",
	},
	{
		Where: "ip", Reason: "ipv6-disabled", Title: "IPv6 is disabled on the device",
		Advice: "`sysctl net.ipv6.conf.DEV.disable_ipv6`. Either turn IPv6 on there, or keep the clients from using IPv6 addresses (AAAA records).",
		Unless: "that setting is 0",
	},
	{
		Where: "ip", Reason: "bad-header", Title: "its IP header is invalid",
		Advice: "Record it with --packets, export it and look at the header in Wireshark: a truncated packet, a wrong length, or memory that was damaged on the way.",
		Unless: "Wireshark finds nothing wrong with it",
	},
	{
		Where: "policy", Reason: "policy", Title: "a policy of the system refused it",
		Advice: "IPsec (`ip xfrm policy`), a security module, or a BPF program of the cgroup (`bpftool cgroup tree`), as systemd's IPAddressDeny and Cilium use it.",
		Unless: "none of the three is in use",
	},
}
