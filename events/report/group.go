// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// Bounds of one path.
const (
	maxTimes   = 4096 // traversals whose times are kept, for the percentiles
	maxSamples = 16   // traversals that did end well, kept with their hooks
	maxLabels  = 32   // different translations in one visit that are told apart
)

// group is one path: traversals of one protocol and direction with the same
// visits, devices, kinds of translation, and end.
type group struct {
	id      int
	other   bool // gathers what came when there were too many paths
	verdict events.Verdict
	where   string
	reason  string
	proto   string
	reply   bool
	stacks  float64
	l3      float64
	visits  []visit
	summary string // of the first; see same
	same    bool   // all have this summary

	count int
	lost  int
	slow  uint64 // ns: the slowest so far
	times times
	nats  map[label]int
	rest  int // translations beyond maxLabels different ones

	kept    []detail // terminated ones
	samples []detail
	slowest detail
	stride  int
}

// visit is a visit as all traversals of a path have it.
type visit struct {
	name, kind, node, pod, entered, left string
	stacks                               float64
	bridged, bridgeNF                    bool
	devices                              []string
	ways                                 []way
}

// label is a translation as many packets share it.
type label struct {
	visit      int
	by, kind   string
	masquerade bool
	from, to   string
	// Names of the end that it changed, as in events.NAT.
	service, pod, node string
	mark               string
}

// appendKey writes what two traversals must have in common to be one path.
func appendKey(b []byte, t *events.Traversal) []byte {
	word := func(s string) {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, ':')
		b = append(b, s...)
	}
	word(string(t.Verdict))
	word(t.Where)
	word(t.Reason)
	word(t.Proto)
	word(t.Direction)
	for i := range t.Visits {
		v := &t.Visits[i]
		b = append(b, '|')
		word(v.Name)
		word(v.Kind)
		word(v.Node)
		word(v.Pod)
		word(v.Entered)
		word(v.Left)
		b = strconv.AppendBool(b, v.Bridged)
		b = strconv.AppendBool(b, v.BridgeNF)
		for _, d := range v.Devices {
			word(d)
		}
		for j := range v.NAT {
			n := &v.NAT[j]
			b = append(b, '>')
			word(n.By)
			word(n.Kind)
			b = strconv.AppendBool(b, n.Masquerade)
		}
	}
	return b
}

func newGroup(id int, t *events.Traversal) *group {
	return &group{
		id: id, verdict: t.Verdict, where: t.Where, reason: t.Reason, proto: t.Proto, reply: t.Direction == "reply",
		stacks: t.Stacks, l3: t.L3Stacks, visits: visits(t), summary: t.Summary, same: true,
		nats: map[label]int{}, times: times{width: max(1, 2*len(t.Visits)), stride: 1}, stride: 1,
	}
}

// otherGroup gathers traversals of which only the end is the same.
func otherGroup(id int, t *events.Traversal) *group {
	return &group{id: id, other: true, verdict: t.Verdict, where: t.Where, reason: t.Reason, times: times{width: 1, stride: 1}, stride: 1}
}

func visits(t *events.Traversal) []visit {
	out := make([]visit, len(t.Visits))
	for i := range t.Visits {
		v := &t.Visits[i]
		out[i] = visit{
			name: v.Name, kind: v.Kind, node: v.Node, pod: v.Pod, entered: v.Entered, left: v.Left, stacks: v.Stacks,
			bridged: v.Bridged, bridgeNF: v.BridgeNF, devices: v.Devices, ways: ways(v),
		}
	}
	return out
}

// add counts a traversal in. size is what all paths take in the file, about.
func (g *group) add(t *events.Traversal, size *int) {
	g.count++
	g.lost += t.Lost
	g.same = g.same && t.Summary == g.summary
	g.times.add(t)
	if g.other {
		return
	}
	for i := range t.Visits {
		for j := range t.Visits[i].NAT {
			l := labelOf(i, &t.Visits[i].NAT[j], g.reply)
			if _, ok := g.nats[l]; !ok {
				if len(g.nats) >= maxLabels || *size >= maxGroupSize {
					g.rest++
					continue
				}
				*size += perLabel + (len(l.from)+len(l.to)+len(l.service)+len(l.pod)+len(l.node))*perByte
			}
			g.nats[l]++
		}
	}
}

// labelOf says what a translation changed, without what differs with each
// connection: the client's port.
func labelOf(visit int, n *events.NAT, reply bool) label {
	from, to := changed(n.From, n.To)
	if n.Masquerade || (reply && n.Kind == "dnat") {
		from, to = withoutPort(from), withoutPort(to)
	}
	return label{visit: visit, by: n.By, kind: n.Kind, masquerade: n.Masquerade, from: from, to: to, service: n.Service, pod: n.Pod, node: n.Node, mark: n.Mark}
}

// changed keeps of two pairs SRC→DST the ends that differ, if only one does.
func changed(from, to string) (was, is string) {
	fromSrc, fromDst, ok1 := strings.Cut(from, "→")
	toSrc, toDst, ok2 := strings.Cut(to, "→")
	switch {
	case !ok1 || !ok2:
	case fromSrc == toSrc && fromDst != toDst:
		return fromDst, toDst
	case fromDst == toDst && fromSrc != toSrc:
		return fromSrc, toSrc
	}
	return from, to
}

func withoutPort(s string) string {
	i := strings.LastIndexByte(s, ':')
	switch {
	case i < 0:
		return s
	case s[0] == '[' && s[i-1] == ']':
		return s[1 : i-1]
	case strings.IndexByte(s, ':') == i:
		return s[:i]
	}
	return s // an IPv6 address alone
}

// labels are the translations seen, the frequent ones of each visit first.
func (g *group) labels() []label {
	out := make([]label, 0, len(g.nats))
	for l := range g.nats {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b label) int {
		return cmp.Or(cmp.Compare(a.visit, b.visit), cmp.Compare(g.nats[b], g.nats[a]),
			strings.Compare(a.kind, b.kind), strings.Compare(a.from, b.from), strings.Compare(a.to, b.to))
	})
	return out
}

// severity orders paths: what is most worth looking at first.
func (g *group) severity() int {
	return slices.Index([]events.Verdict{events.Terminated, events.Incomplete, events.InFlight, events.LeftNode, events.Delivered}, g.verdict)
}
