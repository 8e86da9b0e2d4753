// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// busyWorld has 300 packets, whose traversals are more than a pipe has room for.
func busyWorld(t *testing.T) *world {
	t.Helper()
	w := newWorldOf(t, rounds(readCapture(t, scripted), 100, time.Millisecond, 1, func(int, *events.Event) bool { return true }))
	return w
}

// TestRealOutputs: standard output as a shell may set it up. None makes the program
// hang, what was not written is counted, and is told in one message.
func TestRealOutputs(t *testing.T) {
	const kilobyte = 1000
	pipe := func(read func(*os.File)) func(t *testing.T) io.Writer {
		return func(t *testing.T) io.Writer {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { defer close(done); read(r) }()
			t.Cleanup(func() { r.Close(); w.Close(); <-done })
			return w
		}
	}
	for _, tt := range []struct {
		name   string
		stdout func(t *testing.T) io.Writer
		status int
		said   string
		times  int
	}{
		{"1 kB a second", pipe(func(r *os.File) {
			for second := time.NewTicker(time.Second); ; <-second.C {
				if _, err := io.CopyN(io.Discard, r, kilobyte); err != nil {
					return
				}
			}
		}), exitLost, "LOST output ", 1},
		{"reader gone", pipe(func(r *os.File) { _, _ = io.CopyN(io.Discard, r, kilobyte); r.Close() }), exitDone, "stackhop: ", -1},
		{"full", func(t *testing.T) io.Writer {
			f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f
		}, exitError, "no space left on device", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := busyWorld(t)
			w.sys.stdout = tt.stdout(t)
			begin := time.Now()
			status := w.run("trace", "--all", "-o", "json", "--for", "3s", "--exit-status")
			// Whoever waited for the slow one would wait for a quarter of an hour.
			if d := time.Since(begin); d > time.Minute {
				t.Errorf("it took %v", d)
			}
			if status != tt.status {
				t.Errorf("status %d, not %d", status, tt.status)
			}
			if n := strings.Count(w.stderr.String(), tt.said); tt.times >= 0 && n != tt.times {
				t.Errorf("%q is said %d times:\n%s", tt.said, n, w.stderr.String())
			}
			if tt.times < 0 && strings.Contains(w.stderr.String(), "pipe") {
				t.Errorf("not quiet: %s", w.stderr.String())
			}
			t.Logf("%v, status %d: %s", time.Since(begin), status, w.stderr.String())
		})
	}
}
