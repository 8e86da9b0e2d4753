// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

// ends are members: all of them with one port.
func ends(port uint16, addrs ...netip.Addr) []pcapexpr.Member {
	var list []pcapexpr.Member
	for _, a := range addrs {
		list = append(list, pcapexpr.Member{Net: netip.PrefixFrom(a, a.BitLen()), Port: port})
	}
	return list
}

func newSet(name string, members ...pcapexpr.Member) *pcapexpr.Set {
	s := pcapexpr.NewSet(name)
	s.Replace(members)
	return s
}

// update tells the kernel of a set's new members.
func (r *run) update(s *pcapexpr.Set, members ...pcapexpr.Member) {
	r.t.Helper()
	s.Replace(members)
	if err := r.tracer.UpdateSets(); err != nil {
		r.t.Fatal(err)
	}
}

// toPort counts the packets seen to a port.
func (r *run) toPort(port uint16) int {
	seen := map[uint64]bool{}
	for _, e := range r.seen() {
		if e.Header.DstPort == port {
			seen[e.Packet] = true
		}
	}
	return len(seen)
}

// What is sent to an address is seen from when it joins the set until it leaves.
// Every exchange has ports of its own, since connections stay followed.
func TestNativeSetChanges(t *testing.T) {
	c := newCluster(t, 2)
	a, b, other := c.pods[0], c.pods[1], netip.MustParseAddr("192.0.2.9")
	set := newSet("pod/shop/web", ends(0, other)...)
	r := startRun(t, Config{Select: pcapexpr.And(expression(t, "udp"), pcapexpr.DstIn(set))}, nil)
	steps := []struct {
		name    string
		members []pcapexpr.Member
		port    int
		want    int
	}{
		{"another's address", ends(0, other), 5001, 0},
		{"its address", ends(0, other, b.addr), 5002, 3},
		{"its address alone", ends(0, b.addr), 5003, 3},
		{"its port", ends(5004, b.addr), 5004, 3},
		{"another port", ends(5004, b.addr), 5005, 0},
		{"one of two ports", append(ends(5004, b.addr), ends(5006, b.addr, other)...), 5006, 3},
		{"another port and any", append(ends(5004, b.addr), ends(0, b.addr)...), 5007, 3},
		{"no longer any", ends(5004, b.addr), 5008, 0},
		{"the connection from before stays followed", nil, 5007, 6},
		{"none", nil, 5009, 0},
		{"again", ends(0, b.addr), 5010, 3},
	}
	// A connection that stays open over all steps.
	server := c.listenUDP(b, 5007)
	client := c.dialUDP(a, b, 5007)
	for _, tt := range steps {
		r.update(set, tt.members...)
		if tt.port == 5007 {
			sendOn(t, client, server, 3)
		} else {
			say(t, c, a, b, tt.port, 3, 64)
		}
		eventually(t, tt.name+": what matches was seen", func() bool { return r.toPort(uint16(tt.port)) >= tt.want })
	}
	r.stop() // all that was told has come by then
	want := map[int]int{}
	for _, tt := range steps {
		want[tt.port] = tt.want
	}
	for port, n := range want {
		if got := r.toPort(uint16(port)); got != n {
			t.Errorf("port %d: %d packets seen, want %d", port, got, n)
		}
	}
}

// sendOn sends n datagrams and waits for each to arrive.
func sendOn(t *testing.T, client, server *net.UDPConn, n int) {
	t.Helper()
	buf := make([]byte, 64)
	for range n {
		if _, err := client.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
}

// Members come and go while packets pass: one that stays is never missed.
func TestNativeSetsUpdatedWhileRunning(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	set := newSet("svc/shop/cart", ends(0, b.addr)...)
	r := startRun(t, Config{Select: pcapexpr.DstIn(set)}, nil)
	var many []netip.Addr
	for addr := netip.MustParseAddr("10.200.0.0"); len(many) < 2000; addr = addr.Next() {
		many = append(many, addr)
	}
	stop := make(chan struct{})
	var updates sync.WaitGroup
	for k := range 2 {
		updates.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				list := ends(uint16(i%2*6000), b.addr)
				set.Replace(append(list, ends(uint16(k), many[i%7*100:]...)...))
				if err := r.tracer.UpdateSets(); err != nil {
					t.Errorf("update: %v", err)
					return
				}
			}
		})
	}
	const n = 200
	for range n {
		say(t, c, a, b, 6000, 1, 64) // a new source port each time: a new connection
	}
	close(stop)
	updates.Wait()
	eventually(t, "all have arrived", func() bool { _, arrived := r.arrivals(b); return arrived >= n })
	r.stop()
}

// Too many members change nothing, neither when a run begins nor later.
func TestNativeSetTooLarge(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	var many []netip.Addr
	for addr := netip.MustParseAddr("2001:db8::"); len(many) <= maxTargets; addr = addr.Next() {
		many = append(many, addr)
	}
	set := newSet("pod/shop/web", ends(0, many...)...)
	_, err := New(Config{Select: pcapexpr.SrcIn(set), Hooks: HooksTracepoints})
	if err == nil || !strings.Contains(err.Error(), "too many addresses") {
		t.Fatalf("a run began with %d addresses: %v", len(many), err)
	}
	set.Replace(ends(0, many[:maxTargets-1]...)) // all that fit, together with one that is sent to
	r := startRun(t, Config{Select: pcapexpr.DstIn(set)}, nil)
	r.update(set, append(ends(0, many[1:maxTargets]...), ends(0, b.addr)...)...)
	set.Replace(ends(0, many...))
	if err := r.tracer.UpdateSets(); err == nil || !strings.Contains(err.Error(), "too many addresses") {
		t.Errorf("more addresses than there is room for: %v", err)
	}
	say(t, c, a, b, 6100, 2, 64)
	eventually(t, "what was selected still is", func() bool { return r.toPort(6100) == 2 })
	// None of the old ones is there still, and all are new: both lists fit.
	r.update(set, ends(0, netip.MustParseAddr("192.0.2.1"))...)
	if n := entries(t, r.tracer.state.coll.Maps[bpf.MapTargets]); n != 1 {
		t.Errorf("%d entries in the kernel's map, want that of the one address", n)
	}
	r.stop()
	if err := r.tracer.UpdateSets(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after the end: %v, want %v", err, os.ErrClosed)
	}
}

func TestNativeTooManySets(t *testing.T) {
	needRoot(t)
	x := pcapexpr.None()
	for i := range 9 {
		x = pcapexpr.Or(x, pcapexpr.SrcIn(newSet(fmt.Sprint("pod/shop/", i))))
	}
	if _, err := New(Config{Select: x, Hooks: HooksTracepoints}); err == nil || !strings.Contains(err.Error(), "9 sets") {
		t.Errorf("a run began with 9 sets: %v", err)
	}
}

func entries(t *testing.T, m *ebpf.Map) (n int) {
	t.Helper()
	var k, v []byte
	it := m.Iterate()
	for it.Next(&k, &v) {
		n++
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}
