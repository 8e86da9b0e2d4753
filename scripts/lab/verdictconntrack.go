// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// conntrackVerdicts: what conntrack refuses, and what NAT has no place for.
var conntrackVerdicts = []verdictCase{
	{name: "conntrack-full", finding: "conntrack/table-full", group: "conntrack", from: "centos",
		traffic: beyondLimit(0, unanswered("tcp", "172.23.96.163:7")),
		want:    []verdictWant{{kind: "request tcp S", where: "conntrack", reason: "table-full"}}},
	{name: "conntrack-nearly-full", finding: "conntrack/table-full", similar: true, group: "conntrack", from: "centos",
		traffic: beyondLimit(20, echoes("tcp", "172.23.96.24:7", 100)),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered, noNote: "conntrack evicted"}}},
	{name: "conntrack-evicted", finding: "conntrack evicted", group: "conntrack", from: "centos",
		cause:   []change{inserted("nginx", "iptables", "INPUT -p udp --dport 9 -j DROP")},
		traffic: evicting,
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered, note: "conntrack evicted"}}},
	{name: "conntrack-room-again", finding: "conntrack evicted", similar: true, group: "conntrack", from: "centos",
		traffic: beyondLimit(20, echoes("tcp", "172.23.96.24:7", 100)),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},

	{name: "invalid-drop", finding: "netfilter/invalid-drop", group: "conntrack", from: "centos",
		cause: []change{
			{"n1", "sysctl -w net.netfilter.nf_conntrack_tcp_loose=0", "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1"},
			inserted("n1", "iptables", "FORWARD -m conntrack --ctstate INVALID -j DROP"),
		},
		traffic: forgotten,
		want:    []verdictWant{{kind: "request tcp PA", where: "netfilter", reason: "invalid-drop"}}},
	{name: "untracked-drop", finding: "netfilter/invalid-drop", similar: true, group: "conntrack", from: "centos",
		cause: []change{
			inserted("n1", "iptables", "PREROUTING -t raw -p udp --dport 4031 -j CT --notrack"),
			inserted("n1", "iptables", "FORWARD -p udp --dport 4031 -j DROP"),
		},
		traffic: unanswered("udp", "172.23.96.163:4031"),
		want:    []verdictWant{{kind: "request udp", where: "netfilter", reason: "rule-drop"}}},

	{name: "nat-exhausted-udp", finding: "conntrack/nat-exhausted", group: "conntrack", from: "centos",
		cause:   []change{inserted("n1", "iptables", "POSTROUTING -t nat -p udp -d 172.23.96.163 --dport 7 -j SNAT --to-source 10.0.0.180:4000-4000")},
		traffic: besides(echoes("udp", "172.23.96.163:7", 100), unanswered("udp", "172.23.96.163:7")),
		want:    []verdictWant{{kind: "request udp", where: "conntrack", reason: "nat-exhausted"}}},
	{name: "nat-exhausted-tcp", finding: "conntrack/nat-exhausted", group: "conntrack", from: "centos",
		cause:   []change{inserted("n1", "iptables", "POSTROUTING -t nat -p tcp -d 172.23.96.163 --dport 7 -j SNAT --to-source 10.0.0.180:4001-4001")},
		traffic: besides(holds("tcp", "172.23.96.163:7"), unanswered("tcp", "172.23.96.163:7")),
		want:    []verdictWant{{kind: "request tcp S", where: "conntrack", reason: "nat-exhausted"}}},
	{name: "nat-last-port", finding: "conntrack/nat-exhausted", similar: true, group: "conntrack", from: "centos",
		cause:   []change{inserted("n1", "iptables", "POSTROUTING -t nat -p udp -d 172.23.96.164 --dport 7 -j SNAT --to-source 10.0.0.180:4002-4003")},
		traffic: besides(echoes("udp", "172.23.96.164:7", 100), echoes("udp", "172.23.96.164:7", 100)),
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},

	// Two copies of a SYN that reach the node at the same moment, for different
	// endpoints. Of UDP's kind both get through since 5.7 (commit 6a757c07e51f),
	// three queries of one socket too.
	{name: "clash-lost", finding: "conntrack/clash-lost", group: "clash", from: "outside",
		cause: raceRules("tcp", "5353"), traffic: raceSYN("10.0.0.180:5353"),
		want: []verdictWant{
			{kind: "request tcp S", where: "conntrack", reason: "clash-lost"},
			{kind: "request tcp S", verdict: delivered},
		},
		instead: []shownInstead{{[]string{"5.10"}, "veth has no GRO there: the packets come one by one, and do not race",
			[]verdictWant{{kind: "request tcp S", verdict: delivered}}}}},
	{name: "clash-resolved", finding: "conntrack/clash-lost", similar: true, group: "clash", from: "outside",
		cause: raceRules("udp", "5354"), traffic: raceUDP("10.0.0.180:5354", 3),
		want: []verdictWant{{kind: "request udp", verdict: delivered}}},
}

