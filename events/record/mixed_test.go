// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// workload is a run's events, made of captures: what a run that records
// packets would have got of the lab's cases, over and over, at the same time.
type workload struct {
	meta   *Meta
	names  anyOf
	events []events.Event
}

// anyOf are the names of several captures. Namespaces and devices have the same
// numbers in all that are of one kernel.
type anyOf []events.Names

func (a anyOf) Device(netns, ifindex uint32) (events.Device, bool) {
	for _, n := range a {
		if d, ok := n.Device(netns, ifindex); ok {
			return d, true
		}
	}
	return events.Device{}, false
}

func (a anyOf) Process(inode uint32) (string, uint32, bool) {
	for _, n := range a {
		if comm, pid, ok := n.Process(inode); ok {
			return comm, pid, true
		}
	}
	return "", 0, false
}

func (a anyOf) Namespace(netns uint32) events.Namespace {
	return firstOfAll(a, func(n events.Names) events.Namespace { return n.Namespace(netns) })
}

func (a anyOf) Address(ip string, port uint16) events.AddressNames {
	return firstOfAll(a, func(n events.Names) events.AddressNames { return n.Address(ip, port) })
}

func (a anyOf) Symbol(addr uint64) string {
	return firstOfAll(a, func(n events.Names) string { return n.Symbol(addr) })
}

func (a anyOf) DropReason(reason uint32) string {
	return firstOfAll(a, func(n events.Names) string { return n.DropReason(reason) })
}

// firstOfAll is the first answer that is one.
func firstOfAll[T comparable](all []events.Names, ask func(events.Names) T) (answer T) {
	none := answer
	for _, n := range all {
		if answer = ask(n); answer != none {
			break
		}
	}
	return answer
}

// mixer makes a workload.
type mixer struct {
	rnd      *rand.Rand
	stations map[events.HookID]events.Station
	out      []events.Event
}

// mixed repeats the captures of a kernel, each time with other packets, flows,
// ports and sequence numbers. Time runs faster by speed, as it would without
// emulation; all begin within a span of it.
func mixed(tb testing.TB, pattern string, times int, speed int64, span time.Duration) *workload {
	tb.Helper()
	m := &mixer{rnd: rand.New(rand.NewPCG(1, 2)), stations: map[events.HookID]events.Station{}} //nolint:gosec // a test repeats
	w := &workload{}
	seen := map[events.HookID]bool{}
	for _, file := range captureFiles(tb, pattern) {
		c := readCapture(tb, file)
		if w.meta == nil {
			w.meta = metaOf(c)
			w.meta.Hooks = nil
		}
		w.names = append(w.names, c.Names)
		for i, h := range c.Hooks {
			m.stations[h.ID] = h.Station
			if !seen[h.ID] {
				seen[h.ID] = true
				w.meta.Hooks = append(w.meta.Hooks, metaOf(c).Hooks[i])
			}
		}
		for range times {
			m.repeat(c.Events, speed, m.rnd.Int64N(int64(span)+1))
		}
	}
	slices.SortStableFunc(m.out, func(a, b events.Event) int { return cmp.Compare(a.Time, b.Time) })
	w.events = m.out
	return w
}

// repeat adds a capture's events as those of other packets.
func (m *mixer) repeat(evs []events.Event, speed, at int64) {
	const base = 42_000_000_000
	idShift, flip := uint64(m.rnd.Int64N(1<<40)), uint16(m.rnd.Uint32())
	seqShift := m.rnd.Uint32()
	headers, netns := map[uint64]events.Header{}, map[uint64]uint32{}
	for i := range evs {
		e := evs[i]
		e.Time = uint64(base + at + int64(e.Time-evs[0].Time)/speed + m.rnd.Int64N(40)) //nolint:gosec // far from the bounds
		e.Packet += idShift
		if e.Flow != 0 {
			e.Flow += idShift
		}
		if e.Other != 0 {
			e.Other += idShift
		}
		if e.Ext == events.ExtConntrack {
			for _, t := range []*events.Tuple{&e.CT.Original, &e.CT.Reply} {
				otherPorts(t, flip)
			}
		}
		if e.Ext == events.ExtHeader {
			otherPorts(&e.Header.Tuple, flip)
			e.Header.Seq += seqShift
			e.Header.Ack += seqShift
			e.Header.IPID += uint16(seqShift)
		} else if h, ok := headers[e.Packet]; ok && e.Ext == events.ExtNone && netns[e.Packet] != e.Netns {
			e.Ext, e.Header = events.ExtHeader, h
			e.Header.TTL--
		}
		if e.Ext == events.ExtHeader {
			headers[e.Packet], netns[e.Packet] = e.Header, e.Netns
			e.Bytes = packetHeaders(&e.Header, e.Time)
		}
		m.device(&e, headers[e.Packet])
		m.out = append(m.out, e)
	}
}

