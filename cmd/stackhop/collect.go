// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A node in trouble has more use for memory than for the time that it takes to
// collect it: where much lives, as with the names of a large cluster, garbage may be
// leastPercent of it. While hooks are attached, when most is garbage at once, it may be
// up to attachPercent: collecting takes a sixth of attaching (6.18, tracepoints), and
// half as much garbage is 2 MiB less; but not while the names of a cluster come, which may
// be a large one.
// But a traversal is garbage as soon as it is written, and where little lives such a
// share would be collected a hundred times a second: there garbage may be as much as
// roomForGarbage, up to memoryGoal with what lives. (A limit for all memory is no way to say
// so: what lives above it has the collector take half of the time. While hooks are attached
// 74 MB live on 6.18, 17 on 6.12; a limit of 52 MiB made attaching take four times as long there.)
const (
	leastPercent   = 20
	attachPercent  = 50
	mostPercent    = 400
	roomForGarbage = 12 << 20 // bytes
	memoryGoal     = 40 << 20 // bytes
)

// collectEvery is how often there is a look at what lives, in ns. When a flood begins,
// where little lived, the collector comes every 0.1 s: with its pace of before it let 90
// MiB come together.
const collectEvery = uint64(20 * time.Millisecond)

// Nobody waits beside a replay, which makes garbage as fast as it can: there may be
// more of it.
const (
	leastOffline   = 100      // percent
	mostOffline    = 800      // percent
	garbageOffline = 64 << 20 // bytes
)

// gcPercent is debug.SetGCPercent's for so many bytes that live.
func gcPercent(live uint64) int {
	if live == 0 {
		return mostPercent
	}
	room := min(roomForGarbage, memoryGoal-min(live, memoryGoal))
	return int(min(max(100*room/live, leastPercent), mostPercent)) //nolint:gosec // bounded
}

// gcOffline is the same for a replay.
func gcOffline(live uint64) int {
	return int(min(max(100*garbageOffline/max(live, 1), leastOffline), mostOffline)) //nolint:gosec // bounded
}

// collecting keeps the collector's pace in step with what lives.
type collecting struct {
	pace    func(live uint64) int // nil: gcPercent
	next    uint64                // ns
	percent int
	sample  [1]metrics.Sample
}

// tick looks again once in a while.
func (c *collecting) tick(now uint64) {
	if now < c.next {
		return
	}
	c.next = now + collectEvery
	live := liveHeap(c.sample[:])
	if live == 0 {
		return
	}
	// Setting it stops everybody for a moment.
	pace := c.pace
	if pace == nil {
		pace = gcPercent
	}
	if p := pace(live); p > c.percent+c.percent/8 || p < c.percent-c.percent/8 {
		c.percent = p
		debug.SetGCPercent(p)
	}
}

// liveHeap is how many bytes lived when the collector last looked; 0: it has not yet.
// It takes room for one sample, which is not made anew each time.
func liveHeap(room []metrics.Sample) uint64 {
	room[0].Name = "/gc/heap/live:bytes"
	metrics.Read(room)
	if room[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return room[0].Value.Uint64()
}
