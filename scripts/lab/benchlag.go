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
	mu    sync.Mutex
	head  []byte // of the line that has not ended, up to lineHead bytes
	loads []lagLoad
}

// A lagLoad has the lines of packets that began during a load.
type lagLoad struct {
	from, to time.Time // to: zero while it goes on
	lags     []time.Duration
}

const (
	// lineHead holds the beginning of a line: {"time":"2026-01-02T15:04:05.123456789+01:00".
	lineHead = 48
	// mostLags bounds what is kept of a load; later lines are left out.
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

// begin says that a load begins, end that it has ended. Lines of packets that began in no
// load, as those that warm up do, are not counted.
func (l *lineLag) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loads = append(l.loads, lagLoad{from: time.Now()})
}

func (l *lineLag) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loads[len(l.loads)-1].to = time.Now()
}

func (l *lineLag) note(now time.Time) {
	text, isLine := bytes.CutPrefix(l.head, linePrefix)
	text, _, closed := bytes.Cut(text, []byte{'"'})
	if !isLine || !closed {
		return
	}
	begun, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return
	}
	for i := len(l.loads) - 1; i >= 0; i-- {
		if one := &l.loads[i]; !begun.Before(one.from) {
			if len(one.lags) < mostLags && (one.to.IsZero() || begun.Before(one.to)) {
				one.lags = append(one.lags, now.Sub(begun))
			}
			return
		}
	}
}

// percentile99 is the lag that 99 of 100 lines of a load do not exceed, in seconds; 0:
// there was no line.
func (l *lineLag) percentile99(load int) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if load >= len(l.loads) || len(l.loads[load].lags) == 0 {
		return 0
	}
	lags := l.loads[load].lags
	slices.Sort(lags)
	return lags[(len(lags)*99+99)/100-1].Seconds()
}
