// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"slices"
	"strconv"
	"sync"
	"time"
)

// lineLag measures how long after a packet's end its line comes, as JSON: after the last
// that was seen of it.
type lineLag struct {
	mu    sync.Mutex
	line  []byte // that has not ended, up to mostLine bytes
	loads []lagLoad
}

// A lagLoad has the lines of packets that began during a load.
type lagLoad struct {
	from, to time.Time // to: zero while it goes on
	lags     []time.Duration
}

const (
	// mostLine bounds what is kept of a line. One that is longer seems to end earlier.
	mostLine = 64 << 10
	// mostLags bounds what is kept of a load; later lines are left out.
	mostLags = 1 << 17
)

// A line begins with when its packet did, and has when each visit ended since, in ns.
var linePrefix, visitEnd = []byte(`{"time":"`), []byte(`"end_ns":`)

func (l *lineLag) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		l.line = append(l.line, line[:min(len(line), mostLine-len(l.line))]...)
		if ended {
			l.note(now)
			l.line = l.line[:0]
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
	text, isLine := bytes.CutPrefix(l.line, linePrefix)
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
				one.lags = append(one.lags, now.Sub(begun)-lastSeen(l.line))
			}
			return
		}
	}
}

// lastSeen is how long after its beginning the last was seen of a line's packet.
func lastSeen(line []byte) (last time.Duration) {
	for {
		_, rest, ok := bytes.Cut(line, visitEnd)
		if !ok {
			return last
		}
		line = rest
		end := 0
		for end < len(line) && '0' <= line[end] && line[end] <= '9' {
			end++
		}
		if n, err := strconv.ParseInt(string(line[:end]), 10, 64); err == nil {
			last = max(last, time.Duration(n))
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
