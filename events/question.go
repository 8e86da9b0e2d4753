// SPDX-License-Identifier: Apache-2.0

package events

import "time"

// question is what only the node's tables can say of a finished traversal. They
// are read beside the run, so that the answer may still be on its way.
type question interface {
	// answer asks names and puts what they say into the traversal. It says false
	// while they are still reading.
	answer(n Names, t *Traversal) bool
	// unanswered says in the traversal that no answer came in time.
	unanswered(t *Traversal)
}

// askPatience is how long a traversal waits for an answer, in ns.
const askPatience = uint64(5 * time.Second)

// askAgain is how long it waits before it asks again.
const askAgain = uint64(50 * time.Millisecond)

// waits asks a traversal's question, not more often than each askAgain, and says
// whether to wait for the answer.
func (s *Stitcher) waits(h *held, force bool) bool {
	switch {
	case h.since == 0:
		h.since = max(s.now, 1)
	case !force && s.now < h.until:
		return true
	}
	if h.ask.answer(s.names, h.t) {
		return false
	}
	if !force && s.now-h.since < askPatience {
		h.until = s.now + askAgain
		return true
	}
	h.ask.unanswered(h.t)
	return false
}

// Waiting is how many traversals wait for tables that are being read.
func (s *Stitcher) Waiting() int {
	n := 0
	for i := range s.held {
		if s.held[i].since != 0 {
			n++
		}
	}
	return n
}
