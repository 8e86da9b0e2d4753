// SPDX-License-Identifier: Apache-2.0

// Package kernels is what each kernel series of the lab has and lacks, by what its
// checks left in testdata/kernels. From it comes scripts/KERNELS.md: go test
// ./scripts/internal/kernels -update.
package kernels

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Series is one kernel series.
type Series struct {
	Name string
	// Features are what doctor looks for: "ok", or what it says of it.
	Features map[string]string
	// Hooks are "fires", "silent", "sometimes" or "absent".
	Hooks map[string]string
	// Instructions is the most that the verifier looked at for a program, Program
	// that one, and Programs how many there are. 0: not known.
	Instructions, Programs int
	Program                string
	features, hooks        []string // in their order
}

// Read reads the series of a folder such as testdata/kernels, the oldest first.
func Read(dir fs.FS) (all []*Series, err error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		s := &Series{Name: e.Name(), Features: map[string]string{}, Hooks: map[string]string{}}
		for _, read := range []func(fs.FS) error{s.readDoctor, s.readHooks, s.readInstructions} {
			if err := read(dir); err != nil {
				return nil, fmt.Errorf("kernel %s: %w", s.Name, err)
			}
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *Series) int { return slices.Compare(a.version(), b.version()) })
	return all, nil
}

// version is the name's numbers.
func (s *Series) version() (v []int) {
	for part := range strings.SplitSeq(s.Name, ".") {
		n, _ := strconv.Atoi(part) // what is no number comes first
		v = append(v, n)
	}
	return v
}

// readDoctor takes "degraded  IPVS            module ip_vs has no BTF" apart.
func (s *Series) readDoctor(dir fs.FS) error {
	text, err := fs.ReadFile(dir, s.Name+"/doctor")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		state, rest, ok := strings.Cut(line, "  ")
		if !ok || strings.Contains(state, " ") {
			continue // the kernel, and the verdict
		}
		feature, detail, _ := strings.Cut(strings.TrimSpace(rest), "  ")
		said := strings.TrimSpace(state)
		if detail = strings.TrimSpace(detail); detail != "" {
			said = detail
		}
		s.Features[feature] = said
		s.features = append(s.features, feature)
	}
	if len(s.features) == 0 {
		return errors.New("doctor says nothing")
	}
	return nil
}

func (s *Series) readHooks(dir fs.FS) error {
	text, err := fs.ReadFile(dir, s.Name+"/hooks")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 2 || strings.HasPrefix(line, "#") {
			continue
		}
		s.Hooks[f[0]] = f[1]
		s.hooks = append(s.hooks, f[0])
	}
	if len(s.hooks) == 0 {
		return errors.New("no hooks")
	}
	return nil
}

// readInstructions reads a table that may not be there yet.
func (s *Series) readInstructions(dir fs.FS) error {
	f, err := dir.Open(s.Name + "/instructions")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return err
	}
	for _, row := range rows[1:] {
		n, err := strconv.Atoi(row[3])
		if err != nil {
			return err
		}
		s.Programs++
		if n > s.Instructions {
			s.Instructions, s.Program = n, row[2]
		}
	}
	return nil
}

// count is how many hooks are in a state.
func (s *Series) count(state string) (n int) {
	for _, is := range s.Hooks {
		if is == state {
			n++
		}
	}
	return n
}

// Write writes the page in Markdown.
func Write(w io.Writer, all []*Series) error {
	var b strings.Builder
	b.WriteString(`# What each kernel has, and what it lacks

Made by ` + "`go test ./scripts/internal/kernels -update`" + ` from what the lab's checks doctor, hooks and instructions left in
testdata/kernels (` + "`make test`" + ` compares it with each kernel). The kernels are Debian's.

`)
	row := func(what string, cell func(*Series) string) {
		b.WriteString("| " + what + " |")
		for _, s := range all {
			b.WriteString(" " + cell(s) + " |")
		}
		b.WriteByte('\n')
	}
	row("", func(s *Series) string { return s.Name })
	b.WriteString("|---|" + strings.Repeat("---|", len(all)) + "\n")
	for _, state := range []struct{ is, what string }{
		{"fires", "hooks that fire in the lab's traffic"}, {"sometimes", "by chance of timing"}, {"silent", "never there"}, {"absent", "hooks that it lacks"},
	} {
		row(state.what, func(s *Series) string { return strconv.Itoa(s.count(state.is)) })
	}
	row("programs, and the most instructions that the verifier looks at for one (bound: 100,000)", func(s *Series) string {
		if s.Programs == 0 {
			return "?"
		}
		return fmt.Sprintf("%d, %d (%s)", s.Programs, s.Instructions, s.Program)
	})
	for _, feature := range union(all, func(s *Series) []string { return s.features }) {
		row(feature, func(s *Series) string { return orNone(s.Features[feature]) })
	}
	b.WriteString("\n## Hooks that a kernel lacks\n\nMost have another name there, or what they tell is told by another hook; what is not told at all stands in the README.\n\n")
	row("hook", func(s *Series) string { return s.Name })
	b.WriteString("|---|" + strings.Repeat("---|", len(all)) + "\n")
	for _, hook := range union(all, func(s *Series) []string { return s.hooks }) {
		if slices.ContainsFunc(all, func(s *Series) bool { return s.Hooks[hook] == "absent" }) {
			row(hook, func(s *Series) string { return orNone(s.Hooks[hook]) })
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// union is what one series at least has, in the order of the first that has it.
func union(all []*Series, of func(*Series) []string) (out []string) {
	for _, s := range all {
		for _, name := range of(s) {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

func orNone(text string) string {
	if text == "" {
		return "–"
	}
	return text
}
