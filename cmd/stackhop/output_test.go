// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// brokenWriter fails as a pipe without a reader, or a full disk.
type brokenWriter struct{ err error }

func (b brokenWriter) Write([]byte) (int, error) { return 0, b.err }

func TestBrokenOutput(t *testing.T) {
	w := newWorld(t)
	w.sys.stdout = brokenWriter{&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}}
	if status := w.run("trace", "tcp"); status != exitDone {
		t.Errorf("closed pipe: status %d", status)
	}
	if strings.Contains(w.stderr.String(), "pipe") || strings.Contains(w.stderr.String(), "traversal") {
		t.Errorf("closed pipe: not quiet: %s", w.stderr.String())
	}

	w = newWorld(t)
	w.sys.stdout = brokenWriter{syscall.ENOSPC}
	if status := w.run("trace", "tcp"); status != exitError {
		t.Errorf("full disk: status %d", status)
	}
	for _, want := range []string{"LOST output 3", "write to standard output: no space left on device"} {
		if !strings.Contains(w.stderr.String(), want) {
			t.Errorf("full disk: no %q in %s", want, w.stderr.String())
		}
	}
}

// stuckWriter does not take anything until it is released.
type stuckWriter struct{ release chan struct{} }

func (s stuckWriter) Write(p []byte) (int, error) {
	<-s.release
	return len(p), nil
}

// TestStuckOutput: a reader that does not read cannot keep the program from
// ending.
func TestStuckOutput(t *testing.T) {
	w := newWorld(t)
	stuck := stuckWriter{make(chan struct{})}
	defer close(stuck.release)
	w.sys.stdout = stuck
	begin := time.Now()
	w.run("trace", "tcp", "--for", "1s")
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	if !strings.Contains(w.stderr.String(), "LOST output 3") {
		t.Errorf("not told: %s", w.stderr.String())
	}
}

// slowWriter takes its time for everything, but does take it.
type slowWriter struct {
	every time.Duration
	got   bytes.Buffer
}

func (s *slowWriter) Write(p []byte) (int, error) {
	<-time.After(s.every)
	return s.got.Write(p)
}

// TestSlowOutput: whoever reads on gets all, however long it takes in all, unless
// somebody has had enough.
func TestSlowOutput(t *testing.T) {
	for _, enough := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			slow := &slowWriter{every: outputPatience * 3 / 4}
			o := newOutput(slow)
			for range 5 {
				fmt.Fprintln(o, "a traversal")
				o.flush(t.Context())
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if enough {
				time.AfterFunc(outputPatience/4, cancel) // while it is written
			}
			unwritten := o.close(ctx, outputPatience)
			if !enough && (unwritten != 0 || strings.Count(slow.got.String(), "\n") != 5) || enough && unwritten != 4 {
				t.Errorf("enough %v: %d unwritten", enough, unwritten)
			}
			<-time.After(5 * slow.every) // of the test's own clock: the process would have ended
		})
	}
}

// TestSlowReaderGetsAll: also what is rendered after the end, more than there is room
// for, unless nobody reads or somebody has had enough.
func TestSlowReaderGetsAll(t *testing.T) {
	const chunks = outputChunks + 8
	for _, tt := range []struct {
		name      string
		every     time.Duration
		enough    bool
		unwritten int64
	}{
		{"reads", outputPatience * 3 / 4, false, 0},
		{"does not read", 20 * outputPatience, false, chunks},
		{"enough", outputPatience * 3 / 4, true, chunks - 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := &slowWriter{every: tt.every}
				o := newOutput(slow)
				enough, interrupt := context.WithCancel(t.Context())
				defer interrupt()
				o.patience, o.enough = outputPatience, enough
				over, end := context.WithCancel(enough)
				end()
				if tt.enough {
					interrupt()
				}
				begun := time.Now()
				for range chunks {
					fmt.Fprintln(o, "a traversal")
					o.flush(over)
				}
				if got := o.close(enough, outputPatience); got != tt.unwritten {
					t.Errorf("%d unwritten, want %d", got, tt.unwritten)
				}
				if took := time.Since(begun); tt.unwritten > 0 && took > 2*outputPatience {
					t.Errorf("took %v", took)
				}
				<-time.After(chunks * tt.every) // of the test's own clock: the process would have ended
			})
		})
	}
}
