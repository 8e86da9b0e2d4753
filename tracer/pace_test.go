// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const poll = 40 * time.Millisecond
	p := newPace(poll)
	defer p.stop()
	for i, look := range []struct {
		at   time.Duration
		some bool
		want time.Duration
	}{
		{time.Second, false, poll}, {2 * time.Second, true, poll / 2}, {2300 * time.Millisecond, false, poll / 2},
		{2500 * time.Millisecond, false, poll}, {3 * time.Second, true, poll / 2}, {3100 * time.Millisecond, true, poll / 2},
		{3450 * time.Millisecond, false, poll / 2}, {3500 * time.Millisecond, false, poll},
	} {
		if p.next(uint64(look.at), look.some); p.ticks != look.want {
			t.Errorf("look %d, at %v: the next comes after %v, want %v", i+1, look.at, p.ticks, look.want)
		}
	}
	soon := newPace(time.Hour)
	defer soon.stop()
	soon.poll = 2 * time.Millisecond
	select {
	case <-soon.next(1, true):
	case <-time.After(time.Minute):
		t.Error("the ticker was not set")
	}
	few := newPace(1)
	defer few.stop()
	if few.next(1, true); few.ticks != 1 {
		t.Errorf("half of a nanosecond is %v", few.ticks)
	}
}
