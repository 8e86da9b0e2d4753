// SPDX-License-Identifier: Apache-2.0

package main

import "strings"

// oddities pass the parts of the kernel that well-behaved requests never see.
// No two have the same network and address, by which their packets are found.
var oddities = []oddity{
	{name: "reset", from: "centos", network: "tcp", dial: "172.23.96.163:81", fails: errRefused,
		want: []kindWant{
			{kind: "request tcp S", hook: "tcp_v4_send_reset", leg: to("nginx1a").ends("socket", "no-socket")},
			{kind: "reply tcp RA", because: "request tcp S", leg: from("nginx1a")},
		}},
	{name: "reset-v6", from: "centos", network: "tcp", dial: "[fd00:10:96:2::163]:81", fails: errRefused,
		want: []kindWant{
			{kind: "request tcp S", hook: "tcp_v6_send_reset", leg: to("nginx1a").ends("socket", "no-socket")},
			{kind: "reply tcp RA", because: "request tcp S", leg: from("nginx1a")},
		}},
	{name: "port-unreachable", from: "centos", network: "udp", dial: "172.23.96.163:81", fails: errRefused, bytes: 10,
		want: []kindWant{
			{kind: "request udp", hook: "__icmp_send", leg: to("nginx1a").ends("socket", "no-socket")},
			{kind: "reply icmp 3/3", because: "request udp", hook: "udp_err", leg: from("nginx1a").byKernel()},
		}},
	{name: "port-unreachable-v6", from: "centos", network: "udp", dial: "[fd00:10:96:2::163]:81", fails: errRefused, bytes: 10,
		want: []kindWant{
			{kind: "request udp", hook: "icmp6_send", leg: to("nginx1a").ends("socket", "no-socket")},
			{kind: "reply icmp6 1/4", because: "request udp", leg: from("nginx1a").byKernel()},
		}},
	{name: "fragments", from: "centos", network: "udp", dial: "172.23.96.163:7", bytes: 6000,
		want: []kindWant{
			{kind: "request udp", hook: "ip_fraglist_prepare", leg: to("nginx1a").noted("sent as ")},
			{kind: "reply udp", leg: from("nginx1a").noted("sent as ")},
		}},
	{name: "fragments-v6", from: "centos", network: "udp", dial: "[fd00:10:96:2::163]:7", bytes: 6000,
		want: []kindWant{
			{kind: "request udp", hook: "ip6_fraglist_prepare", leg: to("nginx1a").noted("sent as ")},
			{kind: "reply udp", leg: from("nginx1a").noted("sent as ")},
		}},
	{name: "bulk-cross", from: "centos", network: "tcp", dial: "172.23.96.163:7", bytes: 1 << 18,
		want: bulkOf(to("nginx1a"), from("nginx1a"))},
	{name: "bulk-same", from: "centos", network: "tcp", dial: "172.23.96.24:7", bytes: 1 << 18,
		want: bulkOf(same, sameBack)},

	{name: "reject-reset-bridged", from: "centos", network: "tcp", dial: "172.23.96.24:4001", fails: errRefused,
		meanwhile: []change{inserted("n1", "iptables", rejectReset)},
		want: []kindWant{
			{kind: "request tcp S", hook: "nf_send_reset", leg: onBridge.ends("netfilter", "rule-reject")},
			{kind: "reply tcp RA", because: "request tcp S", leg: resetOfN1},
		}},
	{name: "reject-reset-routed", from: "centos", network: "tcp", dial: "172.23.96.163:4001", fails: errRefused,
		meanwhile: []change{inserted("n1", "iptables", rejectReset)},
		want: []kindWant{
			{kind: "request tcp S", hook: "nf_send_reset", leg: onN1.ends("netfilter", "rule-reject")},
			{kind: "reply tcp RA", because: "request tcp S", leg: resetOfN1},
		}},
	{name: "reject-reset-bridged-v6", from: "centos", network: "tcp", dial: "[fd00:10:96:1::24]:4001", fails: errRefused,
		meanwhile: []change{inserted("n1", "ip6tables", rejectReset)},
		want: []kindWant{
			{kind: "request tcp S", hook: "nf_send_reset6", leg: onBridge.ends("netfilter", "rule-reject")},
			{kind: "reply tcp RA", because: "request tcp S", leg: resetOfN1},
		}},
	{name: "reject-reset-routed-v6", from: "centos", network: "tcp", dial: "[fd00:10:96:2::163]:4001", fails: errRefused,
		meanwhile: []change{inserted("n1", "ip6tables", rejectReset)},
		want: []kindWant{
			{kind: "request tcp S", hook: "nf_send_reset6", leg: onN1.ends("netfilter", "rule-reject")},
			{kind: "reply tcp RA", because: "request tcp S", leg: resetOfN1},
		}},
	{name: "reject-reset-in-pod", from: "centos", network: "tcp", dial: "172.23.96.163:4003", fails: errRefused,
		meanwhile: []change{inserted("nginx1a", "iptables", "INPUT -p tcp --dport 4003 -j REJECT --reject-with tcp-reset")},
		want: []kindWant{
			{kind: "request tcp S", hook: "nf_send_reset", leg: to("nginx1a").ends("netfilter", "rule-reject")},
			{kind: "reply tcp RA", because: "request tcp S", leg: from("nginx1a").byKernel()},
		}},
	{name: "reject-port-bridged", from: "centos", network: "udp", dial: "172.23.96.24:4002", fails: errRefused, bytes: 10,
		meanwhile: []change{inserted("n1", "iptables", "FORWARD -p udp --dport 4002 -j REJECT")},
		want: []kindWant{
			{kind: "request udp", hook: "ipt_do_table", leg: onBridge.ends("netfilter", "rule-reject")},
			{kind: "reply icmp 3/3", because: "request udp", hook: "udp_err", leg: errorOfN1},
		}},
	{name: "reject-port-routed", from: "centos", network: "udp", dial: "172.23.96.163:4002", fails: errRefused, bytes: 10,
		meanwhile: []change{inserted("n1", "iptables", "FORWARD -p udp --dport 4002 -j REJECT")},
		want: []kindWant{
			{kind: "request udp", hook: "ipt_do_table", leg: onN1.ends("netfilter", "rule-reject")},
			{kind: "reply icmp 3/3", because: "request udp", hook: "udp_err", leg: errorOfN1},
		}},
	{name: "reject-port-v6", from: "centos", network: "tcp", dial: "[fd00:10:96:2::163]:4002", fails: errRefused,
		meanwhile: []change{inserted("n1", "ip6tables", "FORWARD -p tcp --dport 4002 -j REJECT")},
		want: []kindWant{
			{kind: "request tcp S", hook: "ip6t_do_table", leg: onN1.ends("netfilter", "rule-reject")},
			{kind: "reply icmp6 1/4", because: "request tcp S", hook: "tcp_v6_err", leg: errorOfN1},
		}},
	{name: "nft-drop", from: "centos", network: "udp", dial: "172.23.96.163:4004", silent: true, bytes: 10,
		meanwhile: []change{
			{"n1", "nft add table inet lab", "nft delete table inet lab"},
			{"n1", "nft add chain inet lab f { type filter hook forward priority 1 ; }", ""},
			{"n1", "nft add rule inet lab f udp dport 4004 drop", ""},
		},
		want: []kindWant{
			{kind: "request udp", hook: "nft_do_chain", leg: onN1.ends("netfilter", "rule-drop")},
		}},
	{name: "no-route", from: "centos", network: "udp", dial: "198.51.100.1:9", silent: true, bytes: 10,
		meanwhile: []change{{"n1", "ip route add unreachable 198.51.100.0/24", "ip route del unreachable 198.51.100.0/24"}},
		want: []kindWant{
			{kind: "request udp", hook: "ip_error", leg: onN1.ends("routing", "unreachable")},
			{kind: "reply icmp 3/1", because: "request udp", leg: errorOfN1},
		}},
	{name: "martian", from: "centos", network: "udp", dial: "172.23.96.163:4007", silent: true, bytes: 10,
		meanwhile: []change{natRule("centos", "POSTROUTING -p udp --dport 4007 -j SNAT --to-source 127.0.0.9")},
		want: []kindWant{
			{kind: "request udp", hook: "ip_handle_martian_source", leg: leg{visits: "socket>centos | n1>socket", link: "centos eth0 → vethcentos → cni0",
				nat: []string{"centos: conntrack snat {client}→172.23.96.163:4007 = {seen}→172.23.96.163:4007"}}.ends("routing", "martian-source")},
		}},
	{name: "smaller-mtu", from: "centos", network: "udp", dial: "172.23.96.164:7", bytes: 6000,
		meanwhile: []change{
			{"n1", "ip link set eth0 mtu 1400", "ip link set eth0 mtu 1500"},
			{"vpc", "ip link set n1 mtu 1400", "ip link set n1 mtu 1500"},
		},
		want: []kindWant{
			{kind: "request udp", hook: "ip_do_fragment", leg: to("nginx1b").noted("sent as ")},
			{kind: "reply udp", leg: from("nginx1b").noted("sent as ")},
		}},
	{name: "segments", from: "centos", network: "tcp", dial: "172.23.96.164:7", bytes: 100000,
		meanwhile: []change{{"n1", "ethtool -K eth0 tso off gso off", "ethtool -K eth0 tso on gso on"}},
		want:      bulkOf(to("nginx1b"), from("nginx1b"))},
	{name: "merged", from: "centos", network: "tcp", dial: "172.23.96.165:7", bytes: 100000,
		meanwhile: []change{
			{"n1", "ethtool -K vethcentos gro on", "ethtool -K vethcentos gro off"},
			{"centos", "ethtool -K eth0 tso off gso off", "ethtool -K eth0 tso on gso on"},
		},
		want: bulkOf(to("dns"), from("dns"))},
	{name: "raw-socket", from: "centos", network: "raw", dial: "172.23.96.163",
		want: []kindWant{
			{kind: "request icmp 8/0", hook: "icmp_rcv", leg: to("nginx1a")},
			{kind: "reply icmp 0/0", hook: "raw_rcv", leg: from("nginx1a")},
		}},
	{name: "ping-socket", from: "centos", network: "ping", dial: "172.23.96.164",
		want: []kindWant{
			{kind: "request icmp 8/0", hook: "icmp_rcv", leg: to("nginx1b")},
			{kind: "reply icmp 0/0", hook: "ping_rcv", leg: from("nginx1b")},
		}},

	{name: "ipvs-direct", from: "nginx1b", network: "udp", dial: vipOdd + ":4005", silent: true, bytes: 10,
		meanwhile: []change{
			virtualOdd,
			{"n2", "ipvsadm -A -u " + vipOdd + ":4005 -s rr", "ipvsadm -D -u " + vipOdd + ":4005"},
			{"n2", "ipvsadm -a -u " + vipOdd + ":4005 -r 172.23.96.163 -g", ""},
			{"nginx1a", "ip addr add " + vipOdd + "/32 dev lo", "ip addr del " + vipOdd + "/32 dev lo"},
		},
		want: []kindWant{
			{kind: "request udp", hook: "ip_vs_dr_xmit", leg: leg{visits: "socket>nginx1b | n2 | nginx1a>socket",
				link: "nginx1b eth0 → vethnginx1b → cni0 → cni0 → vethnginx1a → nginx1a eth0",
				nat:  []string{"n2: conntrack snat masquerade {client}→" + vipOdd + ":4005 = {seen}→" + vipOdd + ":4005"}}.ends("socket", "no-socket")},
			// The node has the address itself, and so takes no packets from it: routing
			// says so behind conntrack.
			{kind: "reply icmp 3/3", because: "request udp", leg: leg{visits: "kernel>nginx1a | n2>socket bridged",
				nat:  []string{"n2: conntrack dnat " + vipOdd + "→172.23.96.129 = " + vipOdd + "→172.23.96.164"},
				link: "nginx1a eth0 → vethnginx1a → (cni0)"}.ends("", anyReason)},
		}},
	{name: "ipvs-tunnel", from: "nginx1b", network: "udp", dial: vipOdd + ":4006", silent: true, bytes: 10,
		meanwhile: []change{
			virtualOdd,
			{"n2", "ipvsadm -A -u " + vipOdd + ":4006 -s rr", "ipvsadm -D -u " + vipOdd + ":4006"},
			{"n2", "ipvsadm -a -u " + vipOdd + ":4006 -r 172.23.96.163 -i", ""},
		},
		want: []kindWant{
			{kind: "request udp", hook: "ip_vs_tunnel_xmit", leg: leg{visits: "socket>nginx1b | n2 | nginx1a>socket",
				link: "nginx1b eth0 → vethnginx1b → cni0 → cni0 → vethnginx1a → nginx1a eth0"}.ends("ip", "no-protocol")},
			// The pod has no tunnel, and tells IPVS so, which tells its client.
			{kind: "reply icmp 3/2", because: "request udp", leg: leg{visits: "kernel>nginx1a | n2>socket",
				link: "nginx1a eth0 → vethnginx1a → cni0"}.ends("ipvs", "relayed")},
			{kind: "reply icmp 3/2", because: "reply icmp 3/2", leg: leg{visits: "kernel>n2 | nginx1b>socket",
				link: "cni0 → vethnginx1b → nginx1b eth0"}},
		}},
	{name: "ipvs-here", from: "nginx1b", network: "udp", dial: vipOdd + ":4007", fails: errRefused, bytes: 10,
		meanwhile: []change{
			virtualOdd,
			{"n2", "ipvsadm -A -u " + vipOdd + ":4007 -s rr", "ipvsadm -D -u " + vipOdd + ":4007"},
			{"n2", "ipvsadm -a -u " + vipOdd + ":4007 -r 172.23.96.129 -g", ""},
		},
		want: []kindWant{
			{kind: "request udp", hook: "ip_vs_dr_xmit", leg: leg{visits: "socket>nginx1b | n2>socket",
				link: "nginx1b eth0 → vethnginx1b → cni0"}.ends("socket", "no-socket")},
			{kind: "reply icmp 3/3", because: "request udp", leg: leg{visits: "kernel>n2 | nginx1b>socket",
				link: "cni0 → vethnginx1b → nginx1b eth0"}},
		}},
	{name: "ipvs-bypass", from: "nginx1b", network: "udp", dial: "172.23.96.82:7", bytes: 10,
		meanwhile: []change{
			{"n2", "sysctl -w net.ipv4.vs.cache_bypass=1", "sysctl -w net.ipv4.vs.cache_bypass=0"},
			{"n2", "ipvsadm -A -f 9 -s rr", "ipvsadm -D -f 9"},
			inserted("n2", "iptables", "PREROUTING -t mangle -p udp -d 172.23.96.82 --dport 7 -j MARK --set-mark 9"),
			{"n2", "ip route add local default dev lo table 109", "ip route del local default dev lo table 109"},
			{"n2", "ip rule add fwmark 9 lookup 109 priority 50", "ip rule del fwmark 9 lookup 109 priority 50"},
		},
		want: []kindWant{
			{kind: "request udp", hook: "ip_vs_bypass_xmit", leg: leg{visits: "socket>nginx1b | n2 | vpc | n3 | nginx1c>socket",
				link: "nginx1b eth0 → n2 vethnginx1b → n2 cni0 → n2 eth0 → [vpc] → n3 eth0 → n3 cni0 → n3 vethnginx1c → nginx1c eth0"}},
			{kind: "reply udp", leg: leg{visits: "socket>nginx1c | n3 | vpc | n2 | nginx1b>socket",
				link: "nginx1c eth0 → n3 vethnginx1c → n3 cni0 → n3 eth0 → [vpc] → n2 eth0 → n2 cni0 → n2 vethnginx1b → nginx1b eth0"}},
		}},
}

