// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestLineLag: lines come in pieces, and not all are of packets.
func TestLineLag(t *testing.T) {
	var l lineLag
	l.begin()
	l.end()
	if l.percentile99(0) != 0 || l.loads[0].to.Before(l.loads[0].from) {
		t.Error("no line has a lag")
	}
	start := time.Now()
	l.loads = []lagLoad{{from: start.Add(-2 * time.Hour), to: start.Add(-1500 * time.Millisecond)}, {from: start.Add(-time.Second)}}
	var text strings.Builder
	for i := range 200 {
		begun := start.Add(-2 * time.Second)
		if i == 7 {
			begun = begun.Add(-time.Hour) // one of 200 may be late
		}
		other := start // of the second load; of none: between them, and before both
		switch i % 4 {
		case 1:
			other = start.Add(-1200 * time.Millisecond)
		case 3:
			other = start.Add(-24 * time.Hour)
		}
		fmt.Fprintf(&text, "{\"time\":%q}\n", other.Format(time.RFC3339Nano))
		fmt.Fprintf(&text, "{\"time\":%q,\"id\":\"%s\",\"visits\":[{\"end_ns\":1900000000}]}\n{\"summary\":{}}\n\n{\"time\":\"never\"}\n", begun.Format(time.RFC3339Nano), strings.Repeat("x", i))
	}
	for rest := text.String(); rest != ""; {
		n := min(7, len(rest))
		if _, err := l.Write([]byte(rest[:n])); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	for load, want := range []struct {
		lines       int
		least, most float64
	}{{200, 0.1, 1.5}, {100, 0, 1}, {0, 0, 0}} {
		lines := 0
		if load < len(l.loads) {
			lines = len(l.loads[load].lags)
		}
		if got := l.percentile99(load); lines != want.lines || got < want.least || got > want.most {
			t.Errorf("load %d: %d lags, the 99th percentile is %v s", load, lines, got)
		}
	}
}

func TestLastSeen(t *testing.T) {
	for line, want := range map[string]time.Duration{
		`{"time":"now"}`: 0,
		`{"visits":[{"end_ns":7},{"start_ns":90,"end_ns":80123456,"hooks":[{"ns":5}]},{"end_ns":30}]}`: 80123456,
		`{"visits":[{"end_ns":7},{"end_ns":`:                                          7,
		`{"visits":[{"end_ns":7},{"end_ns":99999999999999999999999},{"end_ns":"8"}]}`: 7,
	} {
		if got := lastSeen([]byte(line)); got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}
