// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/ipvs"
)

// ipvsVerdicts: what IPVS does to packets, and what looks the same to a client.
var ipvsVerdicts = []verdictCase{
	// What a client knows as "connection refused".
	{name: "refused-no-destination", finding: "ipvs/no-destination", group: "ipvs", from: "centos",
		traffic: refusal("tcp", vipLocal+":80", errRefused),
		want: []verdictWant{
			{kind: "request tcp S", where: "ipvs", reason: "no-destination",
				line: "1.5 stacks, terminated in IPVS: 8.219.164.113:80 has no destination on this node"},
			{kind: "reply icmp 3/3", verdict: delivered, because: "request tcp S"},
		}},
	{name: "refused-input-reject", finding: "ipvs/no-destination", similar: true, group: "ipvs", from: "centos",
		traffic: refusal("tcp", vipNginx+":81", errRefused), // KUBE-IPVS-FILTER
		want: []verdictWant{
			{kind: "request tcp S", where: "netfilter", reason: "rule-reject"},
			{kind: "reply icmp 3/3", verdict: delivered, because: "request tcp S"},
		}},
	{name: "refused-no-virtual", finding: "ipvs/no-destination", similar: true, group: "ipvs", from: "centos",
		cause:   []change{virtualAt("n1")},
		traffic: refusal("tcp", vipOdd+":4051", errRefused),
		want: []verdictWant{
			{kind: "request tcp S", where: "socket", reason: "no-socket"},
			{kind: "reply tcp RA", verdict: delivered, because: "request tcp S"},
		}},
	{name: "refused-no-listener", finding: "ipvs/no-destination", similar: true, group: "ipvs", from: "centos",
		cause:   serves(4052, "-t", "rr", "172.23.96.163:81"),
		traffic: refusal("tcp", vipOdd+":4052", errRefused),
		want: []verdictWant{
			{kind: "request tcp S", where: "socket", reason: "no-socket"},
			{kind: "reply tcp RA", verdict: delivered, because: "request tcp S"},
		}},

	{name: "all-weights-zero", finding: "ipvs/all-weights-zero", group: "ipvs", from: "centos",
		lasting: serves(4061, "-t", "rr", "172.23.96.163:7 -w 0"),
		traffic: refusal("tcp", vipOdd+":4061", errRefused),
		want: []verdictWant{{kind: "request tcp S", where: "ipvs", reason: "all-weights-zero",
			line: "1.5 stacks, terminated in IPVS: the only destination of 192.168.13.99:4061 has weight 0: IPVS begins no new connections to it"}}},
	{name: "no-destination-left", finding: "ipvs/all-weights-zero", similar: true, group: "ipvs", from: "centos",
		lasting: serves(4062, "-t", "rr", ""),
		traffic: refusal("tcp", vipOdd+":4062", errRefused),
		want:    []verdictWant{{kind: "request tcp S", where: "ipvs", reason: "no-destination"}}},
	{name: "one-weight-left", finding: "ipvs/all-weights-zero", similar: true, group: "ipvs", from: "centos",
		lasting: append(serves(4063, "-t", "rr", "172.23.96.163:7 -w 0"), change{"n1", "ipvsadm -a -t " + vipOdd + ":4063 -r 172.23.96.164:7 -m", ""}),
		traffic: echoes("tcp", vipOdd+":4063", 100),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},
	{name: "overload", finding: "ipvs/overload", group: "ipvs", from: "centos",
		lasting: serves(4064, "-t", "rr", "172.23.96.163:7 -x 1"),
		traffic: besides(holds("tcp", vipOdd+":4064"), refusal("tcp", vipOdd+":4064", errRefused)),
		want: []verdictWant{
			{kind: "request tcp S", where: "ipvs", reason: "overload",
				line: "1.5 stacks, terminated in IPVS: the only destination of 192.168.13.99:4064 has as many connections as the upper threshold allows"},
			{kind: "request tcp S", verdict: delivered},
		}},
	{name: "below-threshold", finding: "ipvs/overload", similar: true, group: "ipvs", from: "centos",
		lasting: serves(4065, "-t", "rr", "172.23.96.163:7 -x 3"),
		traffic: besides(holds("tcp", vipOdd+":4065"), echoes("tcp", vipOdd+":4065", 100)),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},

	// A process of the node at the port, for any address; and IPVS lets it have
	// what has no virtual service. KUBE-IPVS-FILTER would refuse it.
	{name: "wrong-server", finding: "wrong server:", group: "ipvs", from: "centos",
		cause:   []change{inserted("n1", "iptables", "INPUT -p tcp --dport 4066 -j ACCEPT")},
		traffic: hosted("n1", 4066, vipNginx),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered, note: "wrong server:"}}},
	{name: "own-server", finding: "wrong server:", similar: true, group: "ipvs", from: "centos",
		traffic: hosted("n1", 4067, "10.0.0.180"),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},

	{name: "destination-gone", finding: "ipvs/destination-gone", group: "ipvs", from: "centos",
		cause: append([]change{{"n1", "sysctl -w net.ipv4.vs.expire_nodest_conn=0", "sysctl -w net.ipv4.vs.expire_nodest_conn=1"}},
			serves(4053, "-t", "rr", "172.23.96.163:7")...),
		traffic: removed(4053, "172.23.96.163:7", nil),
		want:    []verdictWant{{kind: "request tcp PA", where: "ipvs", reason: "destination-gone"}}},
	// kube-proxy's setting: IPVS forgets the connection with its real server
	// (since 5.9, commit 04231e52d355), and the node answers by itself.
	{name: "destination-gone-expired", finding: "ipvs/destination-gone", similar: true, group: "ipvs", from: "centos",
		cause:   serves(4054, "-t", "rr", "172.23.96.163:7"),
		traffic: removed(4054, "172.23.96.163:7", errReset),
		want: []verdictWant{
			{kind: "request tcp PA", where: "socket", reason: "no-socket"},
			{kind: "reply tcp R", verdict: delivered, because: "request tcp PA"},
		}},
	{name: "one-packet", finding: "ipvs/destination-gone", similar: true, group: "ipvs", from: "centos",
		cause:   serves(4055, "-u", "rr -o", "172.23.96.163:7"),
		traffic: unanswered("udp", vipOdd+":4055"), // the reply is not translated back
		want:    []verdictWant{{kind: "request udp", verdict: delivered}}},
	{name: "template-of-removed", finding: "ipvs/destination-gone", similar: true, group: "ipvs", from: "centos",
		cause: append(serves(4056, "-t", "rr -p 60", "172.23.96.163:7"),
			change{"n1", "ipvsadm -a -t " + vipOdd + ":4056 -r 172.23.96.164:7 -m", ""}),
		traffic: pinned(4056, false),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},
	{name: "template-without-destination", finding: "ipvs/no-destination", group: "ipvs", from: "centos",
		cause:   serves(4057, "-t", "rr -p 60", "172.23.96.163:7"),
		traffic: pinned(4057, true),
		want:    []verdictWant{{kind: "request tcp S", where: "ipvs", reason: "no-destination"}}},
}

