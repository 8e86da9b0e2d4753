// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"slices"
	"sync"
	"time"
)

// lineLag measures how long after its beginning a packet's line comes, as JSON: that
// is longer than from its end, by the packet's way.
type lineLag struct {
	mu   sync.Mutex
	head []byte // of the line that has not ended, up to lineHead bytes
	lags []time.Duration
}

const (
	// lineHead holds the beginning of a line: {"time":"2026-01-02T15:04:05.123456789+01:00".
	lineHead = 48
	// mostLags bounds what is kept of a run; later lines are left out.
	mostLags = 1 << 17
)

var linePrefix = []byte(`{"time":"`)

func (l *lineLag) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		l.head = append(l.head, line[:min(len(line), lineHead-len(l.head))]...)
		if ended {
			l.note(now)
			l.head = l.head[:0]
		}
		rest = after
	}
	return len(p), nil
}

func (l *lineLag) note(now time.Time) {
	text, isLine := bytes.CutPrefix(l.head, linePrefix)
	text, _, closed := bytes.Cut(text, []byte{'"'})
	if !isLine || !closed || len(l.lags) >= mostLags {
		return
	}
	if begun, err := time.Parse(time.RFC3339Nano, string(text)); err == nil {
		l.lags = append(l.lags, now.Sub(begun))
	}
}

// percentile99 is the lag that 99 of 100 lines do not exceed, in seconds; 0: there
// was no line.
func (l *lineLag) percentile99() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lags) == 0 {
		return 0
	}
	slices.Sort(l.lags)
	return l.lags[(len(l.lags)*99+99)/100-1].Seconds()
}
