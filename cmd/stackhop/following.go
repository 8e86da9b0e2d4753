// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
	"github.com/stackhop/stackhop/kube"
)

// A wanted name is a pod, service, node or namespace on the command line that
// Kubernetes knows. What it stands for may change while it is followed.
type wanted struct {
	kind, namespace, name string
	port                  uint16
	last                  []kube.Member // what it stood for when that was known last
	lost                  bool          // it is not there any more, and that was said
}

// kindNamespace stands for all pods and services of a namespace.
const kindNamespace = "namespace"

func (w *wanted) text() string {
	switch w.kind {
	case kindNamespace:
		return "namespace " + events.Safe(w.namespace)
	case "node":
		return "node/" + events.Safe(w.name)
	}
	return fmt.Sprintf("%s/%s/%s", w.kind, events.Safe(w.namespace), events.Safe(w.name))
}

// ask finds out what the name stands for now. A name that is gone stands for
// nothing: its addresses may soon be another's. While there is nobody to ask, it
// stands for what it did.
func (w *wanted) ask(cl cluster) (err error) {
	var members []kube.Member
	if w.kind == kindNamespace {
		members, err = cl.InNamespace(w.namespace)
	} else {
		members, err = cl.Target(w.kind, w.namespace, w.name, w.port)
	}
	if err == nil || errors.Is(err, kube.ErrNotFound) || errors.Is(err, kube.ErrNoAddress) {
		w.last = members
	}
	return err
}

// namedSet is the set of ends that the names of one flag stand for.
type namedSet struct {
	*pcapexpr.Set
	names []*wanted
}

// fill makes the set what its names stand for now, and says whether that is
// something else than before.
func (s *namedSet) fill(cl cluster, warn func(string)) (changed bool) {
	var all []pcapexpr.Member
	for _, w := range s.names {
		switch err := w.ask(cl); {
		case err == nil:
			w.lost = false
		case errors.Is(err, kube.ErrNotFound) && !w.lost:
			w.lost = true
			warn(w.text() + " is gone; it is followed again when it is back")
		}
		all = append(all, w.last...)
	}
	slices.SortFunc(all, compareMembers)
	all = slices.Compact(all)
	if slices.Equal(all, s.Members()) {
		return false
	}
	s.Replace(all)
	return true
}

func compareMembers(a, b pcapexpr.Member) int {
	if c := a.Net.Addr().Compare(b.Net.Addr()); c != 0 {
		return c
	}
	return int(a.Port) - int(b.Port)
}

// follower keeps the sets of a run as the names say.
type follower struct {
	cluster cluster
	sets    []*namedSet
	warn    func(string)
	told    *setLog // nil: nobody writes it down
	failed  bool    // the kernel was not told the last time
}

// run brings changes to the tracer until ctx ends.
func (f *follower) run(ctx context.Context, tr liveTracer) {
	changes, stop := f.cluster.Watch()
	defer stop()
	for {
		f.update(tr) // also what changed while hooks were attached
		select {
		case <-ctx.Done():
			return
		case <-changes:
		}
	}
}

func (f *follower) update(tr liveTracer) {
	var changed []*namedSet
	for _, s := range f.sets {
		if s.fill(f.cluster, f.warn) {
			changed = append(changed, s)
		}
	}
	if len(changed) == 0 {
		return
	}
	f.told.begin(tr, changed)
	err := tr.UpdateSets()
	if err != nil {
		f.warn(fmt.Sprintf("the selection does not follow the names: %v", err))
	}
	if f.failed {
		changed = f.sets // whichever it was that the kernel does not know
	}
	f.failed = err != nil
	f.told.end(tr, changed, err)
}

// follow keeps the selection as the names say until ctx ends.
func (o *liveOptions) follow(ctx context.Context, tr liveTracer) *sync.WaitGroup {
	var running sync.WaitGroup
	if len(o.sets) > 0 {
		f := &follower{cluster: o.cluster, sets: o.sets, warn: o.config.Warn}
		if o.recording != nil {
			f.told = &o.recording.sets
		}
		running.Go(func() { f.run(ctx, tr) })
	}
	return &running
}
