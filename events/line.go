// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Renderer writes traversals in one of the output forms.
type Renderer interface {
	Render(t *Traversal) error
}

// LineRenderer writes one line for each traversal: when, what, from where to
// where, and the sentence that says how it ended. Indented below it stand the
// data link with the translations on it, and whatever else is worth knowing:
//
//	15:04:05.123456 tcp S 172.23.96.23:33290 (default/centos, curl 541) → 8.219.164.113:80 (svc default/nginx1) | 1.5 stacks, terminated in IPVS: 8.219.164.113:80 has no destination on this node
//	    centos eth0 → vethcentos → cni0
//	    therefore icmp 3/3 reply 8.219.164.113 → 172.23.96.23, delivered (80bd…)
//
// Each line is written for grep: what belongs together stands in one line.
// Behind an address stand its names: pod, service, node, process. "perhaps no
// longer" says that the first three may be out of date: the pod is gone, or who
// told of it has not been heard of since.
//
// "eth0 ↩ eth0" is a U-turn: the packet goes out by the device it came in by.
type LineRenderer struct {
	W     io.Writer
	Color bool
	// Location is the time zone of the times; nil means the local one.
	Location *time.Location
	// Explain writes the chain of evidence below, and what to check next.
	Explain bool

	buf bytes.Buffer
}

var _ Renderer = (*LineRenderer)(nil)

// Render writes t.
func (r *LineRenderer) Render(t *Traversal) error {
	r.buf.Reset()
	writeHeader(&r.buf, t, r.Location, r.Color)

	r.buf.WriteString("    ")
	r.buf.WriteString(dataLinkText(t.DataLink))
	for i := range t.NAT {
		r.buf.WriteString(" | ")
		r.buf.WriteString(natText(&t.NAT[i]))
	}
	r.buf.WriteByte('\n')
	below := remarks(t)
	if r.Explain {
		below = append(below, explanationText(t)...)
	}
	for _, s := range below {
		r.buf.WriteString("    ")
		r.buf.WriteString(s)
		r.buf.WriteByte('\n')
	}
	_, err := r.W.Write(r.buf.Bytes())
	return err
}

// writeHeader writes the line that the text forms have in common.
func writeHeader(b *bytes.Buffer, t *Traversal, zone *time.Location, color bool) {
	if zone == nil {
		zone = time.Local
	}
	b.WriteString(t.Time.In(zone).Format("15:04:05.000000"))
	b.WriteByte(' ')
	b.WriteString(protoText(t))
	b.WriteByte(' ')
	b.WriteString(endpointText(t.Src, t.Proto))
	b.WriteString(" → ")
	b.WriteString(endpointText(t.Dst, t.Proto))
	b.WriteString(" | ")
	on, off := verdictColor(t.Verdict, color)
	b.WriteString(on)
	b.WriteString(SafeSentence(t.Summary))
	b.WriteString(off)
	b.WriteByte('\n')
}

// verdictColor returns the sequences that colour a verdict; empty ones if
// colour is off.
func verdictColor(v Verdict, color bool) (on, off string) {
	if !color {
		return "", ""
	}
	switch v {
	case Delivered:
		on = "\x1b[32m"
	case Terminated:
		on = "\x1b[31m"
	case LeftNode:
		on = "\x1b[36m"
	case InFlight, Incomplete:
		on = "\x1b[33m"
	default:
		return "", ""
	}
	return on, "\x1b[0m"
}

// protoText is the protocol with what tells its packets apart: "tcp S",
// "icmp 3/3".
func protoText(t *Traversal) string {
	s := Safe(t.Proto)
	for _, extra := range []string{t.TCPFlags, t.ICMP} {
		if extra != "" {
			s += " " + Safe(extra)
		}
	}
	if t.Direction == "reply" {
		s += " reply"
	}
	return s
}

// endpointText is an address with the names that are known for it.
func endpointText(e Endpoint, proto string) string {
	process := ""
	if e.Process != "" {
		process = Safe(e.Process) + " " + strconv.FormatUint(uint64(e.PID), 10)
	}
	return addressText(e, proto) + namesText(e.Pod, e.Service, e.Node, e.Stale, process)
}

