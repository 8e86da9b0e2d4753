// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// ordered stitches what begin says, ends the packets in the order of end with
// the given time between them, and returns when each was given out, in ms, and
// the packets' order by their source ports.
func ordered(t *testing.T, ends []uint64, gap uint64, change func(*Config)) (ports []uint16, at []uint64) {
	t.Helper()
	l := newLab()
	c := Config{Hooks: l.hooks, Names: l, HasFunctions: true}
	if change != nil {
		change(&c)
	}
	now := uint64(0)
	s := NewStitcher(c, func(tr *Traversal) {
		ports = append(ports, tr.Src.Port)
		at = append(at, now/uint64(time.Millisecond))
	})
	sc := l.script(t)
	sc.time = 0
	sc.add("pkt=1\nreal/eth0 __ip_local_out h=172.23.97.1:1>198.51.100.9:4,S\npkt=2\nreal/eth0 __ip_local_out h=172.23.97.1:2>198.51.100.9:4,S\npkt=3\nreal/eth0 __ip_local_out h=172.23.97.1:3>198.51.100.9:4,S\n")
	sc.time = 0
	for _, p := range ends {
		sc.pkt = p
		sc.add("real/eth0 kfree_skb")
		sc.time += gap * uint64(time.Millisecond)
	}
	for i := range sc.events {
		for now+uint64(10*time.Millisecond) < sc.events[i].Time {
			now += uint64(10 * time.Millisecond)
			s.Advance(now)
		}
		s.Add(&sc.events[i])
	}
	for range 1000 {
		now += uint64(10 * time.Millisecond)
		s.Advance(now)
	}
	s.Flush()
	checkEmpty(t, s)
	return ports, at
}

// TestOutputOrder: traversals come in the order in which their packets began,
// if they end within the hold-back; one that does not end is not waited for.
func TestOutputOrder(t *testing.T) {
	for _, tt := range []struct {
		name string
		ends []uint64
		gap  uint64 // ms between two ends
		want []uint16
	}{
		{"nested", []uint64{3, 2, 1}, 50, []uint16{1, 2, 3}},
		{"too far apart", []uint64{3, 2, 1}, 400, []uint16{3, 2, 1}},
		{"one in flight", []uint64{3, 2}, 50, []uint16{2, 3, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ports, at := ordered(t, tt.ends, tt.gap, nil)
			for i := range tt.want {
				if len(ports) != len(tt.want) || ports[i] != tt.want[i] {
					t.Fatalf("order %v, want %v", ports, tt.want)
				}
			}
			if last := at[len(tt.ends)-1]; last > uint64(len(tt.ends)-1)*tt.gap+310 {
				t.Errorf("given out at %v ms", at)
			}
		})
	}
}

// TestHold: a finished traversal waits for what may still come before it, and for
// what it caused, 300 ms from its end at most.
func TestHold(t *testing.T) {
	const packet = "real/eth0 __ip_local_out h=172.23.97.1:%d>198.51.100.9:4,S\n"
	for _, tt := range []struct {
		name, before, behind string // events of other packets: 1 before the one that ends, 3 behind it
		goesOn               bool   // 1 does so, without an end
		want                 uint64 // ms
	}{
		{"alone", "", "", false, 100},
		{"an older one has ended", fmt.Sprintf(packet, 1) + "real/eth0 kfree_skb\n", "", false, 100},
		{"an older one is open", fmt.Sprintf(packet, 1), "", false, 200}, // so long is that one's end expected
		{"an older one goes on", fmt.Sprintf(packet, 1), "", true, 300},
		{"a younger one is open", "", fmt.Sprintf(packet, 3), false, 100},
		{"one that it caused is open", "", "other=2\n" + fmt.Sprintf(packet, 3), false, 300},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, given := newLab(), false
			s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true}, func(tr *Traversal) { given = given || tr.Src.Port == 2 })
			sc := l.script(t).add("pkt=1\n" + tt.before + "pkt=2\n" + fmt.Sprintf(packet, 2) + "pkt=3\n" + tt.behind + "pkt=2\nother=0\nreal/eth0 kfree_skb\n")
			for i := range sc.events {
				s.Add(&sc.events[i])
			}
			end := sc.events[len(sc.events)-1].Time
			for after := uint64(10); !given && after < 1000; after += 10 {
				if tt.goesOn {
					older := sc.events[0]
					older.Time, older.Seq, older.Ext = end+(after-5)*uint64(time.Millisecond), uint16(after/10)+1, 0
					s.Add(&older)
				}
				if s.Advance(end + after*uint64(time.Millisecond)); given && after != tt.want {
					t.Errorf("given out after %d ms, want %d", after, tt.want)
				}
			}
			if !given {
				t.Error("not given out")
			}
		})
	}
}

