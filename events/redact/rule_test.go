// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// ruler knows of one rule, and answers for one packet only.
type ruler struct {
	events.Names
	q *events.RuleQuery
}

func (r *ruler) Device(uint32, uint32) (events.Device, bool) {
	return events.Device{Name: "acme0"}, true
}

func (r *ruler) Rule(q *events.RuleQuery) (events.RuleFacts, bool) {
	ok := q.Header.Tuple == r.q.Header.Tuple && q.Netns == r.q.Netns && q.Time == r.q.Time && q.In == r.q.In && q.CT != nil && *q.CT == *r.q.CT
	return events.RuleFacts{
		Engine: events.EngineIPTables, Family: "ip", Table: "filter", Chain: "acme-chain", Text: "-s 10.1.2.3/32 -j DROP",
		Comment: "acme's", Why: "undecided: 10.1.2.3", Candidates: []string{"acme"}, Others: 1, AgeNS: 5,
	}, ok
}

// TestRules: rules are asked for by the original packet, and what is said of them
// has nothing of the user's.
func TestRules(t *testing.T) {
	for _, proto := range []uint8{6, 1} {
		r := New(Key{3})
		r.Ports = proto == 6
		q := &events.RuleQuery{Time: 77, Netns: 4026532160, Family: 2, Hook: 2, In: "acme0"}
		q.Header.Tuple = events.Tuple{Src: netip.MustParseAddr("10.1.2.3"), Dst: netip.MustParseAddr("10.0.0.1"), SrcPort: 4000, DstPort: 80, Proto: proto}
		q.CT = &events.Conntrack{Original: q.Header.Tuple, Reply: q.Header.Reverse(), Info: 2}
		n := r.Names(&ruler{q: q})
		asked := *q
		asked.Netns, asked.Header.Tuple = r.Netns(q.Netns), r.Tuple(q.Header.Tuple)
		asked.CT = &events.Conntrack{Original: r.Tuple(q.CT.Original), Reply: r.Tuple(q.CT.Reply), Info: 2}
		d, _ := n.Device(asked.Netns, 3)
		asked.In = d.Name
		f, ok := events.RuleOf(n, &asked)
		text, err := json.Marshal(f)
		if err != nil || !ok || strings.Contains(string(text), "acme") || strings.Contains(string(text), "10.1.2.3") ||
			f.Table != "filter" || f.Engine != events.EngineIPTables || f.Chain != r.Object("acme-chain") || f.Others != 1 || f.AgeNS != 5 {
			t.Errorf("protocol %d: %v, %s, %v", proto, ok, text, err)
		}
		if _, ok := events.RuleOf(n, q); ok {
			t.Error("the original packet is a pseudonym of itself")
		}
	}
}

// TestRuleNames: the same of a recording's names.
func TestRuleNames(t *testing.T) {
	r := New(Key{8})
	v := record.RuleName{
		Netns: 4026532160, Hook: 2, Family: 2, Time: 77, Src: netip.MustParseAddr("10.1.2.3"), Dst: netip.MustParseAddr("10.0.0.1"), SrcPort: 4000, DstPort: 80, Proto: 6,
		Engine: "nftables", Space: "inet", Table: "acme", Chain: "INPUT", Handle: 3, Text: "ip saddr 10.1.2.3 drop", Comment: "acme", Why: "acme", Candidates: []record.Text{"acme"}, Sure: true,
	}
	before, _ := json.Marshal(v)
	got, ok := r.Name(record.Name{At: 3, Rule: &v})
	after, _ := json.Marshal(got)
	if !ok || got.At != 3 || strings.Contains(string(after), "acme") || strings.Contains(string(after), "10.1.2.3") {
		t.Errorf("%s, %v", after, ok)
	}
	if got.Rule.Tuple() != r.Tuple(v.Tuple()) || got.Rule.Netns != r.Netns(v.Netns) || got.Rule.Chain != "INPUT" || !got.Rule.Sure || got.Rule.Handle != 3 {
		t.Errorf("%s", after)
	}
	if again, _ := json.Marshal(v); string(again) != string(before) {
		t.Errorf("the original became %s", again)
	}
}
