// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"flag"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stackhop/stackhop/events"
)

var floodEvents = flag.Uint64("flood", 1_000_000, "events that the kernel makes while the reader is stopped")

// A flood is a tracer whose reader stands still at its first event, until it is let go.
type flood struct {
	*run
	got   atomic.Uint64
	letGo func() // may be called again
}

func startFlood(t *testing.T, cfg Config) *flood {
	t.Helper()
	gate := make(chan struct{})
	f := &flood{letGo: sync.OnceFunc(func() { close(gate) })}
	f.run = startRun(t, cfg, func(*events.Event) {
		<-gate
		f.got.Add(1)
	})
	t.Cleanup(f.letGo) // before the run ends
	return f
}

// matched is how many events the kernel side had to tell so far: those that were
// delivered, and those that were lost.
func (f *flood) matched() uint64 {
	s, err := f.tracer.state.stats()
	if err != nil {
		f.t.Fatal(err)
	}
	return s.Matched
}

// shower sends datagrams from both ends at once, so that more than one CPU makes events,
// as long as more says so.
func shower(t *testing.T, a, b *net.UDPConn, more func() bool) (sent uint64) {
	t.Helper()
	var n atomic.Uint64
	var wg sync.WaitGroup
	for _, conn := range []*net.UDPConn{a, b} {
		wg.Go(func() {
			buf := make([]byte, 64)
			for more() {
				for range 100 {
					if _, err := conn.Write(buf); err != nil {
						t.Error(err)
						return
					}
					n.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return n.Load()
}

// swallow reads until the socket is closed: unread datagrams would count against the
// sender's buffer, and a full one stops it.
func swallow(conn *net.UDPConn) {
	go func() {
		for buf := make([]byte, 64); ; {
			if _, err := conn.Read(buf); err != nil {
				return
			}
		}
	}()
}

// TestNativeFlood: with a reader that stands still each event is delivered or counted
// as lost, for more than a million of them, whatever the size of the rings; and the share
// that is lost does not grow with that size. (The same packets do not make the same number
// of events: it depends on who frees them.)
func TestNativeFlood(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	for _, p := range []*pod{a, b} {
		swallow(c.listenUDP(p, 4600))
	}
	there, back := c.dialUDP(a, b, 4600), c.dialUDP(b, a, 4600)
	cfg := Config{Select: expression(t, fmt.Sprintf("udp and host %s and port 4600", b.addr)), RingBytes: 64 << 10}

	packets, lostBefore := uint64(0), 1.0
	for _, size := range []int{64 << 10, 1 << 20, 16 << 20} {
		t.Run(fmt.Sprintf("%d KiB", size>>10), func(t *testing.T) {
			cfg.RingBytes, cfg.RingMark = size, size // nothing is shed
			f := startFlood(t, cfg)
			var sent uint64
			if packets == 0 {
				sent = shower(t, there, back, func() bool { return f.matched() < *floodEvents })
				packets = sent
			} else {
				var left atomic.Int64
				left.Store(int64(packets)) //nolint:gosec // far below
				sent = shower(t, there, back, func() bool { return left.Add(-100) >= 0 })
			}
			f.letGo()
			s := f.stop() // checks that matched = delivered + lost
			t.Logf("ring %d KiB, %d packets sent: matched %d = delivered %d + ring %d + decode %d", size>>10, sent, s.Matched, s.Delivered, s.Lost["ring"], s.Lost["decode"])
			if got := f.got.Load(); got != s.Delivered {
				t.Errorf("the sink got %d events, counted are %d", got, s.Delivered)
			}
			if s.Matched < *floodEvents*9/10 || size < 1<<20 && s.Lost["ring"] == 0 || s.Lost["decode"] != 0 {
				t.Errorf("%+v: too few, or nothing was lost", s)
			}
			lost := float64(s.Lost["ring"]) / float64(s.Matched)
			if lost > lostBefore {
				t.Errorf("%.4f of the events lost, %.4f with a smaller ring", lost, lostBefore)
			}
			lostBefore = lost
		})
	}
}

// TestNativeShed: under more load than the reader takes whole packets are not followed,
// and counted; of those that are nothing is lost.
func TestNativeShed(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	for _, p := range []*pod{a, b} {
		swallow(c.listenUDP(p, 4600))
	}
	there, back := c.dialUDP(a, b, 4600), c.dialUDP(b, a, 4600)
	f := startFlood(t, Config{Select: expression(t, fmt.Sprintf("udp and host %s and port 4600", b.addr)), RingBytes: 256 << 10})
	shed := func() uint64 {
		s, err := f.tracer.state.stats()
		if err != nil {
			t.Fatal(err)
		}
		return s.Shed
	}
	sent := shower(t, there, back, func() bool { return shed() < 10_000 })
	f.letGo()
	s := f.stop() // checks that matched = delivered + lost
	t.Logf("%d packets sent: %d followed with %d events, all delivered, %d shed", sent, s.Packets, s.Matched, s.Lost["shed"])
	told := s.Packets + s.Lost["shed"] // but for what bpf/state.h says of shed
	if s.Lost["ring"] != 0 || s.Delivered == 0 || max(told, sent)-min(told, sent) > sent/100 {
		t.Errorf("of %d packets: %+v", sent, s)
	}
	expectOnlyLost(t, s, "shed")
}

// TestNativeRate: beyond the rate packets are not followed, each is counted once, and
// the others are whole.
func TestNativeRate(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	r := startRun(t, Config{Select: expression(t, "udp and host "+b.addr.String()), Rate: 1000}, nil)
	const n = 2000
	say(t, c, a, b, 4700, n, 64)
	s := r.stop()
	if s.Lost["rate"] == 0 || s.Packets == 0 || s.Packets+s.Lost["rate"] > n+n/100 || s.Packets+s.Lost["rate"] < n-n/100 || s.Delivered != s.Matched {
		t.Errorf("of %d packets: %+v", n, s)
	}
	expectOnlyLost(t, s, "rate")
}
