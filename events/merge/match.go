// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// pair is two ends that are the same packet.
type pair struct{ out, in int }

const (
	// smallGroup bounds the ends with one key that are compared without regard
	// to time.
	smallGroup = 64
	// maxRivals bounds the candidates counted for one end.
	maxRivals = 16
)

// match joins the ends of all nodes.
func (m *merger) match() {
	if len(m.sources) < 2 {
		return
	}
	byKey := m.sorted(func(e *end) uint64 { return e.key })
	groups(byKey, func(i int) uint64 { return m.ends[i].key }, m.findUnique)
	for _, p := range m.unique {
		m.sampled(&m.ends[p.out], &m.ends[p.in])
	}
	m.fitClocks()
	for _, p := range m.unique {
		m.joinUnique(p)
	}
	groups(byKey, func(i int) uint64 { return m.ends[i].key }, m.joinByTime)
	byKin := m.sorted(func(e *end) uint64 { return e.kin })
	groups(byKin, func(i int) uint64 { return m.ends[i].kin }, m.joinParts)
	byCore := m.sorted(func(e *end) uint64 { return e.core })
	groups(byCore, func(i int) uint64 { return m.ends[i].core }, m.joinTranslated)
}

// joinTranslated joins what a load balancer or a gateway between the nodes
// translated: the numbers of TCP and IP are the same, and one end's address.
func (m *merger) joinTranslated(group []int) {
	if m.ends[group[0]].core == 0 || len(group) > smallGroup {
		return
	}
	outs, ins := m.sides(group)
	outs, ins = m.open(outs), m.open(ins)
	fits := map[int][]int{}
	for _, i := range ins {
		for _, o := range outs {
			out, in := &m.ends[o], &m.ends[i]
			kept := out.src == in.src || out.dst == in.dst || (out.hash != 0 && out.hash == in.hash)
			if kept && out.rivals+in.rivals == 0 && out.node != in.node && m.fits(out, in) && m.timely(out, in) {
				fits[i] = append(fits[i], o)
			}
		}
	}
	for _, p := range forced(ins, fits, func(int, int) bool { return true }) {
		m.join(p)
	}
}

// sorted are the ends by a key, and by time within it.
func (m *merger) sorted(key func(*end) uint64) []int {
	all := make([]int, len(m.ends))
	for i := range all {
		all[i] = i
	}
	slices.SortFunc(all, func(a, b int) int {
		x, y := &m.ends[a], &m.ends[b]
		return cmp.Or(cmp.Compare(key(x), key(y)), cmp.Compare(x.time, y.time), cmp.Compare(a, b))
	})
	return all
}

// groups calls each for each run of ends with the same key.
func groups(sorted []int, key func(int) uint64, each func([]int)) {
	for lo := 0; lo < len(sorted); {
		hi := lo + 1
		for hi < len(sorted) && key(sorted[hi]) == key(sorted[lo]) {
			hi++
		}
		if hi-lo > 1 {
			each(sorted[lo:hi])
		}
		lo = hi
	}
}

// sides splits a group into what left a node and what came to one.
func (m *merger) sides(group []int) (outs, ins []int) {
	for _, i := range group {
		if m.ends[i].in {
			ins = append(ins, i)
		} else {
			outs = append(outs, i)
		}
	}
	return outs, ins
}

// fits says whether two ends may be the same packet, times apart. A packet
// comes back to the node that it left only by way of a router.
func (m *merger) fits(out, in *end) bool {
	switch {
	case out.trav == in.trav, out.hash != 0 && in.hash != 0 && out.hash != in.hash,
		out.ttl != 0 && in.ttl > out.ttl:
		return false
	}
	return out.node != in.node || (in.ttl < out.ttl && in.ttl != 0 && out.time < in.time)
}

// findUnique finds ends that fit nothing but each other, whatever the time.
// They tell the offset of the clocks.
func (m *merger) findUnique(group []int) {
	outs, ins := m.sides(group)
	if len(group) > smallGroup || m.ends[group[0]].frag {
		return
	}
	fits := map[int][]int{}
	for _, i := range ins {
		for _, o := range outs {
			if m.fits(&m.ends[o], &m.ends[i]) {
				fits[i] = append(fits[i], o)
			}
		}
	}
	for more := true; more; {
		found := forced(ins, fits, func(int, int) bool { return true })
		m.unique = append(m.unique, found...)
		more = len(found) > 0
	}
}

// joinUnique joins two ends that fit nothing else, unless their times
// contradict it, or the one that it is may be missing from a recording.
func (m *merger) joinUnique(p pair) {
	out, in := &m.ends[p.out], &m.ends[p.in]
	took, err, known := m.transit(out, in)
	switch {
	case out.strong && in.strong:
		if known && (took > maxUnique || took < -slack(err)-strayErr) {
			out.late = true
			return
		}
	case !known || !m.timely(out, in) || m.sources[out.node].lost(out.time-int64(maxTransit), out.time+int64(maxTransit)):
		out.late = true
		return
	}
	m.join(p)
}

