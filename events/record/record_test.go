// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/stackhop/stackhop/events"
)

const captures = "../testdata/captures"

// readCapture returns a capture of package events.
func readCapture(tb testing.TB, file string) *events.Capture {
	tb.Helper()
	f, err := os.Open(file)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c, err := events.ReadCapture(f)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func captureFiles(tb testing.TB, pattern string) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(captures, pattern))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no captures: %v", err)
	}
	return files
}

// metaOf describes the run of a capture.
func metaOf(c *events.Capture) *Meta {
	m := &Meta{
		Tool: "test", Kernel: c.Header.Kernel, Node: "n0", RunID: "run", HasFunctions: c.Header.HasFunctions,
		Clock: ClockPair{Mono: 5_000, Real: 1_700_000_000_000_000_000},
	}
	for _, h := range c.Header.Hooks {
		m.Hooks = append(m.Hooks, Hook{ID: h.ID, Name: h.Name, Station: h.Station, How: "fentry"})
	}
	return m
}

// collector keeps all that a recording holds.
type collector struct {
	events []events.Event
	ticks  []uint64
	names  []Name
}

func (c *collector) Event(e *events.Event) {
	k := *e
	k.Bytes = bytes.Clone(e.Bytes)
	c.events = append(c.events, k)
}
func (c *collector) Tick(now uint64) { c.ticks = append(c.ticks, now) }
func (c *collector) Name(n *Name)    { c.names = append(c.names, *n) }

// stitched is a run's output: traversals as JSON.
type stitched struct {
	*events.Stitcher
	bytes.Buffer
}

func newStitched(tb testing.TB, m *Meta, hooks []events.Hook, names events.Names) *stitched {
	s := &stitched{}
	s.Stitcher = events.NewStitcher(events.Config{
		Hooks: hooks, Names: names, Node: m.Node, OnlyNode: m.OnlyNode, HasFunctions: m.HasFunctions,
	}, func(t *events.Traversal) {
		b, err := json.Marshal(t)
		if err != nil {
			tb.Error(err)
		}
		s.Write(append(b, '\n'))
	})
	return s
}

func (s *stitched) Event(e *events.Event) { s.Add(e) }
func (s *stitched) Tick(now uint64)       { s.Advance(now) }

// TestCaptures: each capture, written and read back, is the same, and stitches
// to the same traversals with the names that were recorded.
func TestCaptures(t *testing.T) {
	for _, file := range captureFiles(t, "*.jsonl") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c := readCapture(t, file)
			m := metaOf(c)
			var buf bytes.Buffer
			w, err := NewWriter(&buf, m)
			if err != nil {
				t.Fatal(err)
			}
			live := newStitched(t, m, c.Hooks, w.Names(c.Names))
			ticks := 0
			for i := range c.Events {
				live.Add(&c.Events[i])
				w.Event(&c.Events[i])
				if i%10 == 9 {
					live.Advance(c.Events[i].Time)
					w.Tick(c.Events[i].Time)
					ticks++
				}
			}
			live.Stitcher.Flush()
			if err := w.Close(&End{Stitched: live.Stats()}); err != nil {
				t.Fatal(err)
			}
			data := buf.Bytes()
			var all collector
			r := replay(t, data, &all)
			if len(all.ticks) != ticks || len(all.events) != len(c.Events) {
				t.Fatalf("%d ticks, %d events; want %d, %d", len(all.ticks), len(all.events), ticks, len(c.Events))
			}
			for i := range c.Events {
				if !reflect.DeepEqual(all.events[i], c.Events[i]) {
					t.Fatalf("event %d is\n%+v, not\n%+v", i, all.events[i], c.Events[i])
				}
			}
			if r.End() == nil || r.End().Stitched != live.Stats() || r.End().Events != uint64(len(c.Events)) {
				t.Errorf("totals %+v", r.End())
			}
			again, err := NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			s := newStitched(t, again.Meta(), again.Hooks(), again.Names())
			if err := again.Run(s); err != nil {
				t.Fatal(err)
			}
			s.Stitcher.Flush()
			if got, want := s.Bytes(), live.Bytes(); !bytes.Equal(got, want) {
				t.Errorf("replayed:\n%s\nlive:\n%s", got, want)
			}
		})
	}
}

// replay reads a whole recording.
func replay(tb testing.TB, data []byte, sink Sink) *Reader {
	tb.Helper()
	r, err := NewReader(bytes.NewReader(data))
	if err != nil {
		tb.Fatal(err)
	}
	if err := r.Run(sink); err != nil {
		tb.Fatal(err)
	}
	return r
}
