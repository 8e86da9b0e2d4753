// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// merger holds what is kept of all sources between the two times that they are
// read.
type merger struct {
	sources []*Source
	seed    maphash.Seed
	ends    []end
	travs   []trav
	byOrd   [][]int32 // by node and number of a traversal: index into travs; -1: none

	unique      []pair
	differences map[[2]int]*difference
	ways        map[[2]int]*way
	arrivals    arrivals
	flows       flows

	places  [][]place // by trav
	renamed map[name]renamed

	report Report
}

// errChanged says that a source did not hand out the same traversals twice.
var errChanged = errors.New("a recording changed while it was read")

// Merge hands to out the traversals of all sources, in the order of their
// beginnings: those that are one packet's as one. All times are on the clock of
// the first source. The error names what cannot be merged, or is a source's or
// out's own.
func Merge(sources []*Source, out func(*events.Traversal) error) (*Report, error) {
	if err := check(sources); err != nil {
		return nil, err
	}
	m := &merger{
		sources: sources, seed: maphash.MakeSeed(),
		differences: map[[2]int]*difference{}, ways: map[[2]int]*way{},
		arrivals: arrivals{}, flows: flows{map[name]flowLink{}},
		renamed: map[name]renamed{},
	}
	m.byOrd = make([][]int32, len(sources))
	for i, s := range sources {
		if err := m.collect(i); err != nil {
			return nil, fmt.Errorf("node %s: %w", events.Safe(s.Node), err)
		}
	}
	m.match()
	m.makePlans()
	m.joinFlows()
	m.reportClocks()
	err := m.handOut(out)
	return &m.report, err
}

// feed is a source that is read the second time.
type feed struct {
	node int
	ord  int // number of t
	t    *events.Traversal
	at   int64 // when t began, on the first source's clock
	next func() (*events.Traversal, bool)
	stop func()
	err  error
}

// openFeed begins to read a source the second time.
func (m *merger) openFeed(node int) *feed {
	f := &feed{node: node, ord: -1}
	f.next, f.stop = iter.Pull(func(yield func(*events.Traversal) bool) {
		more := true
		f.err = m.sources[node].Each(func(t *events.Traversal) { more = more && yield(t) })
	})
	m.advance(f)
	return f
}

// advance reads the next traversal of a feed.
func (m *merger) advance(f *feed) {
	t, ok := f.next()
	if !ok {
		f.t = nil
		return
	}
	f.t, f.ord = t, f.ord+1
	f.at = t.Time.UnixNano() - m.shift(f.node, t.Time.UnixNano())
}

// shift is how far the clock of a node is ahead of the first one's, by way of
// other nodes if need be; 0 if that is not known.
func (m *merger) shift(node int, at int64) int64 {
	// Breadth first from the node to the first one.
	type step struct {
		node int
		sum  int64
	}
	seen := make([]bool, len(m.sources))
	seen[node] = true
	for todo := []step{{node, 0}}; len(todo) > 0; todo = todo[1:] {
		s := todo[0]
		if s.node == 0 {
			return s.sum
		}
		for next := range m.sources {
			if off, _, ok := m.offset(s.node, next, at-s.sum); ok && !seen[next] {
				seen[next] = true
				todo = append(todo, step{next, s.sum - int64(off)})
			}
		}
	}
	return 0
}

// handOut reads all sources again, and gives out the packets in the order in
// which they were first seen. One that several nodes saw waits for its parts.
func (m *merger) handOut(out func(*events.Traversal) error) error {
	var feeds []*feed
	defer func() {
		for _, f := range feeds {
			f.stop()
		}
	}()
	for i := range m.sources {
		feeds = append(feeds, m.openFeed(i))
	}
	var waiting []*plan
	for {
		f := earliest(feeds)
		if f == nil {
			break
		}
		if p, err := m.place(f); err != nil {
			return err
		} else if p != nil {
			waiting = append(waiting, p)
		}
		m.advance(f)
		for len(waiting) > 0 && waiting[0].need == 0 {
			if err := out(m.finish(waiting[0])); err != nil {
				return err
			}
			waiting = waiting[1:]
		}
	}
	for _, f := range feeds {
		if f.err != nil {
			return fmt.Errorf("node %s: %w", events.Safe(m.sources[f.node].Node), f.err)
		}
	}
	if len(waiting) > 0 {
		return errChanged
	}
	return nil
}

func earliest(feeds []*feed) *feed {
	var best *feed
	for _, f := range feeds {
		if f.t != nil && (best == nil || f.at < best.at) {
			best = f
		}
	}
	return best
}

// place puts what a feed has read in its place, and returns the plan that it
// begins; nil if it begins none.
func (m *merger) place(f *feed) (*plan, error) {
	t := f.t
	m.rename(f.node, t)
	if f.ord >= len(m.byOrd[f.node]) {
		return nil, errChanged
	}
	i := m.byOrd[f.node][f.ord]
	if i < 0 {
		return &plan{node: f.node, got: []*events.Traversal{t}}, nil
	}
	if tr := &m.travs[i]; tr.id != number(t.ID) || (tr.in >= 0) != (t.In != nil) || (tr.out >= 0) != (t.Out != nil) {
		return nil, errChanged
	}
	var begins *plan
	for _, p := range m.places[i] {
		p.plan.got[p.at] = t
		p.plan.need--
		if p.at == 0 {
			begins = p.plan
		}
	}
	m.places[i] = nil
	return begins, nil
}

// rename gives a traversal the flow, direction and links of the whole picture.
func (m *merger) rename(node int, t *events.Traversal) {
	n := name{uint8(node), number(t.Flow)} //nolint:gosec // see maxSources
	if n.id != 0 {
		root, opposite := m.flows.root(n)
		if root.node != 0 {
			// The numbers of two nodes have nothing to do with each other.
			root.id = flowOf(m.sources[root.node].Node, root.id)
		}
		t.Flow = hexID(root.id)
		if opposite && !isICMPError(t) {
			t.Direction = map[string]string{"request": "reply", "reply": "request"}[t.Direction]
		}
	}
	if r, ok := m.renamed[name{uint8(node), number(t.CausedBy)}]; ok && t.CausedBy != "" { //nolint:gosec // see maxSources
		t.CausedBy, t.CausedByText = hexID(r.id), r.text(t.CausedByText)
	}
	t.Causes, t.CausesText = slices.Clone(t.Causes), slices.Clone(t.CausesText)
	for i, id := range t.Causes {
		if r, ok := m.renamed[name{uint8(node), number(id)}]; ok { //nolint:gosec // see maxSources
			t.Causes[i] = hexID(r.id)
			if i < len(t.CausesText) {
				t.CausesText[i] = r.text(t.CausesText[i])
			}
		}
	}
}

func hexID(id uint64) string {
	s := strconv.FormatUint(id, 16)
	return "0000000000000000"[min(len(s), 16):] + s
}

// flowOf is a number for a flow that only one node has.
func flowOf(node string, id uint64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(binary.LittleEndian.AppendUint64([]byte(node), id))
	return h.Sum64()
}

// isICMPError says whether a packet is about another one: then it counts as a
// reply, whatever it is about.
func isICMPError(t *events.Traversal) bool {
	typ, _, _ := strings.Cut(t.ICMP, "/")
	switch t.Proto {
	case "icmp":
		return slices.Contains([]string{"3", "4", "5", "11", "12"}, typ)
	case "icmp6":
		return slices.Contains([]string{"1", "2", "3", "4"}, typ)
	}
	return false
}
