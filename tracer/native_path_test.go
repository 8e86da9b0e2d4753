// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/stackhop/stackhop/events"
)

// expectPath compares the visits of a traversal with the way between two pods.
func expectPath(t *testing.T, c *cluster, tr *events.Traversal, from, to *pod) {
	t.Helper()
	var got []string
	for _, v := range tr.Visits {
		visit := v.Name
		if v.Bridged {
			visit += " bridged"
		}
		got = append(got, visit+" "+strings.Join(v.Devices, ","))
	}
	want := []string{from.name + " eth0", c.node + " bridged " + from.host + ",(cni0)," + to.host, to.name + " eth0"}
	if !slices.Equal(got, want) {
		t.Errorf("%s %s → %s: visits %q, want %q", tr.Proto, tr.Src.IP, tr.Dst.IP, got, want)
	}
	// Without function hooks nothing is claimed about sockets.
	if tr.Verdict != events.Incomplete || tr.Lost != 0 || !strings.Contains(tr.Summary, "sockets are not observed") {
		t.Errorf("%s: verdict %s, lost %d", tr.Summary, tr.Verdict, tr.Lost)
	}
}

func TestNativePodToPod(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	r := startRun(t, Config{Select: expression(t, "host "+a.addr.String()), NamesFile: c.names()}, nil)
	t.Run("udp", func(t *testing.T) { exchangeUDP(t, c, a, b) })
	t.Run("tcp", func(t *testing.T) { exchangeTCP(t, c, a, b) })
	eventually(t, "the last packets have arrived", func() bool {
		lives, arrived := r.arrivals(a, b)
		return lives >= 2+7 && lives == arrived
	})
	if s := r.stop(); s.Matched == 0 || s.Lost["packet-table"] != 0 {
		t.Fatalf("counters: %+v", s)
	}
	udp, tcp := 0, 0
	for _, tr := range r.stitch() {
		from, to := a, b
		if tr.Src.IP == b.addr.String() {
			from, to = b, a
		}
		expectPath(t, c, tr, from, to)
		switch tr.Proto {
		case "udp":
			udp++
		case "tcp":
			tcp++
		}
	}
	if udp != 2 || tcp < 7 {
		t.Errorf("%d UDP and %d TCP packets, want 2 and 7 at least", udp, tcp)
	}
}

// exchangeUDP sends one datagram there and one back.
func exchangeUDP(t *testing.T, c *cluster, a, b *pod) {
	server, client := c.listenUDP(b, 5353), c.dialUDP(a, b, 5353)
	buf := make([]byte, 64)
	if _, err := client.Write([]byte("there")); err != nil {
		t.Fatal(err)
	}
	_, from, err := server.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.WriteTo([]byte("back"), from); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "back" {
		t.Fatalf("answer %q, %v", buf[:n], err)
	}
}

// exchangeTCP makes a connection that says something in both directions.
func exchangeTCP(t *testing.T, c *cluster, a, b *pod) {
	var l net.Listener
	address := netip.AddrPortFrom(b.addr, 8080).String()
	c.within(b.name, func() (err error) { l, err = net.Listen("tcp4", address); return err })
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = io.Copy(conn, conn)
			conn.Close()
		}
		served <- err
	}()
	c.within(a.name, func() error {
		conn, err := net.Dial("tcp4", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("hello")); err != nil {
			return err
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		got, err := io.ReadAll(conn)
		if err == nil && !bytes.Equal(got, []byte("hello")) {
			err = fmt.Errorf("echo %q", got)
		}
		return err
	})
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}

func TestNativeDrop(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	r := startRun(t, Config{Select: expression(t, "udp and host "+b.addr.String()), NamesFile: c.names()}, nil)
	client := c.dialUDP(a, b, 9) // nobody listens
	if _, err := client.Write([]byte("anybody?")); err != nil {
		t.Fatal(err)
	}
	drop := r.hook("kfree_skb")
	eventually(t, "a drop", func() bool {
		return r.any(func(e *events.Event) bool { return e.Hook == drop && e.Netns == b.inode })
	})
	r.stop()
	all := r.seen()
	i := slices.IndexFunc(all, func(e events.Event) bool { return e.Hook == drop && e.Netns == b.inode })
	e, names := &all[i], r.tracer.Names()
	if e.Flags&events.FlagEnd == 0 {
		t.Errorf("flags %b: a drop ends a life", e.Flags)
	}
	if got := names.DropReason(e.Reason); got != "NO_SOCKET" {
		t.Errorf("reason %d %q, want NO_SOCKET", e.Reason, got)
	}
	if got := names.Symbol(e.Location); !strings.Contains(got, "udp") {
		t.Errorf("dropped in %q, want a function of UDP", got)
	}
}

func TestNativeNewVeth(t *testing.T) {
	c := newCluster(t, 1)
	a := c.pods[0]
	r := startRun(t, Config{Select: expression(t, "udp and host "+a.addr.String())}, nil)
	b := c.addPod()
	server, client := c.listenUDP(b, 4000), c.dialUDP(a, b, 4000)
	tc := r.hook("tc_ingress")
	buf := make([]byte, 64)
	eventually(t, "tc of the new pod's device sees packets", func() bool {
		if _, err := client.Write([]byte("new?")); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Read(buf); err != nil {
			t.Fatal(err)
		}
		return r.any(func(e *events.Event) bool { return e.Hook == tc && e.Netns == b.inode })
	})
	r.stop()
	// The tracepoints cover a new device from its first packet on.
	if lives, arrived := r.arrivals(b); lives != arrived || lives == 0 {
		t.Errorf("%d packets, %d seen to arrive", lives, arrived)
	}
	for _, tr := range r.stitch() {
		if n := len(tr.Visits); n != 3 || tr.Visits[0].Name != a.name || tr.Visits[2].Name != b.name {
			t.Errorf("%d visits (%s), want three from %s to %s", n, tr.Summary, a.name, b.name)
		}
	}
}

func TestNativeVanishingNamespace(t *testing.T) {
	c := newCluster(t, 3)
	a, b, gone := c.pods[0], c.pods[1], c.pods[2]
	r := startRun(t, Config{Select: expression(t, "udp and host "+a.addr.String()), NamesFile: c.names()}, nil)
	lost := c.dialUDP(a, gone, 4000)
	if _, err := lost.Write([]byte("farewell")); err != nil {
		t.Fatal(err)
	}
	receive := r.hook("netif_receive_skb")
	eventually(t, "the packet arrives", func() bool {
		return r.any(func(e *events.Event) bool { return e.Hook == receive && e.Netns == gone.inode })
	})
	c.dropNetns(gone.name)
	eventually(t, "the namespace is gone", func() bool {
		_, err := netns.GetFromPath(filepath.Join(runNetns, gone.name))
		return err != nil
	})
	server, client := c.listenUDP(b, 4001), c.dialUDP(a, b, 4001)
	buf := make([]byte, 64)
	if _, err := client.Write([]byte("still here?")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(buf); err != nil {
		t.Fatal(err)
	}
	eventually(t, "later packets are traced", func() bool {
		return r.any(func(e *events.Event) bool { return e.Hook == receive && e.Netns == b.inode })
	})
	r.stop()
	if len(r.warned) > 0 {
		t.Errorf("warned: %q", r.warned)
	}
	if got := r.tracer.Names().Namespace(gone.inode); got.Name != gone.name {
		t.Errorf("the vanished namespace is called %q now", got.Name)
	}
}
