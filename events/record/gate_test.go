// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// TestOnFailure: what happened around failures is there, with all its names, and
// what was left out in between is said once.
func TestOnFailure(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 150, 1, 60*time.Second)
	path := filepath.Join(t.TempDir(), "x.hop")
	const around = 3 * time.Second
	r := create(t, Options{Path: path, OnFailure: around}, w)
	failures := []time.Duration{20 * time.Second, 22 * time.Second, 50 * time.Second}
	live, err := drive(t, r, w, func(at time.Duration) {
		if slices.Contains(failures, at) {
			r.Failed()
		}
	})
	if err = errors.Join(err, r.Close(&End{Reason: "done"})); err != nil {
		t.Fatal(err)
	}
	n := &named{t: t, names: w.names}
	got := replayFiles(t, []string{path}, func(rd *Reader) Sink { n.r = rd; return n })
	if n.gaps != 2 {
		t.Errorf("%d gaps are told", n.gaps)
	}
	near := func(at uint64, d time.Duration) bool {
		return slices.ContainsFunc(failures, func(f time.Duration) bool {
			return (time.Duration(at-w.events[0].Time) - f).Abs() < d //nolint:gosec // seconds
		})
	}
	want := 0
	for i := range w.events {
		if near(w.events[i].Time, around) {
			want++
		}
	}
	inside := 0
	for _, at := range n.events {
		if near(at, around) {
			inside++
		}
		if !near(at, around+2*flushInterval) {
			t.Fatalf("an event %v after the first is there", time.Duration(at-w.events[0].Time)) //nolint:gosec // seconds
		}
	}
	if inside != want || want == 0 {
		t.Errorf("%d of %d events near failures are there", inside, want)
	}
	checked := 0
	for line := range bytes.Lines(live) {
		var tr struct {
			Time time.Time `json:"time"`
		}
		if err := json.Unmarshal(line, &tr); err != nil {
			t.Fatal(err)
		}
		// Those far enough from the ends that none of their events is left out.
		if near(uint64(tr.Time.UnixNano()), around-time.Second) { //nolint:gosec // after 1970
			checked++
			if !bytes.Contains(got, line) {
				t.Fatalf("it is missing, or another:\n%s", line)
			}
		}
	}
	if checked == 0 {
		t.Error("there were no traversals near failures")
	}
}

// TestOnFailureNothing: without a failure there are no events, and no gap.
func TestOnFailureNothing(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 5, 1, 5*time.Second)
	var buf bytes.Buffer
	r := create(t, Options{Stream: &buf, OnFailure: time.Second}, w)
	for range maxItems + 1 { // more than a block, before the first tick
		r.Event(&w.events[0])
	}
	if _, err := drive(t, r, w, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	k := &keeper{}
	rd := replay(t, buf.Bytes(), k)
	if len(k.events) != 0 || len(k.status) != 0 || rd.End() == nil {
		t.Errorf("%d events, status %v, end %v", len(k.events), k.status, rd.End())
	}
	// Names were told all the same: they are asked for at the end, too.
	e := &w.events[0]
	if got, want := rd.Names().Namespace(e.Netns), w.names.Namespace(e.Netns); got != want {
		t.Errorf("namespace %+v, not %+v", got, want)
	}
}

// TestOnFailureBounded: what waits for a failure does not take more than it may.
func TestOnFailureBounded(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 100, 1, 30*time.Second)
	var buf bytes.Buffer
	r := create(t, Options{Stream: &buf, OnFailure: time.Hour}, w)
	r.gate.most = 16 << 10
	largest := 0
	if _, err := drive(t, r, w, func(time.Duration) {
		sum := 0
		for i := range r.gate.held {
			sum += r.gate.held[i].size()
		}
		if sum != r.gate.bytes {
			t.Fatalf("%d bytes are held, not %d", sum, r.gate.bytes)
		}
		largest = max(largest, sum)
	}); err != nil {
		t.Fatal(err)
	}
	r.Failed()
	if err := r.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	n := &named{t: t, names: w.names}
	n.r, _ = NewReader(bytes.NewReader(buf.Bytes()))
	if err := n.r.Run(n); err != nil {
		t.Fatal(err)
	}
	last := w.events[len(w.events)-len(n.events):]
	if largest > r.gate.most || largest < r.gate.most/2 || n.gaps != 1 || n.events[0] != last[0].Time || len(last) == len(w.events) {
		t.Errorf("%d bytes were held of %d; %d of %d events, %d gaps", largest, r.gate.most, len(n.events), len(w.events), n.gaps)
	}
}

