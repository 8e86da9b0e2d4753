// SPDX-License-Identifier: Apache-2.0

package events

import (
	"strconv"
	"strings"
)

// RuleNames is what Names may also be: they know the netfilter rules of the
// namespaces.
type RuleNames interface {
	// Rule tells which rule dropped or rejected a packet, or masqueraded it. Like the
	// other answers this one is given at once: facts that are Pending may be there
	// later.
	Rule(q *RuleQuery) (RuleFacts, bool)
}

// Engines of RuleQuery and RuleFacts.
const (
	EngineIPTables    = "iptables"     // the legacy tables
	EngineIPTablesNFT = "iptables-nft" // written by iptables into nf_tables
	EngineNFTables    = "nftables"
)

// States of RuleQuery.CTState.
const (
	CTStateNew         = "new"
	CTStateEstablished = "established"
	CTStateRelated     = "related"
	// CTStateNone is a packet that conntrack gave no entry: it is invalid, or
	// untracked.
	CTStateNone = "none"
)

// RuleQuery is a packet that a netfilter rule dropped, or masqueraded, as it was at
// that hook point.
type RuleQuery struct {
	Time   uint64 // ns on the kernel's monotonic clock, of what the rule did
	Netns  uint32
	Family uint8 // NFPROTO_*
	Hook   uint8 // NF_INET_*
	// Engine is whose function was the last one entered: EngineIPTables or, of
	// both that use nf_tables, EngineNFTables; empty: unknown.
	Engine string
	Reject bool // it was answered with an ICMP error or an RST
	// Masquerade: the rule did not drop the packet, but gave the first one of a
	// connection another source.
	Masquerade bool
	Header     Header // its Mark counts if MarkKnown
	// MarkKnown: the mark was read when the hook point began.
	MarkKnown bool
	In, Out   string // names of its devices; empty: unknown, or none at this hook point
	// CTState is one of the words above; empty: unknown.
	CTState string
	CT      *Conntrack // its conntrack entry; nil: none, or unknown
}

// RuleFacts say which rule dropped, rejected or masqueraded a packet.
type RuleFacts struct {
	Engine  string `json:"engine"`
	Family  string `json:"family"` // ip, ip6, inet or bridge
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Handle  uint64 `json:"handle,omitempty"` // nftables' number of the rule in its table; 0: none, or not known
	Text    string `json:"text,omitempty"`   // the rule as its own tool writes it
	Comment string `json:"comment,omitempty"`
	Policy  bool   `json:"policy,omitempty"` // no rule: the chain's policy
	// Sure: no other rule can have done it, by the rules as they were read, and
	// whether this one matches is decided. Else it is the first candidate, and
	// Why says what could not be decided.
	Sure bool   `json:"sure"`
	Why  string `json:"why,omitempty"`
	// Others is how many further candidates there are; Candidates names the
	// first few of them.
	Others     int      `json:"others"`
	Candidates []string `json:"candidates,omitempty"`
	// AgeNS is how long before the packet the rules were read, in ns; negative: so
	// long after it.
	AgeNS int64 `json:"age_ns"`
	// Pending: the rules are just being read, and nothing else is known yet.
	Pending bool `json:"-"`
}

// RuleOf asks names for the rule that decided about a packet, see RuleNames; names that
// know of none say no.
func RuleOf(n Names, q *RuleQuery) (RuleFacts, bool) {
	if r, ok := n.(RuleNames); ok {
		return r.Rule(q)
	}
	return RuleFacts{}, false
}

// String names the rule as a sentence does.
func (f *RuleFacts) String() string {
	var b strings.Builder
	switch {
	case f.Policy:
		b.WriteString("the policy of chain ")
	case f.Engine == EngineNFTables:
		b.WriteString("rule handle " + strconv.FormatUint(f.Handle, 10) + " in ")
	default:
		b.WriteString("rule ")
	}
	if f.Engine == EngineNFTables {
		b.WriteString(Safe(f.Family) + " " + Safe(f.Table) + " ")
	}
	b.WriteString(Safe(f.Chain))
	switch {
	case f.Comment != "":
		b.WriteString(" " + quoted(f.Comment))
	case f.Text != "" && !f.Policy:
		b.WriteString(" " + quoted(f.Text))
	}
	return b.String()
}

// place is where the rule stands, for the brackets behind its name.
func (f *RuleFacts) place(hook uint8) string {
	s := Safe(f.Engine)
	if f.Engine != EngineNFTables {
		s += " " + Safe(f.Table)
	}
	return s + ", " + strings.TrimPrefix(chainWords(int(hook)), "netfilter ")
}

// candidates says of facts that are not sure what there is instead.
func (f *RuleFacts) candidates(hook uint8) string {
	s := "rule candidates: " + f.String() + " (" + f.place(hook) + ")"
	for _, c := range f.Candidates {
		s += "; " + SafeSentence(c)
	}
	if more := f.Others - len(f.Candidates); more > 0 {
		s += "; and " + plural(more, "other")
	} else if f.Others == 0 {
		s += ", no other"
	}
	if f.Why != "" {
		s += "; " + SafeSentence(f.Why)
	}
	return s
}
