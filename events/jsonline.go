// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// jsonLine writes an object as encoding/json does for the struct tags, without
// escapes for HTML, and as SafeJSON makes it. It takes a fifth of the time: after
// Ctrl-C in an overload tens of thousands of packets are still to be written.
// A test holds each field of a Traversal against encoding/json.
type jsonLine struct {
	b   []byte
	err error // the first one
}

// name begins a member of the object that was opened last.
func (w *jsonLine) name(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

func (w *jsonLine) text(name, s string) {
	w.name(name)
	w.b = appendJSONText(w.b, s)
}

// textIf leaves out an empty text, as omitempty does; so do the others with If.
func (w *jsonLine) textIf(name, s string) {
	if s != "" {
		w.text(name, s)
	}
}

func (w *jsonLine) number(name string, n uint64) {
	w.name(name)
	w.b = strconv.AppendUint(w.b, n, 10)
}

func (w *jsonLine) numberIf(name string, n uint64) {
	if n != 0 {
		w.number(name, n)
	}
}

// halves writes a count of stacks.
func (w *jsonLine) halves(name string, n float64) {
	w.name(name)
	w.b = strconv.AppendFloat(w.b, n, 'f', -1, 64)
}

func (w *jsonLine) flag(name string, v bool) {
	w.name(name)
	w.b = strconv.AppendBool(w.b, v)
}

func (w *jsonLine) flagIf(name string, v bool) {
	if v {
		w.flag(name, v)
	}
}

// each writes a list, whose items one writes.
func each[T any](w *jsonLine, name string, list []T, one func(*jsonLine, *T)) {
	w.name(name)
	w.b = append(w.b, '[')
	for i := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		one(w, &list[i])
	}
	w.b = append(w.b, ']')
}

func (w *jsonLine) texts(name string, list []string) {
	each(w, name, list, func(w *jsonLine, s *string) { w.b = appendJSONText(w.b, *s) })
}

func (w *jsonLine) textsIf(name string, list []string) {
	if len(list) > 0 {
		w.texts(name, list)
	}
}

// rare writes what few traversals have.
func (w *jsonLine) rare(name string, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil && w.err == nil {
		w.err = err
	}
	w.name(name)
	w.b = append(w.b, SafeJSON(bytes.TrimSuffix(b.Bytes(), []byte("\n")))...)
}

func (w *jsonLine) traversal(t *Traversal, why *Explanation) {
	w.b = append(w.b, `{"time":"`...)
	if w.b, w.err = t.Time.UTC().AppendText(w.b); w.err != nil {
		return
	}
	w.b = append(w.b, '"')
	w.text("id", t.ID)
	w.text("node", t.Node)
	w.text("flow", t.Flow)
	w.text("direction", t.Direction)
	w.text("proto", t.Proto)
	w.textIf("tcp_flags", t.TCPFlags)
	w.textIf("icmp", t.ICMP)
	w.number("length", uint64(t.Length))
	w.endpoint("src", &t.Src)
	w.endpoint("dst", &t.Dst)
	w.halves("stacks", t.Stacks)
	w.halves("l3_stacks", t.L3Stacks)
	w.text("verdict", string(t.Verdict))
	w.textIf("where", t.Where)
	w.textIf("reason", t.Reason)
	w.textIf("kernel_reason", t.KernelReason)
	w.textIf("location", t.Location)
	w.text("summary", t.Summary)
	w.texts("data_link", t.DataLink)
	each(w, "visits", t.Visits, (*jsonLine).visit)
	each(w, "nat", t.NAT, (*jsonLine).nat)
	if c := t.Conntrack; c != nil {
		w.name("conntrack")
		w.b = append(w.b, '{')
		w.text("original", c.Original)
		w.text("reply", c.Reply)
		w.text("state", c.State)
		w.b = append(w.b, '}')
	}
	if t.Service != nil {
		w.rare("service", t.Service)
	}
	if t.Rule != nil {
		w.rare("rule", t.Rule)
	}
	w.text("caused_by", t.CausedBy)
	w.texts("causes", t.Causes)
	w.textIf("caused_by_text", t.CausedByText)
	w.textsIf("causes_text", t.CausesText)
	w.textsIf("notes", t.Notes)
	if why != nil {
		w.rare("explanation", why)
	}
	w.textsIf("not_observed", t.NotObserved)
	w.flag("complete", t.Complete)
	w.name("lost")
	w.b = strconv.AppendInt(w.b, int64(t.Lost), 10)
	if len(t.LostInRun) > 0 {
		w.counts("lost_in_run", t.LostInRun)
	}
	w.b = append(w.b, '}', '\n')
}

