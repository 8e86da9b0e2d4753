// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/merge"
	"github.com/stackhop/stackhop/events/pcapexpr"
	"github.com/stackhop/stackhop/events/record"
)

// mergeAll hands the traversals of several nodes to show, joined. What is selected
// is decided then: on another node a packet may have other addresses.
func (a *app) mergeAll(ctx context.Context, o *replayOptions, out *readings, show func(*events.Traversal) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out.each = make([]*replayed, len(o.sources))
	chosen := chooser{all: o.filter == nil, packets: map[string]map[uint64]struct{}{}, known: map[string]bool{}}
	var nodes []*merge.Source
	for i, s := range o.sources {
		n := s.mergeSource()
		marked := map[uint64]struct{}{}
		chosen.packets[n.Node] = marked
		n.Each = func(take func(*events.Traversal)) error {
			got, err := s.replayTo(ctx, &playing{filter: o.filter, wires: true, marked: marked}, func(t *events.Traversal) error {
				take(t)
				return ctx.Err()
			})
			out.each[i] = got
			n.Start, n.End, n.Clocks = got.first, got.last, got.clocks
			n.Lost, n.Addrs = got.lostBetween, got.addrs
			return err
		}
		nodes = append(nodes, n)
	}
	var err error
	out.merged, err = merge.Merge(nodes, func(t *events.Traversal) error {
		if !chosen.wants(t) {
			return nil
		}
		err := show(t)
		if err != nil {
			stop() // nobody needs what is read beside it
		}
		return err
	})
	return err
}

// chooser tells which traversals of merged recordings are selected: those with a
// packet that is, their connections, and what they were answered with.
type chooser struct {
	all     bool
	packets map[string]map[uint64]struct{} // by node
	known   map[string]bool                // flows, and traversals, that are selected
}

func (c *chooser) wants(t *events.Traversal) bool {
	if c.all {
		return true
	}
	wanted := c.known[t.Flow] || c.known[t.CausedBy] || c.has(t.Node, t.Packets)
	for _, p := range t.Parts {
		wanted = wanted || c.has(p.Node, p.Packets)
	}
	if !wanted {
		return false
	}
	c.known[t.ID] = true
	if t.Flow != "" {
		c.known[t.Flow] = true
	}
	return true
}

func (c *chooser) has(node string, packets []uint64) bool {
	for _, id := range packets {
		if _, ok := c.packets[node][id]; ok {
			return true
		}
	}
	return false
}

// mergeSource describes the run of a node for merging. What is known only once
// it was read is filled in then.
func (s *source) mergeSource() *merge.Source {
	meta := s.meta()
	n := &merge.Source{Node: s.node(), BootID: meta.BootID, RunID: meta.RunID, Wall: func(mono uint64) time.Time { return wall(meta.Clock, mono) }}
	if meta.Filter != "" {
		x, err := pcapexpr.Parse(meta.Filter)
		n.Selects = func(h *events.Header) bool {
			return err == nil && mayMatch(x, &h.Tuple)
		}
	}
	return n
}

// wall turns monotonic ns into the time of day by a pair of both clocks.
func wall(c record.ClockPair, mono uint64) time.Time {
	return time.Unix(0, c.Real+int64(mono-c.Mono)).UTC() //nolint:gosec // differences of ns fit
}
