// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/merge"
)

// mergeAll hands the traversals of several nodes to show, joined. What is selected
// is decided then: on another node a packet may have other addresses.
func (a *app) mergeAll(ctx context.Context, o *replayOptions, out *readings, show func(*events.Traversal) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out.each = make([]*replayed, len(o.sources))
	chosen := chooser{all: o.filter == nil, known: map[string]bool{}}
	var nodes []*merge.Source
	for i, s := range o.sources {
		n := s.mergeSource()
		marked := map[uint64]struct{}{}
		n.Each = func(take func(*events.Traversal)) error {
			got, err := s.replayTo(ctx, &playing{filter: o.filter, wires: true, marked: marked}, func(t *events.Traversal) error {
				chosen.see(t, marked)
				t.Node = n.Node // the namespaces may call it otherwise
				take(t)
				return ctx.Err()
			})
			out.each[i] = got
			n.Start, n.End, n.Clocks = got.first, got.last, got.clocks
			n.Lost, n.Addrs, n.Selects = got.lostBetween, got.addrs, s.selects(&got.sets)
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
	all   bool
	known map[string]bool // flows, and traversals, that are selected
}

// see looks at a traversal of one node, the packets of which that are selected are
// marked.
func (c *chooser) see(t *events.Traversal, marked map[uint64]struct{}) {
	for _, id := range t.Packets {
		if _, ok := marked[id]; ok {
			c.known[t.ID] = true
			return
		}
	}
}

func (c *chooser) wants(t *events.Traversal) bool {
	if c.all {
		return true
	}
	wanted := c.known[t.ID] || c.known[t.CausedBy] || (t.Flow != "" && c.known[t.Flow])
	for _, p := range t.Parts {
		wanted = wanted || c.known[p.ID]
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

// mergeSource describes the run of a node for merging. What is known only once
// it was read is filled in then.
func (s *source) mergeSource() *merge.Source {
	meta := s.meta()
	return &merge.Source{Node: s.node(), BootID: meta.BootID, RunID: meta.RunID, Wall: meta.Clock.Wall}
}
