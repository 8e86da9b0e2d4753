// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strconv"

	"github.com/stackhop/stackhop/events"
)

// detail is a traversal down to its hooks, written for the page.
type detail struct {
	row  int
	json []byte
}

// detailOf writes what the page shows of a single packet beside its row and its
// path. Texts are numbers of the dictionary.
//
//	{"v":[[netns,start,end,[hook,ns since the one before,device,detail,…],[[by,kind,masquerade,hook,ns,from,to,service,pod,node,stale,devices passed],…]],…],
//	 "ct":[original,reply,state],"svc":[service,where its packets may go,its endpoints],"n":[notes],"no":[not observed],"kr":kernel reason,"loc":location,"lost":events,
//	 "why":[[ns,netns,what,hook,decides],…],"f":[[reason,title,advice,unless],…],"x":visits}
//
// why and f are there only if it was terminated.
//
// x, the visits as those of a path, is there only if the path has none.
func (c *collector) detailOf(row int, t *events.Traversal, other bool) detail {
	b := c.appendVisits(append(c.buf[:0], `{"v":[`...), t)
	b = append(b, ']')
	field := func(name string, v any) { b = appendJSON(append(append(b, `,"`...), name+`":`...), v) }
	if ct := t.Conntrack; ct != nil {
		field("ct", c.dict.ids([]string{ct.Original, ct.Reply, ct.State}))
	}
	if f := t.Service; f != nil {
		words := []string{serviceText(f), f.String()}
		if f.Endpoints != nil {
			words = append(words, f.Endpoints.String())
		}
		field("svc", c.dict.ids(words))
	}
	if len(t.Notes) > 0 {
		field("n", c.dict.ids(t.Notes))
	}
	if len(t.NotObserved) > 0 {
		field("no", c.dict.ids(t.NotObserved))
	}
	if t.KernelReason != "" || t.Location != "" {
		field("kr", c.dict.id(t.KernelReason))
		field("loc", c.dict.id(t.Location))
	}
	if t.Lost > 0 {
		field("lost", t.Lost)
	}
	if t.Verdict == events.Terminated {
		b = c.appendWhy(b, t)
	}
	if other {
		field("x", c.visitsOf(visits(t)))
	}
	c.buf = append(b, '}')
	return detail{row, append([]byte(nil), c.buf...)}
}

// appendWhy writes the chain of evidence, and what is known of such an end.
func (c *collector) appendWhy(b []byte, t *events.Traversal) []byte {
	why := events.Explain(t)
	steps := make([][]any, 0, len(why.Steps))
	for _, s := range why.Steps {
		steps = append(steps, []any{s.NS, c.dict.id(s.Netns), c.dict.id(s.Text), c.dict.id(s.Hook), s.Decides})
	}
	findings := make([][]int, 0, len(why.Findings))
	for _, f := range why.Findings {
		findings = append(findings, c.dict.ids([]string{f.Reason, f.Title, f.Advice, f.Unless}))
	}
	b = appendJSON(append(b, `,"why":`...), steps)
	return appendJSON(append(b, `,"f":`...), findings)
}

// serviceText says which service it is, and of what kind.
func serviceText(f *events.ServiceFacts) string {
	s := f.Name + " port " + f.Port + ", " + f.Type
	if f.Affinity {
		s += ", session affinity"
	}
	return s
}

func (c *collector) appendVisits(b []byte, t *events.Traversal) []byte {
	all := make([][]way, len(t.Visits))
	for i := range t.Visits {
		all[i] = ways(&t.Visits[i])
	}
	for i := range t.Visits {
		v := &t.Visits[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = appendNumber(b, uint64(v.Netns))
		b = appendNumber(b, v.StartNS)
		b = strconv.AppendUint(b, v.EndNS, 10)
		b = append(b, ",["...)
		before := v.StartNS
		for j := range v.Hooks {
			h := &v.Hooks[j]
			if j > 0 {
				b = append(b, ',')
			}
			b = appendNumber(b, uint64(c.dict.id(h.Hook)))                       //nolint:gosec // not negative
			b = append(strconv.AppendInt(b, int64(h.NS)-int64(before), 10), ',') //nolint:gosec // ns of one traversal
			b = appendNumber(b, uint64(c.dict.id(h.Device)))                     //nolint:gosec // not negative
			b = strconv.AppendInt(b, int64(c.dict.id(h.Detail)), 10)
			before = h.NS
		}
		b = append(b, "],["...)
		for j := range v.NAT {
			n := &v.NAT[j]
			if j > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, []any{
				c.dict.id(n.By), c.dict.id(n.Kind), n.Masquerade, c.dict.id(n.Hook), n.NS,
				c.dict.id(n.From), c.dict.id(n.To),
				c.dict.id(n.Service), c.dict.id(n.Pod), c.dict.id(n.Node), c.dict.id(n.Mark), n.Stale, place(t.Visits, all, i, n),
			})
		}
		b = append(b, "]]"...)
	}
	return b
}

func appendNumber(b []byte, n uint64) []byte { return append(strconv.AppendUint(b, n, 10), ',') }

// keep takes the details of a traversal in, as far as there is room: of those
// that were terminated all; of the others maxSamples, spread over the time, and
// the slowest. A few of each path are kept in any case.
func (c *collector) keep(g *group, row int, t *events.Traversal) {
	if took := whole(t); took > g.slow || g.count == 1 {
		g.slow = took
		g.slowest = c.detailOf(row, t, g.other)
	}
	if g.verdict == events.Terminated && c.room > 0 {
		d := c.detailOf(row, t, g.other)
		c.room -= len(d.json)
		g.kept = append(g.kept, d)
		return
	}
	if (g.count-1)%g.stride != 0 {
		return
	}
	if len(g.samples) == maxSamples {
		for i := range maxSamples / 2 {
			g.samples[i] = g.samples[2*i]
		}
		g.samples = g.samples[:maxSamples/2]
		g.stride *= 2
	}
	g.samples = append(g.samples, c.detailOf(row, t, g.other))
}
