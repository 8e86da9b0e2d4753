// SPDX-License-Identifier: Apache-2.0

package main

// What the tool must say of each case: the tables of the scenarios, as data.
//
// In the texts, {client} stands for the client's address and port, {seen} for
// those that the server saw, and {server} for the pod that answered: the parts
// that differ from run to run. The oracle (client and servers) knows them.

// A leg is one direction of a connection. All of its packets look alike.
type leg struct {
	// visits are the stacks in order, as visitsText writes them: what is not
	// said is from a device to a device.
	visits string
	// link is the data link. A bridge in parentheses is one that the frame only
	// crossed from port to port: its device did not see it.
	link string
	// orLink is what else the data link may be, by the state of the kernel.
	orLink     string
	stacks, l3 float64
	verdict    string
	where      string
	reason     string
	summary    string   // empty: whatever it says
	nat        []string // as natTexts writes them, "NETNS: BY KIND FROM = TO"
	note       string   // a note that must be there, by its beginning
	icmp       string
	// rule is the netfilter rule that dropped or rejected it, as ruleText writes it.
	// The rules are read when the first packet was dropped: of several in a row that
	// are alike, one must name it, and none another one. Empty: not compared.
	rule string
	// masquerade is the rule that masqueraded its first packet, likewise, and mark the
	// bit that asked for it.
	masquerade, mark string
	source           string // what ICMP errors are sent by; empty: the address that was dialed
	destination      string // what ICMP errors are sent to; else empty
	// carried are the notes of what it is put into between the nodes and taken out
	// of, with "*" for the outer source port; none: it goes as it is.
	carried []string
}

// An expectation is what must be seen of one case.
type expectation struct {
	id             string
	request, reply leg
}

const delivered = "delivered"

