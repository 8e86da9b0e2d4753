// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/stackhop/stackhop/bpf"
)

// packetValue is struct packet of bpf/state.h.
type packetValue struct {
	ID, Flow, Invariant, CT, Cause uint64
	Tuple                          [40]byte
	Netns                          uint32
	Seq                            uint16
	Flags, Cut                     uint8
}

// A packet of which no hook has told for staleLooks looks at the table is forgotten:
// its skb was freed where none tells of it. Without function hooks that is what
// happens to most that a socket takes (skb_attempt_defer_free, from 5.19 on, passes no
// tracepoint); with them, where the kernel left out the hook of the end.
//
// The time is longer than packets wait for a neighbour's address (3 s, three tries of
// a second) and than the stitcher waits for a packet of which it hears nothing. What
// waits longer, with function hooks, is worth to be followed on: it may lie in an
// NFQUEUE.
const (
	staleLooks     = 5
	staleEvery     = 700 * time.Millisecond // after 3.5 to 4.2 s: the table is clean 5 s after the traffic
	staleEveryAll  = 12 * time.Second       // with function hooks: after a minute
	packetsAtATime = 1024
	// A look at 50,000 packets takes 40 to 70 ms (one at none 16 µs; 6.18, AMD Turin):
	// it may take a twentieth of a CPU, and then the times above are longer.
	sweepShare = 20
)

// lastSeen is what a packet was when the table was looked at, and how many times it
// has been the same since.
type lastSeen struct {
	id    uint64
	seq   uint16
	looks uint8
}

// packetSweep tells the packets of the table that have stood still.
type packetSweep struct {
	seen, next map[uint64]lastSeen // by address of the skb
}

// look takes an entry of the table as it is now, and says whether it has been that
// for staleLooks.
func (s *packetSweep) look(skb uint64, p *packetValue) (stale bool) {
	now := lastSeen{id: p.ID, seq: p.Seq}
	if was, ok := s.seen[skb]; ok && was.id == p.ID && was.seq == p.Seq {
		now.looks = was.looks + 1
	}
	if now.looks >= staleLooks {
		return true
	}
	s.next[skb] = now
	return false
}

// end ends a look at the whole table: what was not in it any more is forgotten here too.
func (s *packetSweep) end() {
	s.seen, s.next = s.next, s.seen
	clear(s.next)
}

// loadForget loads the program that takes a packet out of the table: it compares and
// removes within some ten ns, on a CPU of the kernel's, where user space would take
// two system calls and another packet might come in between.
func (t *Tracer) loadForget() error {
	spec := t.loader.spec.Programs[bpf.ProgForget].Copy()
	spec.Name = programName(bpf.ProgForget)
	err := t.cfg.step("load " + bpf.ProgForget)
	if err == nil {
		t.forget, err = t.loader.make(spec)
	}
	if err == nil {
		// Once for nothing: the library finds out here whether programs can be run,
		// by loading one, which it may not any more when privilege is dropped.
		_, err = t.forget.Run(&ebpf.RunOptions{Context: [3]uint64{}})
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", bpf.ProgForget, err)
	}
	return nil
}

// followPackets forgets packets that have stood still, until ctx is done.
func (t *Tracer) followPackets(ctx context.Context) {
	every := staleEveryAll
	if t.cfg.Hooks == HooksTracepoints {
		every = staleEvery
	}
	wait := time.NewTimer(every)
	defer wait.Stop()
	sweep := &packetSweep{seen: map[uint64]lastSeen{}, next: map[uint64]lastSeen{}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		start := time.Now()
		if err := t.sweepPackets(sweep); err != nil {
			t.cfg.Warn(err.Error())
			return // the table fills up, and that is counted
		}
		wait.Reset(max(every, sweepShare*time.Since(start)))
	}
}

// sweepPackets looks at the whole table once. Where nothing is followed it only looks
// at the marks of addresses.
func (t *Tracer) sweepPackets(sweep *packetSweep) error {
	if marks, err := t.state.tracked(); err != nil || marks == 0 && len(sweep.seen) == 0 {
		return err
	}
	m := t.state.coll.Maps[bpf.MapPackets]
	keys, values := make([]uint64, packetsAtATime), make([]packetValue, packetsAtATime)
	for cursor := (ebpf.MapBatchCursor{}); ; {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			if !sweep.look(keys[i], &values[i]) {
				continue
			}
			stale := [3]uint64{keys[i], values[i].ID, uint64(values[i].Seq)}
			if _, err := t.forget.Run(&ebpf.RunOptions{Context: stale}); err != nil {
				return fmt.Errorf("forget a packet: %w", err)
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			sweep.end()
			return nil
		}
		if err != nil {
			return fmt.Errorf("read followed packets: %w", err)
		}
	}
}
