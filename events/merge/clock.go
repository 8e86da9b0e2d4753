// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"cmp"
	"math"
	"slices"
)

// The clocks of two nodes differ by an offset that drifts. A packet takes some
// time to cross, so one that leaves the first node and comes to the second
// bounds the offset from above by the difference of its two times, and one that
// goes the other way from below. A straight line must lie between all bounds;
// the middle of all lines that do is the estimate, and how far they reach is
// its error.

// maxDrift is how fast two clocks may drift apart: kernels slew by 500 ppm.
const maxDrift = 500e-6

// sample bounds the offset at a moment. Both are in ns, relative to some base.
type sample struct {
	at   float64 // on the first clock
	diff float64 // second clock minus first
}

// piece is the offset between two clocks over some time.
type piece struct {
	from   float64 // moment of its first sample
	middle float64 // moment to which the lines' bounds belong
	offset float64 // at middle
	drift  float64 // ns per ns
	lines  []bound // empty: bounded on one side only
}

// bound is the lines of one drift that lie between all samples.
type bound struct{ drift, low, high float64 }

// at is the offset at a moment and its error, which is +Inf if it is bounded
// on one side only.
func (p *piece) at(x float64) (offset, err float64) {
	dx := x - p.middle
	offset = p.offset + p.drift*dx
	if len(p.lines) == 0 {
		return offset, math.Inf(1)
	}
	for _, l := range p.lines {
		err = max(err, l.high+l.drift*dx-offset, offset-l.low-l.drift*dx)
	}
	return offset, err
}

// hull keeps the samples that bound from above: the lower convex hull.
func hull(s []sample) []sample {
	s = slices.Clone(s)
	slices.SortFunc(s, func(a, b sample) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.diff, b.diff)) })
	var h []sample
	for _, p := range s {
		for len(h) >= 2 {
			a, b := h[len(h)-2], h[len(h)-1]
			if (b.diff-a.diff)*(p.at-a.at) < (p.diff-a.diff)*(b.at-a.at) {
				break
			}
			h = h[:len(h)-1]
		}
		h = append(h, p)
	}
	return h
}

func negated(s []sample) []sample {
	s = slices.Clone(s)
	for i := range s {
		s[i].diff = -s[i].diff
	}
	return s
}

// between is samples that bound an offset: above, and, negated, below.
type between struct {
	above, below []sample
	middle       float64
}

func newBetween(above, below []sample) *between {
	b := &between{above: hull(above), below: hull(negated(below))}
	first, last := math.Inf(1), math.Inf(-1)
	for _, s := range slices.Concat(b.above, b.below) {
		first, last = min(first, s.at), max(last, s.at)
	}
	b.middle = first + (last-first)/2
	return b
}

// bound is the range of lines with a drift.
func (b *between) bound(drift float64) bound {
	r := bound{drift, math.Inf(-1), math.Inf(1)}
	for _, s := range b.above {
		r.high = min(r.high, s.diff-drift*(s.at-b.middle))
	}
	for _, s := range b.below {
		r.low = max(r.low, -s.diff-drift*(s.at-b.middle))
	}
	return r
}

func (b *between) margin(drift float64) float64 {
	r := b.bound(drift)
	return r.high - r.low
}

// widest is the drift that leaves most room; the margin is concave in it.
func (b *between) widest() float64 {
	lo, hi := -maxDrift, maxDrift
	for range 60 {
		x, y := lo+(hi-lo)/3, hi-(hi-lo)/3
		if b.margin(x) < b.margin(y) {
			lo = x
		} else {
			hi = y
		}
	}
	return (lo + hi) / 2
}

// limit is the drift furthest from one that leaves room, towards an extreme,
// that still does.
func (b *between) limit(good, extreme float64) float64 {
	if b.margin(extreme) >= 0 {
		return extreme
	}
	for range 50 {
		if x := (good + extreme) / 2; b.margin(x) >= 0 {
			good = x
		} else {
			extreme = x
		}
	}
	return good
}

