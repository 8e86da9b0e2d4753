// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stackhop/stackhop/events"
)

// newRenderer returns the renderer of an output form. Colours are for people at
// a terminal who did not refuse them.
func newRenderer(sys *system, o *showing, w io.Writer) events.Renderer {
	color := sys.terminal && !o.noColor && sys.getenv("NO_COLOR") == "" && sys.getenv("TERM") != "dumb"
	switch o.form {
	case "json":
		return &events.JSONRenderer{W: w, Explain: o.explain}
	case "tree":
		return &events.TreeRenderer{W: w, Color: color, Explain: o.explain}
	case "summary":
		return &events.SummaryRenderer{W: w, Color: color}
	}
	return &events.LineRenderer{W: w, Color: color, Explain: o.explain}
}

// display shows traversals, those that were asked for.
type display struct {
	render     events.Renderer // nil: they are only counted
	out        *output
	failedOnly bool
	limit      int // traversals to show; 0: no limit
	shown      int
}

// newDisplay returns the display that a command line asks for; nil asks for none.
func newDisplay(sys *system, o *showing, limit int) *display {
	d := &display{out: newOutput(sys.stdout), limit: limit}
	if o != nil {
		d.failedOnly = o.failedOnly
		d.render = newRenderer(sys, o, d.out)
	}
	return d
}

// show shows a traversal, unless it is not wanted; full says that no more are.
func (d *display) show(ctx context.Context, t *events.Traversal) (full bool, err error) {
	if d.failedOnly && !failed(t) {
		return false, nil
	}
	if d.limit > 0 && d.shown >= d.limit {
		return true, nil
	}
	d.shown++
	if d.render != nil {
		if err := d.render.Render(t); err != nil {
			return false, err
		}
	}
	if d.out.full() {
		d.out.flush(ctx)
	}
	return d.limit > 0 && d.shown >= d.limit, nil
}

// finish lets a renderer that has kept everything to its end write it.
func (d *display) finish() error {
	if f, ok := d.render.(interface{ Flush() error }); ok {
		return f.Flush()
	}
	return nil
}

// failed says whether a packet did not arrive, as far as is known.
func failed(t *events.Traversal) bool {
	return t.Verdict != events.Delivered && t.Verdict != events.LeftNode
}

func (d *display) flush(ctx context.Context) { d.out.flush(ctx) }
func (d *display) err() error                { return d.out.err() }

// close is output's.
func (d *display) close(ctx context.Context, patience time.Duration) int64 {
	return d.out.close(ctx, patience)
}

// output writes rendered traversals to a writer that may be slow, from a
// goroutine of its own, so that whoever renders can still be stopped. While the
// writer does not keep up the one who renders waits, and the rings fill: what is
// lost then is counted there.
type output struct {
	w  io.Writer
	ch chan chunk
	wg sync.WaitGroup

	buf      bytes.Buffer // rendered, not handed over yet
	rendered int          // traversals in buf

	// patience is how long flush waits for room when its context is done, until enough
	// is, too: the run has ended, but whoever reads may have all of it. It is spent once
	// nobody reads for so long.
	patience time.Duration
	enough   context.Context //nolint:containedctx // of the one who interrupts

	unwritten atomic.Int64 // traversals rendered, but not written
	broken    atomic.Pointer[error]
}

// chunk is some traversals, rendered.
type chunk struct {
	data       []byte
	traversals int
}

const (
	outputChunk  = 64 << 10 // bytes above which is not waited for the next tick
	outputChunks = 64
)

func newOutput(w io.Writer) *output {
	o := &output{w: w, ch: make(chan chunk, outputChunks)}
	o.wg.Go(func() {
		for c := range o.ch {
			if o.err() != nil {
				continue
			}
			if _, err := o.w.Write(c.data); err != nil {
				o.broken.Store(&err)
				continue
			}
			o.unwritten.Add(-int64(c.traversals))
		}
	})
	return o
}

// Write takes the text of one traversal from the renderer.
func (o *output) Write(p []byte) (int, error) {
	o.rendered++
	o.unwritten.Add(1)
	return o.buf.Write(p)
}

// full says that flush should not wait for the next tick.
func (o *output) full() bool { return o.buf.Len() >= outputChunk }

// flush hands over what was rendered. It waits for room until ctx is done, and see patience.
func (o *output) flush(ctx context.Context) {
	if o.rendered == 0 {
		return
	}
	c := chunk{data: bytes.Clone(o.buf.Bytes()), traversals: o.rendered}
	o.buf.Reset()
	o.rendered = 0
	select {
	case o.ch <- c: // also if ctx is done
		return
	default:
	}
	select {
	case o.ch <- c:
		return
	case <-ctx.Done():
	}
	if o.patience == 0 {
		return
	}
	select {
	case o.ch <- c:
	case <-o.enough.Done():
	case <-time.After(o.patience):
		o.patience = 0
	}
}

// err is why nothing can be written any more.
func (o *output) err() error {
	if p := o.broken.Load(); p != nil {
		return *p
	}
	return nil
}

// close writes what is left, and returns how many traversals could not be written. It
// waits for the given time, which begins anew with each chunk written: whoever reads may
// take long, as long as he reads. When ctx is done it is outputPatience in all.
func (o *output) close(ctx context.Context, patience time.Duration) int64 {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	last, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() {
		o.flush(last)
		close(o.ch)
		o.wg.Wait()
		close(done)
	}()
	interrupted := ctx.Done()
	for left := o.unwritten.Load(); ; {
		select {
		case <-done:
			return o.unwritten.Load()
		case <-interrupted:
			interrupted = nil
			timer.Reset(min(patience, outputPatience))
		case <-timer.C:
			now := o.unwritten.Load()
			if ctx.Err() != nil || now == left {
				// The writer hangs in a system call, which ends with the process.
				return now
			}
			left = now
			timer.Reset(patience)
		}
	}
}

// closedPipe says whether err is that the reader of a pipe is gone.
func closedPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}
