// SPDX-License-Identifier: Apache-2.0

package events

import "net/netip"

// step is an event as it is kept while its packet is open: 48 bytes. What
// only few events carry lies in the slices of its packet.
type step struct {
	time    uint64
	loc     uint64 // StationDrop: the kernel address that dropped it; netfilter's stations: NFMark
	netns   uint32
	ifindex uint32
	val     uint32 // StationDrop: the reason; StationVerdict, StationRouteError, StationBridgeForward: Ret; tc stations: Link.Hash
	ext     int32  // index into headers or cts of the packet, as extKind says; -1: none
	aux     int32  // index into sockets or backends of the packet; -1: none
	hook    HookID
	seq     uint16
	station Station
	flags   Flags
	extKind Ext
	a, b    uint8 // NFFamily and NFHook, ICMPType and ICMPCode, Link.TTL, or Device* bits of StationDrop
}

// effect is a packet that another one caused.
type effect struct {
	packet uint64
	id     uint64 // of its traversal
	time   uint64
}

// packet is one life of one socket buffer. Its record is reused for another
// one once it has been given out.
type packet struct {
	id       uint64
	flow     uint64
	parent   uint64  // the packet that this is a copy or part of; 0: none
	cause    uint64  // the packet that caused this one; 0: none
	mergedID uint64  // the packet that this one was merged into; 0: none
	up       *packet // record of parent; nil: none, or given out already
	merged   *packet // record of mergedID; likewise
	born     Station // StationClone, StationSegment or StationFragment, with parent
	matched  bool
	reply    bool
	ended    bool
	midStack bool // netfilter made it in answer to cause, not a transport layer
	overlong bool // it had more events than are kept
	visiting bool // on the way that a builder follows just now
	seen     bool // its gaps have been counted for the traversal being built
	group    *group

	steps    []step // ordered by seq
	headers  []Header
	cts      []Conntrack
	sockets  []Socket
	backends []netip.AddrPort
	children []*packet
	effects  []effect
}

// Results of packet.add.
const (
	addOK = iota
	addDuplicate
	addOverlong
)

// add keeps a copy of the event, in its place by Seq.
func (p *packet) add(e *Event, station Station) int {
	if len(p.steps) >= maxSteps {
		p.overlong = true
		return addOverlong
	}
	at := len(p.steps)
	for at > 0 && p.steps[at-1].seq >= e.Seq {
		if p.steps[at-1].seq == e.Seq {
			return addDuplicate
		}
		at--
	}
	st := step{
		time: e.Time, netns: e.Netns, ifindex: e.Ifindex, hook: e.Hook, seq: e.Seq,
		station: station, flags: e.Flags, ext: -1, aux: -1, extKind: e.Ext,
	}
	switch station {
	case StationDrop:
		st.loc, st.val, st.a = e.Location, e.Reason, uint8(e.Ret) //nolint:gosec // Device* bits
	case StationVerdict, StationRouteError, StationBridgeForward:
		st.val = uint32(e.Ret) //nolint:gosec // the bits are kept, and read back as int32
	case StationNetfilter, StationTable, StationIPVSIn:
		st.a, st.b, st.loc = e.NFFamily, e.NFHook, e.NFMark
	case StationICMPSend:
		st.a, st.b = e.ICMPType, e.ICMPCode
	case StationTCEgress, StationTCIngress:
		st.val, st.a = e.Link.Hash, e.Link.TTL
	case StationTransmit, StationReceive:
		st.a = e.Link.TTL
	case StationIPVSConn:
		st.aux = int32(len(p.backends)) //nolint:gosec // bounded by maxSteps
		p.backends = append(p.backends, e.Backend)
	}
	if socketStation(station) && e.Socket != (Socket{}) {
		st.aux = int32(len(p.sockets)) //nolint:gosec // bounded by maxSteps
		p.sockets = append(p.sockets, e.Socket)
	}
	switch e.Ext {
	case ExtHeader:
		st.ext = int32(len(p.headers)) //nolint:gosec // bounded by maxSteps
		p.headers = append(p.headers, e.Header)
	case ExtConntrack:
		st.ext = int32(len(p.cts)) //nolint:gosec // bounded by maxSteps
		p.cts = append(p.cts, e.CT)
	}
	p.steps = append(p.steps, st)
	if at < len(p.steps)-1 {
		copy(p.steps[at+1:], p.steps[at:])
		p.steps[at] = st
	}
	return addOK
}

// socketStation says whether events of a station may name a socket.
func socketStation(s Station) bool {
	return s == StationSocketOut || s == StationIPOut || s == StationSocketIn || s == StationBacklog || s == StationRawIn
}

