// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/merge"
	"github.com/stackhop/stackhop/tracer"
)

// readings is what was read of the sources of a command.
type readings struct {
	sources []*source
	each    []*replayed
	merged  *merge.Report // nil: there is one source
	stats   events.StitchStats
}

// readAll hands the traversals of all sources to show, in the order of their
// time; those of several nodes are joined.
func (a *app) readAll(ctx context.Context, o *replayOptions, show func(*events.Traversal) error) (*readings, error) {
	out := &readings{sources: o.sources}
	wanted := func(t *events.Traversal) error {
		if !o.within(t) {
			return nil
		}
		count(&out.stats, t)
		return show(t)
	}
	if len(o.sources) == 1 {
		got, err := o.sources[0].replayTo(ctx, &playing{filter: o.filter, wires: o.wires, reuse: o.reuse}, wanted)
		out.each = []*replayed{got}
		return out, err
	}
	return out, a.mergeAll(ctx, o, out, wanted)
}

// count adds a traversal to the totals by verdict.
func count(st *events.StitchStats, t *events.Traversal) {
	st.Traversals++
	st.Lost += uint64(max(t.Lost, 0))
	switch t.Verdict {
	case events.Delivered:
		st.Delivered++
	case events.LeftNode:
		st.LeftNode++
	case events.Terminated:
		st.Terminated++
	case events.InFlight:
		st.InFlight++
	case events.Incomplete:
		st.Incomplete++
	}
}

// conclude says on standard error what was read, and what was wrong with it.
// Damage is an error once all that could be used has been shown.
func (a *app) conclude(r *readings, o *outcome) error {
	for i, s := range r.sources {
		got := r.each[i]
		if got == nil {
			continue
		}
		for _, path := range got.endings {
			a.say("%s ends without its end: the recorder was killed, or the file is not whole; the rest was used", quoted(path))
		}
		if n := lossText(lossesOf(got.lost)); n != "" {
			a.say("%s: while it was recorded, LOST: %s", quoted(s.parts[0].path), n)
		}
		for _, more := range besides(got.lost) {
			a.say("%s: while it was recorded: %s", quoted(s.parts[0].path), more)
		}
	}
	if r.merged != nil {
		for _, line := range r.merged.Lines() {
			a.say("%s", line)
		}
	}
	a.say("%s", o.traversals())
	damaged := damagedError(0)
	for _, got := range r.each {
		if got != nil {
			damaged += a.tellDamage(got.damage)
		}
	}
	if damaged > 0 {
		return damaged
	}
	return nil
}

// tellDamage tells of each place, and counts them.
func (a *app) tellDamage(places []error) damagedError {
	for _, err := range places {
		a.say("%v", err)
	}
	return damagedError(len(places))
}

// damagedError says at how many places recordings are damaged. Everything else
// has been done.
type damagedError int

func (d damagedError) Error() string {
	return plural(uint64(d), "place") + " damaged: what is whole was used" //nolint:gosec // a count
}

// lost is what the recorders lost, by stage.
func (r *readings) lost() map[string]uint64 {
	sum := map[string]uint64{}
	for _, got := range r.each {
		if got != nil {
			for stage, n := range got.lost {
				sum[stage] += n
			}
		}
	}
	return sum
}

// outcome is what came of it, with so many traversals shown.
func (r *readings) outcome(shown int) *outcome {
	return &outcome{kernel: tracer.Stats{Lost: r.lost()}, stitched: r.stats, shown: shown}
}