// setting changes a kernel setting of a namespace, and returns the change that
// takes it back.
func setting(netns, key, value string) (func() error, error) {
	set := func(value string) (old string, err error) {
		path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
		err = within(netns, func() error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			old = strings.TrimSpace(string(text))
			return os.WriteFile(path, []byte(value), 0o644)
		})
		return old, err
	}
	old, err := set(value)
	return func() error { _, err := set(old); return err }, err
}

// counted is how many entries a node's conntrack table has.
func counted(netns string) (n int, err error) {
	err = within(netns, func() error {
		text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		if err != nil {
			return err
		}
		n, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err
	})
	return n, err
}

// limited makes the traffic while the conntrack table of n1 has room for so
// many more entries. The limit is one for all namespaces, and set in the first.
func limited(room int, traffic func(*play) error) func(*play) error {
	return func(p *play) (err error) {
		n, err := counted("n1")
		if err != nil {
			return err
		}
		back, err := setting("", "net.netfilter.nf_conntrack_max", strconv.Itoa(n+room))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, back()) }()
		return traffic(p)
	}
}

// beyondLimit is limited with a table that only has entries which may not be
// evicted: of a connection with traffic in both directions.
func beyondLimit(room int, traffic func(*play) error) func(*play) error {
	return func(p *play) error {
		if err := p.run("n1", "conntrack -F"); err != nil {
			return err
		}
		conn, err := net.Dial("tcp", "172.23.96.24:7")
		if err != nil {
			return err
		}
		defer conn.Close()
		return limited(room, traffic)(p)
	}
}

// unassured is how many entries evicting makes that may be evicted. With 512
// buckets, of which the kernel looks at 8 (NF_CT_EVICTION_RANGE), there is one
// among these in all but one of 2500 runs.
const unassured = 500

// evicting makes a connection while the table is at its limit with entries
// that have seen one direction only.
func evicting(p *play) (err error) {
	back, err := setting("", "net.netfilter.nf_conntrack_buckets", "512")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, back()) }()
	for i := range unassured {
		conn, err := net.Dial("udp", "172.23.96.24:9")
		if err != nil {
			return fmt.Errorf("socket %d: %w", i, err)
		}
		_, err = conn.Write([]byte("one way"))
		if err = errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
	return limited(0, echoes("tcp", "172.23.96.24:7", 100))(p)
}

// forgotten is a connection whose entry is gone in the middle of it.
func forgotten(p *play) error {
	conn, err := p.dial("tcp", "172.23.96.163:7", dialTimeout)
	if err != nil {
		return err
	}
	p.open = append(p.open, conn)
	if err := p.run("n1", "conntrack -F"); err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(shortPatience / 2))
	if _, err := conn.Write([]byte("still there?")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 64))
	return wantTimeout(err)
}

