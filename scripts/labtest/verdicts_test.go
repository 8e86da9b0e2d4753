// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	cases  = flag.String("cases", "", "of TestVerdicts, only cases whose name matches this regular expression")
	matrix = flag.String("matrix", "", "of TestVerdicts, write the matrix to this file")
)

// A cell is what one kernel showed of one case: lab's verdictCell.
type cell struct {
	Case    string `json:"case"`
	Finding string `json:"finding"`
	Similar bool   `json:"similar"`
	Kernel  string `json:"kernel"`
	State   string `json:"state"`
	Line    string `json:"line"`
	Note    string `json:"note"`
	Why     string `json:"why"`
	Fault   string `json:"fault"`
}

// TestVerdicts makes every failure happen on every kernel, and prints what the
// tool said: a matrix of findings and kernels, in which no cell may be absent.
//
//	go test -tags lab -timeout 60m ./scripts/labtest -run TestVerdicts -v
//	go test -tags lab ./scripts/labtest -run TestVerdicts -kernels 6.12 -cases no-dest -v
func TestVerdicts(t *testing.T) {
	t.Parallel()
	bin := build(t)
	wanted := verdictCases(t, bin)
	series := strings.Split(inDepth(), ",")
	seen := make([]map[string]cell, len(series))
	t.Run("kernels", func(t *testing.T) { // returns when all of them have
		onKernels(t, inDepth(), 8*time.Minute, func(t *testing.T, series string) *machine {
			return run(t, bin, series, fmt.Sprintf("lab up && lab check -o /out -seed %d -run '%s' verdicts", *seed, *cases))
		}, func(t *testing.T, k string, m *machine) {
			cells := m.cells(t)
			seen[slices.Index(series, k)] = cells
			for _, w := range wanted {
				t.Run(w.Case, func(t *testing.T) { compareCell(t, w, cells) })
			}
			m.check(t, "verdicts")
		})
	})
	text := matrixText(wanted, series, seen)
	t.Logf("\n%s", text)
	if *matrix != "" {
		if err := os.WriteFile(*matrix, []byte(matrixHead+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// verdictCases asks the lab which cases there are.
func verdictCases(t *testing.T, bin string) (list []cell) {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, "lab"), "verdicts", "-list", "-run", *cases).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 3 {
			t.Fatalf("the lab's list has a line %q", line)
		}
		list = append(list, cell{Case: f[0], Finding: f[1], Similar: f[2] == "true"})
	}
	return list
}

// cells reads what the guest left. None is told case by case.
func (m *machine) cells(t *testing.T) map[string]cell {
	t.Helper()
	out := map[string]cell{}
	data, err := os.ReadFile(filepath.Join(m.out, "verdicts"))
	if err != nil {
		t.Errorf("the guest did not leave its part: %v", err)
	}
	for line := range strings.Lines(string(data)) {
		var c cell
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		out[c.Case] = c
	}
	return out
}

func compareCell(t *testing.T, want cell, seen map[string]cell) {
	c, ok := seen[want.Case]
	switch {
	case !ok:
		t.Fatal("no result")
	case c.Fault != "":
		t.Error(c.Fault)
	case c.Line == "":
		t.Error("no line was printed")
	}
	t.Logf("%s: %s %s", c.State, c.Line, c.Note)
}

// matrixHead is what stands above the matrix in its file.
const matrixHead = `# Verdicts: what was caused, and what was said of it

Each case was made to happen for real on each of the lab's kernels ('make test-verdicts' writes this file). *seen*: the finding was named.
*told apart*: the case only looks like the finding, and another line was printed. *instead*: that kernel has no evidence for it; below stands
what is shown, and why. The lines are those that the tool printed.

`

// matrixText is the matrix as a table, and below it the line of each case.
func matrixText(wanted []cell, series []string, seen []map[string]cell) string {
	// By finding: what has it first, then what only looks like it.
	wanted = slices.Clone(wanted)
	slices.SortStableFunc(wanted, func(a, b cell) int { return strings.Compare(a.Finding, b.Finding) })
	var b strings.Builder
	fmt.Fprintf(&b, "| finding | case | %s |\n|---|---|%s\n", strings.Join(series, " | "), strings.Repeat("---|", len(series)))
	for _, w := range wanted {
		fmt.Fprintf(&b, "| %s | %s |", w.Finding, w.Case)
		for i := range series {
			fmt.Fprintf(&b, " %s |", cellText(w, seen[i]))
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	for _, w := range wanted {
		fmt.Fprintf(&b, "- %s\n", w.Case)
		lines := map[string][]string{}
		var order []string
		for i, s := range series {
			c := seen[i][w.Case]
			line := strings.TrimSpace(c.Line + " " + bracketed(c.Note) + bracketed(c.Why))
			if lines[line] == nil {
				order = append(order, line)
			}
			lines[line] = append(lines[line], s)
		}
		for _, line := range order {
			fmt.Fprintf(&b, "  - %s: %s\n", strings.Join(lines[line], ", "), line)
		}
	}
	return b.String()
}

func bracketed(s string) string {
	if s == "" {
		return ""
	}
	return "[" + s + "]"
}

func cellText(w cell, seen map[string]cell) string {
	c, ok := seen[w.Case]
	switch {
	case !ok:
		return "ABSENT"
	case c.State == "seen" && w.Similar:
		return "told apart"
	}
	return c.State
}