// counts writes a map in the order of its keys. In an overload every traversal has one.
func (w *jsonLine) counts(name string, of map[string]uint64) {
	w.name(name)
	w.b = append(w.b, '{')
	var room [16]string
	keys := room[:0]
	for key := range of {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for i, key := range keys {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = append(appendJSONText(w.b, key), ':') // a recording's: it may be anything
		w.b = strconv.AppendUint(w.b, of[key], 10)
	}
	w.b = append(w.b, '}')
}

func (w *jsonLine) endpoint(name string, e *Endpoint) {
	w.name(name)
	w.b = append(w.b, '{')
	w.text("ip", e.IP)
	w.numberIf("port", uint64(e.Port))
	w.textIf("pod", e.Pod)
	w.textIf("service", e.Service)
	w.textIf("node", e.Node)
	w.flagIf("stale", e.Stale)
	w.textIf("process", e.Process)
	w.numberIf("pid", uint64(e.PID))
	w.b = append(w.b, '}')
}

func (w *jsonLine) visit(v *Visit) {
	w.b = append(w.b, '{')
	w.number("netns", uint64(v.Netns))
	w.text("name", v.Name)
	w.text("kind", v.Kind)
	w.textIf("node", v.Node)
	w.textIf("pod", v.Pod)
	if v.Labels != "" {
		w.labels(v.Labels)
	}
	w.text("entered", v.Entered)
	w.text("left", v.Left)
	w.halves("stacks", v.Stacks)
	w.flag("bridged", v.Bridged)
	w.flagIf("bridge_nf", v.BridgeNF)
	w.texts("devices", v.Devices)
	if len(v.NAT) > 0 {
		each(w, "nat", v.NAT, (*jsonLine).nat)
	}
	w.number("start_ns", v.StartNS)
	w.number("end_ns", v.EndNS)
	each(w, "hooks", v.Hooks, (*jsonLine).hook)
	w.b = append(w.b, '}')
}

// labels writes labels in their own order, which is that of their keys.
func (w *jsonLine) labels(l Labels) {
	w.name("labels")
	w.b = append(w.b, '{')
	for pair := range strings.SplitSeq(string(l), ",") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			w.text(key, value)
		}
	}
	w.b = append(w.b, '}')
}

func (w *jsonLine) hook(h *HookVisit) {
	w.b = append(w.b, '{')
	w.text("hook", h.Hook)
	w.number("ns", h.NS)
	w.textIf("device", h.Device)
	w.textIf("detail", h.Detail)
	w.flagIf("evidence", h.Evidence)
	w.b = append(w.b, '}')
}

func (w *jsonLine) nat(n *NAT) {
	w.b = append(w.b, '{')
	w.text("by", n.By)
	w.text("kind", n.Kind)
	w.text("hook", n.Hook)
	w.number("ns", n.NS)
	w.text("from", n.From)
	w.text("to", n.To)
	w.flagIf("masquerade", n.Masquerade)
	w.textIf("mark", n.Mark)
	if n.Rule != nil {
		w.rare("rule", n.Rule)
	}
	w.textIf("service", n.Service)
	w.textIf("pod", n.Pod)
	w.textIf("node", n.Node)
	w.flagIf("stale", n.Stale)
	w.b = append(w.b, '}')
}

// appendJSONText writes a string with its quotes.
func appendJSONText(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		if c := s[i]; ' ' <= c && c <= '~' && c != '"' && c != '\\' {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if escaped := jsonEscape(r, size); escaped != "" {
			b = append(append(b, s[from:i]...), escaped...)
			from = i + size
		}
		i += size
	}
	return append(append(b, s[from:]...), '"')
}

// jsonEscape is what is written in place of a character; empty: it may stay.
func jsonEscape(r rune, size int) string {
	switch {
	case r == utf8.RuneError && size == 1:
		return `\ufffd` // not UTF-8
	case r == '"':
		return `\"`
	case r == '\\':
		return `\\`
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r == '\b':
		return `\b`
	case r == '\f':
		return `\f`
	case r == '\u2028', r == '\u2029', unprintable(r):
		return fmt.Sprintf(`\u%04x`, r)
	}
	return ""
}
