// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// tabled are names that have read IPVS's table, which says another thing each time,
// and half of the time is being read.
type tabled struct {
	knowing
	n int
}

func (r *tabled) Virtual(q *events.VirtualQuery) (events.VirtualFacts, bool) {
	r.n++
	ok := q.Service == netip.MustParseAddrPort("8.219.164.113:80") && q.Proto == 6
	if r.n%2 == 0 {
		return events.VirtualFacts{Pending: true}, ok
	}
	many := 1 + r.n/2%2
	return events.VirtualFacts{After: events.VirtualState{At: q.Time + 9e6, Destinations: many, Idle: many}}, ok
}

// TestVirtualReplayed: a replay knows IPVS's table as the run did.
func TestVirtualReplayed(t *testing.T) {
	w := mixed(t, "6.12-case[57].jsonl", 4, 1, 5*time.Second)
	var buf bytes.Buffer
	wr, err := NewWriter(&buf, w.meta)
	if err != nil {
		t.Fatal(err)
	}
	inner := &tabled{knowing: knowing{w.names}}
	live := newStitched(t, w.meta, hooksOf(w.meta), wr.Names(inner))
	for i := range w.events {
		live.Event(&w.events[i])
		wr.Event(&w.events[i])
		if i%50 == 49 {
			live.Tick(w.events[i].Time)
			wr.Tick(w.events[i].Time)
		}
	}
	live.Flush()
	if err := wr.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	again := newStitched(t, r.Meta(), r.Hooks(), r.Names())
	if err := r.Run(again); err != nil {
		t.Fatal(err)
	}
	again.Flush()
	for _, want := range []string{"the only destination of 8.219.164.113:80 has weight 0", "all 2 destinations of 8.219.164.113:80 have weight 0"} {
		if !bytes.Equal(live.Bytes(), again.Bytes()) || !bytes.Contains(again.Bytes(), []byte(want)) {
			t.Errorf("%q, %d questions; live:\n%.2000s\nreplayed:\n%.2000s", want, inner.n, live.Bytes(), again.Bytes())
		}
	}
}

// TestVirtualNotKnown: names that have read no table say nothing, and forget what
// is gone.
func TestVirtualNotKnown(t *testing.T) {
	q := events.VirtualQuery{Time: 50, Netns: 1, Service: netip.MustParseAddrPort("10.0.0.1:80"), Proto: 6}
	v := VirtualName{
		Netns: 1, IP: "10.0.0.1", Port: 80, Proto: 6, Time: 50, VirtualCounts: VirtualCounts{Destinations: 3, Idle: 2, Full: 1},
		LateNS: 7, Before: &VirtualPast{VirtualCounts{Absent: true}, 9},
	}
	want := events.VirtualFacts{After: events.VirtualState{At: 57, Destinations: 3, Idle: 2, Full: 1}, Before: events.VirtualState{At: 41, Absent: true}}
	told := func(what string, change func(*VirtualName), want events.VirtualFacts, known bool) *book {
		b := newBook()
		n := v
		change(&n)
		for _, v := range []VirtualName{v, n} {
			if err := b.put(&Name{Virtual: &v}); err != nil {
				t.Fatal(err)
			}
		}
		if f, ok := b.Virtual(&q); ok != known || f != want {
			t.Errorf("%s: %+v, %v", what, f, ok)
		}
		return b
	}
	b := told("the same", func(*VirtualName) {}, want, true)
	for name, change := range map[string]func(*events.VirtualQuery){
		"namespace": func(q *events.VirtualQuery) { q.Netns++ }, "protocol": func(q *events.VirtualQuery) { q.Proto = 17 }, "time": func(q *events.VirtualQuery) { q.Time++ },
		"port": func(q *events.VirtualQuery) { q.Service = netip.MustParseAddrPort("10.0.0.1:81") },
	} {
		other := q
		change(&other)
		if f, ok := b.Virtual(&other); ok {
			t.Errorf("another %s: %+v", name, f)
		}
	}
	told("gone", func(v *VirtualName) { v.Gone = true }, events.VirtualFacts{}, false)
	told("being read", func(v *VirtualName) { v.Pending = true }, events.VirtualFacts{Pending: true}, true)
	told("of any time", func(v *VirtualName) { v.Time = 0 }, want, true)
	// As the first recordings of version 1.2 have it.
	b = newBook()
	v.Time, v.LateNS, v.Before = 0, 0, nil
	if err := b.put(&Name{Virtual: &v}); err != nil {
		t.Fatal(err)
	}
	want.After.At, want.Before = 0, events.VirtualState{}
	if f, ok := b.Virtual(&q); !ok || f != want {
		t.Errorf("of all times: %+v, %v", f, ok)
	}
	if f, ok := events.VirtualOf(struct{ events.Names }{}, &q); ok {
		t.Errorf("names without a table: %+v", f)
	}
}
