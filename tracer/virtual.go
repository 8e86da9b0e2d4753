// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/stackhop/stackhop/events"
)

// IPVS's table is read behind a packet that found no real server: in one namespace
// at most so often, and for at most a fifth of the time. Refusals come by the
// thousand, and a table may have ten thousand services.
const (
	virtualEvery = 100 * time.Millisecond
	virtualPause = 5 // times what reading took
)

// How long before a refusal, in ns, a reading tells of it, and how long readings are
// remembered: longer than a traversal waits.
const (
	virtualNear  = uint64(2 * time.Second)
	virtualHolds = uint64(10 * time.Second)
)

// maxVirtual bounds the namespaces whose tables are remembered.
const maxVirtual = 64

// virtualKey is a virtual service in a namespace.
type virtualKey struct {
	vip   netip.AddrPort
	proto uint8
}

// virtualTable is what is known of one namespace's IPVS. It is replaced as a whole.
type virtualTable struct {
	at     uint64 // ns: when the last reading began; 0: never
	took   time.Duration
	failed bool // nothing is known
	marks  bool // there are services by firewall mark: which packets they take is not known
	// services are those of the last reading, by what the ones before found of them,
	// oldest first.
	services map[virtualKey][]virtualSpan
}

// virtualSpan is a time in which all readings found the same of a service.
type virtualSpan struct {
	from  uint64 // ns: when the first of them had ended
	to    uint64 // ns: when the last of them began; of the newest: see virtualTable.at
	state events.VirtualState
}

// virtuals are the IPVS tables that were read lately.
type virtuals struct {
	wanted   chan uint32 // namespaces to read
	services func(netns uint32, path string) ([]Service, error)
	now      func() uint64

	mu     sync.Mutex
	tables map[uint32]virtualTable
}

func newVirtuals() *virtuals {
	return &virtuals{wanted: make(chan uint32, maxVirtual), services: servicesOf, now: monotonic, tables: map[uint32]virtualTable{}}
}

// want asks for a namespace's table as it is behind the packet, and does not wait
// for it.
func (v *virtuals) want(netns uint32) {
	select {
	case v.wanted <- netns:
	default: // enough is asked for; whoever needs it asks again
	}
}

// watch reads what is wanted until ctx is done: what was read a moment ago again
// when its pause is over, since it may have changed before the packet came.
func (v *virtuals) watch(ctx context.Context, path func(netns uint32) string) {
	due := map[uint32]uint64{}
	for {
		netns, next := v.soonest(due)
		select {
		case <-ctx.Done():
			return
		case netns := <-v.wanted:
			if _, ok := due[netns]; !ok && len(due) < maxVirtual {
				due[netns] = v.pauseEnds(netns)
			}
		case <-next:
			delete(due, netns)
			v.read(netns, path(netns))
		}
	}
}

// soonest returns what is due first, and what tells that it is; nil: nothing is.
func (v *virtuals) soonest(due map[uint32]uint64) (netns uint32, at <-chan time.Time) {
	if len(due) == 0 {
		return 0, nil
	}
	first := ^uint64(0)
	for n, t := range due {
		if t < first {
			netns, first = n, t
		}
	}
	now := v.now()
	return netns, time.After(time.Duration(max(first, now) - now))
}

// pauseEnds is when a namespace's table may be read next, in ns.
func (v *virtuals) pauseEnds(netns uint32) uint64 {
	t := v.table(netns)
	if t.at == 0 {
		return 0
	}
	return t.at + uint64(max(virtualEvery, virtualPause*t.took))
}

func (v *virtuals) table(netns uint32) virtualTable {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.tables[netns]
}

// read reads one namespace's table; path is empty if the namespace has vanished.
// What cannot be read is not known. Nobody waits for the lock meanwhile.
func (v *virtuals) read(netns uint32, path string) {
	old := v.table(netns)
	t := virtualTable{at: v.now(), failed: true}
	if path != "" {
		if services, err := v.services(netns, path); err == nil {
			t.failed = false
			t.follow(&old, services, v.now())
		}
	}
	t.took = time.Duration(v.now() - t.at)
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.tables[netns]; !ok && len(v.tables) >= maxVirtual {
		v.forgetOldest()
	}
	v.tables[netns] = t
}

