// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/tracer"
)

// live observes the kernel until something ends it.
func (a *app) live(ctx context.Context, o *liveOptions) error {
	asked, release := a.sys.asks()
	defer release()
	o.asked = asked
	var tr liveTracer
	err := a.keepForLater(o)
	if err == nil {
		tr, err = a.attach(o.config, o.cluster != nil)
	}
	if err != nil {
		return errors.Join(err, o.capture.discard())
	}
	// What attaching took, types of the kernel above all, is not needed any more.
	var freeing sync.WaitGroup
	freeing.Go(debug.FreeOSMemory)
	defer freeing.Wait()
	result, err := a.runSession(ctx, tr, o)
	quiet := closedPipe(err) // whoever read has seen enough
	if result != nil && !quiet {
		a.say("%s", result.summary())
	}
	// After the summary: to detach 80 hooks takes the kernel seconds, one grace
	// period each.
	if closeErr := tr.Close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("detach: %w", closeErr))
	}
	if quiet {
		return nil
	}
	if err != nil {
		return err
	}
	if result.stitched.Traversals == 0 {
		a.say("nothing matched: '%s trace --all --count 5' shows what passes here", a.name)
	}
	if status := result.status(); o.exitStatus && status != exitDone {
		return exitStatus(status)
	}
	return nil
}

// runSession runs tr until something ends it. Without a result it has not begun.
func (a *app) runSession(parent context.Context, tr liveTracer, o *liveOptions) (*outcome, error) {
	interruptible, stop := a.sys.interruptible(parent)
	defer stop()
	ctx, cancel := context.WithCancel(interruptible)
	defer cancel()

	s := &session{
		tr: tr, own: a.sys.own, bounds: o.bounds, capture: o.capture, display: newDisplay(a.sys, o.show, o.bounds.count), ctx: ctx, cancel: cancel, warn: o.config.Warn,
		asked: o.asked, answer: func(r *outcome) { a.say("so far %s", r.summary()) },
	}
	s.display.out.patience, s.display.out.enough = outputPatience, interruptible
	node, err := a.sys.hostname()
	if err != nil {
		node = "" // the names may still have one
	}
	names := tr.Names()
	if o.cluster != nil {
		names, s.look = o.cluster.Names(names), o.cluster.Look
	}
	cfg := events.Config{
		Hooks: tr.Table(), Names: names, Wall: tr.Wall,
		Node: node, OnlyNode: o.onlyNode, HasFunctions: tr.HasFunctions(),
		Reuse: true, // what is shown is written at once
	}
	if o.recording != nil {
		if s.record, err = a.newRecorder(tr, o, &cfg); err != nil {
			s.display.close(ctx, 0)
			return nil, errors.Join(err, o.capture.discard())
		}
	}
	s.stitcher = events.NewStitcher(cfg, s.show)
	if s.record != nil {
		s.record.stitcher = s.stitcher
	}
	if err := a.dropPrivilege(tr, &o.config, s.child); err != nil {
		return nil, errors.Join(err, s.abandon(ctx))
	}
	a.announce(tr, "following packets", &o.bounds)
	if !tr.HasFunctions() {
		a.say("tracepoints only: IPVS, conntrack, netfilter, IP and sockets are not observed, and nothing is claimed about them")
	}

	following := o.follow(ctx, tr)
	err = tr.Run(ctx, s)
	s.lastLosses()
	s.stitcher.Flush()
	cancel()
	following.Wait()
	if s.child != nil {
		err = errors.Join(err, s.child.stop())
	}
	unwritten := s.display.close(interruptible, outputPatience)
	result := s.outcome(unwritten)
	if s.record != nil {
		err = errors.Join(err, s.record.close(result))
	}
	if outErr := s.display.err(); outErr != nil {
		err = errors.Join(fmt.Errorf("write to standard output: %w", outErr), err)
	}
	if s.child != nil && s.child.ended() && s.child.err != nil {
		a.say("COMMAND: %v", s.child.err)
	}
	return result, errors.Join(s.err, err, o.capture.write(tr, a.sys.kernelRelease(), strings.Join(a.command, " ")))
}

// abandon ends a session before it has begun, and removes what it has made.
func (s *session) abandon(ctx context.Context) error {
	s.display.close(ctx, 0)
	err := s.capture.discard()
	if s.record == nil {
		return err
	}
	files := s.record.Files()
	err = errors.Join(err, s.record.Close(&record.End{Reason: "privilege could not be dropped"}))
	for _, f := range files {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

// slowAttach is the time after which somebody may wonder what is going on.
const slowAttach = time.Second

// attach makes the tracer of a run, perhaps while the names of a cluster come.
func (a *app) attach(c tracer.Config, names bool) (liveTracer, error) {
	percent := attachPercent
	if names {
		percent = leastPercent
	}
	debug.SetGCPercent(min(percent, gcPercent(liveHeap(make([]metrics.Sample, 1)))))
	defer debug.SetGCPercent(leastPercent)
	timer := time.AfterFunc(slowAttach, func() { a.say("attaching hooks…") })
	tr, err := a.sys.newTracer(c)
	timer.Stop() // before what follows, which is not attaching and may take long on a busy machine
	return tr, err
}

// announce says that something begins, and what ends it.
func (a *app) announce(tr liveTracer, what string, b *bounds) {
	attached := uint64(0)
	for _, h := range tr.Attached() {
		if h.How != "" && h.How != "absent" {
			attached++
		}
	}
	var ends []string
	if b.child != nil {
		ends = append(ends, "with COMMAND")
	}
	if b.limit > 0 {
		ends = append(ends, "after "+b.limit.String())
	}
	if b.count > 0 {
		ends = append(ends, "after "+plural(uint64(b.count), "traversal"))
	}
	ends = append(ends, "with Ctrl-C")
	a.say("%s attached, %s; ends %s", plural(attached, "hook"), what, strings.Join(ends, " or "))
}

var _ tracer.Sink = (*session)(nil)
