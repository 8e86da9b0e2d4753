// SPDX-License-Identifier: Apache-2.0

package events

// findingsOfNetfilter are about rules, conntrack and IPVS.
var findingsOfNetfilter = []Finding{
	{
		Where: "netfilter", Reason: "rule-drop", Title: "a rule dropped it",
		Advice: "`iptables-save -c` or `nft -a list ruleset` on that node (or in that pod): which DROP of the chain counts up? Network policies and kube-proxy (no local endpoint, in iptables and nftables mode) drop so.",
		Unless: "the chain has no rule or policy that drops",
	},
	{
		Where: "netfilter", Reason: "rule-reject", Title: "a rule rejected it",
		Advice: "`iptables-save -c` or `nft -a list ruleset`: which REJECT of the chain counts up? kube-proxy rejects services without endpoints so, and in IPVS mode what asks a ClusterIP for a port that it has not.",
		Unless: "the chain has no rule that rejects: then whatever answered was not a rule",
	},
	{
		Where: "netfilter", Reason: "invalid-drop", Title: "conntrack calls it INVALID, and a rule drops what is",
		Advice: "The packet belongs to no connection that conntrack knows: half of the way passes another node, the entry timed out, or the segment is out of window (net.netfilter.nf_conntrack_tcp_be_liberal=1 accepts those). `conntrack -S` counts invalid.",
		Unless: "`conntrack -L` has an entry for the packet at that time",
	},
	{
		Where: "netfilter", Reason: "no-queue", Title: "queued for a process that does not take it",
		Advice: "/proc/net/netfilter/nfnetlink_queue lists the queues that have a reader: if it is not there, the policy agent or scanner does not run, and the rule has no bypass; if its sixth column (dropped) counts up, the agent is too slow.",
		Unless: "the queue of the rule has a reader at that time, and its count of dropped does not move",
	},
	{
		Where: "netfilter", Reason: "queue-drop", Title: "dropped behind a queue for a process",
		Advice: "Ask the policy agent or scanner that reads the queue (/proc/net/netfilter/nfnetlink_queue has its port id, mostly its PID) what it refuses; its end drops what it has not answered.",
		Unless: "a rule behind the one that queues counts up: then that dropped it",
	},
	{
		Where: "netfilter", Reason: "dropped", Title: "something in netfilter dropped it",
		Advice: "Nobody watched did it. In POSTROUTING: a masqueraded connection whose route leads out by another device now (`ip route get`) loses one packet, and begins anew. Else a conntrack helper, a synproxy, a BPF program or a module: `nft list hooks` shows who is there.",
		Unless: "a rule of the chain counts up",
	},
	{
		Where: "conntrack", Reason: "table-full", Title: "the conntrack table is full",
		Advice: "Compare net.netfilter.nf_conntrack_count with nf_conntrack_max, and raise the latter (kube-proxy: conntrack.maxPerCore). `conntrack -L | sort` shows who holds so many; short UDP and TIME_WAIT entries go sooner with shorter timeouts.",
		Unless: "the count is below the limit at that time, and dmesg does not say \"table full\"",
	},
	{
		Where: "conntrack", Reason: "clash-lost", Title: "another packet of its connection was entered first",
		Advice: "Follow the winner. Of a SYN and its repetition the loss is harmless. UDP is let through since 5.7; below, two DNS queries (A and AAAA) from one socket at once lose one: a DNS cache on the node, or `options single-request-reopen`.",
		Unless: "insert_failed did not move",
	},
	{
		Where: "conntrack", Reason: "nat-exhausted", Title: "its translation is taken by another connection",
		Advice: "SNAT has no free port left for this destination: more source addresses or a wider port range, fewer connections to one destination (keep-alive), shorter timeouts. `conntrack -L -d DST | wc -l` shows how many there are.",
		Unless: "far fewer connections to that destination exist than ports",
	},
	{
		Where: "conntrack", Reason: "confirm-failed", Title: "its new conntrack entry could not be kept",
		Advice: "`conntrack -S`: if chaintoolong counts up (5.15 and later), the table has too few buckets (net.netfilter.nf_conntrack_buckets) for its entries. If only insert_failed does, another packet of the connection was entered first, or SNAT has no port left.",
		Unless: "neither chaintoolong nor insert_failed moved",
	},
	{
		Where: "conntrack", Reason: "nat-redirect", Title: "an ICMP redirect that NAT does not pass on",
		Advice: "Harmless: NAT passes redirects of translated connections never on, and others only once the connection is known. To be rid of them set net.ipv4.conf.DEV.send_redirects to 0 at their sender.",
		Unless: "it is no ICMP redirect",
	},
	{
		Where: "conntrack", Reason: "refused", Title: "conntrack refused it",
		Advice: "It had no memory, or could not remove the entry of a former connection between the same ports: conntrackd is to be told of it for certain (NetlinkEventsReliable), and does not read in time. The next copy of a SYN passes. `conntrack -S` counts drop.",
		Unless: "drop did not move",
	},
	{
		Where: "ipvs", Reason: "no-destination", Title: "the virtual service has no real server to send to",
		Says:   []string{"no destination of {dst} could be chosen"},
		Advice: "`ipvsadm -Ln` on that node: has the service a destination with a weight above 0? Then `kubectl get endpointslices`: are endpoints ready, and, under policy Local, on this node?",
		Unless: "ipvsadm lists a destination with a weight above 0 for it at that time",
	},
	{
		Where: "ipvs", Reason: "all-weights-zero", Title: "all real servers of the virtual service are being drained",
		Says:     []string{"all {n} destinations of {dst} have weight 0: IPVS begins no new connections to it"},
		Evidence: []string{"the evidence of no-destination, and IPVS's table, read right after it, has destinations for it, all of weight 0, and did not say otherwise just before"},
		Advice:   "kube-proxy gives terminating endpoints the weight 0: `kubectl get endpointslices -o yaml`, are there ready ones? A rollout that ends the last pod before the new one is ready looks like this. Connections that exist go on.",
		Unless:   "`ipvsadm -Ln` lists a destination with a weight above 0 for it at that time",
	},
	{
		Where: "ipvs", Reason: "overload", Title: "all real servers of the virtual service are at their limit",
		Says:     []string{"all {n} destinations of {dst} have as many connections as the upper threshold allows"},
		Evidence: []string{"the evidence of no-destination, and IPVS's table, read right after it, has no destination for it below its upper threshold, and did not say otherwise just before"},
		Advice:   "`ipvsadm -Ln --thresholds` has the limits (kube-proxy sets none: somebody else did). More real servers, or a higher limit; a real server comes back below its lower threshold.",
		Unless:   "that table has a destination below its upper threshold at that time",
	},
	{
		Where: "ipvs", Reason: "transmit-failed", Title: "it could not be sent to the real server that was chosen",
		Advice: "`ip route get BACKEND` on that node: no route, one of type blackhole, prohibit or unreachable (as for pods that are gone), or one back to the node itself. For a tunnel also its MTU.",
		Unless: "the route to the real server leads out",
	},
	{
		Where: "ipvs", Reason: "destination-gone", Title: "the connection's real server is no longer there",
		Advice: "The pod ended or was removed from the service while clients were connected. `kubectl get endpointslices` and the pod's end: does it wait for its connections (preStop, terminationGracePeriod)?",
		Unless: "`ipvsadm -Lnc` has the connection with a destination that is still listed",
	},
	{
		Where: "ipvs", Reason: "reply-refused", Title: "a real server's reply could not be translated back",
		Advice: "`ip route get CLIENT from VIP` and `ip rule` on that node: with net.ipv4.vs.snat_reroute=1 (the default) IPVS looks for the way of the reply again, as one from the virtual address, and a rule of routing may refuse that.",
		Unless: "the reply is seen behind IPVS",
	},
	{
		Where: "ipvs", Reason: "relayed", Title: "an ICMP error that IPVS passed on to its client",
		Says:     []string{"IPVS tells it to the client of its virtual service"},
		Evidence: []string{"IPVS consumed it right after it made an ICMP error of its own"},
		Advice:   "Nothing is wrong here: follow the ICMP error that it caused.",
		Unless:   "it caused no ICMP error",
	},
}
