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
	if l.percentile99(0) != 0 {
		t.Error("no line has a lag")
	}
	start := time.Now()
	l.loads = []lagLoad{{from: start.Add(-2 * time.Hour)}, {from: start.Add(-time.Second)}}
	var text strings.Builder
	for i := range 200 {
		begun := start.Add(-2 * time.Second)
		if i == 7 {
			begun = begun.Add(-time.Hour) // one of 200 may be late
		}
		fmt.Fprintf(&text, "{\"time\":%q}\n", start.Add(-time.Duration(i%2)*24*time.Hour).Format(time.RFC3339Nano)) // of the second load, and of none
		fmt.Fprintf(&text, "{\"time\":%q,\"id\":\"%s\"}\n{\"summary\":{}}\n\n{\"time\":\"never\"}\n", begun.Format(time.RFC3339Nano), strings.Repeat("x", i))
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
	}{{200, 2, 60}, {100, 0, 1}, {0, 0, 0}} {
		lines := 0
		if load < len(l.loads) {
			lines = len(l.loads[load].lags)
		}
		if got := l.percentile99(load); lines != want.lines || got < want.least || got > want.most {
			t.Errorf("load %d: %d lags, the 99th percentile is %v s", load, lines, got)
		}
	}
}
