// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
)

// TestHistogram: quantiles are those of the sorted values, or up to 1/16 more.
func TestHistogram(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test wants the same each time
	for range 50 {
		var h histogram
		values := make([]uint64, 1+rnd.IntN(300))
		for i := range values {
			values[i] = rnd.Uint64() >> (21 + rnd.IntN(43)) // up to 2^43
			h.add(values[i])
		}
		slices.Sort(values)
		for _, q := range []uint64{1, 50, 90, 99, 100} {
			want := values[(uint64(len(values))*q+99)/100-1]
			if got := h.quantile(q); got < want || got > want+want/16 {
				t.Errorf("p%d of %d values: %d, want %d to %d", q, len(values), got, want, want+want/16)
			}
		}
	}
	var h histogram
	if got := h.quantile(50); got != 0 {
		t.Errorf("p50 of nothing: %d", got)
	}
	h.add(1 << 63)
	if got := h.quantile(50); got != 1<<63 {
		t.Errorf("p50 of 2^63 ns: %d", got)
	}
}

// TestHistogramBuckets: buckets follow each other without a gap.
func TestHistogramBuckets(t *testing.T) {
	for b := range histogramBuckets - 1 {
		if end := bucketEnd(b); bucketOf(end) != b || bucketOf(end+1) != b+1 {
			t.Fatalf("bucket %d ends at %d, which is in bucket %d, and the next in %d", b, end, bucketOf(end), bucketOf(end+1))
		}
	}
}

// TestSummaryOfCaptures summarises the ten cases on one kernel.
func TestSummaryOfCaptures(t *testing.T) {
	files, err := filepath.Glob("testdata/captures/6.12-case*.jsonl")
	if err != nil || len(files) != 10 {
		t.Fatalf("captures %v: %v", files, err)
	}
	var b bytes.Buffer
	r := &SummaryRenderer{W: &b, Location: time.UTC}
	count := 0
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ReadCapture(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		s := NewStitcher(Config{Hooks: c.Hooks, Names: c.Names, HasFunctions: true}, func(tr *Traversal) {
			count++
			if err := r.Render(tr); err != nil {
				t.Error(err)
			}
		})
		for i := range c.Events {
			s.Add(&c.Events[i])
		}
		s.Flush()
	}
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	if want := strconv.Itoa(count) + " traversals: "; !strings.HasPrefix(b.String(), want) {
		t.Errorf("begins with other than %q:\n%s", want, b.String())
	}
	compareGolden(t, filepath.Join("testdata", "render", "summary-cases.golden"), b.Bytes())
}

// TestSummaryGroups: what is told together, and what is not.
func TestSummaryGroups(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *Traversal)
		groups int
	}{
		{"the same", func(*Traversal) {}, 1},
		{"another packet", func(t *Traversal) { t.ID, t.Src.Port, t.Length = "b", 2, 9 }, 1},
		{"translated to another address", func(t *Traversal) { t.NAT[0].To = "x" }, 1},
		{"another verdict", func(t *Traversal) { t.Verdict = Terminated }, 2},
		{"another reason", func(t *Traversal) { t.Reason = "x" }, 2},
		{"another device", func(t *Traversal) { t.DataLink[0] = "x" }, 2},
		{"another pod", func(t *Traversal) { t.Visits[0].Name = "x" }, 2},
		{"another translation", func(t *Traversal) { t.NAT[0].Kind = "snat" }, 2},
		{"a reply", func(t *Traversal) { t.Direction = directionReply }, 2},
		{"names that run together", func(t *Traversal) { t.DataLink = []string{t.DataLink[0] + t.DataLink[1]} }, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &SummaryRenderer{}
			a, b := examples()[2], examples()[2]
			tt.change(b)
			for _, x := range []*Traversal{a, b} {
				if err := r.Render(x); err != nil {
					t.Fatal(err)
				}
			}
			if len(r.groups) != tt.groups {
				t.Errorf("%d groups, want %d", len(r.groups), tt.groups)
			}
		})
	}
}

// TestSummaryBounds: paths without end take bounded memory, and are counted.
func TestSummaryBounds(t *testing.T) {
	var b bytes.Buffer
	r := &SummaryRenderer{W: &b}
	const n = maxHistograms
	for i := range n {
		x := &Traversal{Verdict: Delivered, DataLink: []string{strconv.Itoa(i)}, Visits: make([]Visit, 3)}
		if i == 0 {
			x.Visits = make([]Visit, 4096)
		}
		if err := r.Render(x); err != nil {
			t.Fatal(err)
		}
	}
	rows := 0
	for _, g := range r.groups {
		rows += len(g.rows)
	}
	if rows > maxHistograms || rows != r.timed || rows < maxHistograms-6 {
		t.Errorf("%d histograms, %d counted, bound %d", rows, r.timed, maxHistograms)
	}
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	rest := strconv.Itoa(n - len(r.groups))
	if out := b.String(); !strings.Contains(out, "\n"+rest+" (") || !strings.Contains(out, "told apart: "+rest+" delivered\n") || !strings.Contains(out, "and more stacks, not timed\n") {
		t.Errorf("the rest, %s, is not told, or a path of 4096 stacks not said to be cut", rest)
	}
}

// TestSummaryText: nothing is nothing; hostile names stay text; a full disk is
// an error.
func TestSummaryText(t *testing.T) {
	var b bytes.Buffer
	r := &SummaryRenderer{W: &b}
	if err := r.Flush(); err != nil || b.String() != "0 traversals\n" {
		t.Errorf("%q, %v of nothing", b.String(), err)
	}
	if err := r.Render(hostile()); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, c := range b.String() {
		if c != '\n' && !unicode.IsPrint(c) {
			t.Fatalf("%U in %q", c, b.String())
		}
	}
	if n := strings.Count(b.String(), "\n"); n != 8 {
		t.Errorf("%d lines, want 8:\n%s", n, b.String())
	}
	r.W = failingWriter{}
	if err := r.Flush(); !errors.Is(err, errFull) {
		t.Errorf("error %v", err)
	}
}
