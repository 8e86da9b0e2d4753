// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import "time"

// pace says when rings are looked at again. Each look costs the processor a wake-up, which
// is all that the tool takes when nothing happens; while packets come, somebody waits for
// their lines.
type pace struct {
	ticker      *time.Ticker
	poll, ticks time.Duration
	last        uint64 // ns: when there last was an event, by the monotonic clock; 0: never
}

// stayAwake is for how long after an event, in ns, there may be lines to come of it.
const stayAwake = uint64(400 * time.Millisecond)

func newPace(poll time.Duration) *pace {
	return &pace{ticker: time.NewTicker(poll), poll: poll, ticks: poll}
}

// next is ready when it is time to look again. some: there were events just now.
func (p *pace) next(now uint64, some bool) <-chan time.Time {
	if some {
		p.last = now
	}
	ticks := p.poll
	if p.last != 0 && now-p.last < stayAwake {
		ticks = max(p.poll/2, 1)
	}
	if ticks != p.ticks {
		p.ticks = ticks
		p.ticker.Reset(ticks)
	}
	return p.ticker.C
}

func (p *pace) stop() { p.ticker.Stop() }