// fitLine finds the offset between samples of both directions; false if no
// line lies between them all.
func fitLine(above, below []sample) (piece, bool) {
	b := newBetween(above, below)
	best := b.widest()
	if b.margin(best) < 0 {
		return piece{}, false
	}
	const steps = 32
	lo, hi := b.limit(best, -maxDrift), b.limit(best, maxDrift)
	p := piece{middle: b.middle}
	weight := 0.0
	for i := range steps + 1 {
		l := b.bound(lo + (hi-lo)*float64(i)/steps)
		room := max(l.high-l.low, 0) + 1e-6 // of a ns: there may be no room at all
		weight += room
		p.offset += room * (l.low + l.high) / 2
		p.drift += room * l.drift
		p.lines = append(p.lines, l)
	}
	p.offset /= weight
	p.drift /= weight
	return p, true
}

// oneWaySpan is how long packets must have gone one way for a drift to be
// read from them.
const oneWaySpan = 10e9

// fitOneWay finds the line that lies against samples that all bound from
// above: the offset if the quickest packets had taken no time.
func fitOneWay(above []sample) piece {
	h := hull(above)
	first, last := h[0], h[len(h)-1]
	p := piece{middle: first.at + (last.at-first.at)/2}
	if last.at-first.at >= oneWaySpan {
		for i := 1; i < len(h); i++ {
			if h[i].at >= p.middle {
				p.drift = (h[i].diff - h[i-1].diff) / (h[i].at - h[i-1].at)
				break
			}
		}
		p.drift = max(min(p.drift, maxDrift), -maxDrift)
	}
	p.offset = math.Inf(1)
	for _, s := range h {
		p.offset = min(p.offset, s.diff-p.drift*(s.at-p.middle))
	}
	return p
}

// maxPieces bounds how often two clocks may jump against each other before
// nothing is concluded from them any more.
const maxPieces = 16

// strayGain is how many more samples must fit without one for it to be taken
// for a stray.
const strayGain = 8

// fit finds the offset between two clocks: one piece, or several if one of
// them jumped. nil: no samples, or they do not make sense.
func fit(above, below []sample) []piece {
	switch {
	case len(above) == 0 && len(below) == 0:
		return nil
	case len(below) == 0:
		return []piece{fitOneWay(above)}
	case len(above) == 0:
		p := fitOneWay(negated(below))
		p.offset, p.drift = -p.offset, -p.drift
		return []piece{p}
	}
	if p, ok := fitLine(above, below); ok {
		p.from = math.Inf(-1)
		return []piece{p}
	}
	return fitPieces(above, below)
}

// bounded is a sample and the side that it bounds.
type bounded struct {
	sample
	below bool
}

func split(s []bounded) (above, below []sample) {
	for _, x := range s {
		if x.below {
			below = append(below, x.sample)
		} else {
			above = append(above, x.sample)
		}
	}
	return above, below
}

// longest is how many of the samples, from the first on, fit one line.
func longest(s []bounded) int {
	fits := func(n int) bool {
		above, below := split(s[:n])
		if len(above) == 0 || len(below) == 0 {
			return true
		}
		b := newBetween(above, below)
		return b.margin(b.widest()) >= 0
	}
	n := 1
	for n < len(s) && fits(min(2*n, len(s))) {
		n = min(2*n, len(s))
	}
	if n == len(s) {
		return n
	}
	lo, hi := n, min(2*n, len(s))
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; fits(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// fitPieces fits clocks of which one jumped.
func fitPieces(above, below []sample) []piece {
	all := make([]bounded, 0, len(above)+len(below))
	for _, s := range above {
		all = append(all, bounded{s, false})
	}
	for _, s := range below {
		all = append(all, bounded{s, true})
	}
	slices.SortStableFunc(all, func(a, b bounded) int { return cmp.Compare(a.at, b.at) })
	var pieces []piece
	for len(all) > 0 {
		n := longest(all)
		if n < len(all) {
			if without := slices.Delete(slices.Clone(all), n, n+1); longest(without) >= min(n+strayGain, len(without)) && len(without) > n {
				all = without // one packet that was taken for another
				continue
			}
		}
		p := fit(split(all[:n]))[0]
		p.from = all[0].at
		if len(pieces) == 0 {
			p.from = math.Inf(-1)
		}
		pieces = append(pieces, p)
		if all = all[n:]; len(pieces) > maxPieces {
			return nil
		}
	}
	return pieces
}
