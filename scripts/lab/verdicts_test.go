// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// TestVerdictCases: each case can be found, happens somewhere, and says what it
// wants; each finding is had by one.
func TestVerdictCases(t *testing.T) {
	names, found, similar := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range verdictCases {
		if names[c.name] || strings.ContainsAny(c.name, " \t|^$") {
			t.Errorf("%s: there are two, or it is no name", c.name)
		}
		names[c.name] = true
		if c.similar {
			similar[c.finding] = true
		} else {
			found[c.finding] = true
		}
		if c.group == "" || c.from == "" || c.traffic == nil || len(c.want) == 0 {
			t.Errorf("%s: group %q, from %q, %d packets wanted", c.name, c.group, c.from, len(c.want))
		}
		where, reason, _ := strings.Cut(c.finding, "/")
		has := slices.ContainsFunc(c.want, func(w verdictWant) bool {
			return w.where == where && w.reason == reason || w.note != "" && strings.HasPrefix(w.note, c.finding)
		})
		if has == c.similar {
			t.Errorf("%s: similar is %t, what it wants has the finding %s: %t", c.name, c.similar, c.finding, has)
		}
		for _, i := range c.instead {
			if i.why == "" || len(i.series) == 0 || len(i.want) == 0 {
				t.Errorf("%s: what %v show instead has no reason, or wants nothing", c.name, i.series)
			}
		}
	}
	for finding := range similar {
		if !found[finding] {
			t.Errorf("%s: there is what looks like it only", finding)
		}
	}
	for finding := range found {
		if !similar[finding] {
			t.Errorf("%s: there is nothing that only looks like it", finding)
		}
	}
}

// notCaused are the findings that no case has, and why not.
var notCaused = map[string]string{
	"note/client-address-lost": "scenario cases 3, 6, 9 and 10 have it, and the check healthy holds it against what servers see",
}

// TestFindingsAreCaused: each finding of the tool's table is made to happen by a case,
// be it in another's place where a kernel tells less.
func TestFindingsAreCaused(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range verdictCases {
		wants := c.want
		for _, i := range c.instead {
			wants = append(slices.Clip(wants), i.want...)
		}
		for _, w := range wants {
			seen[w.where+"/"+w.reason] = true
			for _, f := range events.Findings() {
				if w.note != "" && strings.HasPrefix(f.Says[0], w.note) {
					seen[f.Where+"/"+f.Reason] = true
				}
			}
		}
	}
	for _, f := range events.Findings() {
		finding := f.Where + "/" + f.Reason
		switch why := notCaused[finding]; {
		case !seen[finding] && why == "":
			t.Errorf("no case causes %s", finding)
		case seen[finding] && why != "":
			t.Errorf("%s is caused, and stands among what is not: %s", finding, why)
		}
	}
}

// TestVerdictCell: what a case wants is held against its packets.
func TestVerdictCell(t *testing.T) {
	syn := events.Traversal{ID: "1", Flow: "f", Direction: "request", Proto: "tcp", TCPFlags: "S", Verdict: events.Terminated,
		Src: events.Endpoint{IP: "10.0.0.1", Port: 5}, Dst: events.Endpoint{IP: "10.0.0.2", Port: 80},
		Where: "ipvs", Reason: "no-destination", Summary: "it ended", Notes: []string{"slow: very"}}
	r := playResult{Name: "x", Flows: []string{"tcp 10.0.0.1:5 10.0.0.2:80"}}
	want := verdictWant{kind: "request tcp S", where: "ipvs", reason: "no-destination", line: "it ended", note: "slow:"}
	for name, test := range map[string]struct {
		change func(*verdictCase, *playResult, *events.Traversal)
		state  string
	}{
		"as wanted":      {func(*verdictCase, *playResult, *events.Traversal) {}, cellSeen},
		"other reason":   {func(_ *verdictCase, _ *playResult, p *events.Traversal) { p.Reason = "overload" }, cellFailed},
		"other line":     {func(_ *verdictCase, _ *playResult, p *events.Traversal) { p.Summary = "it" }, cellFailed},
		"no note":        {func(_ *verdictCase, _ *playResult, p *events.Traversal) { p.Notes = nil }, cellFailed},
		"delivered":      {func(_ *verdictCase, _ *playResult, p *events.Traversal) { p.Verdict = events.Delivered }, cellFailed},
		"other kind":     {func(_ *verdictCase, _ *playResult, p *events.Traversal) { p.TCPFlags = "SA" }, cellFailed},
		"other flow":     {func(_ *verdictCase, _ *playResult, p *events.Traversal) { p.Src.Port = 6 }, cellFailed},
		"did not happen": {func(_ *verdictCase, r *playResult, _ *events.Traversal) { r.Error = "no route" }, cellFailed},
		"not made":       {func(_ *verdictCase, r *playResult, _ *events.Traversal) { r.Name = "" }, cellFailed},
		"similar has it": {func(c *verdictCase, _ *playResult, _ *events.Traversal) { c.similar = true }, cellFailed},
		"forbidden note": {func(c *verdictCase, _ *playResult, _ *events.Traversal) { c.want[0].noNote = "slow" }, cellFailed},
		"instead": {func(c *verdictCase, _ *playResult, p *events.Traversal) {
			p.Reason = "dropped"
			c.instead = []shownInstead{{[]string{"5.10"}, "why", []verdictWant{{kind: "request tcp S", reason: "dropped"}}}}
		}, cellInstead},
	} {
		c := verdictCase{name: "x", finding: "ipvs/no-destination", want: []verdictWant{want}}
		r, p := r, syn
		test.change(&c, &r, &p)
		cell := c.cell("5.10", r, packetsOfPlay(r, []*events.Traversal{&p}))
		if cell.State != test.state || (cell.Fault != "") != (test.state == cellFailed) {
			t.Errorf("%s: %q (%s), want %q", name, cell.State, cell.Fault, test.state)
		}
	}
}

func TestSeriesOf(t *testing.T) {
	for release, want := range map[string]string{
		"5.10.0-32-cloud-amd64": "5.10", "6.12.117+deb13-cloud-amd64": "6.12", "7.3.4-cloud-amd64": "7",
	} {
		if got := seriesOf(release); got != want {
			t.Errorf("%s is %s, want %s", release, got, want)
		}
	}
}
