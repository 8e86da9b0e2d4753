// SPDX-License-Identifier: Apache-2.0

package events

import "strings"

// ruleAsk is a question about a rule that dropped a packet, and the words that
// its answer takes the place of; or about one that made a translation.
type ruleAsk struct {
	query   RuleQuery
	generic string // in the summary
	nat     *NAT   // as it is in the traversal but for its rule; nil: it was dropped
}

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
		q.Engine = b.engine(ev.by)
	}
	stay := lastStay(hops)
	for i := len(stay) - 1; i >= 0; i-- {
		if h := &stay[i]; (h.station == StationNetfilter || h.station == StationTable) && h.a != 0 {
			if h.a == nfprotoBridge { // a hook point of the bridge itself
				q.Family = nfprotoBridge
			}
			break
		}
	}
	q.markOf(stay)
	q.conntrack(stay)
	b.ruleDevices(&q, stay, ev.by)
	hook := b.s.hookName(ev.by.hook)
	return &ruleAsk{query: q, generic: "a rule in " + chainWords(ev.chain) + " (" + hook + ")"}
}

// engine is whose function a hop of StationTable is.
func (b *builder) engine(h *hop) string {
	if strings.HasPrefix(b.s.hookName(h.hook), "nft_") {
		return EngineNFTables
	}
	return EngineIPTables
}

// lastStay are the hops in the last one's namespace up to it.
func lastStay(hops []hop) []hop {
	for i := len(hops) - 1; i >= 0; i-- {
		if hops[i].netns != hops[len(hops)-1].netns {
			return hops[i+1:]
		}
	}
	return hops
}

const (
	nfprotoIPv4 = 2
	nfprotoIPv6 = 10
)

// markOf fills in the mark that the packet had when it came to the hook point.
func (q *RuleQuery) markOf(stay []hop) {
	q.Header.Mark, q.MarkKnown = 0, false
	for i := len(stay) - 1; i >= 0; i-- {
		if h := &stay[i]; h.station == StationNetfilter {
			q.Header.Mark, q.MarkKnown = h.nfMark()
			return
		}
	}
}

// conntrack fills in what is known of the packet's entry in this namespace.
func (q *RuleQuery) conntrack(stay []hop) {
	looked := false // conntrack has looked for an entry, and a hook that tells it came by since
	told := false
	for i := len(stay) - 1; i >= 0; i-- {
		h := &stay[i]
		if entry := h.entry(); entry != nil {
			ct := *entry
			q.CT = &ct
			q.CTState = ctQueryState(ct.Info)
			return
		}
		switch h.station {
		case StationNetfilter, StationTable:
			told = told || h.kind() != ExtHeader
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

// answer implements question.
func (a *ruleAsk) answer(n Names, t *Traversal) bool {
	f, ok := RuleOf(n, &a.query)
	if ok && !f.Pending {
		t.tellRule(&f, a)
	}
	return !f.Pending
}

// unanswered implements question: that a rule did it is said all the same.
func (a *ruleAsk) unanswered(*Traversal) {}

// tellRule says which rule it was.
func (t *Traversal) tellRule(f *RuleFacts, a *ruleAsk) {
	if a.nat != nil {
		t.tellNATRule(f, a.nat)
		return
	}
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
