// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/stackhop/stackhop/events"
)

// maxCaptured bounds the events of a capture, which is kept in memory until the
// end: only then is known which names belong into its header.
const maxCaptured = 1_000_000

// capture keeps every event of a run for a test (trace --capture).
type capture struct {
	file    *os.File
	limit   int
	events  []events.Event
	dropped uint64 // events beyond the limit
}

// newCapture creates the file of a capture; nil if there is no path. A file or
// symbolic link that is already there is refused. own gives it to who called.
func newCapture(path string, own func(*os.File) error) (*capture, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // no path, no capture
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--capture: %w", err)
	}
	if err := own(f); err != nil {
		return nil, errors.Join(fmt.Errorf("--capture: %w", err), f.Close(), os.Remove(path))
	}
	return &capture{file: f, limit: maxCaptured}, nil
}

// add keeps a copy of an event.
func (c *capture) add(e *events.Event) {
	if c == nil {
		return
	}
	if len(c.events) >= c.limit {
		c.dropped++
		return
	}
	kept := *e
	kept.Bytes = slices.Clone(e.Bytes) // it lies in the ring
	c.events = append(c.events, kept)
}

// write writes what was kept, described by the tracer and the kernel's release.
func (c *capture) write(tr liveTracer, release, note string) error {
	if c == nil {
		return nil
	}
	h := events.NewCaptureHeader(tr.Table(), tr.Names(), c.events)
	h.Kernel, h.Note, h.HasFunctions = release, note, tr.HasFunctions()
	err := events.WriteCapture(c.file, &h, c.events)
	if err = errors.Join(err, c.file.Close()); err != nil {
		return fmt.Errorf("--capture: %w", err)
	}
	if c.dropped > 0 {
		return fmt.Errorf("--capture: %d events are missing: it holds %d at most", c.dropped, c.limit)
	}
	return nil
}

// discard removes the file of a capture that never began.
func (c *capture) discard() error {
	if c == nil {
		return nil
	}
	return errors.Join(c.file.Close(), os.Remove(c.file.Name()))
}