// otherPorts changes the ports that are not a server's.
func otherPorts(t *events.Tuple, flip uint16) {
	for _, p := range []*uint16{&t.SrcPort, &t.DstPort} {
		if *p > 32000 {
			*p = 32768 + (*p^flip)&0x7fff
		}
	}
}

// device adds what a device sees of a packet.
func (m *mixer) device(e *events.Event, h events.Header) {
	switch m.stations[e.Hook] {
	case events.StationTCEgress, events.StationTCIngress:
		if h.Length > 60 {
			e.Link.Hash = uint32(e.Packet*2654435761) ^ h.Seq //nolint:gosec // any bits will do
		}
	case events.StationQueue, events.StationTransmit, events.StationReceive:
	default:
		return
	}
	binary.LittleEndian.PutUint32(e.Link.Dst[:], e.Netns*31+e.Ifindex)
	binary.LittleEndian.PutUint32(e.Link.Src[:], e.Netns*37+e.Ifindex)
	e.Link.Proto, e.Link.TTL = 0x0800, h.TTL
}

// packetHeaders makes a packet's bytes up to its payload, with checksums that
// follow no rule that would be worth foretelling.
func packetHeaders(h *events.Header, now uint64) []byte {
	b := make([]byte, 20, 64)
	b[0], b[1], b[8], b[9] = 0x45, h.TOS, h.TTL, h.Proto
	be := binary.BigEndian
	be.PutUint16(b[2:], uint16(h.Length)) //nolint:gosec // a test's packets are short
	be.PutUint16(b[4:], h.IPID)
	src, dst := h.Src.As16(), h.Dst.As16()
	copy(b[12:], src[12:])
	copy(b[16:], dst[12:])
	sum := uint64(h.IPID)*0x9e3779b97f4a7c15 ^ uint64(h.TTL)*0xbf58476d1ce4e5b9 ^ uint64(h.Seq)
	be.PutUint16(b[10:], uint16(sum>>20))
	b = be.AppendUint16(b, h.SrcPort)
	b = be.AppendUint16(b, h.DstPort)
	if h.Proto != 6 {
		b = be.AppendUint16(b, uint16(h.Length-20)) //nolint:gosec // a test's packets are short
		return be.AppendUint16(b, uint16(sum>>8))
	}
	b = be.AppendUint32(b, h.Seq)
	b = be.AppendUint32(b, h.Ack)
	b = append(b, 0x80, h.TCPFlags)
	b = be.AppendUint16(b, uint16(500+h.Length%7)) //nolint:gosec // small
	b = be.AppendUint16(b, uint16(h.Seq*40503>>8)) //nolint:gosec // any bits will do
	b = append(b, 0, 0, 1, 1, 8, 10)
	b = be.AppendUint32(b, uint32(now/1e6)) //nolint:gosec // wraps, as it does there
	return be.AppendUint32(b, uint32(now/1e6)-3)
}

