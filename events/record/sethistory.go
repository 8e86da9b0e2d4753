// SPDX-License-Identifier: Apache-2.0

package record

import (
	"net/netip"
	"sort"
	"time"
)

// SetSettle is how long before and after a change of a set is told nothing of its
// members: a packet at that time may have met the old ones or the new ones.
const SetSettle = time.Second

const (
	// maxSets is how many sets are remembered; a selection has four at most.
	maxSets = 64
	// maxSetSpans bounds the memory and the work of a history: so often members may
	// come, and sets change.
	maxSetSpans = 500_000
)

// SetHistory is which members sets had at each moment, as SetChange told it. It
// never says more than that: whatever makes no sense, or is too much, is untold.
// The zero value has no sets.
type SetHistory struct {
	sets    map[string]*setHistory
	spans   int
	doubted bool
}

// setHistory is what is known of one set.
type setHistory struct {
	epochs []setEpoch
	spans  map[Member][]setSpan // in their order
	last   setEpoch             // that was told last
	size   int                  // members now
	used   int                  // of maxSetSpans
	lost   bool                 // its members are not known up to the next whole change
	ended  bool                 // nor ever again
}

// setEpoch is the time between two changes.
type setEpoch struct {
	from, by uint64 // ns
	told     bool
}

// setSpan is in which epochs something is a member: from first on, before end.
type setSpan struct{ first, end int32 }

const stillMember = int32(1<<31 - 1)

// Doubt says that something that was told is missing, nobody knows what: nothing
// is known from now on, nor of what was told before.
func (h *SetHistory) Doubt() { *h = SetHistory{doubted: true} }

// Put takes the next change. Changes of a set come in the order of their times.
func (h *SetHistory) Put(c *SetChange) {
	if h.doubted {
		return
	}
	s := h.sets[string(c.Set)]
	if s == nil {
		if len(h.sets) >= maxSets {
			return // what nobody knows is untold
		}
		if h.sets == nil {
			h.sets = map[string]*setHistory{}
		}
		s = &setHistory{spans: map[Member][]setSpan{}, lost: true}
		h.sets[string(c.Set)] = s
	}
	if s.ended {
		return
	}
	was := s.used
	ok := s.put(c)
	s.ended = h.spans+s.used-was > maxSetSpans
	if !ok || s.ended {
		s.lose(c.From)
	}
	h.spans += s.used - was
}

// put takes a change, and says whether it makes sense.
func (s *setHistory) put(c *SetChange) bool {
	e := setEpoch{c.From, c.By, true}
	switch n := len(s.epochs); {
	case c.Untold:
		s.doubt(c.From)
		return true
	case s.lost && !c.Whole:
		return true // it is not known what changes
	case !s.lost && s.last == e && c.Whole:
		return true // a part tells again what the part before it told
	case !s.lost && s.last == e:
		return s.change(c) // the same change goes on
	case n > 0 && (c.From < s.epochs[n-1].from || c.By < s.epochs[n-1].by):
		return false
	}
	s.begin(e)
	s.last = e
	if c.Whole {
		s.empty()
	}
	return s.change(c)
}

func (s *setHistory) begin(e setEpoch) {
	s.epochs = append(s.epochs, e)
	s.used++
}

// doubt begins a time in which the members are not told. If it begins before what
// was told last, nothing that was told holds.
func (s *setHistory) doubt(from uint64) {
	n := len(s.epochs)
	switch {
	case n > 0 && from < s.epochs[n-1].by:
		s.lose(0)
	case n == 0 || s.epochs[n-1].told:
		s.begin(setEpoch{from, from, false})
	}
}

// lose forgets what the members are up to the next whole change.
func (s *setHistory) lose(from uint64) {
	s.lost = true
	n := len(s.epochs)
	if n > 0 && from >= s.epochs[n-1].by {
		if s.epochs[n-1].told {
			s.begin(setEpoch{from, from, false})
		}
		return
	}
	*s = setHistory{spans: map[Member][]setSpan{}, lost: true, ended: s.ended}
}

// empty ends all memberships.
func (s *setHistory) empty() {
	at := int32(len(s.epochs) - 1) //nolint:gosec // at most maxSetSpans
	for _, list := range s.spans {
		if l := &list[len(list)-1]; l.end == stillMember {
			l.end = at
		}
	}
	s.used += len(s.spans)
	s.size, s.lost = 0, false
}

// change lets members come and go with the epoch that is last.
func (s *setHistory) change(c *SetChange) bool {
	at := int32(len(s.epochs) - 1) //nolint:gosec // at most maxSetSpans
	for _, m := range c.Del {
		list := s.spans[m]
		n := len(list)
		if n == 0 || list[n-1].end != stillMember {
			return false
		}
		list[n-1].end = at
		s.size--
	}
	for _, m := range c.Add {
		list := s.spans[m]
		if n := len(list); n > 0 && list[n-1].end == stillMember {
			continue
		}
		s.spans[m] = append(list, setSpan{at, stillMember})
		s.size++
		s.used++
	}
	return s.size <= MaxSetMembers
}

// SetMoment is what members a set had in all of a time.
type SetMoment struct {
	s  *setHistory
	at int32
}

// At returns the members that a set surely had from lo to hi, in ns on the
// monotonic clock; false: that is not told, or it changed within SetSettle of it.
func (h *SetHistory) At(set string, lo, hi uint64) (SetMoment, bool) {
	s := h.sets[set]
	if s == nil || lo > hi {
		return SetMoment{}, false
	}
	// The last epoch that had begun.
	at := sort.Search(len(s.epochs), func(i int) bool { return s.epochs[i].from > lo }) - 1
	if at < 0 {
		return SetMoment{}, false
	}
	e := s.epochs[at]
	const settle = uint64(SetSettle)
	switch {
	case !e.told:
		return SetMoment{}, false
	case e.by != 0 && (lo < e.by || lo-e.by < settle):
		return SetMoment{}, false
	}
	if at+1 < len(s.epochs) {
		if next := s.epochs[at+1].from; next <= hi || next-hi < settle {
			return SetMoment{}, false
		}
	}
	return SetMoment{s, int32(at)}, true //nolint:gosec // at most maxSetSpans
}

// Has says whether an end was a member then; port 0: whether the address was at all
// ports.
func (m SetMoment) Has(end netip.AddrPort) bool {
	list := m.s.spans[Member(netip.AddrPortFrom(end.Addr().Unmap(), end.Port()))]
	n := sort.Search(len(list), func(i int) bool { return list[i].first > m.at })
	return n > 0 && m.at < list[n-1].end
}
