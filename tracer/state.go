// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/bpf"
)

// state is the kernel side's global variables, mapped into this process: they
// are read and written without a system call.
type state struct {
	coll *ebpf.Collection
}

func (s state) set(name string, value uint32) error {
	if err := s.coll.Variables[name].Set(value); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// countersRoom holds the room for all CPUs' counters, 32 KiB, which are read with every
// look at the rings.
var countersRoom = sync.Pool{New: func() any { return new([bpf.CPUSlots]bpf.Stats) }}

// stats sums the counters of all CPUs.
func (s state) stats() (bpf.Stats, error) {
	cpus := countersRoom.Get().(*[bpf.CPUSlots]bpf.Stats)
	defer countersRoom.Put(cpus)
	var sum bpf.Stats
	if err := s.coll.Variables["stats"].Get(cpus); err != nil {
		return sum, fmt.Errorf("counters: %w", err)
	}
	for i := range cpus {
		sum.Matched += cpus[i].Matched
		sum.Packets += cpus[i].Packets
		sum.LostRing += cpus[i].LostRing
		sum.LostTable += cpus[i].LostTable
		sum.LostFlows += cpus[i].LostFlows
		sum.ReadFailed += cpus[i].ReadFailed
		sum.Reused += cpus[i].Reused
		sum.Rate += cpus[i].Rate
		sum.Shed += cpus[i].Shed
	}
	return sum, nil
}

// hits returns how often each hook fired, by hook id.
func (s state) hits() ([]uint64, error) {
	hits := make([]uint64, 256)
	if err := s.coll.Variables["hits"].Get(hits); err != nil {
		return nil, fmt.Errorf("hit counters: %w", err)
	}
	return hits, nil
}

// trackedSlots is 1 << TRACKED_BITS of bpf/state.h.
const trackedSlots = 1 << 14

// tracked is how many packets are followed, by the marks of their addresses: no more
// than a look at memory, where the map takes system calls.
func (s state) tracked() (n uint64, err error) {
	var slots [trackedSlots]uint32
	if err := s.coll.Variables["tracked"].Get(&slots); err != nil {
		return 0, fmt.Errorf("marks of followed packets: %w", err)
	}
	for _, one := range slots {
		n += uint64(one)
	}
	return n, nil
}

// monotonic is the clock of bpf_ktime_get_ns, in ns.
func monotonic() uint64 {
	return now(unix.CLOCK_MONOTONIC)
}

func now(clock int32) uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0
	}
	return uint64(ts.Nano())
}

// clock relates the monotonic clock to wall time.
type clock struct{ pair ClockPair }

// clockTries is how often both clocks are read for a pair.
const clockTries = 8

func newClock() clock {
	// Reading one clock between two readings of the other halves the error of
	// being interrupted, and the narrowest of several such readings has the least.
	var best ClockPair
	narrowest := ^uint64(0)
	for range clockTries {
		before := monotonic()
		wall := now(unix.CLOCK_REALTIME)
		after := monotonic()
		if after-before < narrowest {
			narrowest = after - before
			best = ClockPair{Mono: before + narrowest/2, Real: int64(wall)}
		}
	}
	return clock{best}
}

func (c clock) wall(mono uint64) time.Time {
	return time.Unix(0, int64(mono-c.pair.Mono)+c.pair.Real)
}
