// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/stackhop/stackhop/internal/cpubound"
)

// fuzzEvent reads an event from 8 bytes, with numbers small enough that
// packets meet.
func fuzzEvent(b []byte, hooks int, base *Event, now uint64) Event {
	e := *base
	e.Time = now + uint64(b[0])*1000
	e.Packet = uint64(b[1]%24) + 1
	e.Seq = uint16(b[2] % 16)
	e.Hook = HookID(int(b[3]) % (hooks + 2)) //nolint:gosec // below 256
	e.Flags = Flags(b[4])
	e.Other = uint64(b[5] % 32)
	e.Netns = []uint32{0, 11, 12, 13, 21, 23, 24, 1}[b[6]%8]
	e.Ifindex = uint32(b[7] % 5)
	e.Ext = Ext(b[7] >> 6)
	e.Flow = uint64(b[6] >> 5)
	return e
}

// FuzzStitch: no sequence of events makes the stitcher panic or grow, and a
// traversal with a gap is never delivered or complete.
func FuzzStitch(f *testing.F) {
	l := newLab()
	base := l.script(f).add(fromEth).events[0]
	seed := make([]byte, 0, 8*64)
	for i := range 64 {
		seed = binary.LittleEndian.AppendUint64(seed, mix(uint64(i)))
	}
	f.Add(seed)
	f.Add([]byte("0123456789abcdef"))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer cpubound.Run(t)()
		for _, c := range []Config{
			{HasFunctions: true, MaxPackets: 12},
			{OnlyNode: "n1", HasFunctions: true},
			{},
		} {
			c.Hooks, c.Names = l.hooks, l
			fuzzOnce(t, c, data, &base)
		}
	})
}

func fuzzOnce(t *testing.T, c Config, data []byte, base *Event) {
	t.Helper()
	s := NewStitcher(c, func(tr *Traversal) {
		if tr.Lost > 0 && (tr.Verdict != Incomplete || tr.Complete) {
			t.Fatalf("lost %d, but %s, complete %v", tr.Lost, tr.Verdict, tr.Complete)
		}
		if tr.Stacks < 0 || tr.L3Stacks > tr.Stacks || len(tr.Visits) == 0 || tr.Summary == "" {
			t.Fatalf("nonsense: %+v", tr)
		}
	})
	now := uint64(1_000_000)
	for len(data) >= 8 {
		e := fuzzEvent(data, len(c.Hooks), base, now)
		s.Add(&e)
		now += uint64(data[0]) * 100_000
		if data[0]%16 == 0 {
			s.Advance(now)
		}
		data = data[8:]
		if c.MaxPackets > 0 && s.Stats().Open > c.MaxPackets {
			t.Fatalf("%d packets are open", s.Stats().Open)
		}
	}
	s.Flush()
	checkEmpty(t, s)
}

// checkEmpty checks that nothing is left behind, and that the counts add up.
func checkEmpty(t *testing.T, s *Stitcher) {
	t.Helper()
	if len(s.open) != 0 || len(s.due.groups) != 0 || s.oldest != nil || s.newest != nil || s.steps != 0 {
		t.Fatalf("left behind: %d packets, %d groups, %d steps", len(s.open), len(s.due.groups), s.steps)
	}
	if len(s.held) != 0 {
		t.Fatalf("left behind: %d traversals held back", len(s.held))
	}
	st := s.Stats()
	if st.Traversals != st.Delivered+st.LeftNode+st.Terminated+st.InFlight+st.Incomplete {
		t.Fatalf("verdicts do not add up: %+v", st)
	}
}

// steadyState returns a function that adds one event to a stitcher whose pools
// and bounded tables are full: packets come, are stitched, and are found not
// to be selected, so that nothing is given out.
func steadyState(tb testing.TB) func() {
	l := newLab()
	sc := l.script(tb).add("tentative\n" + labCases()[7].script)
	s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true, MaxPackets: 256}, func(*Traversal) { tb.Fatal("given out") })
	packet, shift, i := uint64(1), uint64(0), 0
	step := func() {
		e := sc.events[i]
		e.Packet, e.Time, e.Flow = packet, e.Time+shift, packet
		s.Add(&e)
		if i++; i == len(sc.events) {
			i = 0
			packet++
			shift += 1_000_000
			s.Advance(e.Time + 1_000_000)
		}
	}
	for range 1024 * len(sc.events) {
		step()
	}
	return step
}

// BenchmarkAdd is the cost of one event in the steady state.
func BenchmarkAdd(b *testing.B) {
	step := steadyState(b)
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
}

// TestAddAllocates: in the steady state an event costs no allocation.
func TestAddAllocates(t *testing.T) {
	if n := testing.AllocsPerRun(20_000, steadyState(t)); n != 0 {
		t.Errorf("%v allocations per event", n)
	}
}

// BenchmarkTraversal is the cost of a packet of about 50 events, from the
// first event to its traversal.
func BenchmarkTraversal(b *testing.B) {
	l := newLab()
	sc := l.script(b).add(labCases()[7].script)
	s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true, MaxPackets: 1024}, func(*Traversal) {})
	packet, shift := uint64(1), uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		for _, e := range sc.events {
			e.Packet, e.Time, e.Flow = packet, e.Time+shift, packet
			s.Add(&e)
		}
		packet++
		shift += 1_000_000
		s.Advance(sc.time + shift)
	}
	b.ReportMetric(float64(len(sc.events)), "events/op")
}

// TestOverlong: a packet with more events than are kept is never complete.
func TestOverlong(t *testing.T) {
	l := newLab()
	sc := l.script(t).add(fromEth)
	for range maxSteps {
		sc.add("real/eth0 ip_rcv_core")
	}
	sc.add("real/eth0 tcp_v4_rcv\nreal/eth0 tcp_v4_do_rcv")
	out, s := stitch(l, sc.events, nil)
	if len(out) != 1 || out[0].Verdict != Incomplete || out[0].Complete || s.Stats().Overlong != 4 {
		t.Errorf("%d traversals, %s, %+v", len(out), out[0].Summary, s.Stats())
	}
}

// TestStepBudget: many long packets are given out early rather than kept.
func TestStepBudget(t *testing.T) {
	l := newLab()
	e := l.script(t).add(fromEth).events[0]
	s := NewStitcher(Config{Hooks: l.hooks, Names: l, MaxPackets: 10}, func(*Traversal) {})
	for i := range uint64(5) {
		for seq := range uint16(200) {
			e.Packet, e.Seq = i+1, seq
			e.Time++
			s.Add(&e)
			if s.steps > 10*stepsPerPacket {
				t.Fatalf("%d steps are kept", s.steps)
			}
		}
	}
	if s.Stats().Evicted == 0 {
		t.Error("nothing was given out early")
	}
	s.Flush()
	checkEmpty(t, s)
}

// BenchmarkJSON is the cost of rendering such a packet.
func BenchmarkJSON(b *testing.B) {
	l := newLab()
	out, _ := stitch(l, l.script(b).add(labCases()[7].script).events, nil)
	r := &JSONRenderer{W: io.Discard}
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Render(out[0]); err != nil {
			b.Fatal(err)
		}
	}
}
