// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"slices"
	"strings"
)

// copies counts what became of the copies of a packet beside its main way.
type copies struct {
	flooded int        // those that a flooding bridge made
	floods  wordCounts // … by their fate, if it is of interest
	others  wordCounts // all others, by their fate
}

// notes says what is worth knowing of the copies.
func (c *copies) notes() []string {
	var notes []string
	if c.flooded > 0 {
		note := "the bridge flooded it: " + count(c.flooded, "more copy", "more copies")
		if fates := c.floods.String(); fates != "" {
			note += ", " + fates
		}
		notes = append(notes, note)
	}
	if n := c.others.total(); n > 0 {
		notes = append(notes, count(n, "copy", "copies")+": "+c.others.String())
	}
	return notes
}

// best picks the main way among a packet's own and those of its copies, and
// counts the others.
func (b *builder) best(own route, clones []route) route {
	best, rank := -1, own.end.rank
	for i := range clones {
		if clones[i].end.rank > rank {
			best, rank = i, clones[i].end.rank
		}
	}
	for i := range clones {
		if i != best {
			b.countCopy(&clones[i], isFlooded(&clones[i]))
		}
	}
	if best < 0 {
		return own
	}
	// Both ways are the same up to where the copy was made.
	if behind := own.hops[min(forkOf(&clones[best]), len(own.hops)):]; own.end.rank > rankConsumed && anyMoves(behind) {
		b.countCopy(&own, isFlooded(&clones[best]))
	}
	return clones[best]
}

// countCopy counts a way beside the main one. Copies that the kernel made for
// itself are nobody's business: for a tap, for a neighbour's probe, for the
// error queue of a socket. They end, or stay, where they were made.
func (b *builder) countCopy(r *route, flooded bool) {
	if !acted(r.hops[forkOf(r):]) {
		return
	}
	word := copyWord(r)
	if !flooded {
		b.copies.others.add(word)
		return
	}
	b.copies.flooded++
	if r.end.reason != reasonOtherHost {
		b.copies.floods.add(word)
	}
}

// forkOf is the index of the hop at which the last copy on a way was made; 0
// if there is none.
func forkOf(r *route) int {
	fork := len(r.hops) - 1
	for fork > 0 && r.hops[fork].station != StationClone {
		fork--
	}
	return fork
}

// acted says whether anything happened on some hops, beside an end.
func acted(hops []hop) bool {
	for i := range hops {
		if !quietStation[hops[i].station] {
			return true
		}
	}
	return false
}

func anyMoves(hops []hop) bool {
	for i := range hops {
		if moves(hops[i].station) {
			return true
		}
	}
	return false
}

// isFlooded says whether a way is that of a copy that a bridge flooded.
func isFlooded(r *route) bool {
	for i := forkOf(r) - 1; i >= 0; i-- {
		if !quietStation[r.hops[i].station] {
			return r.hops[i].station == StationBridgeFlood
		}
	}
	return false
}

// copyWord says in a word or two what became of a copy.
func copyWord(r *route) string {
	switch {
	case r.end.reason == reasonOtherHost:
		return "not for its receiver"
	case r.end.verdict == Terminated:
		return "ended in " + r.end.where
	case r.end.verdict == Incomplete:
		return "not followed to an end"
	default:
		return string(r.end.verdict)
	}
}

// wait is a packet's stay at a neighbour whose link address was not known.
type wait struct{ from, to *step }

// findWait notices that a packet waited for its neighbour's link address: the
// probe that the kernel sends then is made from a copy of it.
func (b *builder) findWait(p *packet, fork int, probe *packet) {
	if fork == 0 || fork == len(p.steps) || p.steps[fork-1].station != StationNeighbour {
		return
	}
	for i := range probe.steps {
		if !quietStation[probe.steps[i].station] {
			return
		}
	}
	w := wait{&p.steps[fork-1], &p.steps[fork]}
	if !slices.Contains(b.waits, w) { // each of its tries is made from a copy
		b.waits = append(b.waits, w)
	}
}

// waitNote says how long a packet waited for link addresses on a run; "" if it
// did not.
func (b *builder) waitNote(r *run) string {
	var places []string
	for _, w := range b.waits {
		if b.s.observed(w.from.netns) && w.from.time >= r.hops[0].time && w.from.time <= r.hops[len(r.hops)-1].time {
			places = append(places, fmt.Sprintf("%s at %s %s", lapse(since(w.from.time, w.to.time)),
				b.s.netnsName(w.from.netns), b.deviceName(w.from.netns, w.from.ifindex)))
		}
	}
	if places == nil {
		return ""
	}
	return "waited for the link address of its next hop: " + strings.Join(places, ", ")
}

// wordCounts counts words in the order of their first appearance.
type wordCounts struct {
	words  []string
	counts []int
}

func (w *wordCounts) add(word string) {
	for i := range w.words {
		if w.words[i] == word {
			w.counts[i]++
			return
		}
	}
	w.words = append(w.words, word)
	w.counts = append(w.counts, 1)
}

func (w *wordCounts) total() int {
	n := 0
	for _, c := range w.counts {
		n += c
	}
	return n
}

func (w *wordCounts) String() string {
	var parts []string
	for i := range w.words {
		parts = append(parts, fmt.Sprintf("%d %s", w.counts[i], w.words[i]))
	}
	return strings.Join(parts, ", ")
}
