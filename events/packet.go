// SPDX-License-Identifier: Apache-2.0

package events

import "net/netip"

// step is an event as it is kept while its packet is open: 32 bytes, and in an
// overload millions are. What only few events carry lies in the slices of its packet.
type step struct {
	time    uint64
	netns   uint32
	ifindex uint32
	val     uint32 // StationDrop: the reason; StationVerdict, StationRouteError, StationBridgeForward: Ret; tc stations: Link.Hash; netfilter's: the mark
	ext     uint16 // Ext, whether val is a mark that was told, and an index into headers or cts of the packet
	aux     int16  // index into sockets of the packet, or into its rare backends or locations; -1: none
	hook    HookID
	seq     uint16
	station Station
	flags   Flags
	a, b    uint8 // NFFamily and NFHook, ICMPType and ICMPCode, Link.TTL, or Device* bits of StationDrop
}

// The parts of step.ext.
const (
	extIndex = maxSteps - 1
	extMark  = 1 << 13
	extShift = 14
)

// kind says which large part the event carried.
func (st *step) kind() Ext { return Ext(st.ext >> extShift) }

// at is where that lies in the packet.
func (st *step) at() int { return int(st.ext & extIndex) }

// nfMark is the packet's mark, where a station of netfilter tells it.
func (st *step) nfMark() (mark uint32, told bool) { return st.val, st.ext&extMark != 0 }

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

	steps   []step // ordered by seq
	headers []plainHeader
	cts     []Conntrack
	sockets []Socket
	rare    *rare // nil: nothing of that
}

// rare is what few packets have.
type rare struct {
	inners    []plainTuple // of headers
	locations []uint64     // of StationDrop: kernel addresses
	backends  []netip.AddrPort
	children  []*packet
	effects   []effect
}

// rarely is the packet's rare, made if need be.
func (p *packet) rarely() *rare {
	if p.rare == nil {
		p.rare = &rare{}
	}
	return p.rare
}

func (p *packet) children() []*packet {
	if p.rare == nil {
		return nil
	}
	return p.rare.children
}

func (p *packet) effects() []effect {
	if p.rare == nil {
		return nil
	}
	return p.rare.effects
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
		station: station, flags: e.Flags, aux: -1,
	}
	p.details(&st, e)
	if len(p.steps) == cap(p.steps) {
		p.growSteps()
	}
	p.steps = append(p.steps, st)
	if at < len(p.steps)-1 {
		copy(p.steps[at+1:], p.steps[at:])
		p.steps[at] = st
	}
	return addOK
}

// growSteps makes room by half of what there is: doubling leaves a third unused, of most
// of what an overload keeps.
func (p *packet) growSteps() {
	const first = 8
	steps := make([]step, len(p.steps), max(first, len(p.steps)+len(p.steps)/2))
	copy(steps, p.steps)
	p.steps = steps
}

// details fills in what an event adds to its hook.
func (p *packet) details(st *step, e *Event) {
	switch st.station {
	case StationDrop:
		r := p.rarely()
		st.val, st.a, st.aux = e.Reason, uint8(e.Ret), int16(len(r.locations)) //nolint:gosec // Device* bits; bounded by maxSteps
		r.locations = append(r.locations, e.Location)
	case StationVerdict, StationRouteError, StationBridgeForward:
		st.val = uint32(e.Ret) //nolint:gosec // the bits are kept, and read back as int32
	case StationNetfilter, StationTable, StationIPVSIn:
		st.a, st.b, st.val = e.NFFamily, e.NFHook, uint32(e.NFMark) //nolint:gosec // its low half
		if e.NFMark&MarkTold != 0 {
			st.ext |= extMark
		}
	case StationICMPSend:
		st.a, st.b = e.ICMPType, e.ICMPCode
	case StationTCEgress, StationTCIngress:
		st.val, st.a = e.Link.Hash, e.Link.TTL
	case StationTransmit, StationReceive:
		st.a = e.Link.TTL
	case StationIPVSConn:
		r := p.rarely()
		st.aux = int16(len(r.backends)) //nolint:gosec // bounded by maxSteps
		r.backends = append(r.backends, e.Backend)
	}
	if socketStation(st.station) && e.Socket != (Socket{}) {
		st.aux = int16(len(p.sockets)) //nolint:gosec // bounded by maxSteps
		p.sockets = append(p.sockets, e.Socket)
	}
	switch e.Ext {
	case ExtHeader:
		st.ext |= uint16(ExtHeader)<<extShift | uint16(len(p.headers)) //nolint:gosec // bounded by maxSteps
		h := plainHeaderOf(&e.Header)
		if e.Header.HasInner {
			r := p.rarely()
			r.inners = append(r.inners, plainTupleOf(&e.Header.Inner))
			h.inner = uint16(len(r.inners)) //nolint:gosec // bounded by maxSteps
		}
		p.headers = append(p.headers, h)
	case ExtConntrack:
		st.ext |= uint16(ExtConntrack)<<extShift | uint16(len(p.cts)) //nolint:gosec // bounded by maxSteps
		p.cts = append(p.cts, e.CT)
	}
}

// location is the kernel address that dropped the packet at a step; 0: none did.
func (p *packet) location(st *step) uint64 {
	if st.station != StationDrop || st.aux < 0 {
		return 0
	}
	return p.rare.locations[st.aux]
}

// socketStation says whether events of a station may name a socket.
func socketStation(s Station) bool {
	return s == StationSocketOut || s == StationIPOut || s == StationSocketIn || s == StationBacklog || s == StationRawIn
}

// told returns the packet's headers as they were last, by what was told of it so far;
// nil: nothing was. What was told last need not be what came last.
func (p *packet) told() *plainHeader {
	for i := len(p.steps) - 1; i >= 0; i-- {
		if h := p.toldAt(i); h != nil {
			return h
		}
	}
	return nil
}

// firstTold is told as they were first.
func (p *packet) firstTold() *plainHeader {
	for i := range p.steps {
		if h := p.toldAt(i); h != nil {
			return h
		}
	}
	return nil
}

func (p *packet) toldAt(i int) *plainHeader {
	if st := &p.steps[i]; st.kind() == ExtHeader {
		return &p.headers[st.at()]
	}
	return nil
}

// header is one of the packet's, with what lies inside.
func (p *packet) header(h *plainHeader) Header {
	all := h.header()
	if h.inner > 0 {
		all.Inner, all.HasInner = p.rare.inners[h.inner-1].tuple(), true
	}
	return all
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
	r := p.rare
	if r != nil {
		clear(r.children)
		*r = rare{
			inners: r.inners[:0], locations: r.locations[:0], backends: r.backends[:0], children: r.children[:0], effects: r.effects[:0],
		}
	}
	*p = packet{steps: p.steps[:0], headers: p.headers[:0], cts: p.cts[:0], sockets: p.sockets[:0], rare: r}
}

// group is a set of packets whose fates are joined: copies, segments,
// fragments and what was merged. It is given out as a whole.
type group struct {
	packets   []*packet
	last      uint64 // ns: when it was last heard of
	due       uint64 // ns: when to look at it again
	pos       int32  // in the heap
	matched   bool
	delivered bool // some packet of it reached a socket
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
