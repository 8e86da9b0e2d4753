// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// ruled are names that know of rules, once they were read.
type ruled struct {
	anyOf
	asked int
}

func (r *ruled) Rule(q *events.RuleQuery) (events.RuleFacts, bool) {
	r.asked++
	if r.asked < 4 {
		return events.RuleFacts{Pending: true}, true
	}
	f := events.RuleFacts{
		Engine: events.EngineNFTables, Family: "ip", Table: "t", Chain: "c", Handle: 7, Text: "drop", Comment: "x\xff" + fmt.Sprint(q.Header.DstPort),
		Others: 2, Candidates: []string{"rule a", "rule b"}, Why: "undecided: limit", AgeNS: -5,
	}
	return f, q.Header.DstPort != 81
}

// dropQuery is a packet that was dropped.
func dropQuery(port uint16, time uint64) *events.RuleQuery {
	q := &events.RuleQuery{Time: time, Netns: 4026532160, Family: 2, Hook: 2, Engine: events.EngineNFTables}
	q.Header.Tuple = events.Tuple{Src: netip.MustParseAddr("10.0.0.9"), Dst: netip.MustParseAddr("10.0.0.1"), SrcPort: 4000, DstPort: port, Proto: 6}
	return q
}

// ruleAsker asks the same at every tick.
type ruleAsker struct {
	collector
	names events.Names
	said  []string
}

func (a *ruleAsker) Tick(now uint64) {
	for _, q := range []*events.RuleQuery{dropQuery(80, 1), dropQuery(81, 1), dropQuery(80, 2)} {
		f, ok := events.RuleOf(a.names, q)
		a.said = append(a.said, fmt.Sprintf("%d: %+v %v", now, f, ok))
	}
}

// TestRulesReplayed: a replay gets the answers that the run got, each at the same
// moment, and what was said twice is written once.
func TestRulesReplayed(t *testing.T) {
	var buf bytes.Buffer
	wr, err := NewWriter(&buf, &Meta{})
	if err != nil {
		t.Fatal(err)
	}
	inner := &ruled{}
	live := &ruleAsker{names: wr.Names(inner)}
	for now := range uint64(4) {
		live.Tick(now)
		wr.Tick(now)
	}
	if err := wr.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	again := &ruleAsker{names: r.Names()}
	if err := r.Run(again); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(live.said, again.said) || !strings.Contains(live.said[0], "Pending:true") || !strings.Contains(live.said[11], "Handle:7") {
		t.Errorf("live:\n%s\nreplayed:\n%s", strings.Join(live.said, "\n"), strings.Join(again.said, "\n"))
	}
	var all collector
	replay(t, buf.Bytes(), &all)
	if len(all.names) != 6 || inner.asked != 12 { // pending and then an answer, for each
		t.Errorf("%d names, asked %d times: %+v", len(all.names), inner.asked, all.names)
	}
}

// TestRulesNotKnown: names that know of no rules say nothing, and nothing is written.
func TestRulesNotKnown(t *testing.T) {
	var buf bytes.Buffer
	wr, err := NewWriter(&buf, &Meta{})
	if err != nil {
		t.Fatal(err)
	}
	if f, ok := wr.Names(anyOf{}).Rule(dropQuery(80, 1)); ok {
		t.Errorf("%+v", f)
	}
	if err := wr.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	var all collector
	replay(t, buf.Bytes(), &all)
	if len(all.names) != 0 {
		t.Errorf("%+v", all.names)
	}
}

// TestRuleTextsCut: what is longer than is written is cut, and answered so at once.
func TestRuleTextsCut(t *testing.T) {
	var v RuleName
	v.take(&events.RuleFacts{Text: strings.Repeat("x", 1<<20), Others: 1 << 20, Candidates: make([]string, 100)})
	f := v.facts()
	if len(f.Text) != maxRuleText || f.Others != 1<<16-1 || len(f.Candidates) != maxCandidates {
		t.Errorf("%d characters, %d others, %d candidates", len(f.Text), f.Others, len(f.Candidates))
	}
}
