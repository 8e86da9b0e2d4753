// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/merge"
	"github.com/stackhop/stackhop/events/record"
)

// source is the recording of one run on one node: one file, or its parts in
// their order.
type source struct {
	parts []part
	hooks []events.Hook
}

// part is one file of a recording.
type part struct {
	path string
	meta *record.Meta
}

// meta describes the run.
func (s *source) meta() *record.Meta { return s.parts[0].meta }

// node is the node that the run observed.
func (s *source) node() string { return cmp.Or(s.meta().OnlyNode, s.meta().Node) }

// openSources looks into the files, and puts together those that are parts of
// one run.
func openSources(paths []string) ([]*source, error) {
	var out []*source
	byRun := map[string]*source{}
	for _, path := range paths {
		meta, hooks, err := readMeta(path)
		if err != nil {
			return nil, err
		}
		run := cmp.Or(meta.RunID, path)
		s := byRun[run]
		if s == nil {
			s = &source{hooks: hooks}
			byRun[run] = s
			out = append(out, s)
		}
		for _, p := range s.parts {
			if p.meta.Part == meta.Part {
				return nil, fmt.Errorf("%s and %s are the same recording: name it once", quoted(p.path), quoted(path))
			}
		}
		s.parts = append(s.parts, part{path, meta})
	}
	for _, s := range out {
		slices.SortFunc(s.parts, func(a, b part) int { return cmp.Compare(a.meta.Part, b.meta.Part) })
	}
	return out, nil
}

// readMeta reads the beginning of a recording.
func readMeta(path string) (*record.Meta, []events.Hook, error) {
	f, r, err := openRecording(path, nil)
	if err != nil {
		return nil, nil, err
	}
	return r.Meta(), r.Hooks(), f.Close()
}

// openRecording opens a file that must be a recording. Once stop returns an error
// no more is read of it; nil: all is.
func openRecording(path string, stop func() error) (io.Closer, *record.Reader, error) {
	// Before it is opened, which waits for somebody to write if it is a pipe.
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%s: %w", quoted(path), errors.Unwrap(err))
	case st.IsDir():
		return nil, nil, fmt.Errorf("%s is a directory", quoted(path))
	case !st.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is not a file: a recording is read more than once, so save it first", quoted(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err // names the file
	}
	r, err := record.NewReader(&stoppable{f, stop})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", quoted(path), err), f.Close())
	}
	return f, r, nil
}

// stoppable is a file that can be read until somebody has seen enough.
type stoppable struct {
	*os.File
	stop func() error // nil: never
}

// Read implements io.Reader.
func (s *stoppable) Read(p []byte) (int, error) {
	if s.stop != nil {
		if err := s.stop(); err != nil {
			return 0, err
		}
	}
	return s.File.Read(p)
}

// replayed is what was read of a source.
type replayed struct {
	stats   events.StitchStats
	lost    map[string]uint64 // events that the recorder lost, by stage
	losses  []lossSpan
	endings []string // files whose recorder was killed
	damage  []error  // one for each place
	facts   *record.Facts
	told    toldServices
	names   events.Names   // as known at the end
	end     *record.End    // of the last part; nil: it has none
	clocks  []merge.Clock  // as told during the run
	addrs   []netip.Prefix // of the node and its pods
	sets    record.SetHistory
	first   uint64 // ns, monotonic: of the first event or tick, and the last
	last    uint64
}

// lossSpan is a time in which a recorder lost events.
type lossSpan struct{ from, to, events uint64 }

// lostBetween is how many events the recorder lost between two moments, in ns on
// the node's monotonic clock: in the times that these touch.
func (r *replayed) lostBetween(from, to uint64) (n uint64) {
	for _, l := range r.losses {
		if l.from <= to && from <= l.to {
			n += l.events
		}
	}
	return n
}

// replayTo runs the source's events through a stitcher and hands each traversal
// to show, as when it was live.
func (s *source) replayTo(ctx context.Context, o *playing, show func(*events.Traversal) error) (*replayed, error) {
	out := &replayed{lost: map[string]uint64{}}
	p := &player{
		ctx: ctx, playing: o, out: out, show: show,
		collecting: collecting{pace: gcOffline},
		matched:    map[uint64]struct{}{}, addresses: map[devKey][]netip.Addr{},
	}
	for i := range s.parts {
		if err := p.part(&s.parts[i]); err != nil {
			return out, err
		}
	}
	return out, p.finish()
}
