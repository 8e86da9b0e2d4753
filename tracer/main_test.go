// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/stackhop/stackhop/events"
)

var update = flag.Bool("update", false, "rewrite the files under testdata")

// childEnv makes this binary a tracer that is to be killed.
const childEnv = "STACKHOP_TEST_TRACER"

// TestMain lets the test binary play the processes that tests start: the tc
// cleaner, as the tool itself does, and a tracer that is to be killed.
func TestMain(m *testing.M) {
	if IsCleaner() {
		os.Exit(RunCleaner())
	}
	if mode := os.Getenv(childEnv); mode != "" {
		if err := traceUntilKilled(mode); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// nullSink takes events and tells once that the hooks are switched on.
type nullSink struct{ ticked func() }

func (s *nullSink) Event(*events.Event) {}
func (s *nullSink) Tick(_, _ uint64) bool {
	if s.ticked != nil {
		s.ticked()
		s.ticked = nil
	}
	return false
}

// traceUntilKilled is the child's whole life. "ready" tells that it traces.
func traceUntilKilled(string) error {
	t, err := New(Config{All: true, Hooks: HooksTracepoints, RingBytes: 1 << 16})
	if err != nil {
		return err
	}
	defer t.Close()
	// The parent's end is the end of standard input, should it die first.
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		var b [1]byte
		os.Stdin.Read(b[:])
		cancel()
	}()
	return t.Run(ctx, &nullSink{ticked: func() { fmt.Println("ready") }})
}
