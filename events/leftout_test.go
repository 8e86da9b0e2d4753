// SPDX-License-Identifier: Apache-2.0

package events

import (
	"slices"
	"testing"
)

// without is a golden run in which the kernel left out one hook run: nothing tells of
// it, the packet's other events are numbered without it, and the next one is its first,
// and has its header, where that was.
func (g *golden) without(i int) *golden {
	out := &golden{name: g.name, config: g.config, whole: g.whole, events: slices.Delete(slices.Clone(g.events), i, i+1)}
	gone := &g.events[i]
	told := gone.Ext != ExtHeader
	for k := range out.events {
		if e := &out.events[k]; e.Packet == gone.Packet && e.Seq > gone.Seq {
			e.Seq--
			if e.Seq == 0 {
				e.Flags |= FlagFirst
			}
			if !told && e.Ext == ExtNone {
				told, e.Ext, e.Header = true, ExtHeader, gone.Header
			}
		}
	}
	return out
}

// live stitches as it is done live: what is due is given out before what comes later.
func (g *golden) live() (out []*Traversal) {
	s := NewStitcher(g.config, func(tr *Traversal) { out = append(out, tr) })
	for i := range g.events {
		s.Advance(g.events[i].Time)
		s.Add(&g.events[i])
	}
	s.Flush()
	return out
}

// TestEachLeftOut leaves out each single hook run of each golden traversal in turn. What
// was delivered, or left the node, is not said to have ended for that, except where the
// end looks the same with and without that hook.
func TestEachLeftOut(t *testing.T) {
	except := map[string]string{
		"ending: left, freed by a careless driver": "transmit",
		"ending: icmp6, freed as a drop":           "icmp-in",
	}
	runs, seen := 0, map[string]bool{}
	for _, g := range goldens(t, "6.12-*.jsonl") {
		for i := range g.events {
			station := StationName(g.station(i))
			o := g.without(i)
			runs++
			for _, tr := range o.live() {
				w := g.whole[tr.Packets[0]]
				if tr.Verdict != Terminated || w.Verdict == Terminated || w.Verdict == Incomplete {
					continue
				}
				if except[g.name] != station {
					t.Errorf("%s, without event %d (%s): %s\nwith all %s", g.name, i, station, tr.Summary, w.Summary)
				}
				seen[g.name] = true
			}
		}
	}
	for name := range except {
		if !seen[name] {
			t.Errorf("%s: no exception any more", name)
		}
	}
	t.Logf("%d hook runs left out, each alone", runs)
}
