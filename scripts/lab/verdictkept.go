// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// keptVerdicts: connections of which conntrack cannot keep the entry, cannot get rid
// of it, or kept it for another way; and frames that a bridge's netfilter refuses.
var keptVerdicts = []verdictCase{
	{name: "chain-too-long", finding: "conntrack/confirm-failed", group: "kept", from: "centos",
		traffic: crowded(512, unanswered("udp", "172.23.96.163:7")),
		want:    []verdictWant{{kind: "request udp", where: "conntrack", reason: "confirm-failed"}},
		instead: only510("it keeps entries in hash chains of any length", verdictWant{kind: "request udp", verdict: delivered})},
	{name: "many-entries", finding: "conntrack/confirm-failed", similar: true, group: "kept", from: "centos",
		traffic: crowded(1<<16, unanswered("udp", "172.23.96.163:7")),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},

	// Ports are used again at once, and what listens for the ends of connections
	// (conntrackd, NetlinkEventsReliable on) does not take that of the former one.
	{name: "end-not-told", finding: "conntrack/refused", group: "kept", from: "centos",
		traffic: deaf(portReused(4091, shortPatience, wantTimeout)),
		want:    []verdictWant{{kind: "request tcp S", where: "conntrack", reason: "refused"}}},
	{name: "port-reused", finding: "conntrack/refused", similar: true, group: "kept", from: "centos",
		traffic: portReused(4092, dialTimeout, func(err error) error { return err }),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},

	{name: "masquerade-moved", finding: "netfilter/dropped", group: "kept", from: "centos",
		cause: append(slices.Clip(masquerading), change{"centos", "ip link add labother type dummy", "ip link del labother"},
			change{"centos", "ip link set labother up", ""}),
		traffic: moved("172.23.96.163:7", change{"centos", "ip route add 172.23.96.163/32 dev labother", "ip route del 172.23.96.163/32"}),
		want:    []verdictWant{{kind: "request udp", where: "netfilter", reason: "dropped", line: "0.5 stacks, terminated in netfilter: dropped in netfilter POSTROUTING"}}},
	{name: "masquerade-not-moved", finding: "netfilter/dropped", similar: true, group: "kept", from: "centos",
		cause:   masquerading,
		traffic: detoured("172.23.96.163:7", change{"centos", "ip route add 172.23.96.163/32 via 172.23.96.1", "ip route del 172.23.96.163/32"}),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},

	// Spoilt on its way to another pod of the node: the bridge looks at headers before
	// netfilter does, and else the pod.
	{name: "bridge-bad-header", finding: "bridge/bad-header", group: "kept", from: "centos",
		traffic: spoilt(4117, unanswered("udp", "172.23.96.24:4117")),
		want:    []verdictWant{{kind: "request udp", where: "bridge", reason: "bad-header"}}},
	{name: "bridge-not-looked-at", finding: "bridge/bad-header", similar: true, group: "kept", from: "centos",
		cause:   []change{sysctl("n1", "net.bridge.bridge-nf-call-iptables", "0", "1")},
		traffic: spoilt(4118, unanswered("udp", "172.23.96.24:4118")),
		want:    []verdictWant{{kind: "request udp", where: "ip", reason: "checksum"}},
		instead: rcvCore},
}

// crowd is how many entries are put into conntrack's table. With 512 buckets, and
// two places for each, chains are 117 long on average, and hardly any is below the 80
// that the kernel takes at most (MIN_CHAINLEN, since 5.15: commit d7e7747ac5c2).
const crowd = 30_000

// crowded makes traffic while n1's conntrack has many entries in a table of so many
// buckets. They are put in while it has many: the limit holds for them, too.
func crowded(buckets int, traffic func(*play) error) func(*play) error {
	return func(p *play) (err error) {
		for _, s := range []struct {
			key   string
			value int
		}{{"nf_conntrack_max", 4 * crowd}, {"nf_conntrack_buckets", 1 << 16}} {
			back, err2 := setting("", "net.netfilter."+s.key, strconv.Itoa(s.value))
			if err2 != nil {
				return errors.Join(err, err2)
			}
			defer func() { err = errors.Join(err, back()) }()
		}
		defer func() { err = errors.Join(p.run("n1", "conntrack -F"), err) }()
		if err := inNetns("n1", enterCrowd); err != nil {
			return err
		}
		if _, err := setting("", "net.netfilter.nf_conntrack_buckets", strconv.Itoa(buckets)); err != nil {
			return err
		}
		return traffic(p)
	}
}