// expectations has the ten cases first, then the extras, as cases has.
var expectations = []expectation{
	{"1",
		leg{visits: "socket>centos | n1 bridged | nginx>socket", stacks: 3, l3: 2, verdict: delivered,
			link: "centos eth0 → vethcentos → (cni0) → vethnginx → nginx eth0"},
		leg{visits: "socket>nginx | n1 bridged | centos>socket", stacks: 3, l3: 2, verdict: delivered,
			link: "nginx eth0 → vethnginx → (cni0) → vethcentos → centos eth0"},
	},
	{"2",
		leg{visits: "socket>centos | n1 | nginx>socket", stacks: 3, l3: 3, verdict: delivered,
			link: "centos eth0 → vethcentos → cni0 → cni0 → vethnginx → nginx eth0",
			nat:  []string{"n1: ipvs dnat {client}→192.168.13.24:80 = {client}→172.23.96.24:80"}},
		leg{visits: "socket>nginx | n1 bridged | centos>socket", stacks: 3, l3: 2, verdict: delivered,
			link: "nginx eth0 → vethnginx → (cni0) → vethcentos → centos eth0",
			nat:  []string{"n1: ipvs snat 172.23.96.24:80→{client} = 192.168.13.24:80→{client}"}},
	},
	{"3",
		leg{visits: "socket>nginx1b | n2 | nginx1a>socket", stacks: 3, l3: 3, verdict: delivered,
			link: "nginx1b eth0 → vethnginx1b → cni0 → cni0 → vethnginx1a → nginx1a eth0",
			nat: []string{"n2: ipvs dnat {client}→8.219.164.114:80 = {client}→172.23.96.163:80",
				"n2: conntrack snat masquerade {client}→172.23.96.163:80 = {seen}→172.23.96.163:80"},
			note: "client address lost: 172.23.96.163 sees 172.23.96.129 instead of 172.23.96.164"},
		// The bridge hands the reply, un-NATed in PREROUTING, to its own neighbour
		// code, which sends it through cni0 as a device: that sees it here. Where the
		// neighbour was found reachable some seconds ago (NUD_CONNECTED) the bridge
		// writes the link addresses itself, and the frame only crosses it.
		leg{visits: "socket>nginx1a | n2 bridged | nginx1b>socket", stacks: 3, l3: 2, verdict: delivered,
			link:   "nginx1a eth0 → vethnginx1a → cni0 → vethnginx1b → nginx1b eth0",
			orLink: "nginx1a eth0 → vethnginx1a → (cni0) → vethnginx1b → nginx1b eth0",
			nat: []string{"n2: conntrack dnat 172.23.96.163:80→{seen} = 172.23.96.163:80→{client}",
				"n2: ipvs snat 172.23.96.163:80→{client} = 8.219.164.114:80→{client}"}},
	},
	{"4",
		leg{visits: "socket>centos | n1 | vpc | n2 | nginx1a>socket", stacks: 4, l3: 4, verdict: delivered,
			link: "centos eth0 → n1 vethcentos → n1 cni0 → n1 eth0 → [vpc] → n2 eth0 → n2 cni0 → n2 vethnginx1a → nginx1a eth0"},
		leg{visits: "socket>nginx1a | n2 | vpc | n1 | centos>socket", stacks: 4, l3: 4, verdict: delivered,
			link: "nginx1a eth0 → n2 vethnginx1a → n2 cni0 → n2 eth0 → [vpc] → n1 eth0 → n1 cni0 → n1 vethcentos → centos eth0"},
	},
	{"5",
		leg{visits: "socket>centos | n1 | vpc | n2 | nginx1a>socket", stacks: 4, l3: 4, verdict: delivered,
			link: "centos eth0 → n1 vethcentos → n1 cni0 → n1 eth0 → [vpc] → n2 eth0 → n2 cni0 → n2 vethnginx1a → nginx1a eth0",
			nat:  []string{"n1: ipvs dnat {client}→192.168.13.23:80 = {client}→172.23.96.163:80"}},
		leg{visits: "socket>nginx1a | n2 | vpc | n1 | centos>socket", stacks: 4, l3: 4, verdict: delivered,
			link: "nginx1a eth0 → n2 vethnginx1a → n2 cni0 → n2 eth0 → [vpc] → n1 eth0 → n1 cni0 → n1 vethcentos → centos eth0",
			nat:  []string{"n1: ipvs snat 172.23.96.163:80→{client} = 192.168.13.23:80→{client}"}},
	},
	{"6",
		leg{visits: "socket>centos | n1 | vpc | n2 | nginx1a>socket", stacks: 4, l3: 4, verdict: delivered,
			link: "centos eth0 → n1 vethcentos → n1 cni0 → n1 eth0 → [vpc] → n2 eth0 → n2 cni0 → n2 vethnginx1a → nginx1a eth0",
			nat: []string{"n1: ipvs dnat {client}→8.219.164.114:80 = {client}→172.23.96.163:80",
				"n1: conntrack snat masquerade {client}→172.23.96.163:80 = {seen}→172.23.96.163:80"},
			note: "client address lost: 172.23.96.163 sees 10.0.0.180 instead of 172.23.96.23"},
		leg{visits: "socket>nginx1a | n2 | vpc | n1 | centos>socket", stacks: 4, l3: 4, verdict: delivered,
			link: "nginx1a eth0 → n2 vethnginx1a → n2 cni0 → n2 eth0 → [vpc] → n1 eth0 → n1 cni0 → n1 vethcentos → centos eth0",
			nat: []string{"n1: conntrack dnat 172.23.96.163:80→{seen} = 172.23.96.163:80→{client}",
				"n1: ipvs snat 172.23.96.163:80→{client} = 8.219.164.114:80→{client}"}},
	},
	{"7",
		leg{visits: "socket>centos | n1>terminated", stacks: 1.5, l3: 1.5, verdict: "terminated",
			where: "ipvs", reason: "no-destination", link: "centos eth0 → vethcentos → cni0",
			summary: "1.5 stacks, terminated in IPVS: 8.219.164.113:80 has no destination on this node"},
		leg{visits: "kernel>n1 | centos>socket", stacks: 1.5, l3: 1.5, verdict: delivered,
			link: "cni0 → vethcentos → centos eth0", icmp: "3/3", destination: "172.23.96.23"},
	},
	{"8",
		leg{visits: "socket>outside | vpc | lb | vpc | n2 | {server}>socket", stacks: 2, l3: 2, verdict: delivered,
			link: "[outside] → [vpc] → [lb] → [vpc] → eth0 → cni0 → veth{server} → {server} eth0",
			nat: []string{"lb: conntrack dnat {client}→8.219.164.113:80 = {client}→10.0.1.206:32580",
				"n2: ipvs dnat {client}→10.0.1.206:32580 = {client}→{backend}:80"}},
		leg{visits: "socket>{server} | n2 | vpc | lb | vpc | outside>socket", stacks: 2, l3: 2, verdict: delivered,
			link: "{server} eth0 → veth{server} → cni0 → eth0 → [vpc] → [lb] → [vpc] → [outside]",
			nat: []string{"n2: ipvs snat {backend}:80→{client} = 10.0.1.206:32580→{client}",
				"lb: conntrack snat 10.0.1.206:32580→{client} = 8.219.164.113:80→{client}"}},
	},
	{"9",
		leg{visits: "socket>outside | vpc | lb | vpc | n1 | vpc | n2 | nginx1a>socket", stacks: 3, l3: 3, verdict: delivered,
			link: "[outside] → [vpc] → [lb] → [vpc] → n1 eth0 → n1 eth0 → [vpc] → n2 eth0 → n2 cni0 → n2 vethnginx1a → nginx1a eth0",
			nat: []string{"lb: conntrack dnat {client}→8.219.164.114:80 = {client}→10.0.0.180:30875",
				"n1: ipvs dnat {client}→10.0.0.180:30875 = {client}→172.23.96.163:80",
				"n1: conntrack snat masquerade {client}→172.23.96.163:80 = {seen}→172.23.96.163:80"},
			note: "client address lost: 172.23.96.163 sees 10.0.0.180 instead of 203.0.113.7"},
		leg{visits: "socket>nginx1a | n2 | vpc | n1 | vpc | lb | vpc | outside>socket", stacks: 3, l3: 3, verdict: delivered,
			link: "nginx1a eth0 → n2 vethnginx1a → n2 cni0 → n2 eth0 → [vpc] → n1 eth0 → n1 eth0 → [vpc] → [lb] → [vpc] → [outside]",
			nat: []string{"n1: conntrack dnat 172.23.96.163:80→{seen} = 172.23.96.163:80→{client}",
				"n1: ipvs snat 172.23.96.163:80→{client} = 10.0.0.180:30875→{client}",
				"lb: conntrack snat 10.0.0.180:30875→{client} = 8.219.164.114:80→{client}"}},
	},
	{"10",
		leg{visits: "socket>outside | vpc | lb | vpc | n2 | nginx1a>socket", stacks: 2, l3: 2, verdict: delivered,
			link: "[outside] → [vpc] → [lb] → [vpc] → eth0 → cni0 → vethnginx1a → nginx1a eth0",
			nat: []string{"lb: conntrack dnat {client}→8.219.164.114:80 = {client}→10.0.1.206:30875",
				"n2: ipvs dnat {client}→10.0.1.206:30875 = {client}→172.23.96.163:80",
				"n2: conntrack snat masquerade {client}→172.23.96.163:80 = {seen}→172.23.96.163:80"},
			note: "client address lost: 172.23.96.163 sees 172.23.96.129 instead of 203.0.113.7"},
		leg{visits: "socket>nginx1a | n2 | vpc | lb | vpc | outside>socket", stacks: 2, l3: 2, verdict: delivered,
			link: "nginx1a eth0 → vethnginx1a → cni0 → eth0 → [vpc] → [lb] → [vpc] → [outside]",
			nat: []string{"n2: conntrack dnat 172.23.96.163:80→{seen} = 172.23.96.163:80→{client}",
				"n2: ipvs snat 172.23.96.163:80→{client} = 10.0.1.206:30875→{client}",
				"lb: conntrack snat 10.0.1.206:30875→{client} = 8.219.164.114:80→{client}"}},
	},
}
