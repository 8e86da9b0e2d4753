// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"fmt"

	"github.com/stackhop/stackhop/events"
)

// maxParts bounds the nodes on the way of one packet. Real ones have two to
// four; TTL ends a loop well below it.
const maxParts = 256

// plan is a packet's way over several nodes.
type plan struct {
	node  int   // where it begins
	parts []int // indexes into travs; empty: it came or left by no wire
	notes []string
	got   []*events.Traversal
	need  int // parts not read yet
}

// place is where a traversal goes that is read the second time.
type place struct {
	plan *plan
	at   int
}

// makePlans follows each packet from the node that it is seen on first.
func (m *merger) makePlans() {
	m.places = make([][]place, len(m.travs))
	used := make([]bool, len(m.travs))
	for i := range m.travs {
		m.follow(i)
	}
	for pass := range 2 {
		for i := range m.travs {
			// The second time takes what only leads in a circle.
			if (pass == 0 && !m.travs[i].part) || (pass == 1 && !used[i]) {
				m.addPlan(i, used)
			}
		}
	}
}

// addPlan makes the plan of a packet that begins with a traversal.
func (m *merger) addPlan(head int, used []bool) {
	p := &plan{node: int(m.travs[head].node)}
	for i := head; i >= 0 && len(p.parts) < maxParts; i = m.travs[i].next {
		p.parts = append(p.parts, i)
		if note := m.wireNote(&m.travs[i]); note != "" {
			p.notes = append(p.notes, note)
		}
	}
	p.need = len(p.parts)
	p.got = make([]*events.Traversal, len(p.parts))
	last := &m.travs[p.parts[len(p.parts)-1]]
	for at, i := range p.parts {
		m.places[i] = append(m.places[i], place{p, at})
		m.use(i, used)
		if len(p.parts) > 1 {
			m.renamed[name{m.travs[i].node, m.travs[i].id}] = renamed{m.travs[head].id, last.verdict, m.travs[i].verdict}
		}
	}
}

// use notes that a traversal is part of a packet that is given out, and with
// it all that it went on as.
func (m *merger) use(i int, used []bool) {
	for todo := []int{i}; len(todo) > 0; {
		i = todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if used[i] {
			continue
		}
		used[i] = true
		if out := m.travs[i].out; out >= 0 {
			for _, e := range m.ends[out].peers {
				todo = append(todo, m.ends[e].trav)
			}
		}
	}
}

// follow finds how a packet goes on from a traversal. Of the parts in which it
// arrived it takes the one that ended worst, as all of them must arrive; of
// fragments the best, as a socket gets only what was joined from all.
func (m *merger) follow(i int) {
	t := &m.travs[i]
	if t.followed || t.onWay {
		return
	}
	t.onWay = true
	if t.out >= 0 {
		out := &m.ends[t.out]
		for _, e := range out.peers {
			next := m.ends[e].trav
			m.follow(next)
			n := &m.travs[next]
			if n.onWay {
				continue // it leads in a circle
			}
			if t.next < 0 || (n.outcome > m.travs[t.next].outcome) != out.frag && n.outcome != m.travs[t.next].outcome {
				t.next = next
			}
			if n.outcome == 0 {
				t.arrived++
			}
		}
	}
	t.outcome = badness(t.verdict)
	if t.next >= 0 {
		t.outcome = m.travs[t.next].outcome
	}
	t.onWay, t.followed = false, true
}

// wireNote says in how many packets one went over the wire behind a traversal.
func (m *merger) wireNote(t *trav) string {
	if t.out < 0 || t.next < 0 {
		return ""
	}
	out := &m.ends[t.out]
	in := &m.ends[m.travs[t.next].in]
	if n := len(out.peers); n > 1 {
		return m.partsNote(out, n, t.arrived)
	}
	if len(in.peers) > 1 {
		return fmt.Sprintf("came to %s merged with %s", m.sources[in.node].Node, count(len(in.peers)-1, "other packet"))
	}
	return ""
}

func (m *merger) partsNote(out *end, n, arrived int) string {
	word := "packets"
	if out.frag {
		word = "fragments"
	}
	note := fmt.Sprintf("came to %s as %d %s", m.sources[m.ends[out.peers[0]].node].Node, n, word)
	if !out.frag && arrived < n {
		note += fmt.Sprintf(", %d of them arrived", arrived)
	}
	return note
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// name is a traversal's or a flow's number on its node.
type name struct {
	node uint8
	id   uint64
}

// renamed is the traversal that one has become a part of.
type renamed struct {
	id       uint64
	now, was events.Verdict
}

// flows joins the flows of the nodes to those of the whole: union-find, with
// whether the directions of two are opposite.
type flows struct {
	up map[name]flowLink
}

type flowLink struct {
	to       name
	opposite bool
}

// root is the flow that stands for all that were joined with one.
func (f *flows) root(n name) (root name, opposite bool) {
	l, ok := f.up[n]
	if !ok {
		return n, false
	}
	root, o := f.root(l.to)
	opposite = l.opposite != o
	f.up[n] = flowLink{root, opposite}
	return root, opposite
}

// join makes one flow of two. The one on the node given first stands for both.
func (f *flows) join(a, b name, opposite bool) {
	ra, oa := f.root(a)
	rb, ob := f.root(b)
	if ra == rb {
		return
	}
	if rb.node < ra.node || (rb.node == ra.node && rb.id < ra.id) {
		ra, rb = rb, ra
	}
	f.up[rb] = flowLink{ra, (oa != ob) != opposite}
}

// joinFlows joins the flows of all packets that were joined. An ICMP error is a
// reply whatever it is about, so it tells nothing of the directions.
func (m *merger) joinFlows() {
	for _, about := range [2]bool{false, true} {
		for i := range m.ends {
			e := &m.ends[i]
			a := &m.travs[e.trav]
			if e.in || a.about != about || a.flow == 0 {
				continue
			}
			for _, peer := range e.peers {
				if b := &m.travs[m.ends[peer].trav]; b.flow != 0 {
					m.flows.join(name{a.node, a.flow}, name{b.node, b.flow}, a.reply != b.reply)
				}
			}
		}
	}
}
