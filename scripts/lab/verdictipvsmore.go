// SPDX-License-Identifier: Apache-2.0

package main

import "syscall"

// ipvsMoreVerdicts: what IPVS drops beside its choice of a real server.
var ipvsMoreVerdicts = []verdictCase{
	// As a node that has a route of type blackhole or prohibit for pods that are gone.
	{name: "real-server-prohibited", finding: "ipvs/transmit-failed", group: "ipvs", from: "centos",
		cause: append([]change{{"n1", "ip route add prohibit 198.51.111.0/24", "ip route del prohibit 198.51.111.0/24"}},
			serves(4081, "-t", "rr", "198.51.111.9:7")...),
		traffic: refusal("tcp", vipOdd+":4081", syscall.EHOSTUNREACH),
		want: []verdictWant{
			{kind: "request tcp S", where: "ipvs", reason: "transmit-failed"},
			{kind: "reply icmp 3/1", verdict: delivered, because: "request tcp S"},
		}},
	{name: "real-server-blackholed", finding: "ipvs/transmit-failed", group: "ipvs", from: "centos",
		cause: append([]change{{"n1", "ip route add blackhole 198.51.112.0/24", "ip route del blackhole 198.51.112.0/24"}},
			serves(4082, "-t", "rr", "198.51.112.9:7")...),
		traffic: refusal("tcp", vipOdd+":4082", syscall.EHOSTUNREACH),
		want:    []verdictWant{{kind: "request tcp S", where: "ipvs", reason: "transmit-failed"}}},
	{name: "real-server-beyond", finding: "ipvs/transmit-failed", similar: true, group: "ipvs", from: "centos",
		cause:   serves(4083, "-t", "rr", "198.51.113.9:7"),
		traffic: refusal("tcp", vipOdd+":4083", syscall.ENETUNREACH),
		want:    []verdictWant{{kind: "request tcp S", where: "routing", reason: "no-route"}}},

	// IPVS looks for the way of a reply again when it has its virtual address
	// (net.ipv4.vs.snat_reroute), and rules of routing may refuse that.
	{name: "reply-refused", finding: "ipvs/reply-refused", group: "ipvs", from: "centos",
		cause: append([]change{{"n1", "ip rule add from " + vipOdd + " prohibit", "ip rule del from " + vipOdd + " prohibit"}},
			serves(4084, "-u", "rr", nginx1aEcho)...),
		traffic: unheard(vipOdd + ":4084"),
		want: []verdictWant{
			{kind: "reply udp", where: "ipvs", reason: "reply-refused"},
			{kind: "request udp", verdict: delivered},
		}},
	{name: "reply-dropped", finding: "ipvs/reply-refused", similar: true, group: "ipvs", from: "centos",
		cause: append([]change{inserted("n1", "iptables", "FORWARD -p udp --sport 7 -d 172.23.96.23 -j DROP")},
			serves(4085, "-u", "rr", nginx1aEcho)...),
		traffic: unheard(vipOdd + ":4085"),
		want:    []verdictWant{{kind: "reply udp", where: "netfilter", reason: "rule-drop"}}},

	{name: "tunnel-refused", finding: "ipvs/relayed", group: "ipvs", from: "centos",
		cause: append(serves(4086, "-u", "rr", ""),
			change{"n1", "ipvsadm -a -u " + vipOdd + ":4086 -i -r 172.23.96.24", ""}),
		traffic: unanswered("udp", vipOdd+":4086"), // its pod has no tunnel
		want: []verdictWant{
			{kind: "reply icmp 3/2", where: "ipvs", reason: "relayed"},
			{kind: "reply icmp 3/2", verdict: delivered, because: "reply icmp 3/2"},
		}},
	{name: "error-translated", finding: "ipvs/relayed", similar: true, group: "ipvs", from: "centos",
		cause:   serves(4087, "-u", "rr", "172.23.96.163:4087"),
		traffic: refusal("udp", vipOdd+":4087", errRefused),
		want:    []verdictWant{{kind: "reply icmp 3/3", verdict: delivered, because: "request udp"}}},
}
