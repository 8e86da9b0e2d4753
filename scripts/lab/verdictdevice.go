// SPDX-License-Identifier: Apache-2.0

package main

// deviceVerdicts: what queues, devices, tc and the bridge do to packets.
var deviceVerdicts = []verdictCase{
	{name: "qdisc-full", finding: "queue/qdisc-full", group: "devices", from: "centos",
		// A datagram waits for its tokens, and leaves no room for others.
		cause:   []change{{"n1", "tc qdisc add dev eth0 root tbf rate 8kbit burst 1600 limit 1600", "tc qdisc del dev eth0 root"}},
		traffic: burst("172.23.96.163:4040", 8, 1000),
		want: []verdictWant{{kind: "request udp", where: "queue", reason: "qdisc-full",
			line: "1.5 stacks, terminated in a queue: the queue of eth0 dropped it"}}},
	{name: "qdisc-loss", finding: "queue/qdisc-full", group: "devices", from: "centos",
		cause:   []change{{"n1", "tc qdisc add dev eth0 root netem loss 100%", "tc qdisc del dev eth0 root"}},
		traffic: burst("172.23.96.163:4041", 2, 100),
		want:    []verdictWant{{kind: "request udp", where: "queue", reason: "qdisc-full"}}},
	{name: "qdisc-slow", finding: "queue/qdisc-full", similar: true, group: "devices", from: "centos",
		cause:   []change{{"n1", "tc qdisc add dev eth0 root netem delay 300ms", "tc qdisc del dev eth0 root"}},
		traffic: echoes("udp", "172.23.96.163:7", 500),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},
	{name: "tc-drop", finding: "tc/tc-drop", group: "devices", from: "centos",
		traffic: filtered("n1", "vethcentos", "ingress", 4042, "drop", unanswered("udp", "172.23.96.163:4042")),
		want: []verdictWant{{kind: "request udp", where: "tc", reason: "tc-drop",
			line: "1.5 stacks, terminated in tc: a tc program or filter of vethcentos dropped it"}}},
	{name: "tc-drop-egress", finding: "tc/tc-drop", group: "devices", from: "centos",
		traffic: filtered("n1", "eth0", "egress", 4043, "drop", unanswered("udp", "172.23.96.163:4043")),
		want:    []verdictWant{{kind: "request udp", where: "tc", reason: "tc-drop"}}},
	{name: "tc-filter-of-others", finding: "tc/tc-drop", similar: true, group: "devices", from: "centos",
		traffic: filtered("n1", "vethcentos", "ingress", 4044, "drop", refusal("udp", "172.23.96.163:4045", errRefused)),
		want:    []verdictWant{{kind: "request udp", where: "socket", reason: "no-socket"}}},
	{name: "cpu-backlog", finding: "queue/cpu-backlog", group: "devices", from: "centos",
		traffic: withBacklog("1", segmented("172.23.96.24:4046", 20, 200)),
		want:    []verdictWant{{kind: "request udp", where: "queue", reason: "cpu-backlog"}}},
	{name: "cpu-backlog-roomy", finding: "queue/cpu-backlog", similar: true, group: "devices", from: "centos",
		traffic: segmented("172.23.96.24:7", 20, 200),
		want:    []verdictWant{{kind: "request udp", verdict: delivered, note: "sent as 20 segments"}}},
	{name: "device-down", finding: "device/device-down", group: "devices", from: "centos",
		lasting: stub("198.51.103", "a", false),
		traffic: unanswered("udp", "198.51.103.9:9"),
		want:    []verdictWant{{kind: "request udp", where: "device", reason: "device-down"}}},
	{name: "device-up", finding: "device/device-down", similar: true, group: "devices", from: "centos",
		lasting: stub("198.51.106", "b", true),
		traffic: unanswered("udp", "198.51.106.9:9"),
		want:    []verdictWant{{kind: "request udp"}}},

	{name: "port-blocked", finding: "bridge/port-blocked", group: "devices", from: "centos",
		traffic: portState("vethnginx", "0", "172.23.96.24:7"),
		want: []verdictWant{{kind: "request udp", where: "bridge", reason: "port-blocked",
			line: "1.5 stacks, terminated in the bridge: port vethnginx of the bridge is disabled (STP state)"}}},
	{name: "port-blocked-routed", finding: "bridge/port-blocked", group: "devices", from: "nginx1a",
		traffic: portState("vethnginx", "1", "172.23.96.24:7"),
		want:    []verdictWant{{kind: "request udp", where: "bridge", reason: "port-blocked"}}},
	{name: "port-blocked-in", finding: "bridge/port-blocked", group: "devices", from: "centos",
		traffic: portState("vethcentos", "0", "172.23.96.24:7"),
		want:    []verdictWant{{kind: "request udp", where: "bridge", reason: "port-blocked"}},
		instead: []shownInstead{{series: []string{"5.10", "6.1", "6.12"},
			why:  "the function that drops it does so for more reasons than one, and tells none",
			want: []verdictWant{{kind: "request udp", where: "bridge", reason: "not-forwarded"}}}}},
	{name: "port-open", finding: "bridge/port-blocked", similar: true, group: "devices", from: "centos",
		traffic: refusal("udp", "172.23.96.24:4047", errRefused),
		want:    []verdictWant{{kind: "request udp", where: "socket", reason: "no-socket"}}},
	{name: "hairpin-off", finding: "bridge/hairpin", group: "devices", from: "nginx",
		cause: []change{
			natRule("n1", "PREROUTING -p udp -d 192.168.13.77 --dport 7 -j DNAT --to-destination 172.23.96.24:7"),
			{"n1", "bridge link set dev vethnginx hairpin off", "bridge link set dev vethnginx hairpin on"},
		},
		traffic: unanswered("udp", "192.168.13.77:7"),
		want: []verdictWant{{kind: "request udp", where: "bridge", reason: "hairpin",
			line: "1.5 stacks, terminated in the bridge: it would leave the bridge by vethnginx, where it came in, and hairpin_mode is off there"}}},
	{name: "hairpin-on", finding: "bridge/hairpin", similar: true, group: "devices", from: "nginx",
		cause: []change{
			natRule("n1", "PREROUTING -p udp -d 192.168.13.77 --dport 7 -j DNAT --to-destination 172.23.96.24:7"),
			natRule("n1", "POSTROUTING -p udp -s 172.23.96.24 -d 172.23.96.24 -j MASQUERADE"),
		},
		traffic: echoes("udp", "192.168.13.77:7", 50),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},
	{name: "hairpin-without-masquerade", finding: "bridge/hairpin", similar: true, group: "devices", from: "nginx",
		cause: []change{
			natRule("n1", "PREROUTING -p udp -d 192.168.13.77 --dport 7 -j DNAT --to-destination 172.23.96.24:7"),
		},
		traffic: unanswered("udp", "192.168.13.77:7"),
		want:    []verdictWant{{kind: "request udp", where: "routing", reason: "martian-source"}},
		instead: sourceRefused},
}

// stub is a network behind a veth pair of n1, with one host that everybody
// believes to be there. Its other end is up or not.
func stub(net, name string, up bool) []change {
	dev, peer := "lab"+name, "peer"+name
	list := []change{
		{"n1", "ip link add " + dev + " type veth peer name " + peer + " netns nginx", "ip link del " + dev},
		{"n1", "ip addr add " + net + ".1/24 dev " + dev, ""},
		{"n1", "ip link set " + dev + " up", ""},
		{"n1", "ip neigh add " + net + ".9 lladdr 02:00:00:00:00:09 dev " + dev, ""},
	}
	if up {
		list = append(list, change{"nginx", "ip link set " + peer + " up", ""})
	}
	return list
}
