// SPDX-License-Identifier: Apache-2.0

package events

import (
	"slices"
	"sort"
)

// maxAtOnce bounds the packets that Advance finishes in one go, and those that it gives
// out: that takes some 15 ms, for which nobody reads events. Where more than a part of
// MaxPackets are open there is less time to read than room to keep: it finishes a quarter
// of them then, crowdedRounds times as many at most.
const (
	maxAtOnce     = 256
	crowdedPart   = 8
	crowdedRounds = 32
)

// Advance says up to which time all events were added, in ns on the events' clock,
// finishes packets that have settled by then, and gives out what was held back long
// enough. It says whether there is more of both than it does at once: whoever reads
// events reads on, and calls it again soon. A replay calls it as often as the run did,
// so that what came in between finds the same packets open. Some events may be later
// already: where CPUs are read one after the other, and reading one took long, the
// others have more to tell of that time. Where very many are open, reading on first would
// have the oldest go before their time for want of room, while a ring that is not read
// has whole packets shed.
func (s *Stitcher) Advance(now uint64) (more bool) {
	s.now = max(s.now, now)
	most := maxAtOnce
	if len(s.open) > s.cfg.MaxPackets/crowdedPart {
		most = min(len(s.open)/4, crowdedRounds*maxAtOnce)
	}
	for ; most > 0; most -= maxAtOnce {
		if more = s.advance(now); !more {
			break
		}
	}
	return more
}

func (s *Stitcher) advance(now uint64) (more bool) {
	n := 0
	for ; n < maxAtOnce && len(s.due.groups) > 0 && s.due.groups[0].due <= now; n++ {
		g := s.due.groups[0]
		ready := g.last + s.patience(g)
		if ready <= now {
			s.give(g, false)
			continue
		}
		s.due.set(g, ready)
	}
	return s.releaseDue(now) || n == maxAtOnce
}

// Flush gives out everything that is still open, as what is known of it says.
func (s *Stitcher) Flush() {
	groups := append([]*group(nil), s.due.groups...)
	sort.Slice(groups, func(i, j int) bool { return groups[i].start() < groups[j].start() })
	for _, g := range groups {
		s.give(g, false)
	}
	s.release(len(s.held), len(s.held), true)
}

// start is when the group was first seen, in ns.
func (g *group) start() uint64 {
	first := ^uint64(0)
	for _, p := range g.packets {
		if len(p.steps) > 0 {
			first = min(first, p.steps[0].time)
		}
	}
	return first
}

// patience is how long a group must have been silent, in ns, before it is
// given out.
func (s *Stitcher) patience(g *group) uint64 {
	wait := s.settle
	parts := false
	for _, p := range g.packets {
		wait = max(wait, s.packetPatience(p))
		parts = parts || p.born == StationSegment || p.born == StationFragment
	}
	// What a tap's copy does behind a delivery changes nothing; parts of a
	// packet are different, as each of them must arrive.
	if g.delivered && !parts {
		wait = min(wait, s.window)
		for _, p := range g.packets {
			if !s.knowsReceiver(p) {
				wait = max(wait, 2*s.window)
			}
		}
	}
	return wait
}

func (s *Stitcher) packetPatience(p *packet) uint64 {
	if len(p.steps) == 0 || p.lost() > 0 {
		return s.window
	}
	if p.ended || deliveryStation[p.steps[len(p.steps)-1].station] {
		return s.settle
	}
	if p.born == StationClone && len(p.steps) == 1 {
		// A tap keeps its copy until somebody reads it; any other copy
		// moves on at once.
		return s.window
	}
	switch last := &p.steps[len(p.steps)-1]; {
	case last.netns == netnsElsewhere:
		return s.window // what it waits for there is not seen here
	case last.station == StationTransmit && s.leaves(last.netns, last.ifindex):
		// Drivers free what they sent when they feel like it.
		return s.window
	case last.station == StationNeighbour:
		// The kernel gives up after three tries of a second each: wait for
		// its verdict rather than to meet it half way.
		return s.idle + s.idle/2
	case !s.cfg.HasFunctions && (last.station == StationReceive || last.station == StationTCIngress) && s.isFor(p, last):
		// What its socket does with it is not seen. A node may translate it and send
		// it on, once it knows where to.
		if s.names.Namespace(last.netns).Kind == KindNode {
			return s.window
		}
		return s.settle
	default:
		return s.idle
	}
}