// holds is a connection that stays open until all cases have been made.
func holds(network, addr string) func(*play) error {
	return func(p *play) error {
		conn, err := p.dial(network, addr, dialTimeout)
		if err == nil {
			p.open = append(p.open, conn)
		}
		return err
	}
}

// besides makes one kind of traffic and then another.
func besides(first, second func(*play) error) func(*play) error {
	return func(p *play) error {
		if err := first(p); err != nil {
			return err
		}
		return second(p)
	}
}

// raceRules send the first packet of a connection to a port of n1 to one pod, and
// other first ones to another, as a service with two endpoints does. Netfilter
// gets several packets at once from a device with GRO (ip_list_rcv), so that all
// of them pass PREROUTING before the first one's conntrack entry is valid.
func raceRules(proto, port string) []change {
	to := "PREROUTING -t nat -p " + proto + " -d 10.0.0.180 --dport " + port
	return []change{
		{"n1", "ethtool -K eth0 gro on", "ethtool -K eth0 gro off"},
		{"vpc", "ethtool -K n1 tso off", "ethtool -K n1 tso on"}, // or veth passes GRO by
		inserted("n1", "iptables", "POSTROUTING -t nat -p "+proto+" -d 172.23.96.163 --dport 7 -s "+outsideIP+" -j MASQUERADE"),
		inserted("n1", "iptables", to+" -j DNAT --to-destination 172.23.96.163:7"),
		inserted("n1", "iptables", to+" -m statistic --mode nth --every 3 --packet 0 -j DNAT --to-destination 172.23.96.24:7"),
	}
}

// held keeps packets to n1 in the router, where they wait for n1's link address
// until the returned function has been called: then they reach n1 at once.
func (p *play) held() (release func() error, err error) {
	release, err = setting("n1", "net.ipv4.conf.eth0.arp_ignore", "8")
	if err != nil {
		return nil, err
	}
	if err := p.run("vpc", "ip neigh flush dev n1"); err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

// raceUDP sends datagrams from one socket that reach n1 all at once.
func raceUDP(addr string, datagrams int) func(*play) error {
	return func(p *play) error {
		conn, err := p.dial("udp", addr, dialTimeout)
		if err != nil {
			return err
		}
		p.open = append(p.open, conn)
		release, err := p.held()
		if err != nil {
			return err
		}
		for i := range datagrams {
			if err == nil {
				_, err = fmt.Fprintf(conn, "query %d", i)
			}
		}
		if err = errors.Join(err, release()); err != nil {
			return err
		}
		conn.SetDeadline(time.Now().Add(dialTimeout))
		_, err = conn.Read(make([]byte, 64))
		return err
	}
}

// raceSYN makes a connection whose SYN and its repetition reach n1 at once.
func raceSYN(addr string) func(*play) error {
	return func(p *play) error {
		before, err := synsRepeated(p.from)
		if err != nil {
			return err
		}
		release, err := p.held()
		if err != nil {
			return err
		}
		released := make(chan error, 1)
		go func() {
			var err error
			for end, n := time.Now().Add(dialTimeout), before; n == before && err == nil && time.Now().Before(end); {
				time.Sleep(10 * time.Millisecond)
				n, err = synsRepeated(p.from)
			}
			released <- errors.Join(err, release())
		}()
		conn, err := p.dial("tcp", addr, 2*dialTimeout)
		if err = errors.Join(err, <-released); err != nil {
			return err
		}
		return conn.Close()
	}
}

// synsRepeated is TCPSynRetrans of a namespace: lines of names, and below each
// the one of their values.
func synsRepeated(netns string) (n uint64, err error) {
	var text []byte
	err = inNetns(netns, func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	if err != nil {
		return 0, err
	}
	lines := strings.Split(string(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if at := slices.Index(names, "TCPSynRetrans"); at >= 0 && at < len(values) {
			return strconv.ParseUint(values[at], 10, 64)
		}
	}
	return 0, errors.New("the kernel does not count TCPSynRetrans")
}
