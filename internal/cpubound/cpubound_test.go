// SPDX-License-Identifier: Apache-2.0

package cpubound

import (
	"testing"
	"time"
)

// heard is a test that only takes note of its failures.
type heard struct {
	testing.TB
	errors int
}

func (h *heard) Helper()               {}
func (h *heard) Errorf(string, ...any) { h.errors++ }

func TestRun(t *testing.T) {
	for took, want := range map[time.Duration]int{0: 0, Most: 0, Most + 1: 1} {
		h, now := &heard{TB: t}, time.Hour
		end := run(h, func() time.Duration { return now })
		now += took
		if end(); h.errors != want {
			t.Errorf("a run of %v fails %d times, want %d", took, h.errors, want)
		}
	}
	Run(&heard{TB: t})() // no fuzz test
}

// TestWatch: a run that does not end is told of, one that has ended is not.
func TestWatch(t *testing.T) {
	ended, told := make(chan struct{}), make(chan time.Duration, 1)
	now := time.Duration(0)
	go watch(ended, func() time.Duration { now += 6 * Most; return now }, func(took time.Duration) { told <- took })
	if took := <-told; took != 12*Most {
		t.Errorf("told after %v", took)
	}
	close(ended)
	watch(ended, func() time.Duration { return 0 }, func(time.Duration) { t.Error("told of a run that has ended") })
}

// TestTaken: what is measured goes on with work.
func TestTaken(t *testing.T) {
	begun, until := taken(), time.Now().Add(time.Minute)
	for taken() == begun {
		if time.Now().After(until) {
			t.Fatal("a minute of work takes nothing")
		}
	}
}