// follower notes events that come behind a status that is later than they are.
type follower struct {
	status       uint64
	events, late int
}

func (f *follower) Tick(uint64) {}
func (f *follower) Event(e *events.Event) {
	f.events++
	if e.Time < f.status {
		f.late++
	}
}

func (f *follower) Status(s *Status) { f.status = max(f.status, s.Clock.Mono) }

// TestOnFailureOrder: what was counted by a time stands behind the events before it, as
// live: also behind those that were held back then.
func TestOnFailureOrder(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 100, 1, 30*time.Second)
	var buf bytes.Buffer
	r := create(t, Options{Stream: &buf, OnFailure: 5 * time.Second}, w)
	if _, err := drive(t, r, w, func(at time.Duration) {
		if err := r.Status(&Status{Clock: ClockPair{Mono: w.events[0].Time + uint64(at)}}); err != nil { //nolint:gosec // seconds
			t.Error(err)
		}
		if at == 20*time.Second {
			r.Failed()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	f := &follower{}
	replay(t, buf.Bytes(), f)
	if f.events == 0 || f.late > 0 || f.status == 0 {
		t.Errorf("%d of %d events come behind a later status", f.late, f.events)
	}
}

// TestStages: a file has stages of losses as recorders name them, and not without end.
func TestStages(t *testing.T) {
	many := func(n int) (out []string) {
		for i := range n {
			out = append(out, strings.Repeat("x", 1+i%8)+strings.Repeat("y", 1+i/8))
		}
		return out
	}
	for name, tt := range map[string]struct {
		stages []string
		whole  bool
	}{
		"ours":   {[]string{"ring", "packet-table"}, true},
		"later":  {[]string{"some-later-one"}, true},
		"escape": {[]string{"\x1b]0;x"}, false},
		"quotes": {[]string{`a":0,"b`}, false},
		"empty":  {[]string{""}, false},
		"long":   {[]string{strings.Repeat("x", 33)}, false},
		"64":     {many(64), true},
		"65":     {many(65), false},
	} {
		w := mixed(t, "6.12-case4.jsonl", 1, 1, time.Second)
		var buf bytes.Buffer
		r := create(t, Options{Stream: &buf}, w)
		for _, stage := range tt.stages {
			if err := r.Status(&Status{Lost: map[string]uint64{stage: 1}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(&End{}); err != nil {
			t.Fatal(err)
		}
		rd, err := NewReader(bytes.NewReader(buf.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if err := rd.Run(&keeper{}); (err == nil) != tt.whole {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOnFailureRing: parts that hold what was around failures have the names of
// their events, also where a part ended while events were held back.
func TestOnFailureRing(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 100, 1, 30*time.Second)
	o := Options{Path: filepath.Join(t.TempDir(), "x.hop"), Parts: 100, PartBytes: 8 << 10, OnFailure: 2 * time.Second}
	r := create(t, o, w)
	atFailure := 0
	_, err := drive(t, r, w, func(at time.Duration) {
		for i := range 2 {
			if err := r.Status(&Status{Since: uint64(i), Matched: uint64(at), Lost: map[string]uint64{"read": 1}}); err != nil {
				t.Error(err)
			}
		}
		if at%(5*time.Second) == 0 {
			r.Failed()
			atFailure = max(atFailure, len(r.gate.held))
		}
	})
	if err = errors.Join(err, r.Close(&End{})); err != nil {
		t.Fatal(err)
	}
	n := &named{t: t, names: w.names}
	replayFiles(t, r.Files(), func(rd *Reader) Sink { n.r = rd; return n })
	if len(r.Files()) < 5 || len(n.events) == 0 || n.gaps == 0 || atFailure == 0 {
		t.Errorf("%d parts, %d events, %d gaps, %d blocks held", len(r.Files()), len(n.events), n.gaps, atFailure)
	}
}
