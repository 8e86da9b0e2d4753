// SPDX-License-Identifier: Apache-2.0

package events

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestFindings holds the table of findings against the table of drops: each row
// of the latter is a finding, and each finding says everything.
func TestFindings(t *testing.T) {
	for i := range drops {
		if _, ok := findingOf(drops[i].where, drops[i].reason); !ok {
			t.Errorf("drops[%d]: %s/%s is not in the table of findings", i, drops[i].where, drops[i].reason)
		}
	}
	seen := map[string]bool{}
	word := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	for _, f := range Findings() {
		name := f.Where + "/" + f.Reason
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if !word.MatchString(f.Reason) {
			t.Errorf("%s: not a word in kebab case", name)
		}
		if len(f.Says) == 0 || len(f.Evidence) == 0 || slices.Contains(f.Evidence, "") {
			t.Errorf("%s: nothing gives it, or it says nothing: says %q, evidence %q", name, f.Says, f.Evidence)
		}
		if f.Where != whereNote && whereWords[f.Where] == "" && !slices.Contains([]string{"routing", "netfilter", "conntrack"}, f.Where) {
			t.Errorf("%s: no words for where", name)
		}
		for what, text := range map[string]string{"title": f.Title, "advice": f.Advice, "unless": f.Unless} {
			if len(text) < 10 || len(text) > 260 {
				t.Errorf("%s: %s has %d characters", name, what, len(text))
			}
		}
		if strings.HasSuffix(f.Title, ".") || strings.HasSuffix(f.Unless, ".") || !strings.HasSuffix(strings.TrimRight(f.Advice, "`)"), ".") && !strings.HasSuffix(f.Advice, "?") {
			t.Errorf("%s: only advice is sentences", name)
		}
	}
}

// TestFindingsAreFilled: no word in braces of a sentence is left as it is.
func TestFindingsAreFilled(t *testing.T) {
	for i := range drops {
		ev := evidence{chain: -1, icmp: -1}
		if got := ev.fill(&builder{}, drops[i].say); strings.ContainsAny(got, "{}") {
			t.Errorf("drops[%d]: %q", i, got)
		}
	}
}

func TestFindingsOf(t *testing.T) {
	if got := FindingsOf("not-forwarded"); len(got) != 2 || got[0].Where != "bridge" || got[1].Where != "forward" {
		t.Errorf("not-forwarded: %+v", got)
	}
	if got := FindingsOf("no-such-reason"); len(got) != 0 {
		t.Errorf("no-such-reason: %+v", got)
	}
	// What is returned is the caller's.
	FindingsOf("relayed")[0].Says[0] = "changed"
	if FindingsOf("relayed")[0].Says[0] == "changed" {
		t.Error("the table can be changed from outside")
	}
}
