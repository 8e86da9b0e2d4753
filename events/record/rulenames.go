// SPDX-License-Identifier: Apache-2.0

package record

import (
	"net/netip"
	"slices"

	"github.com/stackhop/stackhop/events"
)

// RuleName is an events.RuleFacts, about one packet.
type RuleName struct {
	Netns    uint32     `json:"netns"`
	Hook     uint8      `json:"hook"`   // NF_INET_*
	Family   uint8      `json:"family"` // NFPROTO_*
	Rejected bool       `json:"rejected,omitempty"`
	Time     uint64     `json:"time"` // ns on the kernel's monotonic clock, of the drop
	Src      netip.Addr `json:"src"`
	Dst      netip.Addr `json:"dst"`
	SrcPort  uint16     `json:"sport,omitempty"`
	DstPort  uint16     `json:"dport,omitempty"`
	Proto    uint8      `json:"proto"` // IPPROTO_*
	// Pending says that the rules were just being read, Gone that no rule is known
	// any longer. Nothing else is said then.
	Pending    bool   `json:"pending,omitempty"`
	Gone       bool   `json:"gone,omitempty"`
	Engine     Text   `json:"engine,omitempty"`
	Space      Text   `json:"space,omitempty"` // RuleFacts.Family
	Table      Text   `json:"table,omitempty"`
	Chain      Text   `json:"chain,omitempty"`
	Handle     uint64 `json:"handle,omitempty"`
	Text       Text   `json:"text,omitempty"`
	Comment    Text   `json:"comment,omitempty"`
	Policy     bool   `json:"policy,omitempty"`
	Sure       bool   `json:"sure,omitempty"`
	Why        Text   `json:"why,omitempty"`
	Others     uint16 `json:"others,omitempty"`
	Candidates []Text `json:"candidates,omitempty"`
	AgeNS      int64  `json:"age,omitempty"`
}

// Bounds of what is written of one rule: longer texts are cut.
const (
	maxRuleText   = 4 << 10
	maxCandidates = 8
)

// ruleKey is the packet that a rule is asked about.
type ruleKey struct {
	netns        uint32
	hook, family uint8
	rejected     bool
	time         uint64
	tuple        events.Tuple
}

var (
	_ events.RuleNames = (*book)(nil)
	_ events.RuleNames = (*NamesRecorder)(nil)
)

func ruleKeyOf(q *events.RuleQuery) ruleKey {
	return ruleKey{q.Netns, q.Hook, q.Family, q.Reject, q.Time, q.Header.Tuple}
}

// Tuple is the packet's, at the hook point.
func (v *RuleName) Tuple() events.Tuple {
	return events.Tuple{Src: v.Src, Dst: v.Dst, SrcPort: v.SrcPort, DstPort: v.DstPort, Proto: v.Proto}
}

func (v *RuleName) facts() events.RuleFacts {
	f := events.RuleFacts{
		Engine: string(v.Engine), Family: string(v.Space), Table: string(v.Table), Chain: string(v.Chain), Handle: v.Handle,
		Text: string(v.Text), Comment: string(v.Comment), Policy: v.Policy, Sure: v.Sure, Why: string(v.Why),
		Others: int(v.Others), AgeNS: v.AgeNS, Pending: v.Pending,
	}
	for _, c := range v.Candidates {
		f.Candidates = append(f.Candidates, string(c))
	}
	return f
}

// take takes in what was answered. What is longer than is written is cut.
func (v *RuleName) take(f *events.RuleFacts) {
	v.Engine, v.Space, v.Table, v.Chain = ruleText(f.Engine), ruleText(f.Family), ruleText(f.Table), ruleText(f.Chain)
	v.Handle, v.Text, v.Comment, v.Why = f.Handle, ruleText(f.Text), ruleText(f.Comment), ruleText(f.Why)
	v.Policy, v.Sure, v.Others, v.AgeNS, v.Pending = f.Policy, f.Sure, counted(f.Others), f.AgeNS, f.Pending
	v.Candidates = nil
	for _, c := range f.Candidates[:min(len(f.Candidates), maxCandidates)] {
		v.Candidates = append(v.Candidates, ruleText(c))
	}
}

func ruleText(s string) Text { return Text(s[:min(len(s), maxRuleText)]) }

func sameRule(a, b *events.RuleFacts) bool {
	x, y := *a, *b
	x.Candidates, y.Candidates = nil, nil
	return slices.Equal(a.Candidates, b.Candidates) && x.Engine == y.Engine && x.Family == y.Family && x.Table == y.Table &&
		x.Chain == y.Chain && x.Handle == y.Handle && x.Text == y.Text && x.Comment == y.Comment && x.Policy == y.Policy &&
		x.Sure == y.Sure && x.Why == y.Why && x.Others == y.Others && x.AgeNS == y.AgeNS && x.Pending == y.Pending
}

// cost is what it takes beside what every Name takes.
func (v *RuleName) cost() int {
	size := 256 + len(v.Engine) + len(v.Space) + len(v.Table) + len(v.Chain) + len(v.Text) + len(v.Comment) + len(v.Why)
	for _, c := range v.Candidates {
		size += 16 + len(c)
	}
	return size
}

func (b *book) putRule(v *RuleName) {
	key := ruleKey{v.Netns, v.Hook, v.Family, v.Rejected, v.Time, v.Tuple()}
	b.rules[key] = v.facts()
	if v.Gone {
		delete(b.rules, key)
	}
}

func (b *book) Rule(q *events.RuleQuery) (events.RuleFacts, bool) {
	f, ok := b.rules[ruleKeyOf(q)]
	f.Candidates = slices.Clone(f.Candidates)
	return f, ok
}

// Rule implements events.RuleNames, for names that do not, too.
func (r *NamesRecorder) Rule(q *events.RuleQuery) (events.RuleFacts, bool) {
	if r.w.err != nil {
		return events.RuleOf(r.inner, q)
	}
	key := ruleKeyOf(q)
	if _, asked := r.askedRules[key]; !asked {
		r.askedRules[key] = struct{}{}
		n := RuleName{
			Netns: q.Netns, Hook: q.Hook, Family: q.Family, Rejected: q.Reject, Time: q.Time,
			Src: q.Header.Src, Dst: q.Header.Dst, SrcPort: q.Header.SrcPort, DstPort: q.Header.DstPort, Proto: q.Header.Proto, Gone: true,
		}
		if f, ok := events.RuleOf(r.inner, q); ok {
			n.Gone = false
			n.take(&f)
		}
		is := n.facts()
		if was, known := r.book.Rule(q); known == n.Gone || !sameRule(&was, &is) && known {
			r.say(Name{Rule: &n})
		}
	}
	return r.book.Rule(q)
}