// enterCrowd makes the entries: of one client to one server, from as many ports.
func enterCrowd() error {
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer h.Close()
	client, server := net.IPv4(198, 51, 100, 60).To4(), net.IPv4(198, 51, 100, 61).To4()
	for i := range uint16(crowd) {
		there := netlink.IPTuple{SrcIP: client, DstIP: server, SrcPort: 1024 + i, DstPort: 9, Protocol: unix.IPPROTO_UDP}
		back := netlink.IPTuple{SrcIP: server, DstIP: client, SrcPort: 9, DstPort: 1024 + i, Protocol: unix.IPPROTO_UDP}
		flow := &netlink.ConntrackFlow{FamilyType: unix.AF_INET, Forward: there, Reverse: back, TimeOut: 600}
		if err := h.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, flow); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

// deaf makes traffic while a socket in n1 asks for the ends of all connections, to be
// told for certain, and takes none: its buffer is full.
func deaf(traffic func(*play) error) func(*play) error {
	return func(p *play) error {
		const destroyed = 3 // NFNLGRP_CONNTRACK_DESTROY
		fd := -1
		err := inNetns("n1", func() (err error) {
			fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
			return os.NewSyscallError("socket", err)
		})
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		err = errors.Join(unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}), smallBuffer(fd),
			setInt(unix.SOL_NETLINK, unix.NETLINK_BROADCAST_ERROR, 1)(fd),
			setInt(unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, destroyed)(fd))
		if err != nil {
			return err
		}
		for range 20 { // as many entries, whose ends fill the buffer
			if err := burst("172.23.96.163:9", 1, 10)(&play{}); err != nil {
				return err
			}
		}
		if err := p.run("n1", "conntrack -F"); err != nil {
			return err
		}
		return traffic(p)
	}
}

// portReused makes a connection that ends by the client's RST, and another one between
// the same ports.
func portReused(port int, patience time.Duration, want func(error) error) func(*play) error {
	const server = "172.23.96.163:7"
	return func(p *play) error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(172, 23, 96, 23), Port: port}, Timeout: dialTimeout,
			Control: setInt(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1).control}
		conn, err := d.Dial("tcp", server)
		if err != nil {
			return err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return errors.Join(errors.New("not a TCP connection"), conn.Close())
		}
		tcp.SetDeadline(time.Now().Add(dialTimeout))
		if err := errors.Join(echoed(tcp, "hello"), tcp.SetLinger(0), tcp.Close()); err != nil {
			return err
		}
		p.flow("tcp", d.LocalAddr.String(), server)
		d.Timeout = patience
		conn, err = d.Dial("tcp", server)
		if err == nil {
			err = conn.Close()
		}
		return want(err)
	}
}

// masquerading hides, in the sender's namespace, what goes to the port of echoes.
var masquerading = []change{
	{"centos", "nft add table ip lab", "nft delete table ip lab"},
	{"centos", "nft add chain ip lab p { type nat hook postrouting priority 100 ; }", ""},
	{"centos", "nft add rule ip lab p udp dport 7 masquerade", ""},
}

// moved sends on an established connection whose route leads out by another device now.
// NAT gives up a connection then that it masquerades: its address would be another one
// (nf_nat_oif_changed).
func moved(dst string, route change) func(*play) error {
	return func(p *play) (err error) {
		conn, err := p.datagrams(dst)
		if err != nil {
			return err
		}
		conn.SetDeadline(time.Now().Add(dialTimeout))
		if err := echoed(conn, "there?"); err != nil {
			return err
		}
		if err := p.run(route.netns, route.do); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.run(route.netns, route.undo)) }()
		_, err = conn.Write([]byte("still there?"))
		return wantError(err, errForbidden)
	}
}

// spoilt makes traffic to a port, of which the pod sends IP headers with a wrong checksum.
func spoilt(port int, traffic func(*play) error) func(*play) error {
	return filtered("centos", "eth0", "egress", port, "pedit munge ip tos set 0x04", traffic)
}