// namesText is what an address is called, as it stands behind the address; empty:
// nothing is known.
func namesText(pod, service, node string, stale bool, process string) string {
	var names []string
	add := func(prefix, name string) {
		if name != "" {
			names = append(names, prefix+Safe(name))
		}
	}
	add("", pod)
	add("svc ", service)
	add("node ", node)
	if stale && len(names) > 0 {
		names = append(names, "perhaps no longer")
	}
	if process != "" {
		names = append(names, process)
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// addressText is IP:PORT, or the IP alone where there is no port. ICMP's
// identifier is not one.
func addressText(e Endpoint, proto string) string {
	if e.IP == "" {
		return "unknown"
	}
	if e.Port == 0 || strings.HasPrefix(proto, "icmp") {
		return Safe(e.IP)
	}
	port := strconv.FormatUint(uint64(e.Port), 10)
	if addr, err := netip.ParseAddr(e.IP); err == nil && addr.Is6() {
		return "[" + e.IP + "]:" + port
	}
	return Safe(e.IP) + ":" + port
}

// dataLinkText is a chain of devices.
func dataLinkText(devices []string) string {
	if len(devices) == 0 {
		return "no device"
	}
	var b strings.Builder
	for i, dev := range devices {
		switch {
		case i == 0:
		case dev == devices[i-1]:
			b.WriteString(" ↩ ")
		default:
			b.WriteString(" → ")
		}
		b.WriteString(Safe(dev))
	}
	return b.String()
}

// natText says what a translation changed: only the end that it changed, where
// the two can be told apart.
func natText(n *NAT) string {
	from, to := SafeSentence(n.From), SafeSentence(n.To)
	fromSrc, fromDst, ok1 := strings.Cut(from, "→")
	toSrc, toDst, ok2 := strings.Cut(to, "→")
	if ok1 && ok2 {
		switch {
		case fromSrc == toSrc && fromDst != toDst:
			from, to = fromDst, toDst
		case fromDst == toDst && fromSrc != toSrc:
			from, to = fromSrc, toSrc
		}
	}
	was, is := n.sides()
	s := Safe(n.Kind) + " " + from + namesText("", was.Service, "", was.Stale, "") +
		" → " + to + namesText(is.Pod, is.Service, is.Node, is.Stale, "")
	if n.By != byUnknown {
		s += " by " + Safe(n.By)
	}
	return s + masqueradeText(n)
}

// masqueradeText says that a translation is a masquerade, by whose wish, and by
// which rule.
func masqueradeText(n *NAT) string {
	if !n.Masquerade {
		return ""
	}
	s := " (masquerade"
	if n.Mark != "" {
		s += ", for kube-proxy's mark " + Safe(n.Mark)
	}
	if n.Rule != nil && n.Rule.Sure {
		s += ", by " + n.Rule.String() + " of " + n.Rule.place(natHook)
	}
	return s + ")"
}

// sides are the names of the end that a translation changed: those that it had
// before, and has since.
func (n *NAT) sides() (was, is AddressNames) {
	is = AddressNames{Pod: n.Pod, Service: n.Service, Node: n.Node, Stale: n.Stale}
	if n.Kind == kindDNAT {
		was, is.Service = AddressNames{Service: n.Service, Stale: n.Stale}, ""
	}
	return was, is
}

// remarks are the sentences that only some traversals have: what the kernel
// called the drop, notes, losses, and the packets that this one is linked to.
func remarks(t *Traversal) []string {
	var out []string
	if t.KernelReason != "" && !strings.Contains(t.Summary, t.KernelReason) {
		s := "drop reason " + Safe(t.KernelReason)
		if t.Location != "" {
			s += " at " + Safe(t.Location)
		}
		out = append(out, s)
	}
	if r := t.Rule; r != nil && r.Sure && r.Comment != "" && r.Text != "" {
		out = append(out, "rule: "+SafeSentence(r.Text)) // without a comment the summary has it
	}
	for _, n := range t.Notes {
		out = append(out, "note: "+SafeSentence(n))
	}
	if t.Lost > 0 {
		out = append(out, "warning: "+plural(t.Lost, "event")+" of this packet lost")
	}
	if t.CausedBy != "" {
		out = append(out, "because of "+linkText(t.CausedBy, t.CausedByText))
	}
	for i, id := range t.Causes {
		text := ""
		if i < len(t.CausesText) {
			text = t.CausesText[i]
		}
		out = append(out, "therefore "+linkText(id, text))
	}
	return out
}

// linkText is another packet, in words if there are any.
func linkText(id, text string) string {
	if text == "" {
		return "packet " + Safe(id)
	}
	return SafeSentence(text) + " (" + Safe(id) + ")"
}

// plural is a number with its noun.
func plural(n int, noun string) string {
	s := strconv.Itoa(n) + " " + noun
	if n != 1 {
		s += "s"
	}
	return s
}