func (v *virtuals) forgetOldest() {
	oldest, at := uint32(0), ^uint64(0)
	for netns, t := range v.tables {
		if t.at < at {
			oldest, at = netns, t.at
		}
	}
	delete(v.tables, oldest)
}

// follow fills the table with what was read until a time, in ns, and keeps what the
// one before knows of the same services.
func (t *virtualTable) follow(old *virtualTable, services []Service, ended uint64) {
	t.services = make(map[virtualKey][]virtualSpan, len(services))
	for i := range services {
		s := &services[i]
		if s.FwMark != 0 {
			t.marks = true
			continue
		}
		key := virtualKey{s.VIP, s.Proto}
		spans := old.services[key]
		if len(spans) == 0 && old.at != 0 && !old.failed {
			spans = []virtualSpan{{from: old.at, state: events.VirtualState{Absent: true}}}
		}
		t.services[key] = grown(spans, virtualState(s.Destinations), old.at, t.at, ended)
	}
}

// grown adds what a reading found to what those before it did, the last of which
// began at a time, in ns. It does not change spans: they are being read.
func grown(spans []virtualSpan, state events.VirtualState, last, began, ended uint64) []virtualSpan {
	n := len(spans)
	if n > 0 && spans[n-1].state == state {
		return spans
	}
	out := make([]virtualSpan, 0, n+1)
	for i, s := range spans {
		if i == n-1 {
			s.to = last
		}
		if s.to+virtualHolds >= began {
			out = append(out, s)
		}
	}
	return append(out, virtualSpan{from: ended, state: state})
}

// virtualState counts real servers as IPVS's schedulers look at them. Its mark
// for an overloaded one is not told, the counts that set it are.
func virtualState(all []Destination) (s events.VirtualState) {
	s.Destinations = len(all)
	for i := range all {
		switch d := &all[i]; {
		case d.Weight <= 0:
			s.Idle++
		case d.Upper > 0 && d.Active+d.Inactive >= int(d.Upper):
			s.Full++
		}
	}
	return s
}

// facts answers about a refusal by a reading that began after it. Until there is
// one it is asked for.
func (v *virtuals) facts(q *events.VirtualQuery) (events.VirtualFacts, bool) {
	t := v.table(q.Netns)
	if t.at == 0 || t.at < q.Time {
		v.want(q.Netns)
		return events.VirtualFacts{Pending: true}, true
	}
	return t.facts(q)
}

func (t *virtualTable) facts(q *events.VirtualQuery) (f events.VirtualFacts, ok bool) {
	spans := t.services[virtualKey{q.Service, q.Proto}]
	if len(spans) == 0 { // one of all ports may take it
		spans = t.services[virtualKey{netip.AddrPortFrom(q.Service.Addr(), 0), q.Proto}]
	}
	last := len(spans) - 1
	if last < 0 {
		f.After = events.VirtualState{At: t.at, Absent: true}
		return f, !t.failed && !t.marks
	}
	// The first that a reading found which began after the refusal.
	i := slices.IndexFunc(spans[:last], func(s virtualSpan) bool { return s.to >= q.Time })
	if i < 0 {
		i = last
	}
	s := spans[i]
	f.After = s.state
	f.After.At = s.from
	switch {
	case s.from <= q.Time: // and one had found the same before it
		f.Before = s.state
		f.Before.At = s.from
		if f.After.At = s.to; i == last {
			f.After.At = t.at
		}
	case i > 0 && spans[i-1].to+virtualNear >= q.Time:
		f.Before = spans[i-1].state
		f.Before.At = spans[i-1].to
	}
	return f, true
}

// Virtual implements events.VirtualNames.
func (inv *inventory) Virtual(q *events.VirtualQuery) (events.VirtualFacts, bool) {
	was := *q
	was.Service = netip.AddrPortFrom(q.Service.Addr().Unmap(), q.Service.Port())
	return inv.virtuals.facts(&was)
}