const rejectReset = "FORWARD -p tcp --dport 4001 -j REJECT --reject-with tcp-reset"

// vipOdd is a virtual address that no service and no rule knows.
const vipOdd = "192.168.13.99"

var virtualOdd = change{"n2", "ip addr add " + vipOdd + "/32 dev kube-ipvs0", "ip addr del " + vipOdd + "/32 dev kube-ipvs0"}

// The ways that several oddities take.
var (
	same      = leg{visits: "socket>centos | n1 bridged | nginx>socket", link: "centos eth0 → vethcentos → (cni0) → vethnginx → nginx eth0"}
	sameBack  = leg{visits: "socket>nginx | n1 bridged | centos>socket", link: "nginx eth0 → vethnginx → (cni0) → vethcentos → centos eth0"}
	onN1      = leg{visits: "socket>centos | n1>socket", link: "centos eth0 → vethcentos → cni0"}
	onBridge  = leg{visits: "socket>centos | n1>socket bridged", link: "centos eth0 → vethcentos → (cni0)"}
	errorOfN1 = leg{visits: "kernel>n1 | centos>socket", link: "cni0 → vethcentos → centos eth0"}
	// br_netfilter's REJECT sends by the bridge's port, past IP and cni0.
	resetOfN1 = leg{visits: "kernel>n1 | centos>socket", link: "vethcentos → centos eth0"}
)

