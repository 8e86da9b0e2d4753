// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/stackhop/stackhop/events"
)

// finish makes the traversal of a plan of which all parts were read.
func (m *merger) finish(p *plan) *events.Traversal {
	t := p.got[0]
	shift := m.shift(p.node, t.Time.UnixNano())
	if len(p.got) > 1 {
		t = events.Join(p.got, m.times(p))
		t.Notes = append(append(t.Notes, p.notes...), translations(p.got)...)
		m.report.Packets++
		m.report.Joined += len(p.got) - 1
	}
	t.Time = t.Time.Add(-time.Duration(shift))
	if len(p.parts) > 0 && len(m.sources) > 1 {
		m.whence(t, &m.travs[p.parts[0]])
		m.whither(t, &m.travs[p.parts[len(p.parts)-1]], p.got[len(p.got)-1])
	}
	return t
}

// translations says where a packet's addresses changed between two nodes.
func translations(parts []*events.Traversal) (notes []string) {
	ends := func(h *events.Header) string {
		return fmt.Sprintf("%s→%s", netip.AddrPortFrom(h.Src, h.SrcPort), netip.AddrPortFrom(h.Dst, h.DstPort))
	}
	for k := 1; k < len(parts); k++ {
		out, in := parts[k-1], parts[k]
		if o, i := &out.Out.Header, &in.In.Header; o.Tuple != i.Tuple && !o.Fragment {
			notes = append(notes, fmt.Sprintf("the network between %s and %s translated it: %s became %s", out.Node, in.Node, ends(o), ends(i)))
		}
	}
	return notes
}

// times are those of a plan's parts on the clock of its first node. No packet
// comes before it left, whatever the error of the clocks.
func (m *merger) times(p *plan) []time.Time {
	at := []time.Time{p.got[0].Time}
	behind := int64(0) // how far the clock of the part at hand is ahead of the first one's
	for k := 1; k < len(p.got); k++ {
		out, in := &m.ends[m.travs[p.parts[k-1]].out], &m.ends[m.travs[p.parts[k]].in]
		off, _, _ := m.offset(int(out.node), int(in.node), out.time)
		behind += min(int64(off), in.time-out.time)
		at = append(at, p.got[k].Time.Add(-time.Duration(behind)))
	}
	return at
}

// whence says what is known of where a packet came from that is joined to none.
func (m *merger) whence(t *events.Traversal, first *trav) {
	if first.in < 0 {
		return
	}
	in := &m.ends[first.in]
	switch {
	case in.rivals > 0:
		m.report.Ambiguous++
		t.Notes = append(t.Notes, fmt.Sprintf("%s that left %s may be this one, so it is joined to none",
			count(in.rivals, "packet"), m.nodeOf(in.rival)))
	case len(in.peers) == 0:
		m.report.FromElsewhere++
	}
}

// whither says what is known of where a packet went that is joined to none. last
// is what the node saw that it left.
func (m *merger) whither(t *events.Traversal, end *trav, last *events.Traversal) {
	if end.out < 0 || len(m.ends[end.out].peers) > 0 {
		return
	}
	out := &m.ends[end.out]
	left := "left " + m.sources[out.node].Node + " by " + last.Out.Device
	if out.rivals > 0 {
		m.report.Ambiguous++
		t.SetEnd(fmt.Sprintf("%s; %s that came to %s may be this one, so it is joined to none", left, count(out.rivals, "packet"), m.nodeOf(out.rival)))
		return
	}
	f := m.fate(out, last.Out)
	if f.gone {
		m.report.NeverArrived++
		if t.Verdict == events.LeftNode {
			t.Verdict, t.Where, t.Reason = events.Terminated, "network", "never-arrived"
		}
	} else {
		m.report.Uncovered++
	}
	t.SetEnd(left + f.say)
	if f.note != "" {
		t.Notes = append(t.Notes, f.note)
	}
}

func (m *merger) nodeOf(end int) string { return m.sources[m.ends[end].node].Node }

// fate is what is known of a packet behind the node that it left.
type fate struct {
	gone      bool
	say, note string
}

// margin is how long before the end of the other node's recording a packet must
// have left for it to be missed there.
const margin = int64(250 * time.Millisecond)

// fate finds out where a packet should have arrived, and whether the recording
// there must have seen it.
func (m *merger) fate(out *end, w *events.WireEnd) fate {
	node := m.owner(w.Header.Dst, int(out.node))
	if node < 0 {
		return fate{say: "; no recording covers where it went"}
	}
	s := m.sources[node]
	off, err, known := m.offset(int(out.node), node, out.time)
	e := int64(slack(err))
	at := out.time + int64(off)
	switch {
	case !s.covers(at-e, at+e+margin):
		return fate{say: "; the recording of " + s.Node + " does not cover that moment"}
	case !s.selects(&w.Header, at-e, at+e):
		return fate{say: "; the recording of " + s.Node + " may not have selected such packets"}
	case s.lost(at-e, at+e+margin):
		return fate{say: "; not seen at " + s.Node + ", whose recording is not whole at that time"}
	case out.late:
		return fate{say: "; one that may be this came to " + s.Node + ", but at a time that does not fit"}
	case out.parts:
		return fate{say: " to be cut in several; which ones came to " + s.Node + " is not told by anything in them"}
	}
	f := fate{gone: true, say: ", never arrived at " + s.Node}
	if !known {
		f.note = "no packet tells how the clocks of " + m.sources[out.node].Node + " and " + s.Node + " differ; they are taken to agree"
	}
	return f
}

// owner is the node to which a packet goes that another node sends to an
// address; -1: not known, or several.
func (m *merger) owner(dst netip.Addr, from int) int {
	best, bits := -1, -1
	for i, s := range m.sources {
		for _, p := range s.Addrs {
			switch {
			case !p.Contains(dst):
			case p.Bits() > bits:
				best, bits = i, p.Bits()
			case p.Bits() == bits && best != i:
				best = -1
			}
		}
	}
	if bits < 0 {
		best = m.arrivals.node(dst)
	}
	if best == from {
		return -1
	}
	return best
}

// arrivals tells to which nodes packets to an address were seen to go.
type arrivals map[netip.Addr]int

const severalNodes = -2

func (a arrivals) note(addr netip.Addr, node int) {
	if was, ok := a[addr]; ok && was != node {
		node = severalNodes
	}
	a[addr] = node
}

func (a arrivals) node(addr netip.Addr) int {
	if n, ok := a[addr]; ok && n != severalNodes {
		return n
	}
	return -1
}

// text is the words for a linked traversal, with how it ended in the whole.
func (r *renamed) text(words string) string {
	if head, ok := strings.CutSuffix(words, ", "+string(r.was)); ok {
		return head + ", " + string(r.now)
	}
	return words
}
