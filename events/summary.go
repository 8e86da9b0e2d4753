// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// SummaryRenderer counts traversals instead of writing each: one paragraph for
// those that took the same path to the same end, written by Flush. Their times
// are told for the whole way, for each stack, and for each segment between two:
//
//	12 traversals: 2 terminated, 10 delivered
//
//	2 (16.7%) terminated in IPVS, no-destination | 1.5 stacks, tcp
//	    centos eth0 → vethcentos → cni0
//	    e.g. 15:04:05.123456 7f3a…: 1.5 stacks, terminated in IPVS: 8.219.164.113:80 has no destination on this node
//	                              p50     p90     p99     max
//	    whole way               112µs   118µs   118µs   118µs
//	    pod centos               31µs    33µs    33µs    33µs
//	    ╰ eth0 → vethcentos     500ns   510ns   510ns   510ns
//	    node n1                  80µs    84µs    84µs    84µs
//
// Memory is bounded: paths beyond the bound are counted by verdict only.
// Quantiles are at most 1/16 too large.
type SummaryRenderer struct {
	W     io.Writer
	Color bool
	// Location is the time zone of the times; nil means the local one.
	Location *time.Location

	groups map[string]*summaryGroup
	timed  int // histograms in use
	all    verdictCounts
	others verdictCounts // of paths beyond the bound
	buf    bytes.Buffer
}

var _ Renderer = (*SummaryRenderer)(nil)

const (
	// maxHistograms bounds the memory, at 2.6 KB for each.
	maxHistograms = 8192
	// maxTimedRows bounds those of one path. Only a routing loop is longer.
	maxTimedRows = 41
)

// verdictOrder is the order in which a summary tells them: what failed first.
var verdictOrder = []Verdict{Terminated, Incomplete, InFlight, LeftNode, Delivered}

// verdictCounts counts traversals by verdict.
type verdictCounts map[Verdict]int

func (c verdictCounts) total() int {
	n := 0
	for _, v := range c {
		n += v
	}
	return n
}

func (c verdictCounts) String() string {
	var parts []string
	for _, v := range verdictOrder {
		if c[v] > 0 {
			parts = append(parts, strconv.Itoa(c[v])+" "+string(v))
		}
	}
	return strings.Join(parts, ", ")
}

// summaryGroup is what is told of one path.
type summaryGroup struct {
	order   int // of its first traversal
	count   int
	verdict Verdict
	end     string
	what    string // stacks and protocol
	link    string
	example string
	rows    []summaryRow
	cut     bool // it has more stacks than rows
}

// summaryRow is the time of a stack or a segment.
type summaryRow struct {
	label string
	times histogram
}

// Render counts t.
func (r *SummaryRenderer) Render(t *Traversal) error {
	if r.groups == nil {
		r.groups, r.all, r.others = map[string]*summaryGroup{}, verdictCounts{}, verdictCounts{}
	}
	r.all[t.Verdict]++
	key := pathKey(t)
	g := r.groups[key]
	if g == nil {
		rows := min(2*len(t.Visits), maxTimedRows)
		if r.timed+max(rows, 1) > maxHistograms {
			r.others[t.Verdict]++
			return nil
		}
		r.timed += max(rows, 1)
		g = r.newGroup(t)
		r.groups[key] = g
	}
	g.add(t)
	return nil
}

// pathKey is the same for traversals that are told together.
func pathKey(t *Traversal) string {
	var b strings.Builder
	add := func(s string) {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(':')
		b.WriteString(s)
	}
	for _, s := range []string{string(t.Verdict), t.Where, t.Reason, t.KernelReason, t.Proto, t.Direction, strconv.FormatFloat(t.Stacks, 'g', -1, 64)} {
		add(s)
	}
	for _, dev := range t.DataLink {
		add(dev)
	}
	for i := range t.Visits {
		v := &t.Visits[i]
		add(v.Kind + "/" + v.Name)
		if v.Bridged {
			add("bridged")
		}
	}
	for i := range t.NAT {
		add(natKind(&t.NAT[i]))
	}
	return b.String()
}

// natKind is a translation without its addresses.
func natKind(n *NAT) string {
	s := n.Kind
	if n.By != byUnknown {
		s += " by " + n.By
	}
	if n.Masquerade {
		s += " (masquerade)"
	}
	return s
}

