// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"os"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// A skew is what is wrong with a node's clocks: how far the wall clock is ahead,
// and how much too fast both go from the recording's beginning on.
type skew struct {
	offset time.Duration
	ppm    float64
}

// rewrite writes a recording as a node with such clocks would have. It returns how
// long the recording is.
func (k skew) rewrite(from, to string) (time.Duration, error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	rd, err := record.NewReader(in)
	if err != nil {
		return 0, err
	}
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	buffered := bufio.NewWriter(out)
	meta := *rd.Meta()
	meta.Clock.Real += int64(k.offset)
	s := skewer{skew: k}
	if s.w, err = record.NewWriter(buffered, &meta); err != nil {
		return 0, err
	}
	if err := errors.Join(rd.Run(&s), s.err); err != nil {
		return 0, err
	}
	if rd.End() == nil {
		return 0, errors.New("the recording has no end")
	}
	return time.Duration(s.last - s.first), errors.Join(s.w.Close(rd.End()), buffered.Flush(), out.Close())
}

// skewer hands on a recording with other times.
type skewer struct {
	skew
	w           *record.Writer
	first, last uint64 // monotonic ns of the original
	err         error
}

// mono is what the wrong clock shows.
func (s *skewer) mono(ns uint64) uint64 {
	if s.first == 0 {
		s.first = ns
	}
	s.last = max(s.last, ns)
	return ns + uint64(int64(float64(int64(ns-s.first))*s.ppm/1e6))
}

// Event implements record.Sink.
func (s *skewer) Event(e *events.Event) {
	late := *e
	if e.Hook != events.Elsewhere {
		late.Time = s.mono(e.Time)
	}
	s.w.Event(&late)
}

// Tick implements record.Sink.
func (s *skewer) Tick(now uint64) { s.w.Tick(s.mono(now)) }

// SetChange implements record.SetSink.
func (s *skewer) SetChange(c *record.SetChange) {
	late := *c
	for _, at := range []*uint64{&late.From, &late.By} {
		if *at != 0 {
			*at = s.mono(*at)
		}
	}
	s.err = errors.Join(s.err, s.w.SetChange(&late))
}

// Name implements record.NameSink.
func (s *skewer) Name(n *record.Name) { s.w.Name(n) }

// Facts implements record.FactsSink.
func (s *skewer) Facts(f *record.Facts) { s.err = errors.Join(s.err, s.w.Facts(f)) }

// Status implements record.StatusSink.
func (s *skewer) Status(st *record.Status) {
	late := *st
	late.Clock.Mono = s.mono(st.Clock.Mono)
	late.Clock.Real += int64(s.offset) + int64(late.Clock.Mono-st.Clock.Mono)
	if st.Since != 0 {
		late.Since = s.mono(st.Since)
	}
	s.err = errors.Join(s.err, s.w.Status(&late))
}
