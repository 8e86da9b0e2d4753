// SPDX-License-Identifier: Apache-2.0

// Package trust is the list of what the tool must survive, the tests that show it, and
// what these came to when they were last run (results.csv). From it comes scripts/TRUST.md:
// make trust.
package trust

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// State is how much of an item its tests show.
type State string

// States of an item.
const (
	Shown   State = "shown"
	Partly  State = "partly"
	Missing State = "missing"
)

// Item is one thing that must hold.
type Item struct {
	Number int
	What   string
	State  State
	// Tests are FOLDER.TestName, or lab:CHECK for a check of scripts/lab.
	Tests []string
	Where string // unit, native (this machine's kernel), lab (the kernels of the lab), kube
	// Figure is what was last seen; Lacks is what no test shows yet.
	Figure, Lacks string
}

// Write writes the table in Markdown, with what the tests came to.
func Write(w io.Writer, results []Result) error {
	counts := map[State]int{}
	var b strings.Builder
	for _, it := range Items {
		counts[it.State]++
		lacks := it.Lacks
		if lacks == "" {
			lacks = "–"
		}
		var tests []string
		for _, t := range it.Tests {
			tests = append(tests, "`"+t+"`")
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s | %s | %s |\n", it.Number, it.What, it.State, verdict(&it, results), strings.Join(tests, "<br>"), it.Where, it.Figure, lacks)
	}
	states := map[string]bool{}
	for _, r := range results {
		states[fmt.Sprintf("%s (%s)", r.Commit, r.Date)] = true
	}
	_, err := fmt.Fprintf(w, `# What must hold, and the tests that show it

Made by `+"`make trust`"+` of the list in scripts/internal/trust, which checks that the tests exist, and of what the tests came to when they
were last run (results.csv beside it), in these states of the repository: %s. Of %d items %d are shown, %d partly, %d not yet. *unit*
needs no root, *native* is this machine's kernel, *lab* the kernels of the lab under emulation. *Shown* says that the tests named
cover it.

| | what | | run | tests | where | last seen | what no test shows yet |
|---|---|---|---|---|---|---|---|
%s`, strings.Join(slices.Sorted(maps.Keys(states)), ", "), len(Items), counts[Shown], counts[Partly], counts[Missing], b.String())
	return err
}
