// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// captured stitches captures of the ten cases, in order of their names.
func captured(t testing.TB, pattern string) []*events.Traversal {
	t.Helper()
	return stitched(t, pattern, events.Config{}, 0)
}

// stitched stitches captures, one minute after the other. Of their events every
// drop-th is left out, and the last third; 0: none.
func stitched(t testing.TB, pattern string, config events.Config, drop int) []*events.Traversal {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "testdata", "captures", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures %s: %v", pattern, err)
	}
	var all []*events.Traversal
	for i, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := events.ReadCapture(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		start := time.Date(2026, 1, 2, 3, 4+i, 0, 0, time.UTC).Add(-time.Duration(c.Events[0].Time)) //nolint:gosec // ns of one run
		config.Hooks, config.Names, config.HasFunctions = c.Hooks, c.Names, c.Header.HasFunctions
		config.Wall = func(mono uint64) time.Time { return start.Add(time.Duration(mono)) } //nolint:gosec // ns of one run
		s := events.NewStitcher(config, func(tr *events.Traversal) {
			// Kernels that booted alike number their packets alike.
			for _, id := range append([]*string{&tr.ID, &tr.CausedBy}, pointers(tr.Causes)...) {
				if *id != "" {
					*id += fmt.Sprintf("-%d-%d-%s", i, drop, config.OnlyNode)
				}
			}
			all = append(all, tr)
		})
		for j := range c.Events {
			if drop == 0 || (j%drop != drop-1 && j < len(c.Events)*2/3) {
				s.Add(&c.Events[j])
			}
		}
		s.Flush()
	}
	return all
}

func pointers(list []string) []*string {
	out := make([]*string, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

func pageOf(t testing.TB, in Input) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, in); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func all(list []*events.Traversal) iter.Seq[*events.Traversal] { return slices.Values(list) }

// many repeats traversals until there are n, each time as other connections.
func many(list []*events.Traversal, n int) iter.Seq[*events.Traversal] {
	return func(yield func(*events.Traversal) bool) {
		for i := range n {
			t := *list[i%len(list)]
			round := i / len(list)
			t.Time = t.Time.Add(time.Duration(round) * 20 * time.Millisecond)
			t.ID = fmt.Sprintf("%016x", i)
			t.Flow = fmt.Sprintf("%s%x", t.Flow, round)
			for _, e := range []*events.Endpoint{&t.Src, &t.Dst} {
				if e.Port > 30000 {
					e.Port = uint16(30000 + (int(e.Port)+round)%30000) //nolint:gosec // below 60000
				}
			}
			if !yield(&t) {
				return
			}
		}
	}
}

// BenchmarkWrite writes a page of 100,000 packets. bytes is its size.
func BenchmarkWrite(b *testing.B) {
	list := captured(b, "6.12-case*.jsonl")
	size := 0
	for b.Loop() {
		size = len(pageOf(b, Input{Traversals: many(list, 100_000)}))
	}
	b.ReportMetric(float64(size), "bytes")
}
