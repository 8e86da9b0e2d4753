// SPDX-License-Identifier: Apache-2.0

package events

// People expect packets in the order in which they began, as tcpdump shows
// them, but their traversals are finished in the order of their ends: a SYN's
// buffer is freed only after the answer that it caused has travelled all the
// way back. So a finished traversal is held back for a moment, in which those
// that began before it may finish, too. Nothing is ever waited for: one that
// takes longer than that comes late. So does one of which a table is to tell that
// is being read.

// held is a finished traversal that has not been given out yet.
type held struct {
	t     *Traversal
	start uint64   // ns: when its packet began
	until uint64   // ns: when it is given out at the latest
	after uint64   // a packet that it caused, to say how that ended; 0: none
	ask   question // nil: nothing is to be asked
	since uint64   // ns: when it was first asked and not answered; 0: not yet
	hooks []HookVisit
}

// spare is what is used again of a traversal: those who are given one look at it and
// let it go, tens of thousands a second.
type spare struct {
	t     *Traversal
	hooks []HookVisit // of all its visits
}

// What is kept of them, at most; Advance gives out as many in one go.
const (
	maxSpares     = maxAtOnce
	maxSpareHooks = 256
)

// spare returns room for a traversal.
func (s *Stitcher) spare() spare {
	n := len(s.spares)
	if n == 0 {
		return spare{t: &Traversal{}}
	}
	last := s.spares[n-1]
	s.spares = s.spares[:n-1]
	return last
}

// give hands a traversal to who wants them.
func (h *held) give(s *Stitcher) {
	s.out(h.t)
	if s.cfg.Reuse && len(s.spares) < maxSpares && cap(h.hooks) <= maxSpareHooks {
		s.spares = append(s.spares, spare{h.t, h.hooks})
	}
}

// maxHeld bounds the traversals held back.
const maxHeld = 4096

// holdBack takes a finished traversal in, in its place by start.
func (s *Stitcher) holdBack(h held) {
	if len(s.held) == maxHeld {
		s.release(maxHeld/4, maxHeld, true)
	}
	i := len(s.held)
	for i > 0 && s.held[i-1].start > h.start {
		i--
	}
	s.held = append(s.held, held{})
	copy(s.held[i+1:], s.held[i:])
	s.held[i] = h
}

// releaseDue gives out what has been held back for long enough, and before it
// what began before it; and what nothing can come before any more. It says whether that
// was too much for one time.
func (s *Stitcher) releaseDue(now uint64) (more bool) {
	n := len(s.held)
	for n > 0 && s.held[n-1].until > now {
		n--
	}
	if n < len(s.held) {
		oldest := s.oldestOpen(now)
		for n < len(s.held) && s.held[n].start < oldest && s.open[s.held[n].after] == nil {
			n++
		}
	}
	return s.release(n, maxAtOnce, false)
}

// maxLooks bounds the open groups that oldestOpen looks at.
const maxLooks = 4096

// oldestOpen is the beginning, in ns, of the oldest packet that may come to its end in
// time to be given out before those that are held back now: of one that was silent for
// long that is not expected. 0: there are too many to tell.
func (s *Stitcher) oldestOpen(now uint64) uint64 {
	oldest, looks := now, 0
	for g := s.oldest; g != nil; g = g.newer {
		if looks++; looks > maxLooks {
			return 0
		}
		if g.last+s.hold > now+s.settle {
			oldest = min(oldest, g.start())
		}
	}
	return oldest
}

// release gives out the first n of the traversals held back, most of them at the most,
// but for those that wait for an answer; force: those as well. It says whether there
// were more.
func (s *Stitcher) release(n, most int, force bool) (more bool) {
	kept, given, i := 0, 0, 0
	for ; i < n && given < most; i++ {
		h := s.held[i]
		if h.ask != nil && s.waits(&h, force) {
			s.held[kept] = h
			kept++
			continue
		}
		s.links.fill(h.t)
		h.give(s)
		given++
	}
	rest := kept + copy(s.held[kept:], s.held[i:])
	clear(s.held[rest:])
	s.held = s.held[:rest]
	return i < n
}
