// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/events/report"
)

// cpuNow is what the process has taken, in ns, in all its threads.
func cpuNow(b *testing.B) int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

// nobody takes events, and does nothing with them.
type nobody struct{}

func (nobody) Event(*events.Event) {}
func (nobody) Tick(uint64)         {}

// BenchmarkFloors is what the parts of a replay and of a report take by themselves, in
// processor time: reading a recording, stitching its events, and making the page of
// traversals that are there already.
func BenchmarkFloors(b *testing.B) {
	const times = 200
	path, n := benchRecording(b, times)
	share := func(b *testing.B, of int, unit string, do func()) {
		before := cpuNow(b)
		for b.Loop() {
			do()
		}
		b.ReportMetric(float64(cpuNow(b)-before)/float64(b.N)/float64(of), "cpu-ns/"+unit)
	}
	var all recordedEvents
	if err := readBench(path, &all); err != nil {
		b.Fatal(err)
	}
	var kept []*events.Traversal
	all.stitch(false, func(t *events.Traversal) { kept = append(kept, t) })
	b.Run("read", func(b *testing.B) {
		share(b, n, "event", func() {
			if err := readBench(path, nobody{}); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("stitch", func(b *testing.B) {
		share(b, n, "event", func() { all.stitch(true, func(*events.Traversal) {}) })
	})
	b.Run("page", func(b *testing.B) {
		share(b, len(kept), "traversal", func() {
			if err := report.Write(io.Discard, report.Input{Traversals: slices.Values(kept)}); err != nil {
				b.Fatal(err)
			}
		})
	})
}

func readBench(path string, to record.Sink) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := record.NewReader(f)
	if err != nil {
		return err
	}
	if all, ok := to.(*recordedEvents); ok {
		all.hooks, all.names = r.Hooks(), r.Names()
	}
	return r.Run(to)
}

// recordedEvents are a recording's, ticks among them.
type recordedEvents struct {
	hooks  []events.Hook
	names  events.Names
	events []events.Event
	ticks  map[int]uint64 // by the number of events before
}

func (r *recordedEvents) Event(e *events.Event) { r.events = append(r.events, *e) }

func (r *recordedEvents) Tick(now uint64) {
	if r.ticks == nil {
		r.ticks = map[int]uint64{}
	}
	r.ticks[len(r.events)] = now
}

func (r *recordedEvents) stitch(reuse bool, out func(*events.Traversal)) {
	s := events.NewStitcher(events.Config{Hooks: r.hooks, Names: r.names, HasFunctions: true, Reuse: reuse}, out)
	for i := range r.events {
		s.Add(&r.events[i])
		if now, ok := r.ticks[i+1]; ok {
			s.Advance(now)
		}
	}
	s.Flush()
}