// slack is an error as a number: a large one where there is no bound.
func slack(err float64) float64 {
	if math.IsInf(err, 1) {
		return openErr
	}
	return err
}

func (m *merger) join(p pair) {
	out, in := &m.ends[p.out], &m.ends[p.in]
	out.peers = append(out.peers, p.in)
	in.peers = append(in.peers, p.out)
	m.way(int(out.node), int(in.node)).joined++
	m.travs[in.trav].part = true
}

// timely says whether the times of two ends allow that they are the same
// packet.
func (m *merger) timely(out, in *end) bool {
	took, err, known := m.transit(out, in)
	if !known {
		return true
	}
	err = slack(err)
	return took >= -err && took <= m.ways[[2]int{int(out.node), int(in.node)}].patience()+err
}

// joinByTime joins the ends of a group of which several look the same: those
// of which the times leave no choice. Each packet that came must be one of
// those that left, so one that has a single candidate takes it away from the
// others.
func (m *merger) joinByTime(group []int) {
	if m.ends[group[0]].frag {
		return
	}
	outs, ins := m.sides(group)
	outs, ins = m.open(outs), m.open(ins)
	fits := map[int][]int{}
	full := false
	for _, i := range ins {
		fits[i] = m.candidates(outs, i)
		full = full || len(fits[i]) == maxRivals
	}
	for more := !full; more; {
		found := forced(ins, fits, m.wholeBefore)
		for _, p := range found {
			m.join(p)
		}
		more = len(found) > 0
	}
	m.ambiguous(outs, ins, fits, full)
	if len(m.open(ins)) > 0 {
		for _, o := range m.open(outs) {
			m.ends[o].late = true
		}
	}
}

// open are those of some ends that have not been joined.
func (m *merger) open(ends []int) []int {
	return slices.DeleteFunc(slices.Clone(ends), func(i int) bool { return len(m.ends[i].peers) > 0 })
}

// candidates are the packets that left, of those with the same key, which one
// that came may be; at most maxRivals. outs are sorted by their nodes' times.
func (m *merger) candidates(outs []int, in int) []int {
	e := &m.ends[in]
	var found []int
	for node := range m.sources {
		lo, hi := m.leftBetween(e, node)
		from := sort.Search(len(outs), func(k int) bool { return m.ends[outs[k]].time >= lo })
		for _, o := range outs[from:] {
			out := &m.ends[o]
			if out.time > hi || len(found) == maxRivals {
				break
			}
			if int(out.node) == node && m.fits(out, e) && m.timely(out, e) {
				found = append(found, o)
			}
		}
	}
	return found
}

// leftBetween is when a packet that came must have left another node, on that
// node's wall clock: a window that is a little too large.
func (m *merger) leftBetween(in *end, node int) (lo, hi int64) {
	back, err, known := m.offset(int(in.node), node, in.time)
	if !known {
		return math.MinInt64, math.MaxInt64
	}
	at, reach := float64(in.time)+back, slack(err)+2*openErr
	return int64(at - maxTransit - reach), int64(at + reach)
}

// forced finds what came and has one candidate that no other one must have,
// and takes that away from the others. sure may refuse a pair.
func forced(ins []int, fits map[int][]int, sure func(out, in int) bool) []pair {
	claims := map[int]int{}
	for _, i := range ins {
		if c := fits[i]; len(c) == 1 {
			claims[c[0]]++
		}
	}
	taken := map[int]bool{}
	var found []pair
	for _, i := range ins {
		if c := fits[i]; len(c) == 1 && claims[c[0]] == 1 && sure(c[0], i) {
			found = append(found, pair{c[0], i})
			taken[c[0]] = true
			delete(fits, i)
		}
	}
	for i, c := range fits {
		fits[i] = slices.DeleteFunc(c, func(o int) bool { return taken[o] })
	}
	return found
}

// wholeBefore says whether the recording of the node that a packet left has
// all that may have left it at that time: what it lacks may fit, too.
func (m *merger) wholeBefore(out, in int) bool {
	o, i := &m.ends[out], &m.ends[in]
	if o.strong && i.strong {
		return true // what is not there would not look the same
	}
	s := m.sources[o.node]
	back, err, _ := m.offset(int(i.node), int(o.node), i.time)
	to := i.time + int64(back)
	from := to - int64(m.ways[[2]int{int(o.node), int(i.node)}].patience()+slack(err))
	return s.covers(from, o.time) && !s.lost(from, to)
}

// ambiguous notes for what was not joined how many others fit it.
func (m *merger) ambiguous(outs, ins []int, fits map[int][]int, full bool) {
	for _, i := range ins {
		for _, o := range fits[i] {
			m.rivals(o, i)
		}
	}
	if !full {
		return
	}
	for _, o := range outs {
		if e := &m.ends[o]; len(e.peers) == 0 && e.rivals == 0 && len(ins) > 0 {
			e.rivals, e.rival = maxRivals, ins[0]
		}
	}
}

func (m *merger) rivals(out, in int) {
	o, i := &m.ends[out], &m.ends[in]
	o.rivals++
	o.rival = in
	i.rivals++
	i.rival = out
}