func (r *SummaryRenderer) newGroup(t *Traversal) *summaryGroup {
	zone := r.Location
	if zone == nil {
		zone = time.Local
	}
	g := &summaryGroup{
		order: len(r.groups), verdict: t.Verdict, end: endText(t),
		what:    countWords(t.Stacks, len(t.NotObserved) == 0) + ", " + Safe(t.Proto),
		link:    dataLinkText(t.DataLink),
		example: "e.g. " + t.Time.In(zone).Format("15:04:05.000000") + " " + orUnknown(t.ID) + ": " + SafeSentence(t.Summary),
	}
	if t.Direction == directionReply {
		g.what += " reply"
	}
	for i := range t.NAT {
		g.link += " | " + Safe(natKind(&t.NAT[i]))
	}
	label := func(s string) {
		if g.cut = len(g.rows) == maxTimedRows; !g.cut {
			g.rows = append(g.rows, summaryRow{label: s})
		}
	}
	label("whole way")
	for i := range t.Visits {
		if i > 0 {
			label(segmentText(&t.Visits[i-1], &t.Visits[i]))
		}
		label(stackText(&t.Visits[i]))
	}
	return g
}

// endText is how a traversal ended, without what only this one has.
func endText(t *Traversal) string {
	s := string(t.Verdict)
	if t.Where != "" && t.Verdict == Terminated {
		s += " in " + orWords(whereWords[t.Where], Safe(t.Where))
	}
	for _, reason := range []string{t.Reason, t.KernelReason} {
		if reason != "" {
			s += ", " + Safe(reason)
		}
	}
	return s
}

// stackText names a visit.
func stackText(v *Visit) string {
	s := strings.TrimSpace(Safe(v.Kind) + " " + Safe(v.Name))
	if s == "" {
		s = "netns " + strconv.FormatUint(uint64(v.Netns), 10)
	}
	if v.Bridged {
		s += " (bridged)"
	}
	return s
}

// segmentText names what lies between two visits by the devices at its ends.
func segmentText(from, to *Visit) string {
	a, b := "", ""
	if n := len(from.Devices); n > 0 {
		a = Safe(from.Devices[n-1]) + " "
	}
	if len(to.Devices) > 0 {
		b = " " + Safe(to.Devices[0])
	}
	return "╰ " + a + "→" + b
}

// add counts the times of a traversal. Those of several nodes may lie before
// each other, as far as their clocks are not known to the ns: they count as 0.
func (g *summaryGroup) add(t *Traversal) {
	g.count++
	row := 0
	time := func(from, to uint64) {
		if row < len(g.rows) {
			g.rows[row].times.add(since(from, to))
		}
		row++
	}
	end := uint64(0)
	for i := range t.Visits {
		end = max(end, t.Visits[i].EndNS)
	}
	time(0, end)
	for i := range t.Visits {
		if i > 0 {
			time(t.Visits[i-1].EndNS, t.Visits[i].StartNS)
		}
		time(t.Visits[i].StartNS, t.Visits[i].EndNS)
	}
}

// Flush writes the summary of all traversals so far. It is called once, at the end.
func (r *SummaryRenderer) Flush() error {
	r.buf.Reset()
	total := r.all.total()
	r.buf.WriteString(plural(total, "traversal"))
	if total > 0 {
		r.buf.WriteString(": " + r.all.String())
	}
	r.buf.WriteByte('\n')
	groups := make([]*summaryGroup, 0, len(r.groups))
	for _, g := range r.groups {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *summaryGroup) int {
		return cmp.Or(cmp.Compare(slices.Index(verdictOrder, a.verdict), slices.Index(verdictOrder, b.verdict)),
			cmp.Compare(b.count, a.count), cmp.Compare(a.order, b.order))
	})
	for _, g := range groups {
		r.group(g, total)
	}
	if n := r.others.total(); n > 0 {
		fmt.Fprintf(&r.buf, "\n%d (%s) on more paths than are told apart: %s\n", n, percent(n, total), r.others)
	}
	_, err := r.W.Write(r.buf.Bytes())
	return err
}

func percent(n, of int) string { return fmt.Sprintf("%.1f%%", 100*float64(n)/float64(of)) }

// group writes the paragraph of a path.
func (r *SummaryRenderer) group(g *summaryGroup, total int) {
	on, off := verdictColor(g.verdict, r.Color)
	fmt.Fprintf(&r.buf, "\n%d (%s) %s%s%s | %s\n    %s\n    %s\n", g.count, percent(g.count, total), on, g.end, off, g.what, g.link, g.example)
	width := 0
	for i := range g.rows {
		width = max(width, utf8.RuneCountInString(g.rows[i].label))
	}
	fmt.Fprintf(&r.buf, "    %s  %8s%8s%8s%8s\n", pad("", width), "p50", "p90", "p99", "max")
	for i := range g.rows {
		h := &g.rows[i].times
		fmt.Fprintf(&r.buf, "    %s  %8s%8s%8s%8s\n", pad(g.rows[i].label, width),
			lapse(h.quantile(50)), lapse(h.quantile(90)), lapse(h.quantile(99)), lapse(h.max))
	}
	if g.cut {
		r.buf.WriteString("    and more stacks, not timed\n")
	}
}
