// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/stackhop/stackhop/events"
)

// A following is a tracer whose events are stitched as they come, as the tool does it:
// with the names that things have then.
type following struct {
	mu       sync.Mutex
	stitcher *events.Stitcher
	shown    []*events.Traversal
	on       chan struct{}
	begun    sync.Once
}

// Event implements Sink.
func (f *following) Event(e *events.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stitcher.Add(e)
}

// Tick implements Sink.
func (f *following) Tick(_, known uint64) bool {
	f.begun.Do(func() { close(f.on) })
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stitcher.Advance(known)
}

// has says whether the node has a device.
func (c *cluster) has(dev string) (there bool) {
	c.t.Helper()
	c.in(c.node, func(h *netlink.Handle) error {
		_, err := h.LinkByName(dev)
		there = err == nil
		if there || errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		return err
	})
	return there
}

// TestNativeComeAndGo: a hundred pods, with their namespaces and devices, come, get a
// packet and go, once it was told of, while the tool traces. The kernel gives their
// numbers to the next ones; each packet's visits have the names of its own.
func TestNativeComeAndGo(t *testing.T) {
	const cycles, port = 100, 6000
	c := newCluster(t, 1)
	a := c.pods[0]
	tr, err := New(Config{Select: expression(t, fmt.Sprintf("udp and src %s and dst portrange %d-%d", a.addr, port, port+cycles)), Hooks: HooksTracepoints})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	f := &following{on: make(chan struct{})}
	f.stitcher = events.NewStitcher(events.Config{Hooks: tr.Table(), Names: tr.Names(), Wall: tr.Wall}, func(one *events.Traversal) { f.shown = append(f.shown, one) })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx, f) }()
	<-f.on

	names, inodes := map[uint16]*pod{}, map[uint32]bool{}
	for i := range cycles {
		p := c.addPod()
		inodes[p.inode] = true
		names[uint16(port+i)] = p
		server, conn := c.listenUDP(p, port+i), c.dialUDP(a, p, port+i)
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the packet to "+p.name+" is told of", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.shown) > i })
		conn.Close()
		server.Close()
		c.dropNetns(p.name)
		c.pods = c.pods[:1]
		// The bridge would flood the next packet to it.
		eventually(t, p.host+" has gone", func() bool { return !c.has(p.host) })
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, one := range f.shown {
		p := names[one.Dst.Port]
		if p == nil || len(one.Visits) != 3 {
			t.Errorf("%d visits: %s", len(one.Visits), one.Summary)
			continue
		}
		for i, want := range []string{a.name, c.node, p.name} {
			if got := one.Visits[i].Name; got != want {
				t.Errorf("port %d: visit %d is called %s, want %s", one.Dst.Port, i, got, want)
			}
		}
		if got := one.Visits[1].Devices; len(got) < 2 || got[len(got)-1] != p.host {
			t.Errorf("port %d: left by %v, want %s", one.Dst.Port, got, p.host)
		}
	}
	t.Logf("%d pods came and went, with %d numbers of namespaces; %d packets", cycles, len(inodes), len(f.shown))
}
