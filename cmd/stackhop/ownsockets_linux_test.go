// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

// TestOwnConnections: a connection of a process above this one is found, as sshd is
// above a shell, also from another network namespace; one that is closed, or a listener,
// is not.
func TestOwnConnections(t *testing.T) {
	for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		closed, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		closed.Close()
		cmd := exec.Command(os.Args[0], "-test.run", "TestOwnConnectionsChild")
		cmd.Env = append(os.Environ(), "STACKHOP_TEST_COMMAND=connections")
		if os.Getuid() == 0 && host == "[::1]:0" { // from another namespace, as behind nsenter
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		want := conn.LocalAddr().String() + ">" + conn.RemoteAddr().String()
		if !strings.Contains(string(out), want+"\n") || strings.Contains(string(out), closed.LocalAddr().String()) || strings.Contains(string(out), ":0\n") {
			t.Errorf("no %s in %s", want, out)
		}
	}
}

// TestOwnConnectionsChild is the process below.
func TestOwnConnectionsChild(*testing.T) {
	if os.Getenv("STACKHOP_TEST_COMMAND") != "connections" {
		return
	}
	for _, c := range ownConnections() {
		_, _ = os.Stdout.WriteString(netip.AddrPortFrom(c.Src, c.SrcPort).String() + ">" + netip.AddrPortFrom(c.Dst, c.DstPort).String() + "\n")
	}
}

func TestParseConnection(t *testing.T) {
	for line, want := range map[string]string{
		"   1: 0100007F:1F90 0200007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4711 1":       "127.0.0.1:8080>127.0.0.2:40000 4711",
		"   1: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000200007F:9C40 01 0:0 00:0 0 0 0 7 1": "127.0.0.1:8080>127.0.0.2:40000 7",
		"   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1":       "",
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode":        "",
		"   1: 01007F:1F90 0200007F:9C40 01 0:0 00:0 0 0 0 7 1":                                                   "",
		"   1: 0100007F:1F90F 0200007F:9C40 01 0:0 00:0 0 0 0 7 1":                                                "",
		"   1: 0100007F:1F90 0200007F:9C40 01":                                                                    "",
	} {
		c, inode, ok := parseConnection(line)
		got := ""
		if ok {
			got = netip.AddrPortFrom(c.Src, c.SrcPort).String() + ">" + netip.AddrPortFrom(c.Dst, c.DstPort).String() + " " + inode
		}
		if got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// TestOwnIsLeftOut: no packet of our own connection is selected, in either direction,
// and every other one is as before.
func TestOwnIsLeftOut(t *testing.T) {
	own := events.Tuple{Proto: 6, Src: netip.MustParseAddr("10.0.0.180"), SrcPort: 22, Dst: netip.MustParseAddr("192.0.2.7"), DstPort: 51000}
	other := own
	other.DstPort++
	for _, tt := range []struct {
		args    []string
		matches bool // the other one
		said    int
	}{
		{[]string{"--all"}, true, 1},
		{[]string{"tcp"}, true, 1},
		{[]string{"port", "22", "or", "udp"}, true, 1},
		{[]string{"--with", "192.0.2.7"}, true, 1},
		{[]string{"tcp", "port", "80"}, false, 0},
		{[]string{"udp"}, false, 0},
	} {
		w := newWorld(t)
		w.sys.ownConnections = func() []events.Tuple { return []events.Tuple{own} }
		w.must(t, append([]string{"trace", "--count", "1"}, tt.args...)...)
		if w.config.All || w.config.Select == nil {
			t.Fatalf("%v: all are selected", tt.args)
		}
		for _, d := range []events.Tuple{own, own.Reverse()} {
			if matchTuple(w.config.Select, &d) != pcapexpr.No {
				t.Errorf("%v: %v is selected by %s", tt.args, d, w.config.Select)
			}
		}
		for _, d := range []events.Tuple{other, other.Reverse()} {
			if (matchTuple(w.config.Select, &d) != pcapexpr.No) != tt.matches {
				t.Errorf("%v: %v by %s", tt.args, d, w.config.Select)
			}
		}
		if n := strings.Count(w.stderr.String(), "left out: the connection 10.0.0.180:22 ↔ 192.0.2.7:51000 of this session"); n != tt.said {
			t.Errorf("%v: told %d times: %s", tt.args, n, w.stderr.String())
		}
	}
	w := newWorld(t)
	w.sys.ownConnections = func() []events.Tuple { return []events.Tuple{own} }
	w.must(t, "trace", "--count", "1", "--all")
	icmp := events.Tuple{Proto: 1, Src: own.Src, Dst: own.Dst}
	if x := w.config.Select; matchTuple(x, &icmp) == pcapexpr.No || slices.Contains([]string{"", "0 = 1"}, x.String()) {
		t.Errorf("without the connection %s is left of --all", x)
	}
}
