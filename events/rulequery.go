// SPDX-License-Identifier: Apache-2.0

package events

import (
	"strings"
	"time"
)

// ruleAsk is a question about a rule that dropped a packet, and the words that
// its answer takes the place of.
type ruleAsk struct {
	query   RuleQuery
	generic string // in the summary
	since   uint64 // ns: when it was first asked; 0: not yet
}

// rulePatience is how long a traversal waits for rules that are being read, in ns.
const rulePatience = uint64(5 * time.Second)

// ruleAgain is how long it waits before it asks again.
const ruleAgain = uint64(50 * time.Millisecond)

// ruleAsk makes the question of what a drop's evidence says; nil: too little is
// known of the packet.
func (b *builder) ruleAsk(hops []hop, ev *evidence) *ruleAsk {
	if ev.hdr == nil || ev.chain < 0 || ev.by == nil {
		return nil
	}
	last := &hops[len(hops)-1]
	q := RuleQuery{
		Time: last.time, Netns: last.netns, Hook: uint8(ev.chain), //nolint:gosec // not negative here
		Family: nfprotoIPv4, Reject: ev.icmp >= 0 || ev.reset, Header: *ev.hdr,
	}
	if ev.hdr.Src.Is6() && !ev.hdr.Src.Is4In6() {
		q.Family = nfprotoIPv6
	}
	if ev.by.station == StationTable {
		q.Engine = EngineIPTables
		if strings.HasPrefix(b.s.hookName(ev.by.hook), "nft_") {
			q.Engine = EngineNFTables
		}
	}
	stay := hops
	for i := len(hops) - 1; i >= 0; i-- {
		if hops[i].netns != last.netns {
			stay = hops[i+1:]
			break
		}
	}
	for i := len(stay) - 1; i >= 0; i-- {
		if h := &stay[i]; (h.station == StationNetfilter || h.station == StationTable) && h.a != 0 {
			if h.a == nfprotoBridge { // a hook point of the bridge itself
				q.Family = nfprotoBridge
			}
			break
		}
	}
	if q.MarkKnown = markKnown(stay); !q.MarkKnown {
		q.Header.Mark = 0
	}
	q.conntrack(stay)
	b.ruleDevices(&q, stay, ev.by)
	hook := b.s.hookName(ev.by.hook)
	return &ruleAsk{query: q, generic: "a rule in " + chainWords(ev.chain) + " (" + hook + ")"}
}

const (
	nfprotoIPv4 = 2
	nfprotoIPv6 = 10
)

// markKnown says whether the mark told with the headers is that of the packet
// when it came to the hook point: no table has judged it since.
func markKnown(stay []hop) bool {
	point := len(stay)
	for point > 0 && stay[point-1].station != StationNetfilter {
		point--
	}
	for i := len(stay) - 1; i >= 0; i-- {
		h := &stay[i]
		if h.station == StationTable && i < point {
			return false
		}
		if h.extKind == ExtHeader && h.ext >= 0 {
			return true
		}
	}
	return false
}

// conntrack fills in what is known of the packet's entry in this namespace.
func (q *RuleQuery) conntrack(stay []hop) {
	looked := false // conntrack has looked for an entry, and a hook that tells it came by since
	told := false
	for i := len(stay) - 1; i >= 0; i-- {
		h := &stay[i]
		if h.extKind == ExtConntrack && h.ext >= 0 {
			ct := h.p.cts[h.ext]
			q.CT = &ct
			q.CTState = ctQueryState(ct.Info)
			return
		}
		switch h.station {
		case StationNetfilter, StationTable:
			told = told || h.extKind != ExtHeader
		case StationConntrackIn:
			looked = looked || told
		}
	}
	if looked {
		q.CTState = CTStateNone
	}
}

// ctQueryState is the state of enum ip_conntrack_info.
func ctQueryState(info uint8) string {
	switch info {
	case 0, 3:
		return CTStateEstablished
	case 1, 4:
		return CTStateRelated
	case 2:
		return CTStateNew
	}
	return ""
}

// ruleDevices fills in the devices as rules see them. Netfilter that is called
// from a bridge gets the bridge for its port.
func (b *builder) ruleDevices(q *RuleQuery, stay []hop, by *hop) {
	index := by.ifindex
	for i := len(stay) - 1; i >= 0 && index == 0; i-- {
		index = stay[i].ifindex
	}
	d, ok := b.device(q.Netns, index)
	if !ok || index == 0 {
		return
	}
	bridged := false
	if d.Master != 0 {
		bridged = true
		if d, ok = b.device(q.Netns, d.Master); !ok {
			return
		}
	}
	switch q.Hook {
	case 0, 1: // PREROUTING, INPUT
		q.In = d.Name
	case 2: // FORWARD: until it is sent its device is that by which it came in
		q.In = d.Name
		if bridged {
			q.Out = d.Name
		}
	case 4: // POSTROUTING
		q.Out = d.Name
	}
}

// waits asks for the rule of a traversal, and says whether to wait for the answer.
func (s *Stitcher) waits(h *held, force bool) bool {
	f, ok := RuleOf(s.names, &h.ask.query)
	if !ok {
		return false
	}
	if h.ask.since == 0 {
		h.ask.since = max(s.now, 1)
	}
	if f.Pending {
		h.until = s.now + ruleAgain
		return !force && s.now-h.ask.since < rulePatience
	}
	h.t.tellRule(&f, h.ask)
	return false
}

// Waiting is how many traversals wait for rules that are being read.
func (s *Stitcher) Waiting() int {
	n := 0
	for i := range s.held {
		if a := s.held[i].ask; a != nil && a.since != 0 {
			n++
		}
	}
	return n
}

// tellRule says which rule it was.
func (t *Traversal) tellRule(f *RuleFacts, a *ruleAsk) {
	t.Rule = f
	hook := a.query.Hook
	if !f.Sure {
		t.Notes = append(t.Notes, f.candidates(hook))
		return
	}
	named := f.String() + " (" + f.place(hook) + ")"
	summary := strings.Replace(t.Summary, a.generic, named, 1)
	if summary == t.Summary {
		chain := chainWords(int(hook))
		summary = strings.Replace(t.Summary, "dropped in "+chain, "dropped by "+named, 1)
	}
	if summary == t.Summary {
		t.Notes = append(t.Notes, "it was "+named)
	}
	t.Summary = summary
}
