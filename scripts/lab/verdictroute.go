// SPDX-License-Identifier: Apache-2.0

package main

import "syscall"

// nginx1aEcho is the UDP and TCP echo of a pod on another node.
const nginx1aEcho = "172.23.96.163:7"

// sysctl is a setting of a namespace, and the one that takes it back.
func sysctl(netns, key, value, was string) change {
	return change{netns, "sysctl -q -w " + key + "=" + value, "sysctl -q -w " + key + "=" + was}
}

// only510 is what 5.10 shows in a finding's place.
func only510(why string, want ...verdictWant) []shownInstead {
	return []shownInstead{{series: []string{"5.10"}, why: why, want: want}}
}

var sourceRefused = only510("it tells no reasons, and refuses both in one function",
	verdictWant{kind: "request udp", where: "routing", reason: "source-refused"})

// routeVerdicts: what routing, forwarding and neighbours do to packets.
var routeVerdicts = []verdictCase{
	{name: "rp-filter", finding: "routing/rp-filter", group: "routing", from: "centos",
		cause:   []change{sysctl("n1", "net.ipv4.conf.cni0.rp_filter", "1", "0")},
		traffic: spoofed("198.51.100.50:5300", nginx1aEcho),
		want: []verdictWant{{kind: "request udp", where: "routing", reason: "rp-filter",
			line: "1.5 stacks, terminated in routing: rp_filter: 198.51.100.50:5300 is not reached by cni0"}},
		instead: sourceRefused},
	{name: "rp-filter-loose", finding: "routing/rp-filter", similar: true, group: "routing", from: "centos",
		cause:   []change{sysctl("n1", "net.ipv4.conf.cni0.rp_filter", "2", "0")},
		traffic: spoofed("198.51.100.50:5301", nginx1aEcho),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},
	{name: "martian-own-address", finding: "routing/martian-source", group: "routing", from: "centos",
		traffic: spoofed("172.23.96.1:5302", nginx1aEcho),
		want:    []verdictWant{{kind: "request udp", where: "routing", reason: "martian-source"}},
		instead: sourceRefused},
	{name: "martian-loopback", finding: "routing/martian-source", group: "routing", from: "centos",
		cause:   []change{natRule("centos", "POSTROUTING -p udp --dport 4021 -j SNAT --to-source 127.0.0.9")},
		traffic: unanswered("udp", "172.23.96.163:4021"),
		want:    []verdictWant{{kind: "request udp", where: "routing", reason: "martian-source"}}},
	{name: "source-of-neighbour", finding: "routing/martian-source", similar: true, group: "routing", from: "centos",
		traffic: spoofed("172.23.96.24:5303", nginx1aEcho),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},
	{name: "martian-destination", finding: "routing/martian-destination", group: "routing", from: "centos",
		traffic: filtered("centos", "eth0", "egress", 4022, "pedit munge ip dst set 127.0.0.1 pipe action csum ip and udp",
			unanswered("udp", "172.23.96.163:4022")),
		want: []verdictWant{{kind: "request udp", where: "routing", reason: "martian-destination",
			line: "1.5 stacks, terminated in routing: 127.0.0.1:4022 cannot be the destination of a packet that comes in by cni0"}}},
	{name: "martian-destination-by-nat", finding: "routing/martian-destination", group: "routing", from: "nginx1a",
		cause:   []change{natRule("n1", "PREROUTING -p udp --dport 4023 -j DNAT --to-destination 127.0.0.1:4023")},
		traffic: unanswered("udp", "10.0.0.180:4023"),
		want:    []verdictWant{{kind: "request udp", where: "routing", reason: "martian-destination"}},
		instead: []shownInstead{{series: []string{"5.10", "6.1", "6.12"}, why: "it tells no reason for it, and no hook sees what NAT wrote",
			want: []verdictWant{{kind: "request udp", where: "routing", reason: "refused"}}}}},
	{name: "route-localnet", finding: "routing/martian-destination", similar: true, group: "routing", from: "nginx1a",
		cause: []change{natRule("n1", "PREROUTING -p udp --dport 4024 -j DNAT --to-destination 127.0.0.1:4024"),
			sysctl("n1", "net.ipv4.conf.eth0.route_localnet", "1", "0")},
		traffic: unanswered("udp", "10.0.0.180:4024"),
		want:    []verdictWant{{kind: "request udp", where: "socket", reason: "no-socket"}}},

	{name: "no-route", finding: "routing/no-route", group: "routing", from: "centos",
		traffic: unanswered("udp", "198.51.100.77:4025"),
		want: []verdictWant{
			{kind: "request udp", where: "routing", reason: "no-route", line: "*terminated in routing: no route from vpc to 198.51.100.77:4025"},
			{kind: "reply icmp 3/0", verdict: delivered, because: "request udp"},
		}},
	{name: "route-unreachable", finding: "routing/unreachable", group: "routing", from: "centos",
		cause:   []change{{"n1", "ip route add unreachable 198.51.101.0/24", "ip route del unreachable 198.51.101.0/24"}},
		traffic: unanswered("udp", "198.51.101.1:9"),
		want: []verdictWant{
			{kind: "request udp", where: "routing", reason: "unreachable"},
			{kind: "reply icmp 3/1", verdict: delivered, because: "request udp"},
		}},
	{name: "route-prohibit", finding: "routing/prohibited", group: "routing", from: "centos",
		cause:   []change{{"n1", "ip route add prohibit 198.51.102.0/24", "ip route del prohibit 198.51.102.0/24"}},
		traffic: unanswered("udp", "198.51.102.1:9"),
		want: []verdictWant{
			{kind: "request udp", where: "routing", reason: "prohibited"},
			{kind: "reply icmp 3/13", verdict: delivered, because: "request udp"},
		}},
	{name: "route-blackhole", finding: "routing/blackhole", group: "routing", from: "centos",
		cause:   []change{{"n1", "ip route add blackhole 198.51.104.0/24", "ip route del blackhole 198.51.104.0/24"}},
		traffic: unanswered("udp", "198.51.104.1:9"),
		want:    []verdictWant{{kind: "request udp", where: "routing", reason: "blackhole"}}},
	{name: "forwarding-off", finding: "routing/not-forwarding", group: "routing", from: "centos",
		cause:   []change{sysctl("n1", "net.ipv4.conf.cni0.forwarding", "0", "1")},
		traffic: unanswered("udp", "172.23.96.163:4026"),
		want:    []verdictWant{{kind: "request udp", where: "routing", reason: "not-forwarding"}}},
	// The same ICMP errors, or the same silence, by rules.
	{name: "rejected-as-unreachable", finding: "routing/unreachable", similar: true, group: "routing", from: "centos",
		cause:   []change{inserted("n1", "iptables", "FORWARD -p udp --dport 4027 -j REJECT --reject-with icmp-host-unreachable")},
		traffic: unanswered("udp", "172.23.96.163:4027"),
		want:    []verdictWant{{kind: "request udp", where: "netfilter", reason: "rule-reject"}}},
	{name: "rejected-as-no-route", finding: "routing/no-route", similar: true, group: "routing", from: "centos",
		cause:   []change{inserted("n1", "iptables", "FORWARD -p udp --dport 4028 -j REJECT --reject-with icmp-net-unreachable")},
		traffic: unanswered("udp", "172.23.96.163:4028"),
		want:    []verdictWant{{kind: "request udp", where: "netfilter", reason: "rule-reject"}}},
	{name: "rejected-as-prohibited", finding: "routing/prohibited", similar: true, group: "routing", from: "centos",
		cause:   []change{inserted("n1", "iptables", "FORWARD -p udp --dport 4029 -j REJECT --reject-with icmp-admin-prohibited")},
		traffic: unanswered("udp", "172.23.96.163:4029"),
		want:    []verdictWant{{kind: "request udp", where: "netfilter", reason: "rule-reject"}}},
	{name: "dropped-not-blackholed", finding: "routing/blackhole", similar: true, group: "routing", from: "centos",
		cause:   []change{inserted("n1", "iptables", "FORWARD -p udp --dport 4030 -j DROP")},
		traffic: unanswered("udp", "172.23.96.163:4030"),
		want:    []verdictWant{{kind: "request udp", where: "netfilter", reason: "rule-drop"}}},
	{name: "blackhole-not-forwarding", finding: "routing/not-forwarding", similar: true, group: "routing", from: "centos",
		cause:   []change{{"n1", "ip route add blackhole 198.51.105.0/24", "ip route del blackhole 198.51.105.0/24"}},
		traffic: unanswered("udp", "198.51.105.1:9"),
		want:    []verdictWant{{kind: "request udp", where: "routing", reason: "blackhole"}}},

	{name: "ttl", finding: "forward/ttl", group: "routing", from: "centos",
		traffic: oneDatagram("172.23.96.163:4031", 1, 10, syscall.IP_PMTUDISC_WANT),
		want: []verdictWant{
			{kind: "request udp", where: "forward", reason: "ttl", line: "1.5 stacks, terminated in forwarding: its TTL ended on the way to 172.23.96.163:4031"},
			{kind: "reply icmp 11/0", verdict: delivered, because: "request udp"},
		}},
	{name: "ttl-just-enough", finding: "forward/ttl", similar: true, group: "routing", from: "centos",
		traffic: oneDatagram("172.23.96.163:7", 4, 10, syscall.IP_PMTUDISC_WANT),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},
	{name: "too-big", finding: "forward/too-big", group: "routing", from: "centos",
		cause:   []change{{"n1", "ip link set eth0 mtu 1400", "ip link set eth0 mtu 1500"}},
		traffic: oneDatagram("172.23.96.164:4032", 64, 1420, syscall.IP_PMTUDISC_PROBE),
		want: []verdictWant{
			{kind: "request udp", where: "forward", reason: "too-big"},
			{kind: "reply icmp 3/4", verdict: delivered, because: "request udp"},
		}},
	{name: "big-in-fragments", finding: "forward/too-big", similar: true, group: "routing", from: "centos",
		cause:   []change{{"n1", "ip link set eth0 mtu 1400", "ip link set eth0 mtu 1500"}},
		traffic: oneDatagram("172.23.96.165:7", 64, 1420, syscall.IP_PMTUDISC_DONT),
		want:    []verdictWant{{kind: "request udp", verdict: delivered, note: "sent as 2 fragments"}}},
	{name: "no-neighbour", finding: "neighbour/unresolved", group: "routing", from: "nginx1a",
		traffic: unanswered("udp", "172.23.96.50:9"),
		want: []verdictWant{
			{kind: "request udp", where: "neighbour", reason: "unresolved"},
			{kind: "reply icmp 3/1", verdict: delivered, because: "request udp"},
		}},
	{name: "neighbour-without-server", finding: "neighbour/unresolved", similar: true, group: "routing", from: "nginx1a",
		traffic: refusal("udp", "172.23.96.24:4033", errRefused),
		want:    []verdictWant{{kind: "request udp", where: "socket", reason: "no-socket"}}},
}

// natRule is a rule at the head of a chain of the nat table.
func natRule(netns, rule string) change { return inserted(netns, "iptables -t nat", rule) }
