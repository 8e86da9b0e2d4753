// SPDX-License-Identifier: Apache-2.0

// Package merge makes one picture of what several nodes recorded: the packet
// that left one node is joined to the one that came to another by what no hop
// between them changes, and the difference of the nodes' clocks is measured by
// the packets that went both ways. What fits several packets is said to, and
// never guessed.
package merge

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Source is the recording of one run on one node. It is read twice. All but
// Node, BootID, RunID and Each may be filled in while Each runs the first time.
type Source struct {
	Node, BootID, RunID string
	// Start and End are the first and the last moment of which the recording
	// tells, in ns on the node's monotonic clock.
	Start, End uint64
	// Wall tells the node's wall clock; it must be steady, as if never set.
	Wall func(mono uint64) time.Time
	// Clocks are pairs of both clocks, taken during the run, in any order.
	Clocks []Clock
	// Addrs are the addresses and networks that are on the node: a packet sent to
	// one of them by another node was sent to this one.
	Addrs []netip.Prefix
	// Lost says how many events the recording lost, or left out, between two moments in ns on
	// the monotonic clock; nil: none.
	Lost func(from, to uint64) uint64
	// Selects says whether the recording's selection surely takes a packet that
	// comes in with these headers, whenever that is between two moments in ns on the
	// monotonic clock; nil: it takes all.
	Selects func(h *events.Header, from, to uint64) bool
	// Each hands out the node's traversals, made with events.Config.Wires: the
	// same ones in the same order each time, in order of time as far as that goes.
	Each func(out func(*events.Traversal)) error
}

// Clock is the same moment on the monotonic and on the wall clock.
type Clock struct {
	Mono uint64 // ns
	Real int64  // ns since 1970
}

// maxSources bounds the nodes of one picture.
const maxSources = 200

// check refuses sources that cannot be merged.
func check(sources []*Source) error {
	if len(sources) > maxSources {
		return fmt.Errorf("%d recordings are more than the %d that are merged", len(sources), maxSources)
	}
	for i, s := range sources {
		if s.Node == "" {
			return errors.New("a recording does not name its node")
		}
		for _, o := range sources[:i] {
			switch {
			case s.RunID != "" && s.RunID == o.RunID:
				return fmt.Errorf("the same recording of node %s is given twice", events.Safe(s.Node))
			case s.Node == o.Node && s.BootID != o.BootID:
				return fmt.Errorf("two recordings of node %s are from different boots (%s and %s): merge one of them at a time",
					events.Safe(s.Node), events.Safe(o.BootID), events.Safe(s.BootID))
			case s.Node == o.Node:
				return fmt.Errorf("two recordings are of the same node, %s: merge one of them at a time", events.Safe(s.Node))
			}
		}
	}
	return nil
}

// clockSlack is by how much the wall clock may move against the monotonic one
// before it is said to have been set.
const clockSlack = 100 * time.Millisecond

// jumps says where the node's wall clock was set during the run.
func (s *Source) jumps() []string {
	var out []string
	for i := 1; i < len(s.Clocks); i++ {
		was, is := s.Clocks[i-1], s.Clocks[i]
		d := time.Duration((is.Real - was.Real) - int64(is.Mono-was.Mono)) //nolint:gosec // differences fit
		if d.Abs() <= clockSlack {
			continue
		}
		word := "forward"
		if d < 0 {
			word = "back"
		}
		out = append(out, fmt.Sprintf("the clock of %s was set %s by %s during the recording; all its times are told by the clock as it was at first",
			events.Safe(s.Node), word, d.Abs()))
	}
	return out
}

// wall is a moment of the node in ns since 1970 on its wall clock.
func (s *Source) wall(mono uint64) int64 {
	if s.Wall == nil {
		return int64(mono) //nolint:gosec // ns since boot fit
	}
	return s.Wall(mono).UnixNano()
}

// lost says whether the recording lost anything around a moment of its wall
// clock.
func (s *Source) lost(from, to int64) bool {
	if s.Lost == nil {
		return false
	}
	return s.Lost(s.mono(from), s.mono(to)) > 0
}

// selects says whether the recording surely has a packet that came in between two
// moments of its wall clock.
func (s *Source) selects(h *events.Header, from, to int64) bool {
	return s.Selects == nil || s.Selects(h, s.mono(from), s.mono(to))
}

// mono is a moment of its wall clock on the monotonic one.
func (s *Source) mono(wall int64) uint64 {
	return uint64(max(int64(s.Start)+wall-s.wall(s.Start), 0)) //nolint:gosec // not negative
}

// covers says whether all of a time of its wall clock is in the recording.
func (s *Source) covers(from, to int64) bool {
	return s.End > s.Start && from >= s.wall(s.Start) && to <= s.wall(s.End)
}
