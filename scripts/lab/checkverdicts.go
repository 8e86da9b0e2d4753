// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events"
	"golang.org/x/sys/unix"
)

// A verdictCell is what one kernel showed of one case.
type verdictCell struct {
	Case    string `json:"case"`
	Finding string `json:"finding"`
	Similar bool   `json:"similar,omitempty"`
	Kernel  string `json:"kernel"`
	State   string `json:"state"`
	Line    string `json:"line"`           // the summary of the packet that the case is about
	Note    string `json:"note,omitempty"` // its note, where the finding is one
	Why     string `json:"why,omitempty"`  // why the kernel shows something else instead
	Fault   string `json:"fault,omitempty"`
}

// States of a cell.
const (
	cellSeen    = "seen"    // the finding, where it had to be; of a similar case, what it wants
	cellInstead = "instead" // what this kernel shows instead
	cellFailed  = "failed"
)

// verdicts makes the cases happen, group by group, and compares.
func (c *checker) verdicts() error {
	chosen, err := findVerdicts(c.pattern)
	if err != nil {
		return err
	}
	series, err := kernelSeries()
	if err != nil {
		return err
	}
	var cells []verdictCell
	var errs []error
	for _, group := range groupsOf(chosen) {
		some, err := c.verdictGroup(group, chosen, series)
		cells = append(cells, some...)
		if err != nil {
			errs = append(errs, fmt.Errorf("group %s: %w", group, err))
		}
	}
	var faults []string
	var text strings.Builder
	for _, cell := range cells {
		fmt.Printf("    %s %s [%s]: %s%s\n", cell.State, cell.Case, cell.Finding, cell.Line, inBrackets(cell.Note))
		if cell.Fault != "" {
			faults = append(faults, cell.Case+": "+cell.Fault)
		}
		line, err := json.Marshal(cell)
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%s\n", line)
	}
	c.fact("%d cases of verdicts, %d as they should be", len(cells), len(cells)-len(faults))
	if c.outDir != "" {
		errs = append(errs, writeFile(filepath.Join(c.outDir, "verdicts"), text.String()),
			writeFile(filepath.Join(c.outDir, "verdicts.md"), verdictTable(cells)))
	}
	return errors.Join(append(errs, faultsError(faults), alike(cells))...)
}

func inBrackets(note string) string {
	if note == "" {
		return ""
	}
	return " [" + note + "]"
}

// groupsOf lists the groups in the order of the cases.
func groupsOf(list []verdictCase) (groups []string) {
	for _, c := range list {
		if !slices.Contains(groups, c.group) {
			groups = append(groups, c.group)
		}
	}
	return groups
}

// rounds is how often a case is made at most.
const rounds = 3

// verdictGroup is one run of the tool, and others for cases of which a packet
// was not seen from its beginning: on preemptible kernels a hook is left out
// when its program was interrupted on that CPU.
func (c *checker) verdictGroup(group string, chosen []verdictCase, series string) (cells []verdictCell, err error) {
	for round := 1; ; round++ {
		var again []verdictCase
		some, err := c.verdictRun(group, chosen, series, &again)
		for _, cell := range some {
			cells = slices.DeleteFunc(cells, func(old verdictCell) bool { return old.Case == cell.Case })
			cells = append(cells, cell)
		}
		if err != nil || len(again) == 0 || round == rounds {
			return cells, err
		}
		chosen = again
		fmt.Printf("    again, a packet's beginning was not seen: %d cases\n", len(again))
	}
}

