// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// tabled are names that have read IPVS's table, which says another thing each time.
type tabled struct {
	knowing
	n int
}

func (r *tabled) Virtual(netns uint32, ip string, port uint16, proto uint8) (events.VirtualFacts, bool) {
	r.n++
	return events.VirtualFacts{Destinations: 1 + r.n%2, Idle: 1 + r.n%2}, ip == "8.219.164.113" && port == 80 && proto == 6
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
	b := newBook()
	v := VirtualName{Netns: 1, IP: "10.0.0.1", Port: 80, Proto: 6, Destinations: 3, Idle: 2, Full: 1}
	if err := b.put(&Name{Virtual: &v}); err != nil {
		t.Fatal(err)
	}
	if f, ok := b.Virtual(1, "10.0.0.1", 80, 6); !ok || f != (events.VirtualFacts{Destinations: 3, Idle: 2, Full: 1}) {
		t.Errorf("%+v, %v", f, ok)
	}
	for name, n := range map[string]struct {
		netns uint32
		port  uint16
		proto uint8
	}{"namespace": {2, 80, 6}, "port": {1, 81, 6}, "protocol": {1, 80, 17}} {
		if f, ok := b.Virtual(n.netns, "10.0.0.1", n.port, n.proto); ok {
			t.Errorf("another %s: %+v", name, f)
		}
	}
	v.Gone = true
	if err := b.put(&Name{Virtual: &v}); err != nil {
		t.Fatal(err)
	}
	if f, ok := b.Virtual(1, "10.0.0.1", 80, 6); ok {
		t.Errorf("gone, and still %+v", f)
	}
	if f, ok := events.VirtualOf(struct{ events.Names }{}, 1, "10.0.0.1", 80, 6); ok {
		t.Errorf("names without a table: %+v", f)
	}
}
