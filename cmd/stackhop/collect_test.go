// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"
	"testing"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 8 << 20: 150, 24 << 20: 50, 32 << 20: 25, 40 << 20: 20, 80 << 20: 20, 1 << 40: 20} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d bytes: %d %%, want %d", live, got, want)
		}
	}
}

func TestGCOffline(t *testing.T) {
	for live, want := range map[uint64]int{0: 800, 1 << 20: 800, 8 << 20: 800, 16 << 20: 400, 64 << 20: 100, 1 << 40: 100} {
		if got := gcOffline(live); got != want {
			t.Errorf("%d bytes: %d %%, want %d", live, got, want)
		}
	}
}

// TestCollecting: nothing is allocated for it, and it is left alone between looks.
func TestCollecting(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(leastPercent))
	c := collecting{next: 1}
	if c.tick(0); c.percent != 0 {
		t.Errorf("%d %% before its time", c.percent)
	}
	now := uint64(1)
	if n := testing.AllocsPerRun(10, func() { c.tick(now); now += collectEvery }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if c.percent < leastPercent || c.percent > mostPercent {
		t.Errorf("%d %%", c.percent)
	}
}