// record writes a workload with a flush a second, and returns the bytes.
func (w *workload) record(tb testing.TB, to io.Writer) int64 {
	tb.Helper()
	wr, err := NewWriter(to, w.meta)
	if err != nil {
		tb.Fatal(err)
	}
	wr.Names(w.names)
	last := w.events[0].Time
	for i := range w.events {
		e := &w.events[i]
		if e.Time-last >= uint64(time.Second) {
			last = e.Time
			if err := wr.Flush(); err != nil {
				tb.Fatal(err)
			}
		}
		wr.Event(e)
	}
	if err := wr.Close(&End{}); err != nil {
		tb.Fatal(err)
	}
	_, n := wr.Written()
	return n
}

// TestBytesPerEvent: what an event takes in a file, packets' headers and links
// included.
func TestBytesPerEvent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		times int
		speed int64
		span  time.Duration
		max   float64
	}{
		{"one run, emulated", 1, 1, 0, 12},
		{"one run after the other", 1, 1, 30 * time.Second, 12},
		{"busy", 40, 20, time.Second, 8},
		{"very busy", 40, 50, 100 * time.Millisecond, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := mixed(t, "6.12-*.jsonl", tt.times, tt.speed, tt.span)
			var buf bytes.Buffer
			n := w.record(t, &buf)
			per := float64(n) / float64(len(w.events))
			t.Logf("%d events, %d bytes: %.2f bytes an event", len(w.events), n, per)
			if per > tt.max {
				t.Errorf("%.2f bytes an event are more than %.1f", per, tt.max)
			}
			c := &comparer{t: t, want: w.events}
			replay(t, buf.Bytes(), c)
			if len(c.want) != 0 {
				t.Errorf("%d events are missing", len(c.want))
			}
		})
	}
}

// comparer fails at the first event that is not the one expected.
type comparer struct {
	t    testing.TB
	want []events.Event
}

func (c *comparer) Tick(uint64) {}
func (c *comparer) Event(e *events.Event) {
	if len(c.want) == 0 || !sameEvent(e, &c.want[0]) {
		c.t.Fatalf("with %d to come, the event is not the one expected: %+v", len(c.want), e)
	}
	c.want = c.want[1:]
}

// sameEvent compares without reflection, which takes long.
func sameEvent(a, b *events.Event) bool {
	x, y := *a, *b
	x.Bytes, y.Bytes = nil, nil
	return bytes.Equal(a.Bytes, b.Bytes) && equalButBytes(&x, &y)
}

func equalButBytes(a, b *events.Event) bool {
	type rest struct {
		time, packet, flow, other, location uint64
		hook                                events.HookID
		seq, cpu                            uint16
		flags                               events.Flags
		netns, ifindex, reason              uint32
		bytes                               [4]uint8
		ret                                 int32
		backend                             netip.AddrPort
		socket                              events.Socket
		ext                                 events.Ext
		header                              events.Header
		ct                                  events.Conntrack
		link                                events.Link
	}
	of := func(e *events.Event) rest {
		return rest{
			e.Time, e.Packet, e.Flow, e.Other, e.Location, e.Hook, e.Seq, e.CPU, e.Flags, e.Netns, e.Ifindex, e.Reason,
			[4]uint8{e.NFFamily, e.NFHook, e.ICMPType, e.ICMPCode}, e.Ret, e.Backend, e.Socket, e.Ext, e.Header, e.CT, e.Link,
		}
	}
	return of(a) == of(b)
}

// BenchmarkWrite is the cost of an event, compressed, without a disk.
func BenchmarkWrite(b *testing.B) {
	w := mixed(b, "6.12-*.jsonl", 40, 20, time.Second)
	wr, err := NewWriter(io.Discard, w.meta)
	if err != nil {
		b.Fatal(err)
	}
	wr.Names(w.names)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		wr.Event(&w.events[i])
		if i++; i == len(w.events) {
			i = 0
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkRead is the cost of an event that is read.
func BenchmarkRead(b *testing.B) {
	w := mixed(b, "6.12-*.jsonl", 40, 20, time.Second)
	var buf bytes.Buffer
	w.record(b, &buf)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		var c counter
		replay(b, buf.Bytes(), &c)
		n += c.events
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

type counter struct{ events, ticks int }

func (c *counter) Event(*events.Event) { c.events++ }
func (c *counter) Tick(uint64)         { c.ticks++ }
