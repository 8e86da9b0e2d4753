// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"math"
	"time"
)

const (
	// openErr is the error taken for an offset that is bounded on one side only,
	// in ns.
	openErr = float64(time.Millisecond)
	// strayErr is how much sooner than the offset allows a packet may seem to
	// arrive: nothing else fits it, so the clocks are to blame.
	strayErr = float64(time.Millisecond)
	// maxTransit is how long a packet may take from node to node where nothing
	// else is known; maxUnique where nothing else fits it.
	maxTransit = float64(time.Second)
	maxUnique  = 10 * float64(time.Second)
	// enough packets must have crossed for the slowest of them to say how long
	// others may take.
	enough = 8
)

// way is what is known of the way from one node to another.
type way struct {
	samples []sample // strong, of packets from here to there: there minus here
	weak    []sample
	slowest float64 // ns: the longest that a packet took
	crossed int     // packets by which it is known
	joined  int     // packets joined
}

// difference is the offset between two nodes' clocks, the first one being that
// with the lower number.
type difference struct {
	base, diff int64 // what the samples are relative to
	pieces     []piece
}

// offset is how far the clock of node to is ahead of that of node from, in ns,
// at a moment of the latter's; err is how wrong that may be. +Inf: it is
// bounded on one side only; false: nothing is known.
func (m *merger) offset(from, to int, at int64) (offset, err float64, ok bool) {
	if from == to {
		return 0, 0, true
	}
	d := m.differences[[2]int{min(from, to), max(from, to)}]
	if d == nil || len(d.pieces) == 0 {
		return 0, math.Inf(1), false
	}
	x := float64(at - d.base)
	if from > to {
		// The moment is on the other clock, about which the offset is nearly flat.
		x -= float64(d.diff)
	}
	p := &d.pieces[0]
	for i := range d.pieces {
		if d.pieces[i].from <= x {
			p = &d.pieces[i]
		}
	}
	offset, err = p.at(x)
	offset += float64(d.diff)
	if from > to {
		offset = -offset
	}
	return offset, err, true
}

// transit is how long the packet took if the two ends are the same one, in ns,
// and how wrong that may be; false if the clocks cannot be compared.
func (m *merger) transit(out, in *end) (took, err float64, ok bool) {
	offset, err, ok := m.offset(int(out.node), int(in.node), out.time)
	return float64(in.time-out.time) - offset, err, ok
}

// patience is the longest that a packet may take on a way, in ns.
func (w *way) patience() float64 {
	if w == nil || w.crossed < enough {
		return maxTransit
	}
	return min(4*w.slowest+5e6, maxTransit)
}

// sampled adds what a packet tells of the clocks.
func (m *merger) sampled(out, in *end) {
	if out.node == in.node {
		return
	}
	from, to := int(out.node), int(in.node)
	pair := [2]int{min(from, to), max(from, to)}
	d := m.differences[pair]
	if d == nil {
		d = &difference{base: out.time, diff: in.time - out.time}
		if from > to {
			d.base, d.diff = in.time, -d.diff
		}
		m.differences[pair] = d
	}
	// Both directions are kept as bounds of the same offset.
	s := sample{float64(out.time - d.base), float64(in.time - out.time - d.diff)}
	if from > to {
		s = sample{float64(in.time - d.base), float64(out.time - in.time - d.diff)}
	}
	w := m.way(from, to)
	if out.strong && in.strong {
		w.samples = append(w.samples, s)
	} else {
		w.weak = append(w.weak, s)
	}
}

// way is what is known of a way, made if need be.
func (m *merger) way(from, to int) *way {
	k := [2]int{from, to}
	w := m.ways[k]
	if w == nil {
		w = &way{}
		m.ways[k] = w
	}
	return w
}

// best are the samples of a way: weak ones only if there are no others.
func (w *way) best() []sample {
	if len(w.samples) > 0 {
		return w.samples
	}
	return w.weak
}

// fitClocks estimates the offsets between all nodes that packets went between.
func (m *merger) fitClocks() {
	for pair, d := range m.differences {
		d.pieces = fit(m.way(pair[0], pair[1]).best(), m.way(pair[1], pair[0]).best())
	}
	for _, p := range m.unique {
		out, in := &m.ends[p.out], &m.ends[p.in]
		took, err, ok := m.transit(out, in)
		if !ok || !out.strong || !in.strong || took > maxUnique || took < -err-strayErr {
			continue
		}
		w := m.way(int(out.node), int(in.node))
		w.crossed++
		w.slowest = max(w.slowest, took)
	}
}