func (c *checker) verdictRun(group string, chosen []verdictCase, series string, again *[]verdictCase) ([]verdictCell, error) {
	dir, err := os.MkdirTemp("", "lab-verdicts-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "results")
	var names []string
	for _, v := range chosen {
		if v.group == group {
			names = append(names, v.name)
		}
	}
	s, all, err := c.tool.around([]string{everything + " or sctp or ip proto 253"}, c.me, "verdicts", "-o", file,
		"-run", "^("+strings.Join(names, "|")+")$", group)
	for _, v := range chosen {
		if v.group == group {
			err = errors.Join(err, v.settle())
		}
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(s.stderr.String()) {
		if strings.HasPrefix(line, "lab: ") { // how long each took
			fmt.Print("    ", line)
		}
	}
	results, err := readPlays(file)
	if err != nil {
		return nil, err
	}
	var cells []verdictCell
	for _, v := range chosen {
		if v.group != group {
			continue
		}
		packets := packetsOfPlay(results[v.name], all)
		cell := v.cell(series, results[v.name], packets)
		if cell.Fault != "" {
			if slices.ContainsFunc(packets, func(t *events.Traversal) bool { return t.Verdict == events.Incomplete }) {
				*again = append(*again, v)
			}
			for _, t := range packets {
				fmt.Printf("    (%s) %s %s → %s: %s %q\n", v.name, kindOf(t), address(t.Src), address(t.Dst), t.Summary, t.Notes)
			}
		}
		cells = append(cells, cell)
	}
	for _, line := range s.summary() {
		if eventsLost(line) {
			return cells, errors.New(line)
		}
		if strings.Contains(line, "LOST") {
			fmt.Printf("    %s\n", line)
		}
	}
	return cells, nil
}

func readPlays(path string) (map[string]playResult, error) {
	plays, err := readLines[playResult](path)
	if err != nil {
		return nil, err
	}
	out := map[string]playResult{}
	for _, r := range plays {
		out[r.Name] = r
	}
	return out, nil
}

// packetsOfPlay finds a case's packets: those of the flows that begin with the
// addresses of its connections.
func packetsOfPlay(r playResult, all []*events.Traversal) (packets []*events.Traversal) {
	flows := map[string]bool{}
	for _, t := range all {
		src, dst := address(t.Src), address(t.Dst)
		if t.Proto == "icmp" {
			src, dst = t.Src.IP, t.Dst.IP
		}
		if slices.Contains(r.Flows, strings.Join([]string{t.Proto, src, dst}, " ")) {
			flows[t.Flow] = true
		}
	}
	for _, t := range all {
		if flows[t.Flow] {
			packets = append(packets, t)
		}
	}
	return packets
}

// cell compares what was seen of a case.
func (v *verdictCase) cell(series string, r playResult, packets []*events.Traversal) verdictCell {
	cell := verdictCell{Case: v.name, Finding: v.finding, Similar: v.similar, Kernel: series, State: cellSeen}
	want := v.want
	for _, i := range v.instead {
		if slices.Contains(i.series, series) {
			want, cell.State, cell.Why = i.want, cellInstead, i.why
		}
	}
	var faults []string
	if r.Error != "" || r.Name == "" {
		faults = append(faults, "it did not happen: "+orText(r.Error, "not made"))
	}
	client := ""
	if len(r.Flows) > 0 {
		client = strings.Fields(r.Flows[0])[1]
	}
	for i := range want {
		t, fault := want[i].find(client, packets)
		if fault != "" {
			faults = append(faults, fault)
		}
		if i == 0 && t != nil {
			cell.Line = t.Summary
			cell.Note = noteOf(t, orText(want[i].note, v.finding))
		}
	}
	if v.similar == (cell.State == cellSeen) {
		for _, t := range packets {
			if has(t, v.finding) {
				faults = append(faults, fmt.Sprintf("%s has the finding %s: %s %q", kindOf(t), v.finding, t.Summary, t.Notes))
			}
		}
	}
	if len(faults) > 0 {
		cell.State, cell.Fault = cellFailed, strings.Join(faults, "; ")
	}
	return cell
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// has says whether a packet has a finding.
func has(t *events.Traversal, finding string) bool {
	if where, reason, ok := strings.Cut(finding, "/"); ok && !strings.ContainsAny(finding, " :") {
		return t.Where == where && t.Reason == reason
	}
	return noteOf(t, finding) != ""
}

// noteOf is the note that begins so; "": none.
func noteOf(t *events.Traversal, prefix string) string {
	for _, n := range t.Notes {
		if strings.HasPrefix(n, prefix) {
			return n
		}
	}
	return ""
}

// find finds a packet that is as wanted. If there is none, it says what the
// first of that kind lacks.
func (w *verdictWant) find(client string, packets []*events.Traversal) (found *events.Traversal, fault string) {
	fault = "no " + w.kind + " was seen"
	for _, t := range packets {
		if !(&kindWant{kind: w.kind}).fits(t) {
			continue
		}
		if w.noNote != "" && noteOf(t, w.noNote) != "" {
			return t, kindOf(t) + " has the note " + noteOf(t, w.noNote)
		}
		differs := w.differs(client, t, packets)
		if differs == "" && (found == nil || fault != "") {
			found, fault = t, ""
		}
		if found == nil {
			found, fault = t, differs
		}
	}
	return found, fault
}

// differs says in what a packet is not as wanted.
func (w *verdictWant) differs(client string, t *events.Traversal, packets []*events.Traversal) string {
	at := kindOf(t) + ": "
	switch {
	case string(t.Verdict) != orText(w.verdict, "terminated"):
		return fmt.Sprintf("%sverdict is %s: %s", at, t.Verdict, t.Summary)
	case w.where != "" && w.where != t.Where, w.reason != "" && w.reason != anyReason && w.reason != t.Reason:
		return fmt.Sprintf("%sended by %s/%s, want %s/%s: %s", at, t.Where, t.Reason, w.where, w.reason, t.Summary)
	case w.note != "" && noteOf(t, w.note) == "":
		return fmt.Sprintf("%snotes are %q, want %q", at, t.Notes, w.note)
	}
	if w.line != "" {
		if !lineFits(strings.ReplaceAll(w.line, "{client}", client), t.Summary) {
			return fmt.Sprintf("%sline is %q, want %q", at, t.Summary, w.line)
		}
	}
	if w.because != "" {
		i := slices.IndexFunc(packets, func(p *events.Traversal) bool { return p.ID == t.CausedBy })
		if i < 0 || kindOf(packets[i]) != w.because {
			return fmt.Sprintf("%scaused by %q, want %s", at, t.CausedByText, w.because)
		}
	}
	return ""
}

// lineFits says whether a summary is as a case wants it; a "*" at either end of
// that stands for anything.
func lineFits(want, line string) bool {
	start, anyEnd := strings.CutSuffix(want, "*")
	if end, anyStart := strings.CutPrefix(want, "*"); anyStart {
		return strings.HasSuffix(line, end)
	}
	return line == start || anyEnd && strings.HasPrefix(line, start)
}

// alike says which cases of "refused" have the same line: telling them apart is
// what the tool is for.
func alike(cells []verdictCell) error {
	lines := map[string]string{}
	for _, cell := range cells {
		if !strings.HasPrefix(cell.Case, "refused-") || cell.State == cellFailed {
			continue
		}
		if other := lines[cell.Line]; other != "" {
			return fmt.Errorf("%s and %s have the same line: %s", other, cell.Case, cell.Line)
		}
		lines[cell.Line] = cell.Case
	}
	return nil
}

// verdictTable is one kernel's part of the matrix.
func verdictTable(cells []verdictCell) string {
	var b strings.Builder
	b.WriteString("| finding | case | kernel | | line |\n|---|---|---|---|---|\n")
	for _, c := range cells {
		state := c.State
		if c.Similar {
			state += ", not the finding"
		}
		if c.Why != "" {
			state += ": " + c.Why
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.Finding, c.Case, c.Kernel, state,
			strings.ReplaceAll(c.Line+inBrackets(c.Note), "|", "\\|"))
	}
	return b.String()
}

// kernelSeries is this kernel's, as the lab calls it: 6.12, and 7 for any 7.x.
func kernelSeries() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return seriesOf(unix.ByteSliceToString(u.Release[:])), nil
}

func seriesOf(release string) string {
	major, rest, _ := strings.Cut(release, ".")
	if major != "5" && major != "6" {
		return major
	}
	minor, _, _ := strings.Cut(rest, ".")
	return major + "." + minor
}
