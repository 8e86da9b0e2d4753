// SPDX-License-Identifier: Apache-2.0

// Package trust is the list of what the tool must survive, and the tests that show it.
// From it comes scripts/TRUST.md: go test ./scripts/internal/trust -update.
package trust

import (
	"fmt"
	"io"
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

// Write writes the table in Markdown.
func Write(w io.Writer) error {
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
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s | %s |\n", it.Number, it.What, it.State, strings.Join(tests, "<br>"), it.Where, it.Figure, lacks)
	}
	_, err := fmt.Fprintf(w, `# What must hold, and the tests that show it

Made by `+"`go test ./scripts/internal/trust -update`"+` from the list in that folder, which checks that the tests exist. Of %d items %d are
shown, %d partly, %d not yet. *unit* needs no root, *native* is this machine's kernel, *lab* the kernels of the lab under emulation.
*Shown* says that the tests named cover it; what they came to is there where it was noted. The checks of the lab and of kube were not run for this list.

| | what | | tests | where | last seen | what no test shows yet |
|---|---|---|---|---|---|---|
%s`, len(Items), counts[Shown], counts[Partly], counts[Missing], b.String())
	return err
}