// header returns the packet's headers as they were last, by what was told of it so far;
// nil: nothing was. What was told last need not be what came last.
func (p *packet) header() *Header {
	for i := len(p.steps) - 1; i >= 0; i-- {
		if h := p.headerAt(i); h != nil {
			return h
		}
	}
	return nil
}

// firstHeader is header as they were first.
func (p *packet) firstHeader() *Header {
	for i := range p.steps {
		if h := p.headerAt(i); h != nil {
			return h
		}
	}
	return nil
}

func (p *packet) headerAt(i int) *Header {
	if st := &p.steps[i]; st.extKind == ExtHeader && st.ext >= 0 {
		return &p.headers[st.ext]
	}
	return nil
}

// lost counts the events of the packet that did not arrive. How many are
// missing behind the last one is not known.
func (p *packet) lost() int {
	if len(p.steps) == 0 {
		return 0
	}
	return int(p.steps[len(p.steps)-1].seq) + 1 - len(p.steps)
}

// descendsFrom says whether q is p or one of its forefathers. Links that form
// a ring come from damaged input only; a chain too long to check counts as one.
func (p *packet) descendsFrom(q *packet) bool {
	for n := 0; p != nil; n++ {
		if p == q || n > 64 {
			return true
		}
		p = p.up
	}
	return false
}

// reset makes the record ready for another packet, keeping its memory.
func (p *packet) reset() {
	clear(p.children)
	*p = packet{
		steps: p.steps[:0], headers: p.headers[:0], cts: p.cts[:0], sockets: p.sockets[:0],
		backends: p.backends[:0], children: p.children[:0], effects: p.effects[:0],
	}
}

// group is a set of packets whose fates are joined: copies, segments,
// fragments and what was merged. It is given out as a whole.
type group struct {
	packets   []*packet
	matched   bool
	delivered bool   // some packet of it reached a socket
	last      uint64 // ns: when it was last heard of
	due       uint64 // ns: when to look at it again
	pos       int    // in the heap
	older     *group
	newer     *group
}

// newPacket makes a record for a packet, in a group of its own.
func (s *Stitcher) newPacket(id uint64) *packet {
	var p *packet
	if n := len(s.freePackets); n > 0 {
		p, s.freePackets = s.freePackets[n-1], s.freePackets[:n-1]
	} else {
		p = &packet{}
	}
	p.id = id
	var g *group
	if n := len(s.freeGroups); n > 0 {
		g, s.freeGroups = s.freeGroups[n-1], s.freeGroups[:n-1]
	} else {
		g = &group{}
	}
	g.packets = append(g.packets, p)
	g.last = s.now
	g.due = s.now + s.settle
	p.group = g
	if g.older = s.newest; g.older != nil {
		g.older.newer = g
	} else {
		s.oldest = g
	}
	s.newest = g
	s.due.push(g)
	s.open[id] = p
	return p
}

// join makes one group of two.
func (s *Stitcher) join(a, b *group) {
	if a == b {
		return
	}
	if len(a.packets) < len(b.packets) {
		a, b = b, a
	}
	for _, p := range b.packets {
		p.group = a
	}
	a.packets = append(a.packets, b.packets...)
	a.matched = a.matched || b.matched
	a.delivered = a.delivered || b.delivered
	a.last = max(a.last, b.last)
	s.due.sooner(a, b.due)
	s.dropGroup(b)
}

// dropGroup takes a group off all lists, and keeps its memory.
func (s *Stitcher) dropGroup(g *group) {
	s.due.remove(g)
	if g.older != nil {
		g.older.newer = g.newer
	} else {
		s.oldest = g.newer
	}
	if g.newer != nil {
		g.newer.older = g.older
	} else {
		s.newest = g.older
	}
	clear(g.packets)
	*g = group{packets: g.packets[:0]}
	if len(s.freeGroups) < maxFree {
		s.freeGroups = append(s.freeGroups, g)
	}
}

const (
	// maxFree bounds the records kept for reuse.
	maxFree = 16384
	// maxKeptSteps bounds the memory that a record keeps while unused.
	maxKeptSteps = 256
)

// forget releases the packets of a group.
func (s *Stitcher) forget(g *group) {
	for _, p := range g.packets {
		delete(s.open, p.id)
		if p == s.latest {
			s.latest = nil
		}
		s.steps -= len(p.steps)
		if cap(p.steps) <= maxKeptSteps && len(s.freePackets) < maxFree {
			p.reset()
			s.freePackets = append(s.freePackets, p)
		}
	}
	s.dropGroup(g)
}
