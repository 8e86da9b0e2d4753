// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"syscall"
	"time"
)

// linkVerdicts: frames that devices and bridges do not take, headers that IP does
// not, and what kernels without reasons cannot tell.
var linkVerdicts = []verdictCase{
	{name: "ring-full", finding: "queue/ring-full", group: "links", from: "centos",
		traffic: withTun("labtun", "198.51.107.0/24", burst("198.51.107.9:4101", 20, 100)),
		want:    []verdictWant{{kind: "request udp", where: "queue", reason: "ring-full", line: "1.5 stacks, terminated in a queue: the ring of *"}},
		instead: only510("it tells no reasons, and its driver refuses packets for others, too",
			verdictWant{kind: "request udp", where: "device", reason: "device"})},
	{name: "queue-not-ring", finding: "queue/ring-full", similar: true, group: "links", from: "centos",
		cause:   []change{{"n1", "tc qdisc add dev eth0 root tbf rate 8kbit burst 1600 limit 1600", "tc qdisc del dev eth0 root"}},
		traffic: burst("172.23.96.163:4102", 8, 1000),
		want:    []verdictWant{{kind: "request udp", where: "queue", reason: "qdisc-full"}}},

	// The MTU of one end was changed, not the other's.
	{name: "veth-mtu", finding: "device/device", group: "links", from: "centos",
		cause:   []change{{"n1", "ip link set vethcentos mtu 1280", "ip link set vethcentos mtu 1500"}},
		traffic: oneDatagram("172.23.96.163:4103", 64, 1450, syscall.IP_PMTUDISC_PROBE),
		want:    []verdictWant{{kind: "request udp", where: "device", reason: "device"}}},
	{name: "node-mtu", finding: "device/device", similar: true, group: "links", from: "centos",
		cause:   []change{{"n1", "ip link set eth0 mtu 1400", "ip link set eth0 mtu 1500"}},
		traffic: oneDatagram("172.23.96.163:4104", 64, 1450, syscall.IP_PMTUDISC_PROBE),
		want:    []verdictWant{{kind: "request udp", where: "forward", reason: "too-big"}}},
	// A network agent that has not told yet behind which node an address is.
	{name: "vxlan-no-peer", finding: "device/device", group: "links", from: "centos",
		lasting: overlay("labx", "198.51.116", ""),
		traffic: unanswered("udp", "198.51.116.9:4105"),
		want:    []verdictWant{{kind: "request udp", where: "device", reason: "device"}}},
	{name: "vxlan-peer", finding: "device/device", similar: true, group: "links", from: "centos",
		lasting: overlay("laby", "198.51.117", "10.0.1.206"),
		traffic: unanswered("udp", "198.51.117.9:4106"),
		want:    []verdictWant{{kind: "request udp", where: "socket", reason: "no-socket"}}},

	// The agent has told it, and the way there is missing.
	{name: "vxlan-no-way", finding: "device/device", group: "links", from: "centos",
		lasting: append(overlay("labw", "198.51.118", ""), change{"n1", "bridge fdb add 02:00:00:00:00:09 dev labw dst 198.51.119.7", ""}),
		cause:   []change{{"n1", "ip route add unreachable 198.51.119.7", "ip route del unreachable 198.51.119.7"}},
		traffic: unanswered("udp", "198.51.118.9:4117"),
		want:    []verdictWant{{kind: "request udp", where: "device", reason: "device", line: "*route to the tunnel's other end"}}},

	{name: "ports-isolated", finding: "bridge/not-forwarded", group: "links", from: "centos",
		traffic: acquainted("172.23.96.24:7", []change{isolated("vethcentos"), isolated("vethnginx")}, unanswered("udp", "172.23.96.24:7")),
		want:    []verdictWant{{kind: "request udp", where: "bridge", reason: "not-forwarded", line: "*port vethnginx: both ports are isolated, or its VLAN is not allowed there"}}},
	{name: "port-isolated", finding: "bridge/not-forwarded", similar: true, group: "links", from: "centos",
		traffic: acquainted("172.23.96.24:7", []change{isolated("vethnginx")}, echoes("udp", "172.23.96.24:7", 20)),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},
	{name: "vlan-not-in", finding: "bridge/not-forwarded", group: "links", from: "centos",
		traffic: acquainted("172.23.96.24:7", []change{
			{"n1", "ip link set cni0 type bridge vlan_filtering 1", "ip link set cni0 type bridge vlan_filtering 0"},
			{"n1", "bridge vlan del dev vethcentos vid 1", "bridge vlan add dev vethcentos vid 1 pvid untagged"},
		}, unanswered("udp", "172.23.96.24:7")),
		want: []verdictWant{{kind: "request udp", where: "bridge", reason: "not-forwarded"}}},

	// Spoilt on the way out, as by a broken driver or middlebox: a length below the
	// header's own, one beyond what there is, and a checksum.
	{name: "bad-header", finding: "ip/bad-header", group: "links", from: "outside",
		traffic: filtered("outside", "eth0", "egress", 4107, "pedit munge offset 2 u16 set 0x000a pipe action csum iph", unanswered("udp", "10.0.0.180:4107")),
		want:    []verdictWant{{kind: "request udp", where: "ip", reason: "bad-header"}},
		instead: rcvCore},
	{name: "cut-off", finding: "ip/bad-header", group: "links", from: "outside",
		traffic: filtered("outside", "eth0", "egress", 4108, "pedit munge offset 2 u16 set 0x05dc pipe action csum iph", unanswered("udp", "10.0.0.180:4108")),
		want:    []verdictWant{{kind: "request udp", where: "ip", reason: "bad-header", line: "*it is shorter than its IP header says"}},
		instead: rcvCore},
	{name: "header-checksum", finding: "ip/bad-header", similar: true, group: "links", from: "outside",
		traffic: filtered("outside", "eth0", "egress", 4110, "pedit munge ip tos set 0x04", unanswered("udp", "10.0.0.180:4110")),
		want:    []verdictWant{{kind: "request udp", where: "ip", reason: "checksum"}},
		instead: rcvCore},

	// The sender has an old link address for its router.
	{name: "stale-neighbour", finding: "ip/other-host", group: "links", from: "outside",
		cause: []change{{"outside", "ip neigh replace " + gateway + " lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
			"ip neigh del " + gateway + " dev eth0"}},
		traffic: unanswered("udp", "172.23.96.163:4111"),
		want:    []verdictWant{{kind: "request udp", where: "ip", reason: "other-host"}}},
	// The bridge has forgotten where a neighbour is: all of its ports get the frame.
	{name: "frame-flooded", finding: "ip/other-host", similar: true, group: "links", from: "nginx1a",
		cause: []change{{"n2", "bridge link set dev vethnginx1b learning off", "bridge link set dev vethnginx1b learning on"},
			{"n2", "ip link set vethnginx1b type bridge_slave fdb_flush", ""}},
		traffic: echoes("udp", "172.23.96.164:7", 20),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},

	// n1 sends it out by the device that it came in by, and tells of the shorter way.
	{name: "nat-redirect", finding: "conntrack/nat-redirect", group: "links", from: "centos",
		cause: []change{
			natRule("n1", "PREROUTING -p udp -d 192.168.13.79 --dport 7 -j DNAT --to-destination 172.23.96.24:7"),
			sysctl("n1", "net.bridge.bridge-nf-call-iptables", "0", "1"),
		},
		traffic: unanswered("udp", "192.168.13.79:7"),
		want:    []verdictWant{{kind: "reply icmp 5/1", where: "conntrack", reason: "nat-redirect"}}},
	{name: "redirect", finding: "conntrack/nat-redirect", similar: true, group: "links", from: "centos",
		traffic: detoured("172.23.96.24:7", change{"centos", "ip route add 172.23.96.24/32 via 172.23.96.1", "ip route del 172.23.96.24/32 via 172.23.96.1"}),
		want:    []verdictWant{{kind: "reply icmp 5/1", verdict: delivered}}},

	// What only kernels without reasons say.
	{name: "source-refused", finding: "routing/source-refused", group: "links", from: "centos",
		cause:   []change{sysctl("n1", "net.ipv4.conf.cni0.rp_filter", "1", "0")},
		traffic: spoofed("198.51.100.50:5310", nginx1aEcho),
		want:    []verdictWant{{kind: "request udp", where: "routing", reason: "source-refused"}},
		instead: reasoned(verdictWant{kind: "request udp", where: "routing", reason: "rp-filter"})},
	{name: "source-taken", finding: "routing/source-refused", similar: true, group: "links", from: "centos",
		cause:   []change{sysctl("n1", "net.ipv4.conf.cni0.rp_filter", "2", "0")},
		traffic: spoofed("198.51.100.51:5311", nginx1aEcho),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},
	{name: "route-refused", finding: "routing/refused", group: "links", from: "nginx1a",
		cause:   []change{natRule("n1", "PREROUTING -p udp --dport 4113 -j DNAT --to-destination 127.0.0.1:4113")},
		traffic: unanswered("udp", "10.0.0.180:4113"),
		want:    []verdictWant{{kind: "request udp", where: "routing", reason: "refused"}},
		instead: []shownInstead{{series: []string{"6.18", "7"}, why: "it has a reason for it",
			want: []verdictWant{{kind: "request udp", where: "routing", reason: "martian-destination"}}}}},
	{name: "route-taken", finding: "routing/refused", similar: true, group: "links", from: "nginx1a",
		cause:   []change{natRule("n1", "PREROUTING -p udp --dport 4116 -j DNAT --to-destination 10.0.0.180:4115")},
		traffic: unanswered("udp", "10.0.0.180:4116"),
		want:    []verdictWant{{kind: "request udp", where: "socket", reason: "no-socket"}}},
}

