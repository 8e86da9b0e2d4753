// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"cmp"
	"iter"

	"github.com/stackhop/stackhop/events"
)

// sight is what an export needs of an event.
type sight struct {
	time, packet uint64
	order        uint64 // of its arrival
	parent       uint64 // the packet that this one began as a copy or a part of; 0: none
	seq          uint16
	station      events.Station
	ends         bool // the packet's life
	netns        uint32
	ifindex      uint32
	link         events.Link
	told         *told // nil: as before
}

// Events come nearly in order of time. How far they are put in order is bounded
// by time and by number; beyond that they stay as they are, which the format allows.
const (
	orderWindow = uint64(1e9) // ns
	orderLimit  = 1 << 16
)

// sorter puts sights in order of time, those of one packet by their numbers.
type sorter struct {
	heap   []*sight
	newest uint64 // ns
	next   uint64
}

func before(a, b *sight) bool {
	return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.packet, b.packet),
		cmp.Compare(a.seq, b.seq), cmp.Compare(a.order, b.order)) < 0
}

func (s *sorter) push(x *sight) {
	x.order = s.next
	s.next++
	s.newest = max(s.newest, x.time)
	s.heap = append(s.heap, x)
	for i := len(s.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !before(s.heap[i], s.heap[up]) {
			break
		}
		s.heap[i], s.heap[up] = s.heap[up], s.heap[i]
		i = up
	}
}

// pop returns the oldest sight if nothing can come before it any more; all
// says that nothing comes any more.
func (s *sorter) pop(all bool) (*sight, bool) {
	n := len(s.heap)
	if n == 0 || (!all && n <= orderLimit && s.newest-s.heap[0].time <= orderWindow) {
		return nil, false
	}
	x := s.heap[0]
	s.heap[0], s.heap[n-1] = s.heap[n-1], nil
	s.heap = s.heap[:n-1]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < n-1; c++ {
			if before(s.heap[c], s.heap[least]) {
				least = c
			}
		}
		if least == i {
			return x, true
		}
		s.heap[i], s.heap[least] = s.heap[least], s.heap[i]
		i = least
	}
}

// watcher is the Sink of one pass over a source.
type watcher struct {
	stations map[events.HookID]events.Station
	sorter   sorter
	yield    func(*sight) bool
	stopped  bool
	stitcher *events.Stitcher // nil: not in this pass
}

var _ Sink = (*watcher)(nil)

// Event implements Sink.
func (w *watcher) Event(e *events.Event) {
	if w.stitcher != nil {
		w.stitcher.Add(e)
	}
	if w.stopped || e.Hook == events.Elsewhere {
		return
	}
	if s := w.sight(e); s != nil {
		w.sorter.push(s)
		w.give(false)
	}
}

// Tick implements Sink.
func (w *watcher) Tick(now uint64) {
	if w.stitcher != nil {
		w.stitcher.Advance(now)
	}
}

// give hands on what is in order.
func (w *watcher) give(all bool) {
	for !w.stopped {
		s, ok := w.sorter.pop(all)
		if !ok {
			return
		}
		w.stopped = !w.yield(s)
	}
}

// sight copies what is needed of an event; nil: nothing is.
func (w *watcher) sight(e *events.Event) *sight {
	s := &sight{
		time: e.Time, packet: e.Packet, seq: e.Seq, station: w.stations[e.Hook], ends: e.Flags&events.FlagEnd != 0,
		netns: e.Netns, ifindex: e.Ifindex, link: e.Link,
	}
	switch s.station {
	case events.StationClone, events.StationSegment, events.StationFragment:
		s.parent = e.Other
	}
	// There may be no IP header to read at some moments of a packet's way.
	if e.Ext == events.ExtHeader && (e.Header.Src.IsValid() || len(e.Bytes) > 0) {
		s.told = &told{
			header: e.Header, bytes: append([]byte(nil), e.Bytes[:min(len(e.Bytes), maxKept)]...),
			made: s.station == events.StationSocketOut,
		}
	}
	if !atDevice(s) && s.told == nil && s.parent == 0 && !s.ends {
		return nil
	}
	return s
}

// atDevice says whether a packet is at a device.
func atDevice(s *sight) bool {
	switch s.station {
	case events.StationReceive, events.StationTransmit, events.StationQueue:
		return s.ifindex != 0
	}
	return false
}

// sights goes through a source's events in order of time. The error is that of
// the replay; what it told before is used all the same.
func (s *Source) sights(st *events.Stitcher, err *error) iter.Seq[*sight] {
	return func(yield func(*sight) bool) {
		w := &watcher{stations: map[events.HookID]events.Station{}, yield: yield, stitcher: st}
		for _, h := range s.Config.Hooks {
			w.stations[h.ID] = h.Station
		}
		*err = s.Replay(w)
		w.give(true)
		if st != nil {
			st.Flush()
		}
	}
}
