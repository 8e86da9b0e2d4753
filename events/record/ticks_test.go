// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// order writes down what comes in which order.
type order []string

func (o *order) Event(e *events.Event) { *o = append(*o, fmt.Sprintf("event %d", e.Packet)) }
func (o *order) Tick(now uint64)       { *o = append(*o, fmt.Sprintf("tick %v", time.Duration(now))) }

// TestRecorderTicks: a replay knows at each event what time it was, also where
// nothing was worth a tick for long.
func TestRecorderTicks(t *testing.T) {
	var out bytes.Buffer
	r, err := Create(Options{Stream: &out}, &Meta{RunID: "run"}, anyOf{})
	if err != nil {
		t.Fatal(err)
	}
	tick := func(at time.Duration) {
		t.Helper()
		if err := r.Tick(uint64(at)); err != nil {
			t.Fatal(err)
		}
	}
	event := func(packet uint64) { r.Event(&events.Event{Packet: packet, Hook: events.Elsewhere}) }
	tick(time.Hour) // nothing was observed before: it is left out
	tick(time.Hour + time.Second)
	event(1)
	event(2)
	tick(time.Hour + 1100*time.Millisecond)
	event(3)
	for s := 2 * time.Second; s < time.Minute; s += time.Second {
		tick(time.Hour + s)
	}
	event(4)
	if err := r.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	var got order
	rd, err := NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	if err := rd.Run(&got); err != nil {
		t.Fatal(err)
	}
	want := order{"tick 1h0m1s", "event 1", "event 2", "tick 1h0m1.1s", "event 3"}
	for s := 2 * time.Second; s <= 12*time.Second; s += time.Second {
		want = append(want, fmt.Sprintf("tick %v", time.Hour+s))
	}
	want = append(want, "tick 1h0m59s", "event 4")
	if !slices.Equal(got, want) {
		t.Errorf("got %q,\nwant %q", got, want)
	}
}
