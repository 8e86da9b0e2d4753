// SPDX-License-Identifier: Apache-2.0

package events

// People expect packets in the order in which they began, as tcpdump shows
// them, but their traversals are finished in the order of their ends: a SYN's
// buffer is freed only after the answer that it caused has travelled all the
// way back. So a finished traversal is held back for a moment, in which those
// that began before it may finish, too. Nothing is ever waited for: one that
// takes longer than that comes late.

// held is a finished traversal that has not been given out yet.
type held struct {
	t     *Traversal
	start uint64 // ns: when its packet began
	until uint64 // ns: when it is given out at the latest
}

// maxHeld bounds the traversals held back.
const maxHeld = 4096

// holdBack takes a finished traversal in, in its place by start.
func (s *Stitcher) holdBack(t *Traversal, start, until uint64) {
	if len(s.held) == maxHeld {
		s.release(maxHeld / 4)
	}
	i := len(s.held)
	for i > 0 && s.held[i-1].start > start {
		i--
	}
	s.held = append(s.held, held{})
	copy(s.held[i+1:], s.held[i:])
	s.held[i] = held{t, start, until}
}

// releaseDue gives out what has been held back for long enough, and before it
// what began before it.
func (s *Stitcher) releaseDue() {
	for i := len(s.held) - 1; i >= 0; i-- {
		if s.held[i].until <= s.now {
			s.release(i + 1)
			return
		}
	}
}

// release gives out the first n of the traversals held back.
func (s *Stitcher) release(n int) {
	for i := range n {
		t := s.held[i].t
		s.links.fill(t)
		s.out(t)
	}
	rest := copy(s.held, s.held[n:])
	clear(s.held[rest:])
	s.held = s.held[:rest]
}
