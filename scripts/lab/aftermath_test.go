// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
)

// TestWithoutAftermath: what an ended connection refuses is left out where there is a
// reason for it, and nothing else is.
func TestWithoutAftermath(t *testing.T) {
	packet := func(flow, flags string, v events.Verdict, notes ...string) *events.Traversal {
		r := &events.Traversal{Proto: "tcp", Flow: flow, TCPFlags: flags, Verdict: v, Notes: notes}
		if v == events.Terminated {
			r.Where, r.Reason = "socket", "reset"
		}
		return r
	}
	again := sentAgain + "the first copy …"
	for name, tt := range map[string]struct {
		all  []*events.Traversal
		want int
	}{
		"refused without a reason": {[]*events.Traversal{packet("1", "FA", events.Delivered), packet("1", "A", events.Terminated)}, 2},
		"after a copy":             {[]*events.Traversal{packet("1", "FA", events.Delivered, again), packet("1", "A", events.Terminated)}, 1},
		"a copy, after the end":    {[]*events.Traversal{packet("1", "FA", events.Delivered), packet("1", "PA", events.Terminated, again)}, 1},
		"a copy, nothing ended":    {[]*events.Traversal{packet("1", "PA", events.Terminated, again)}, 1},
		"an answer to a SYN":       {[]*events.Traversal{packet("1", "FA", events.Delivered, again), packet("1", "SA", events.Terminated)}, 2},
		"a copy in another flow":   {[]*events.Traversal{packet("1", "FA", events.Delivered, again), packet("2", "A", events.Terminated)}, 2},
		"a connection refused":     {[]*events.Traversal{packet("1", "S", events.Terminated, again)}, 1},
	} {
		if got := withoutAftermath(tt.all); len(got) != tt.want {
			t.Errorf("%s: %d packets left, want %d", name, len(got), tt.want)
		}
	}
}

// TestRTOMin: all routes of a namespace have it, locked, and are what they were else.
func TestRTOMin(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces need root: run make test as root")
	}
	p := pairOf("rto")
	defer func() {
		if err := pairDown(p.ID); err != nil {
			t.Error(err)
		}
	}()
	if err := p.build(); err != nil {
		t.Fatal(err)
	}
	h := openHost(p.A)
	defer h.close()
	before, err := h.h.RouteList(nil, unix.AF_UNSPEC)
	if err != nil || len(before) < 2 {
		t.Fatalf("%d routes, %v", len(before), err)
	}
	h.rtoMin(3 * time.Second)
	after, err := h.h.RouteList(nil, unix.AF_UNSPEC)
	if err != nil || h.err != nil || len(after) != len(before) {
		t.Fatalf("%d routes, %d before, %v, %v", len(after), len(before), h.err, err)
	}
	for i, r := range after {
		if r.RtoMin != 3000 || !r.RtoMinLock {
			t.Errorf("%v: it has %d ms, locked %t", r, r.RtoMin, r.RtoMinLock)
		}
		if r.RtoMin, r.RtoMinLock = 0, false; !r.Equal(before[i]) {
			t.Errorf("%v was %v", r, before[i])
		}
	}
}