// TestAdvanceInParts: very much that is due is done in parts, in order.
func TestAdvanceInParts(t *testing.T) {
	const packets = 3*maxAtOnce + 7
	l := newLab()
	e := l.script(t).add("real/eth0 __ip_local_out h=172.23.97.1:1>198.51.100.9:4,S\nreal/eth0 kfree_skb\n").events
	n, last := 0, time.Time{}
	s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true}, func(tr *Traversal) {
		n++
		if tr.Time.Before(last) {
			t.Fatal("out of order")
		}
		last = tr.Time
	})
	now := uint64(0)
	for i := range uint64(packets) {
		for _, ev := range e {
			ev.Packet, ev.Time = i+1, ev.Time+i
			now = ev.Time
			s.Add(&ev)
		}
	}
	now += uint64(time.Second)
	times := 1
	for before := 0; s.Advance(now); before, times = n, times+1 {
		if n-before > maxAtOnce {
			t.Fatalf("%d at once", n-before)
		}
	}
	if n != packets || times < packets/maxAtOnce {
		t.Errorf("%d of %d given out in %d parts", n, packets, times)
	}
	checkEmpty(t, s)
}

// TestAdvanceKeepsUp: as many packets as are read at once on a node that is too fast leave
// in time, rather than be given up for want of room.
func TestAdvanceKeepsUp(t *testing.T) {
	const room, atOnce = 16 * maxAtOnce, 3 * maxAtOnce
	l := newLab()
	e := l.script(t).add("real/eth0 __ip_local_out h=172.23.97.1:1>198.51.100.9:4,S\nreal/eth0 kfree_skb\n").events
	s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true, MaxPackets: room}, func(*Traversal) {})
	now := uint64(0)
	for i := range uint64(4 * room) {
		for _, ev := range e {
			ev.Packet, ev.Time = i+1, ev.Time+i*uint64(time.Millisecond)
			now = ev.Time
			s.Add(&ev)
		}
		if i%atOnce == 0 {
			s.Advance(now)
		}
	}
	s.Flush()
	if st := s.Stats(); st.Evicted != 0 || st.Delivered+st.LeftNode+st.Terminated+st.InFlight != 4*room {
		t.Errorf("%+v", st)
	}
}

// TestHoldIsBounded: what is held back is bounded in number, too.
func TestHoldIsBounded(t *testing.T) {
	l := newLab()
	e := l.script(t).add("real/eth0 __ip_local_out h=172.23.97.1:1>198.51.100.9:4,S\nreal/eth0 kfree_skb\n").events
	n, last := 0, time.Time{}
	s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true, MaxPackets: 16}, func(tr *Traversal) {
		n++
		if tr.Time.Before(last) {
			t.Fatal("out of order")
		}
		last = tr.Time
	})
	for i := range uint64(3 * maxHeld) {
		for _, ev := range e {
			ev.Packet, ev.Time = i+1, ev.Time+i
			s.Add(&ev)
		}
		if len(s.held) > maxHeld {
			t.Fatalf("%d are held back", len(s.held))
		}
	}
	if n == 0 {
		t.Error("nothing was given out before its time")
	}
	s.Flush()
	if n != 3*maxHeld {
		t.Errorf("%d given out, want %d", n, 3*maxHeld)
	}
	checkEmpty(t, s)
}

// TestReuseTraversals: what is given out says the same, whether or not its memory is used again.
func TestReuseTraversals(t *testing.T) {
	l := newLab()
	all := goldenRun(t, l)
	for _, e := range endings {
		all = append(all, l.script(t).add(e.script).events...)
	}
	said := func(reuse bool) string {
		var b strings.Builder
		r := &JSONRenderer{W: &b}
		// Nothing is held back for long, so that much is used again.
		c := Config{Hooks: l.hooks, Names: l, HasFunctions: true, Reuse: reuse, Settle: 1, Window: 1, Idle: 1, Hold: 1}
		s := NewStitcher(c, func(tr *Traversal) {
			if err := r.Render(tr); err != nil {
				t.Fatal(err)
			}
		})
		for i := range all {
			s.Add(&all[i])
			s.Advance(all[i].Time)
		}
		s.Flush()
		if reuse == (len(s.spares) == 0) {
			t.Errorf("%d traversals are kept for reuse", len(s.spares))
		}
		return b.String()
	}
	if again, want := said(true), said(false); again != want || want == "" {
		t.Errorf("with reuse:\n%s\nwithout:\n%s", again, want)
	}
}
