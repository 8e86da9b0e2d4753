// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"cmp"
	"slices"
	"sort"
)

// A packet that is larger than the wire takes goes over it in several, and the
// receiving node may merge several into one. TCP's sequence numbers tell which
// data belongs to which; fragments have the ID of their datagram.

// maxUntimed bounds the pairs looked at where no clock narrows them down.
const maxUntimed = 10_000_000

// span is the data of a TCP packet: from its sequence number to (exclusive)
// the other.
type span struct {
	end      int
	from, to uint32
}

// overlaps says whether two spans share data. Sequence numbers wrap.
func (s span) overlaps(o span) bool {
	return int32(o.from-s.to) < 0 && int32(s.from-o.to) < 0 //nolint:gosec // serial numbers
}

// joinParts joins what is left of a group in which all packets belong to one
// direction of a connection, or all fragments to one datagram.
func (m *merger) joinParts(group []int) {
	spans := m.spans(group)
	var outs, ins []span
	for _, s := range spans {
		e := &m.ends[s.end]
		switch {
		case len(e.peers) > 0 || e.rivals > 0 || (!e.ranged && !e.frag):
		case e.in:
			ins = append(ins, s)
		default:
			outs = append(outs, s)
		}
	}
	if len(outs) == 0 || len(ins) == 0 {
		return
	}
	if _, _, known := m.offset(int(m.ends[ins[0].end].node), int(m.ends[outs[0].end].node), m.ends[ins[0].end].time); !known && len(outs)*len(ins) > maxUntimed {
		for _, o := range outs {
			m.ends[o.end].rivals, m.ends[o.end].rival = maxRivals, ins[0].end
		}
		return
	}
	var found []pair
	for _, in := range ins {
		for _, o := range m.near(outs, in) {
			found = append(found, pair{o.end, in.end})
		}
	}
	m.joinFound(found, spans)
	m.lateParts(outs, ins)
}

// lateParts notes what left of which a part came, but at a time that does not fit:
// nobody knows that it never arrived.
func (m *merger) lateParts(outs, ins []span) {
	ins = slices.DeleteFunc(slices.Clone(ins), func(s span) bool { return len(m.ends[s.end].peers) > 0 })
	if len(ins) == 0 || m.ends[ins[0].end].frag {
		return
	}
	slices.SortFunc(ins, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for _, o := range outs {
		out := &m.ends[o.end]
		if len(out.peers) > 0 {
			continue
		}
		k := sort.Search(len(ins), func(k int) bool { return ins[k].from >= o.from })
		for _, in := range [2]span{ins[k%len(ins)], ins[(k+len(ins)-1)%len(ins)]} {
			out.late = out.late || (o.overlaps(in) && out.node != m.ends[in.end].node)
		}
	}
}

// spans are the data of a group's packets, by time. How long a packet's
// headers are is not known; it ends where another one begins, if one does
// about there.
func (m *merger) spans(group []int) []span {
	starts := make([]uint32, 0, len(group))
	for _, i := range group {
		starts = append(starts, m.ends[i].seq)
	}
	slices.Sort(starts)
	spans := make([]span, 0, len(group))
	for _, i := range group {
		e := &m.ends[i]
		s := span{i, e.seq, e.seq + e.most()}
		least := e.seq + e.least()
		k := sort.Search(len(starts), func(k int) bool { return starts[k] >= least }) % len(starts)
		if starts[k]-least <= s.to-least && starts[k] != e.seq {
			s.to = starts[k]
		}
		spans = append(spans, s)
	}
	return spans
}

// near are the packets that left which are part of one that came, or it of
// them. outs are sorted by their nodes' times.
func (m *merger) near(outs []span, in span) []span {
	e := &m.ends[in.end]
	var found []span
	for node := range m.sources {
		lo, hi := m.leftBetween(e, node)
		from := sort.Search(len(outs), func(k int) bool { return m.ends[outs[k].end].time >= lo })
		for _, o := range outs[from:] {
			out := &m.ends[o.end]
			if out.time > hi {
				break
			}
			if int(out.node) == node && out.node != e.node && (e.frag || o.overlaps(in)) && m.timely(out, e) {
				found = append(found, o)
			}
		}
	}
	return found
}

// joinFound joins parts, unless the same data was sent twice within the time
// in which it may have come.
func (m *merger) joinFound(found []pair, spans []span) {
	byEnd := make(map[int]span, len(spans))
	for _, s := range spans {
		byEnd[s.end] = s
	}
	outsOf, insOf := map[int][]int{}, map[int][]int{}
	for _, p := range found {
		outsOf[p.in] = append(outsOf[p.in], p.out)
		insOf[p.out] = append(insOf[p.out], p.in)
	}
	doubtful := map[int]bool{}
	twice := func(of map[int][]int) {
		for e, peers := range of {
			slices.SortFunc(peers, func(a, b int) int {
				return cmp.Compare(int32(byEnd[a].from-byEnd[e].from), int32(byEnd[b].from-byEnd[e].from))
			}) //nolint:gosec // serial numbers
			for k := 1; k < len(peers); k++ {
				if !m.ends[e].frag && byEnd[peers[k-1]].overlaps(byEnd[peers[k]]) {
					doubtful[e], doubtful[peers[k-1]], doubtful[peers[k]] = true, true, true
				}
			}
		}
	}
	twice(outsOf)
	twice(insOf)
	for _, p := range found {
		if doubtful[p.out] || doubtful[p.in] {
			m.rivals(p.out, p.in)
		} else {
			m.join(p)
		}
	}
}
