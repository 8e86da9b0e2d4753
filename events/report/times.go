// SPDX-License-Identifier: Apache-2.0

package report

import (
	"slices"

	"github.com/stackhop/stackhop/events"
)

// times keeps how long each segment of a path took: the stay in the first
// namespace, the hop to the second, the stay there, and so on; last the whole.
// Beyond maxTimes traversals it keeps every second one, then every fourth.
type times struct {
	width  int // segments
	values []uint64
	stride int
	seen   int
}

// add takes the times of a traversal of the path.
func (s *times) add(t *events.Traversal) {
	s.seen++
	if (s.seen-1)%s.stride != 0 {
		return
	}
	if len(s.values) == maxTimes*s.width {
		half := s.values[:0]
		for i := 0; i < maxTimes; i += 2 {
			half = append(half, s.values[i*s.width:(i+1)*s.width]...)
		}
		s.values = half
		s.stride *= 2
	}
	if s.width > 1 {
		for i := range t.Visits {
			if i > 0 {
				s.values = append(s.values, since(t.Visits[i-1].EndNS, t.Visits[i].StartNS))
			}
			s.values = append(s.values, since(t.Visits[i].StartNS, t.Visits[i].EndNS))
		}
	}
	s.values = append(s.values, whole(t))
}

// since is the time between two moments; clocks of several nodes or CPUs may
// differ by little, which is no time.
func since(from, to uint64) uint64 { return max(to, from) - from }

// whole is how long a traversal took.
func whole(t *events.Traversal) uint64 {
	end := uint64(0)
	for i := range t.Visits {
		end = max(end, t.Visits[i].EndNS)
	}
	return end
}

// quantiles returns the median, 90th and 99th percentile and the maximum of
// each segment.
func (s *times) quantiles() [][4]uint64 {
	n := len(s.values) / s.width
	out := make([][4]uint64, s.width)
	column := make([]uint64, n)
	for i := range out {
		for j := range column {
			column[j] = s.values[j*s.width+i]
		}
		slices.Sort(column)
		at := func(percent int) uint64 { return column[(n*percent+99)/100-1] }
		out[i] = [4]uint64{at(50), at(90), at(99), column[n-1]}
	}
	return out
}
