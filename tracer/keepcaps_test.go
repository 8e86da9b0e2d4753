// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestKeptIsDocumented: SECURITY.md has the table of what is kept, row by row, and what
// the watcher keeps.
func TestKeptIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, c := range Kept {
		want.WriteString("| `" + c.Name + "` | " + cmp.Or(c.If, "always") + " | " + c.Why + " |\n")
	}
	_, rest, found := strings.Cut(string(text), "| kept with `late` | when | for |\n|---|---|---|\n")
	got, _, _ := strings.Cut(rest, "\n\n")
	if !found || got+"\n" != want.String() {
		t.Errorf("SECURITY.md should have:\n%s", want.String())
	}
	for sentence, list := range map[string][]Capability{"- The watcher ": KeptByCleaner, "| `none` below 5.19 |": KeptWithNone} {
		_, rest, _ := strings.Cut(string(text), sentence)
		line, _, _ := strings.Cut(rest, "\n")
		var names []string
		for _, c := range list {
			names = append(names, c.Name)
		}
		if got := regexp.MustCompile(`CAP_[A-Z_]+`).FindAllString(line, -1); !slices.Equal(got, names) {
			t.Errorf("%q has %v, want %v", sentence, got, names)
		}
	}
}
