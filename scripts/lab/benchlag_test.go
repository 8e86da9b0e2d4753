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
	if l.percentile99() != 0 {
		t.Error("no line has a lag")
	}
	var text strings.Builder
	for i := range 200 {
		begun := time.Now().Add(-time.Second)
		if i == 7 {
			begun = begun.Add(-time.Hour) // one of 200 may be late
		}
		fmt.Fprintf(&text, "{\"time\":%q,\"id\":\"%s\"}\n{\"summary\":{}}\n\n{\"time\":\"never\"}\n", begun.Format(time.RFC3339Nano), strings.Repeat("x", i))
	}
	for rest := text.String(); rest != ""; {
		n := min(7, len(rest))
		if _, err := l.Write([]byte(rest[:n])); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if got := l.percentile99(); len(l.lags) != 200 || got < 1 || got > 60 {
		t.Errorf("%d lags, the 99th percentile is %v s", len(l.lags), got)
	}
}
