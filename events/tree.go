// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// TreeRenderer writes a traversal as a tree: its visits, the hooks of each with
// the time since the one before, and the translations at the hook that made
// them.
type TreeRenderer struct {
	W     io.Writer
	Color bool
	// Location is the time zone of the times; nil means the local one.
	Location *time.Location
	// Explain writes the chain of evidence below, and what to check next.
	Explain bool

	buf bytes.Buffer
}

var _ Renderer = (*TreeRenderer)(nil)

// Render writes t.
func (r *TreeRenderer) Render(t *Traversal) error {
	r.buf.Reset()
	writeHeader(&r.buf, t, r.Location, r.Color)
	fmt.Fprintf(&r.buf, "│  packet %s, flow %s, %s, %s\n",
		orUnknown(t.ID), orUnknown(t.Flow), orUnknown(t.Direction), plural(int(t.Length), "byte"))

	rest := treeRest(t)
	widths := hookWidths(t)
	before := uint64(0)
	for i := range t.Visits {
		branch, stem := "├─ ", "│  "
		if i == len(t.Visits)-1 && len(rest) == 0 {
			branch, stem = "└─ ", "   "
		}
		r.buf.WriteString(branch + visitText(&t.Visits[i]) + "\n")
		before = r.writeHooks(&t.Visits[i], stem, before, widths)
	}
	for i, s := range rest {
		branch := "├─ "
		if i == len(rest)-1 {
			branch = "└─ "
		}
		r.buf.WriteString(branch + s + "\n")
	}
	if r.Explain {
		for _, s := range explanationText(t) {
			r.buf.WriteString("   " + s + "\n")
		}
	}
	_, err := r.W.Write(r.buf.Bytes())
	return err
}

// treeRest is what stands below the visits.
func treeRest(t *Traversal) []string {
	out := []string{"data link " + dataLinkText(t.DataLink)}
	inVisits := 0
	for i := range t.Visits {
		inVisits += len(t.Visits[i].NAT)
	}
	if inVisits == 0 {
		for i := range t.NAT {
			out = append(out, natText(&t.NAT[i])+" in "+Safe(t.NAT[i].Hook))
		}
	}
	if ct := t.Conntrack; ct != nil {
		out = append(out, "conntrack "+Safe(ct.State)+": "+SafeSentence(ct.Original)+", reply "+SafeSentence(ct.Reply))
	}
	if f := t.Service; f != nil && f.Endpoints != nil {
		out = append(out, "service "+Safe(f.Name)+" port "+Safe(f.Port)+", endpoints: "+f.Endpoints.String())
	}
	return append(out, remarks(t)...)
}

// visitText is the line of a visit.
func visitText(v *Visit) string {
	var b strings.Builder
	if v.Kind != "" {
		b.WriteString(Safe(v.Kind) + " ")
	}
	if v.Name != "" {
		b.WriteString(Safe(v.Name) + " ")
	}
	b.WriteByte('(')
	if v.Pod != "" && v.Pod != v.Name {
		b.WriteString(Safe(v.Pod) + ", ")
	}
	fmt.Fprintf(&b, "netns %d", v.Netns)
	if v.Node != "" && v.Node != v.Name {
		b.WriteString(", node " + Safe(v.Node))
	}
	if v.Labels != "" {
		b.WriteString(", " + SafeSentence(string(v.Labels)))
	}
	b.WriteString("): " + stacksText(v.Stacks))
	b.WriteString(", " + enteredText(v.Entered) + ", " + leftText(v.Left))
	if v.Bridged {
		b.WriteString(", bridged")
		if v.BridgeNF {
			b.WriteString(" with netfilter")
		}
	}
	if len(v.Devices) > 0 {
		b.WriteString(", by " + dataLinkText(v.Devices))
	}
	return b.String()
}

func stacksText(n float64) string {
	s := strconv.FormatFloat(n, 'g', -1, 64)
	if n == 1 {
		return s + " stack"
	}
	return s + " stacks"
}

func enteredText(via string) string {
	switch via {
	case ViaSocket:
		return "from a socket"
	case ViaDevice:
		return "from a device"
	case ViaKernel:
		return "made by the kernel"
	case ViaUnknown, "":
		return "beginning not seen"
	}
	return "from " + Safe(via)
}

func leftText(via string) string {
	switch via {
	case ViaSocket:
		return "to a socket"
	case ViaDevice:
		return "to a device"
	case ViaTerminated:
		return "terminated here"
	case ViaUnknown, "":
		return "end not seen"
	}
	return "to " + Safe(via)
}

// columns are the widths of a traversal's hook names and devices.
type columns struct{ hook, device int }

func hookWidths(t *Traversal) columns {
	var w columns
	for i := range t.Visits {
		for j := range t.Visits[i].Hooks {
			h := &t.Visits[i].Hooks[j]
			w.hook = max(w.hook, utf8.RuneCountInString(Safe(h.Hook)))
			w.device = max(w.device, utf8.RuneCountInString(Safe(h.Device)))
		}
	}
	return w
}

// writeHooks writes the hooks of a visit. The times are those since the hook
// before, also across visits; it returns the time of the last one.
func (r *TreeRenderer) writeHooks(v *Visit, stem string, before uint64, w columns) uint64 {
	places := natPlaces(v)
	for i := range v.Hooks {
		h := &v.Hooks[i]
		line := fmt.Sprintf("%s%10s  %s  %s  %s", stem, elapsed(before, h.NS),
			pad(Safe(h.Hook), w.hook), pad(Safe(h.Device), w.device), Safe(h.Detail))
		r.buf.WriteString(strings.TrimRight(line, " ") + "\n")
		before = h.NS
		for j := range v.NAT {
			if places[j] == i {
				r.writeNAT(&v.NAT[j], stem)
			}
		}
	}
	for j := range v.NAT {
		if places[j] < 0 {
			r.writeNAT(&v.NAT[j], stem)
		}
	}
	return before
}

// natPlaces finds the hook at which each translation of a visit happened, -1 if
// it is not there.
func natPlaces(v *Visit) []int {
	places := make([]int, len(v.NAT))
	for j := range v.NAT {
		n := &v.NAT[j]
		places[j] = slices.IndexFunc(v.Hooks, func(h HookVisit) bool { return h.Hook == n.Hook && h.NS == n.NS })
	}
	return places
}

func (r *TreeRenderer) writeNAT(n *NAT, stem string) {
	fmt.Fprintf(&r.buf, "%s%10s  ╰ %s\n", stem, "", natText(n))
}

// pad fills s up to width characters. fmt would do, were it not for counting
// what it pads in bytes when the text has escapes of several bytes.
func pad(s string, width int) string {
	if n := utf8.RuneCountInString(s); n < width {
		return s + strings.Repeat(" ", width-n)
	}
	return s
}

// elapsed is the time from one hook to the next, in the unit that keeps it
// short. Clocks of CPUs may differ by little: a negative one is shown as such.
func elapsed(from, to uint64) string {
	if to < from {
		return "-" + lapse(from-to)
	}
	return "+" + lapse(to-from)
}

// lapse is a number of ns in few characters.
func lapse(ns uint64) string {
	switch {
	case ns < 1e3:
		return fmt.Sprintf("%dns", ns)
	case ns < 1e4:
		return fmt.Sprintf("%.1fµs", float64(ns)/1e3)
	case ns < 1e6:
		return fmt.Sprintf("%dµs", ns/1e3)
	case ns < 1e9:
		return fmt.Sprintf("%.1fms", float64(ns)/1e6)
	}
	return fmt.Sprintf("%.1fs", float64(ns)/1e9)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return Safe(s)
}