// virtualAt gives a node the virtual address that no service and no rule knows.
func virtualAt(netns string) change {
	return change{netns, "ip addr add " + vipOdd + "/32 dev kube-ipvs0", "ip addr del " + vipOdd + "/32 dev kube-ipvs0"}
}

// serves is a virtual service on n1 with one real server, or none. It has an
// address of its own device, so that several can come and go.
func serves(port int, proto, scheduler, real string) []change {
	at := fmt.Sprintf("%s %s:%d", proto, vipOdd, port)
	dummy := fmt.Sprintf("odd%d", port)
	all := []change{
		{"n1", "ip link add " + dummy + " type dummy", "ip link del " + dummy},
		{"n1", "ip addr add " + vipOdd + "/32 dev " + dummy, ""},
		{"n1", "ipvsadm -A " + at + " -s " + scheduler, "ipvsadm -D " + at},
	}
	if real != "" {
		all = append(all, change{"n1", "ipvsadm -a " + at + " -m -r " + real, ""})
	}
	return all
}

// hosted is a connection to an address at which a process of a node listens,
// as it does at all others of the node.
func hosted(netns string, port uint16, ip string) func(*play) error {
	return func(p *play) error {
		var l net.Listener
		err := inNetns(netns, func() (err error) {
			l, err = net.Listen("tcp", hostPort("0.0.0.0", port))
			return err
		})
		if err != nil {
			return err
		}
		defer l.Close()
		go echoTCP(l, nil)
		return echoes("tcp", hostPort(ip, port), 100)(p)
	}
}

// removed is a connection through a virtual service whose real server is taken
// out in the middle of it. want is what the client gets; nil: nothing.
func removed(port uint16, real string, want error) func(*play) error {
	return func(p *play) error {
		addr := hostPort(vipOdd, port)
		conn, err := p.dial("tcp", addr, dialTimeout)
		if err != nil {
			return err
		}
		p.open = append(p.open, conn)
		if err := p.run("n1", "ipvsadm -d -t "+addr+" -r "+real); err != nil {
			return err
		}
		patience := shortPatience / 2
		if want != nil {
			patience = 2 * dialTimeout
			if err := expired(port); err != nil {
				return err
			}
		}
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write([]byte("still there?")); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 64))
		if want == nil {
			return wantTimeout(err)
		}
		return wantError(err, want)
	}
}

// expired waits until IPVS of n1 has forgotten the connections to a port of its,
// which it does behind the command that removes their real server.
func expired(port uint16) error {
	to := fmt.Sprintf(" %04X ", port)
	for end := time.Now().Add(dialTimeout); time.Now().Before(end); {
		var table []byte
		err := inNetns("n1", func() (err error) {
			table, err = os.ReadFile("/proc/thread-self/net/ip_vs_conn")
			return err
		})
		if err != nil || !strings.Contains(string(table), to) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("IPVS still has a connection to port %d", port)
}

// pinned is a second connection of a client that a persistent service had sent
// to a real server, which is no more.
func pinned(port uint16, last bool) func(*play) error {
	return func(p *play) error {
		addr := hostPort(vipOdd, port)
		conn, err := net.Dial("tcp", addr) // not the case's: the one before
		if err != nil {
			return err
		}
		p.open = append(p.open, conn)
		// Either of two may have been chosen.
		server := "172.23.96.163:7"
		if !last {
			if server, err = chosen(addr); err != nil {
				return err
			}
		}
		if err := p.run("n1", "ipvsadm -d -t "+addr+" -r "+server); err != nil {
			return err
		}
		if last {
			return refusal("tcp", addr, errRefused)(p)
		}
		return echoes("tcp", addr, 100)(p)
	}
}

// chosen is the real server that has the connections of a virtual service on n1.
func chosen(addr string) (server string, err error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return "", err
	}
	h, err := ipvs.New(netnsPath("n1"))
	if err != nil {
		return "", fmt.Errorf("n1: open IPVS: %w", err)
	}
	defer h.Close()
	all, err := h.GetDestinations(ipvsService(virtual{addr: at, proto: "tcp"}))
	if err != nil {
		return "", err
	}
	for _, d := range all {
		if d.ActiveConnections+d.InactiveConnections > 0 {
			return net.JoinHostPort(d.Address.String(), strconv.Itoa(int(d.Port))), nil
		}
	}
	return "", fmt.Errorf("no real server of %s has a connection", addr)
}
