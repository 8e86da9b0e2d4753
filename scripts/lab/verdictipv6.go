// SPDX-License-Identifier: Apache-2.0

package main

// nginx1a6 is a pod on another node.
const nginx1a6 = "fd00:10:96:2::163"

// ipv6Verdicts: what IPv6 does in other functions than IPv4.
var ipv6Verdicts = []verdictCase{
	{name: "no-route-6", finding: "routing/no-route", group: "ipv6", from: "centos",
		traffic: unanswered("udp", at6("fd00:198:100::77", 4201)),
		want: []verdictWant{
			{kind: "request udp", where: "routing", reason: "no-route"},
			{kind: "reply icmp6 1/0", verdict: delivered, because: "request udp"},
		}},
	{name: "route-unreachable-6", finding: "routing/no-route", group: "ipv6", from: "centos",
		cause:   []change{route6("unreachable", "fd00:198:101::/64")},
		traffic: unanswered("udp", at6("fd00:198:101::1", 4202)),
		want: []verdictWant{{kind: "request udp", where: "routing", reason: "no-route",
			line: "1.5 stacks, terminated in routing: no route from n1 to [fd00:198:101::1]:4202, or one that says unreachable"}}},
	{name: "route-prohibit-6", finding: "routing/prohibited", group: "ipv6", from: "centos",
		cause:   []change{route6("prohibit", "fd00:198:102::/64")},
		traffic: unanswered("udp", at6("fd00:198:102::1", 4203)),
		want: []verdictWant{
			{kind: "request udp", where: "routing", reason: "prohibited"},
			{kind: "reply icmp6 1/1", verdict: delivered, because: "request udp"},
		}},
	{name: "route-blackhole-6", finding: "routing/blackhole", group: "ipv6", from: "centos",
		cause:   []change{route6("blackhole", "fd00:198:104::/64")},
		traffic: unanswered("udp", at6("fd00:198:104::1", 4204)),
		want:    []verdictWant{{kind: "request udp", where: "routing", reason: "blackhole"}}},
	{name: "rejected-as-prohibited-6", finding: "routing/prohibited", similar: true, group: "ipv6", from: "centos",
		cause:   []change{inserted("n1", "ip6tables", "FORWARD -p udp --dport 4205 -j REJECT --reject-with icmp6-adm-prohibited")},
		traffic: unanswered("udp", at6(nginx1a6, 4205)),
		want:    []verdictWant{{kind: "request udp", where: "netfilter", reason: "rule-reject"}}},
	{name: "hop-limit", finding: "forward/ttl", group: "ipv6", from: "centos",
		traffic: oneDatagram6(at6(nginx1a6, 4206), 1, 10),
		want: []verdictWant{
			{kind: "request udp", where: "forward", reason: "ttl"},
			{kind: "reply icmp6 3/0", verdict: delivered, because: "request udp"},
		}},
	{name: "too-big-6", finding: "forward/too-big", group: "ipv6", from: "centos",
		cause:   []change{{"n1", "ip link set eth0 mtu 1400", "ip link set eth0 mtu 1500"}},
		traffic: oneDatagram6(at6("fd00:10:96:2::164", 4207), 64, 1420),
		want: []verdictWant{
			{kind: "request udp", where: "forward", reason: "too-big"},
			{kind: "reply icmp6 2/0", verdict: delivered, because: "request udp"},
		}},
	{name: "forwarding-off-6", finding: "routing/not-forwarding", group: "ipv6", from: "centos",
		cause:   []change{sysctl("n1", "net.ipv6.conf.all.forwarding", "0", "1")},
		traffic: unanswered("udp", at6(nginx1a6, 4208)),
		want: []verdictWant{{kind: "request udp", where: "routing", reason: "not-forwarding",
			line: "1.5 stacks, terminated in routing: n1 does not forward IPv6, and [fd00:10:96:2::163]:4208 is none of its addresses"}},
		instead: notForwarded510},
	{name: "link-local-source", finding: "forward/not-forwarded", group: "ipv6", from: "centos",
		traffic: linkLocal(at6(nginx1a6, 4212)),
		want:    []verdictWant{{kind: "request udp", where: "forward", reason: "not-forwarded"}}},
	{name: "dropped-while-forwarded-6", finding: "forward/not-forwarded", similar: true, group: "ipv6", from: "centos",
		cause:   []change{inserted("n1", "ip6tables", "FORWARD -p udp --dport 4209 -j DROP")},
		traffic: unanswered("udp", at6(nginx1a6, 4209)),
		want:    []verdictWant{{kind: "request udp", where: "netfilter", reason: "rule-drop"}}},
	// As a pod that has IPv6 turned off, and whose node has not heard of it.
	{name: "ipv6-disabled", finding: "ip/ipv6-disabled", group: "ipv6", from: "centos",
		lasting: stub6("fd00:198:106:", "d", "1"),
		traffic: unanswered("udp", at6("fd00:198:106::9", 4210)),
		want:    []verdictWant{{kind: "request udp", where: "ip", reason: "ipv6-disabled"}},
		instead: only510("it tells no reasons, and refuses all in one function",
			verdictWant{kind: "request udp", where: "ip", reason: "other-host"})},
	{name: "ipv6-elsewhere", finding: "ip/ipv6-disabled", similar: true, group: "ipv6", from: "centos",
		lasting: stub6("fd00:198:107:", "e", "0"),
		traffic: unanswered("udp", at6("fd00:198:107::9", 4211)),
		want:    []verdictWant{{kind: "request udp", where: "routing", reason: "not-forwarding"}},
		instead: notForwarded510},
}

var notForwarded510 = only510("it tells no reasons, and refuses odd sources in the same function",
	verdictWant{kind: "request udp", where: "forward", reason: "not-forwarded"})

// route6 is a route of n1 that refuses.
func route6(kind, network string) change {
	return change{"n1", "ip -6 route add " + kind + " " + network, "ip -6 route del " + kind + " " + network}
}

// stub6 is a network behind a veth pair of n1, with one host whose link address is
// the other end's.
func stub6(net, name, disabled string) []change {
	dev, peer := "lab"+name, "peer"+name
	return []change{
		{"n1", "ip link add " + dev + " type veth peer name " + peer + " address 02:00:00:00:00:09 netns nginx", "ip link del " + dev},
		{"nginx", "sysctl -q -w net.ipv6.conf." + peer + ".disable_ipv6=" + disabled, ""},
		{"nginx", "ip link set " + peer + " up", ""},
		{"n1", "ip link set " + dev + " up", ""},
		{"n1", "ip -6 addr add " + net + ":1/64 dev " + dev + " nodad", ""},
		{"n1", "ip -6 neigh add " + net + ":9 lladdr 02:00:00:00:00:09 dev " + dev, ""},
	}
}