// knowsReceiver says whether it is known whose data it is that came to a socket, or
// nobody will tell: of a connection that its server had not accepted yet the answer will.
func (s *Stitcher) knowsReceiver(p *packet) bool {
	h := p.told()
	if h == nil || h.proto != protoTCP || !takesSequence(h.tcpFlags, h.length) || h.tcpFlags&(tcpSYN|tcpFIN) != 0 {
		return true
	}
	i := len(p.steps) - 1
	for i >= 0 && p.steps[i].station != StationSocketIn {
		i--
	}
	if i < 0 {
		return true
	}
	at := &p.steps[i]
	if at.aux >= 0 {
		socket := &p.sockets[at.aux]
		if at.flags&FlagTask != 0 && socket.PID != 0 {
			return true
		}
		if socket.Inode != 0 {
			if _, _, ok := s.names.Process(socket.Inode); ok {
				return true
			}
		}
	}
	_, ok := s.flows.process(at.netns, h.reverse())
	return ok
}

// isFor says whether the device where a packet was last has the address that the packet
// goes to.
func (s *Stitcher) isFor(p *packet, at *step) bool {
	h := p.told()
	if h == nil {
		return false
	}
	d, ok := s.names.Device(at.netns, at.ifindex)
	return ok && slices.Contains(d.Addrs, h.to().addr.addr())
}

// makeRoom gives out the oldest packets while too many are kept for an event
// that brings a packet of its own, or names another one. It says whether it did.
func (s *Stitcher) makeRoom(own, other bool) bool {
	limit := s.cfg.MaxPackets
	if own {
		limit--
	}
	if other {
		limit--
	}
	made := false
	for s.oldest != nil && (len(s.open) > limit || s.steps >= s.cfg.MaxPackets*stepsPerPacket) {
		s.stats.Evicted += s.oldest.real()
		s.give(s.oldest, true)
		made = true
	}
	return made
}

// give finishes the traversals of a group and forgets its packets.
func (s *Stitcher) give(g *group, evicted bool) {
	s.stats.Packets += g.real()
	if s.wanted(g) {
		s.b.group(g, evicted)
	} else {
		s.stats.Discarded += g.real()
		for _, p := range g.packets {
			if len(p.steps) > 0 {
				s.done.put(p.id, 0)
			}
		}
	}
	s.forget(g)
}

// real counts the packets of which something was seen.
func (g *group) real() uint64 {
	n := uint64(0)
	for _, p := range g.packets {
		if len(p.steps) > 0 {
			n++
		}
	}
	return n
}

// wanted says whether the selection matched the group, its flow, or what
// caused it.
func (s *Stitcher) wanted(g *group) bool {
	if g.matched {
		return true
	}
	for _, p := range g.packets {
		if s.flows.matched(p.flow) || s.done.id(p.cause) != 0 {
			return true
		}
		if c := s.open[p.cause]; c != nil && c.group.matched {
			return true
		}
	}
	return false
}

// dueHeap orders groups by when they are to be looked at again.
type dueHeap struct{ groups []*group }

func (h *dueHeap) push(g *group) {
	g.pos = int32(len(h.groups)) //nolint:gosec // at most as many as packets
	h.groups = append(h.groups, g)
	h.up(int(g.pos))
}

func (h *dueHeap) remove(g *group) {
	n := len(h.groups) - 1
	at := int(g.pos)
	h.swap(at, n)
	h.groups[n] = nil
	h.groups = h.groups[:n]
	if at < n {
		h.down(at)
		h.up(at)
	}
}

// set moves a group to a time; sooner does so only if that is before its own.
func (h *dueHeap) set(g *group, due uint64) {
	g.due = due
	h.down(int(g.pos))
	h.up(int(g.pos))
}

func (h *dueHeap) sooner(g *group, due uint64) {
	if due < g.due {
		h.set(g, due)
	}
}

func (h *dueHeap) swap(i, j int) {
	h.groups[i], h.groups[j] = h.groups[j], h.groups[i]
	h.groups[i].pos, h.groups[j].pos = int32(i), int32(j) //nolint:gosec // at most as many as packets
}

func (h *dueHeap) up(i int) {
	for i > 0 && h.groups[i].due < h.groups[(i-1)/2].due {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h *dueHeap) down(i int) {
	for {
		least := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < len(h.groups) && h.groups[c].due < h.groups[least].due {
				least = c
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
