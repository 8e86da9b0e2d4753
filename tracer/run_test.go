// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"flag"
	"slices"
	"sync"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

// hooksFlag lets the tests that any hooks will do for run where functions can be hooked.
var hooksFlag = flag.String("hooks", string(HooksTracepoints), "the hooks of the tests that trace: tracepoints or all")

// A run is a tracer at work, and all events that it gave.
type run struct {
	t      testing.TB
	tracer *Tracer
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	events []events.Event
	warned []string
	extra  func(e *events.Event) // called for each event, instead of keeping it
	now    uint64
	ticks  [][2]uint64 // the last of them: when, and how much is known
}

// Event implements Sink.
func (r *run) Event(e *events.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.extra != nil {
		r.extra(e)
		return
	}
	kept := *e
	kept.Bytes = slices.Clone(e.Bytes) // they lie in the ring
	r.events = append(r.events, kept)
}

// Tick implements Sink.
func (r *run) Tick(now, known uint64) bool {
	r.mu.Lock()
	r.now = now
	r.ticks = append(r.ticks, [2]uint64{now, known})
	if len(r.ticks) > 2000 {
		r.ticks = slices.Delete(r.ticks, 0, 1000)
	}
	r.mu.Unlock()
	return false
}

// startRun attaches, switches on and returns once the hooks are on.
func startRun(t testing.TB, cfg Config, extra func(*events.Event)) *run {
	t.Helper()
	needRoot(t)
	r := &run{t: t, done: make(chan error, 1), extra: extra}
	cfg.Hooks = HookSet(*hooksFlag)
	cfg.Warn = func(s string) {
		r.mu.Lock()
		r.warned = append(r.warned, s)
		r.mu.Unlock()
	}
	var err error
	if r.tracer, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.tracer.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	t.Cleanup(cancel)
	go func() { r.done <- r.tracer.Run(ctx, r) }()
	eventually(t, "the hooks are on", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.now > 0
	})
	return r
}

// stop ends the run, closes the tracer and returns what was counted.
func (r *run) stop() Stats {
	r.t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	s := r.tracer.Stats()
	if err := r.tracer.Close(); err != nil {
		r.t.Errorf("Close: %v", err)
	}
	if lost := s.Lost["ring"] + s.Lost["decode"]; s.Matched != s.Delivered+lost {
		r.t.Errorf("matched %d ≠ delivered %d + lost %d", s.Matched, s.Delivered, lost)
	}
	return s
}

// seen returns a copy of the events so far.
func (r *run) seen() []events.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// any says whether an event was seen that f wants.
func (r *run) any(f func(*events.Event) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.events {
		if f(&r.events[i]) {
			return true
		}
	}
	return false
}

// hook returns the number of a row.
func (r *run) hook(name string) events.HookID {
	r.t.Helper()
	for _, h := range r.tracer.Table() {
		if h.Name == name {
			return h.ID
		}
	}
	r.t.Fatalf("no hook %s in this run", name)
	return 0
}

// arrivals counts the packets seen, and those seen to come in at one of pods.
func (r *run) arrivals(pods ...*pod) (lives, arrived int) {
	receive := r.hook("netif_receive_skb")
	all, in := map[uint64]bool{}, map[uint64]bool{}
	for _, e := range r.seen() {
		all[e.Packet] = true
		for _, p := range pods {
			if e.Hook == receive && e.Netns == p.inode {
				in[e.Packet] = true
			}
		}
	}
	return len(all), len(in)
}

// stitch makes traversals of all events.
func (r *run) stitch() []*events.Traversal {
	var out []*events.Traversal
	s := events.NewStitcher(events.Config{Hooks: r.tracer.Table(), Names: r.tracer.Names(), Wall: r.tracer.Wall},
		func(t *events.Traversal) { out = append(out, t) })
	all := r.seen()
	for i := range all {
		s.Add(&all[i])
	}
	s.Flush()
	return out
}

// expression parses a selection.
func expression(t testing.TB, text string) *pcapexpr.Expr {
	t.Helper()
	e, err := pcapexpr.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