// to is the way from centos on n1 to a pod on n2.
func to(pod string) leg {
	return leg{visits: "socket>centos | n1 | vpc | n2 | " + pod + ">socket",
		link: "centos eth0 → n1 vethcentos → n1 cni0 → n1 eth0 → [vpc] → n2 eth0 → n2 cni0 → n2 veth" + pod + " → " + pod + " eth0"}
}

// from is the way back.
func from(pod string) leg {
	return leg{visits: "socket>" + pod + " | n2 | vpc | n1 | centos>socket",
		link: pod + " eth0 → n2 veth" + pod + " → n2 cni0 → n2 eth0 → [vpc] → n1 eth0 → n1 cni0 → n1 vethcentos → centos eth0"}
}

// ends is a way on which the packet ended where it would have been received.
func (l leg) ends(where, reason string) leg {
	l.verdict, l.where, l.reason = "terminated", where, reason
	at := strings.LastIndex(l.visits, ">socket")
	l.visits = l.visits[:at] + ">terminated" + l.visits[at+len(">socket"):]
	return l
}

// byKernel is a way that begins in mid-stack.
func (l leg) byKernel() leg {
	l.visits = "kernel>" + strings.TrimPrefix(l.visits, "socket>")
	return l
}

// bulkOf is what must be seen of a connection with much data.
func bulkOf(there, back leg) []kindWant {
	return []kindWant{
		{kind: "request tcp S", leg: there},
		{kind: "reply tcp SA", because: "request tcp S", leg: back},
		{kind: "request tcp *", leg: there},
		{kind: "reply tcp *", leg: back},
	}
}

// noted is a way with a note that begins so.
func (l leg) noted(note string) leg {
	l.note = note
	return l
}
