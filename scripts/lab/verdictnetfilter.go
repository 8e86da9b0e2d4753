// SPDX-License-Identifier: Apache-2.0

package main

// netfilterVerdicts: what rules do to packets.
var netfilterVerdicts = []verdictCase{
	{name: "drop-legacy", finding: "netfilter/rule-drop", group: "netfilter", from: "centos",
		cause:   []change{inserted("n1", "iptables-legacy", "FORWARD -p tcp --dport 4041 -j DROP")},
		traffic: unanswered("tcp", "172.23.96.163:4041"),
		want:    []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "rule-drop"}}},
	{name: "drop-nft", finding: "netfilter/rule-drop", group: "netfilter", from: "centos",
		cause: nftRule("tcp dport 4042 drop"), traffic: unanswered("tcp", "172.23.96.163:4042"),
		want: []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "rule-drop"}}},
	// As the kubelet and old kube-proxies do it: marked in one chain, dropped in another.
	{name: "drop-kube-firewall", finding: "netfilter/rule-drop", group: "netfilter", from: "centos",
		cause: []change{
			{"n1", "iptables -N KUBE-FIREWALL", "iptables -X KUBE-FIREWALL"},
			{"n1", "iptables -A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP", "iptables -F KUBE-FIREWALL"},
			inserted("n1", "iptables", "INPUT -j KUBE-FIREWALL"),
			inserted("n1", "iptables", "PREROUTING -t mangle -p tcp --dport 4043 -j MARK --or-mark 0x8000"),
		},
		traffic: unanswered("tcp", "10.0.0.180:4043"),
		want:    []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "rule-drop"}}},
	{name: "drop-reply", finding: "netfilter/rule-drop", group: "netfilter", from: "centos",
		cause:   []change{inserted("n1", "iptables", "FORWARD -p udp --sport 7 -s 172.23.96.163 -j DROP")},
		traffic: unheard("172.23.96.163:7"),
		want: []verdictWant{
			{kind: "reply udp", where: "netfilter", reason: "rule-drop"},
			{kind: "request udp", verdict: delivered},
		}},
	{name: "queued-for-nobody", finding: "netfilter/rule-drop", similar: true, group: "netfilter", from: "centos",
		cause:   []change{inserted("n1", "iptables", "FORWARD -p tcp --dport 4044 -j NFQUEUE --queue-num 4044")},
		traffic: unanswered("tcp", "172.23.96.163:4044"),
		want:    []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "no-queue"}}},

	// What a policy agent or a scanner answers who reads an NFQUEUE.
	{name: "queue-no-reader", finding: "netfilter/no-queue", group: "queue", from: "centos",
		cause: nftRule("tcp dport 4051 queue num 4051"), traffic: unanswered("tcp", "172.23.96.163:4051"),
		want: []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "no-queue"}}},
	{name: "queue-full", finding: "netfilter/no-queue", group: "queue", from: "centos",
		cause:   []change{inserted("n1", "iptables", "FORWARD -p tcp --dport 4052 -j NFQUEUE --queue-num 4052")},
		traffic: read(4052, 1, besides(unanswered("tcp", "172.23.96.163:4052"), unanswered("tcp", "172.23.96.163:4052")), queueNever),
		want:    []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "no-queue"}}},
	{name: "queue-read", finding: "netfilter/no-queue", similar: true, group: "queue", from: "centos",
		cause:   []change{inserted("n1", "iptables", "FORWARD -p tcp --dport 4053 -j NFQUEUE --queue-num 4053")},
		traffic: read(4053, 10, unanswered("tcp", "172.23.96.163:4053"), queueDrop),
		want:    []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "queue-drop"}}},
	{name: "queue-drop", finding: "netfilter/queue-drop", group: "queue", from: "centos",
		cause: nftRule("tcp dport 4054 queue num 4054"), traffic: read(4054, 10, unanswered("tcp", "172.23.96.163:4054"), queueDrop),
		want: []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "queue-drop"}}},
	{name: "queue-accepted", finding: "netfilter/queue-drop", similar: true, group: "queue", from: "centos",
		cause:   []change{inserted("n1", "iptables", "FORWARD -p udp --dport 7 -d 172.23.96.163 -j NFQUEUE --queue-num 4055")},
		traffic: read(4055, 10, echoes("udp", "172.23.96.163:7", 100), queueTake),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},
	{name: "queue-accepted-then-dropped", finding: "netfilter/queue-drop", similar: true, group: "queue", from: "centos",
		cause: []change{
			inserted("n1", "iptables-legacy", "FORWARD -t mangle -p tcp --dport 4056 -j NFQUEUE --queue-num 4056"),
			inserted("n1", "iptables-legacy", "FORWARD -p tcp --dport 4056 -j DROP"),
		},
		traffic: read(4056, 10, unanswered("tcp", "172.23.96.163:4056"), queueTake),
		want:    []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "rule-drop"}},
		instead: []shownInstead{{[]string{"5.10"}, "nothing tells which function said drop there: the sentence names both",
			[]verdictWant{{kind: "request tcp S", where: "netfilter", reason: "queue-drop"}}}}},

	{name: "reject-legacy", finding: "netfilter/rule-reject", group: "netfilter", from: "centos",
		cause:   []change{inserted("n1", "iptables-legacy", "FORWARD -p tcp --dport 4045 -j REJECT --reject-with tcp-reset")},
		traffic: refusal("tcp", "172.23.96.163:4045", errRefused),
		want: []verdictWant{
			{kind: "request tcp S", where: "netfilter", reason: "rule-reject"},
			{kind: "reply tcp RA", verdict: delivered, because: "request tcp S"},
		}},
	{name: "reject-nft", finding: "netfilter/rule-reject", group: "netfilter", from: "centos",
		cause: nftRule("tcp dport 4046 reject"), traffic: refusal("tcp", "172.23.96.163:4046", errRefused),
		want: []verdictWant{
			{kind: "request tcp S", where: "netfilter", reason: "rule-reject"},
			{kind: "reply icmp 3/3", verdict: delivered, because: "request tcp S"},
		}},
	{name: "closed-port", finding: "netfilter/rule-reject", similar: true, group: "netfilter", from: "centos",
		traffic: refusal("udp", "172.23.96.163:4047", errRefused),
		want: []verdictWant{
			{kind: "request udp", where: "socket", reason: "no-socket"},
			{kind: "reply icmp 3/3", verdict: delivered, because: "request udp"},
		}},
}

// nftRule is a rule of nftables in n1's FORWARD, in a table of its own.
func nftRule(rule string) []change {
	return []change{
		{"n1", "nft add table inet lab", "nft delete table inet lab"},
		{"n1", "nft add chain inet lab f { type filter hook forward priority 1 ; }", ""},
		{"n1", "nft add rule inet lab f " + rule, ""},
	}
}