// rcvCore is what 5.10 shows of a header that IP does not take.
var rcvCore = only510("it tells no reasons, and refuses all in one function",
	verdictWant{kind: "request udp", where: "ip", reason: "other-host", line: "*its link address is another host's, or its IP header is invalid"})

// isolated is a port of a bridge of n1 that does not reach others that are.
func isolated(port string) change {
	return change{"n1", "bridge link set dev " + port + " isolated on", "bridge link set dev " + port + " isolated off"}
}

// overlay is a network of n1 behind a VXLAN device, with one host behind a node;
// "": nothing has told the device behind which.
func overlay(dev, network, node string) []change {
	const mac = "02:00:00:00:00:09"
	device := "ip link add " + dev + " type vxlan id " + network[len(network)-3:] + " dev eth0 dstport 4790 nolearning"
	list := []change{
		{"n1", device, "ip link del " + dev},
		{"n1", "ip addr add " + network + ".1/24 dev " + dev, ""},
		{"n1", "ip link set " + dev + " up", ""},
		{"n1", "ip neigh add " + network + ".9 lladdr " + mac + " dev " + dev, ""},
	}
	if node != "" {
		list = append(list,
			change{"n1", "bridge fdb add " + mac + " dev " + dev + " dst " + node, ""},
			change{"n2", device, "ip link del " + dev},
			change{"n2", "ip link set " + dev + " address " + mac + " up", ""},
			change{"n2", "ip addr add " + network + ".9/24 dev " + dev, ""},
			change{"n2", "ip route add 172.23.96.23/32 dev " + dev, ""},
			change{"n2", "ip neigh add 172.23.96.23 lladdr " + mac + " dev " + dev, ""})
	}
	return list
}

// detoured sends on an established connection of which the way has changed.
func detoured(dst string, detour change) func(*play) error {
	return func(p *play) (err error) {
		conn, err := p.datagrams(dst)
		if err != nil {
			return err
		}
		for i := range 2 {
			if i == 1 {
				if err := p.run(detour.netns, detour.do); err != nil {
					return err
				}
				defer func() { err = errors.Join(err, p.run(detour.netns, detour.undo)) }()
			}
			conn.SetDeadline(time.Now().Add(dialTimeout))
			if _, err := conn.Write([]byte("there?")); err != nil {
				return err
			}
			if _, err := conn.Read(make([]byte, 64)); err != nil {
				return err
			}
		}
		return nil
	}
}
