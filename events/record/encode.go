// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/stackhop/stackhop/events"
)

// maxPending is how many bytes of columns make a block full before maxItems do.
const maxPending = 4 << 20

// notes is told of what events mention first in a block.
type notes interface {
	device(netns, ifindex uint32)
	drop(location uint64, reason uint32)
	tuple(t *events.Tuple)
	socket(inode uint32)
}

// encoder makes the columns of a block of events.
type encoder struct {
	memory
	notes notes // nil: nobody wants to know
	items int
	cols  [numColumns][]byte
	bytes int // in colBytes and the arena: what grows fastest

	bySlot    map[uint64]int32
	byFlow    map[uint64]int32
	byShape   map[shape]int32
	links     map[events.Link]int32
	sockets   map[events.Socket]int32
	tuples    map[events.Tuple]int32
	addrs     map[netip.Addr]int32
	cts       map[events.Conntrack]int32
	raw       []byte
	elsewhere events.Event
}

func newEncoder() *encoder {
	e := &encoder{
		bySlot: map[uint64]int32{}, byFlow: map[uint64]int32{}, byShape: map[shape]int32{},
		links: map[events.Link]int32{}, sockets: map[events.Socket]int32{}, tuples: map[events.Tuple]int32{},
		addrs: map[netip.Addr]int32{}, cts: map[events.Conntrack]int32{},
	}
	e.reset()
	return e
}

// reset begins a new block.
func (c *encoder) reset() {
	c.memory.reset()
	for i := range c.cols {
		c.cols[i] = c.cols[i][:0]
	}
	c.items = 0
	clear(c.bySlot)
	clear(c.byFlow)
	clear(c.byShape)
	clear(c.links)
	clear(c.sockets)
	clear(c.tuples)
	clear(c.addrs)
	clear(c.cts)
	c.byFlow[0], c.byShape[shape{}] = 0, 0
}

// full says whether the block should be ended.
func (c *encoder) full() bool {
	return c.items >= maxItems || len(c.arena) >= maxPending
}

// block returns the block's contents, valid until the next call, and begins a
// new one.
func (c *encoder) block() []byte {
	raw := binary.AppendUvarint(c.raw[:0], uint64(c.items)) //nolint:gosec // not negative
	raw = append(raw, numColumns)
	for _, col := range c.cols {
		raw = binary.AppendUvarint(raw, uint64(len(col)))
	}
	for _, col := range c.cols {
		raw = append(raw, col...)
	}
	c.raw = raw
	c.reset()
	return raw
}

func (c *encoder) put(col int, v uint64) {
	if v < 0x80 {
		c.cols[col] = append(c.cols[col], byte(v))
		return
	}
	c.cols[col] = binary.AppendUvarint(c.cols[col], v)
}

func (c *encoder) putInt(col int, v int64)    { c.put(col, zigzag(v)) }
func (c *encoder) putByte(col int, b ...byte) { c.cols[col] = append(c.cols[col], b...) }

// tickItem adds a tick.
func (c *encoder) tickItem(now uint64) {
	c.items++
	c.put(colRef, refTick)
	c.putInt(colTick, int64(now-c.tick)) //nolint:gosec // the bits are kept
	c.tick = now
}

// event adds an event.
func (c *encoder) event(e *events.Event) {
	if e.Hook == events.Elsewhere {
		c.elsewhere.Packet, c.elsewhere.Seq = e.Packet, e.Seq
		e = &c.elsewhere
	}
	s := c.packet(e.Packet)
	ctl := byte(0)
	if id, ok := c.shape(e, c.guesses[s.shape].next); ok {
		c.guesses[s.shape].next, s.shape = id, id
	} else {
		ctl |= ctlShape
		c.guesses[s.shape].next, s.shape = id, id
	}
	if e.Seq != s.seq+1 {
		ctl |= ctlSeq
		c.putInt(colSeq, int64(int16(e.Seq-s.seq-1))) //nolint:gosec // the bits are kept
	}
	s.seq = e.Seq
	if e.Hook != events.Elsewhere {
		ctl |= c.seen(e, s)
	}
	c.putByte(colControl, ctl)
	c.items++
}

// seen adds what only events have that were observed here.
func (c *encoder) seen(e *events.Event, s *slot) (ctl byte) {
	if e.CPU != s.cpu {
		ctl |= ctlCPU
		c.put(colCPU, uint64(e.CPU))
		s.cpu = e.CPU
	}
	c.cpu = e.CPU
	if d := e.Time - c.time; d < 1<<16 {
		c.putByte(colTimeLow, byte(d))
		c.putByte(colTimeHigh, byte(d>>8))
	} else {
		ctl |= ctlTime
		c.putInt(colTime, int64(d)) //nolint:gosec // the bits are kept
	}
	c.time = e.Time
	if e.Flow != c.flowIDs[s.flow] {
		ctl |= ctlFlow
		s.flow = c.flow(e)
	}
	has := c.shapes[s.shape].has
	if has&hasLink != 0 {
		ctl |= c.link(e, s)
	}
	if has&hasHash != 0 && e.Link.Hash != s.hash {
		ctl |= ctlHash
		s.hash = e.Link.Hash
		c.cols[colHash] = le.AppendUint32(c.cols[colHash], s.hash)
	}
	if has&(hasOther|hasSocket|hasBackend) != 0 {
		c.rare(e, has)
	}
	switch e.Ext {
	case events.ExtHeader:
		c.header(e, s)
	case events.ExtConntrack:
		c.conntrack(e, s)
	}
	return ctl
}

// packet adds which packet an event is of, and returns its slot.
func (c *encoder) packet(id uint64) *slot {
	if c.slot >= 0 && c.packets[c.slot] == id {
		c.put(colRef, refSame)
		return &c.slots[c.slot]
	}
	at, ok := c.bySlot[id]
	if ok {
		c.put(colRef, refSlot+zigzag(int64(at-c.slot)))
		c.slot = at
		return &c.slots[at]
	}
	c.put(colRef, refNew)
	c.putInt(colPacket, int64(id-c.lastPacket)) //nolint:gosec // the bits are kept
	c.newSlot(id)
	c.bySlot[id] = c.slot
	return &c.slots[c.slot]
}

// shape returns the shape of an event, and whether it is the one foreseen;
// otherwise it adds it.
func (c *encoder) shape(e *events.Event, foreseen int32) (id int32, ok bool) {
	s := shape{
		location: e.Location, netns: e.Netns, ifindex: e.Ifindex, reason: e.Reason, ret: e.Ret, hook: e.Hook,
		flags: e.Flags, ext: e.Ext, family: e.NFFamily, nfHook: e.NFHook, icmpType: e.ICMPType, icmpC: e.ICMPCode,
	}
	if e.Other != 0 {
		s.has |= hasOther
	}
	if e.Socket != (events.Socket{}) {
		s.has |= hasSocket
	}
	if e.Backend.IsValid() {
		s.has |= hasBackend
	}
	if e.Link.Hash != 0 {
		s.has |= hasHash
	}
	link := e.Link
	if link.Hash = 0; link != (events.Link{}) {
		s.has |= hasLink
	}
	if len(e.Bytes) > 0 && e.Ext == events.ExtHeader {
		s.has |= hasBytes
	}
	if c.shapes[foreseen] == s {
		return foreseen, true
	}
	id, known := c.byShape[s]
	if known {
		c.put(colShape, uint64(id)+1) //nolint:gosec // not negative
		return id, false
	}
	c.put(colShape, 0)
	c.newShape(&s)
	id = int32(len(c.shapes)) //nolint:gosec // at most maxItems
	c.byShape[s] = id
	c.shapes = append(c.shapes, s)
	c.guesses = append(c.guesses, guess{link: -1})
	return id, false
}

// newShape tells a shape, by what differs from the one told before.
func (c *encoder) newShape(s *shape) {
	before := &c.shapes[len(c.shapes)-1]
	c.put(colShapes, uint64(s.hook))
	c.putByte(colShapes, byte(s.flags), byte(s.ext), s.has)
	c.putInt(colShapes, int64(s.netns)-int64(before.netns))
	c.put(colShapes, uint64(s.ifindex))
	c.putByte(colShapes, s.family, s.nfHook, s.icmpType, s.icmpC)
	c.putInt(colShapes, int64(s.ret))
	c.put(colShapes, uint64(s.reason))
	c.put(colShapes, s.location)
	if c.notes != nil {
		c.notes.device(s.netns, s.ifindex)
		c.notes.drop(s.location, s.reason)
	}
}

// flow adds the flow of an event, and returns its index.
func (c *encoder) flow(e *events.Event) int32 {
	if at, ok := c.byFlow[e.Flow]; ok {
		c.put(colFlow, uint64(at)+1) //nolint:gosec // not negative
		return at
	}
	c.put(colFlow, 0)
	c.putInt(colFlow, int64(e.Packet-e.Flow)) //nolint:gosec // the bits are kept
	at := int32(len(c.flows))                 //nolint:gosec // at most maxItems
	c.byFlow[e.Flow] = at
	c.flows = append(c.flows, flowRef{ct: -1})
	c.flowIDs = append(c.flowIDs, e.Flow)
	return at
}

func (c *encoder) link(e *events.Event, s *slot) byte {
	l := e.Link
	l.Hash = 0
	id, known := c.links[l]
	g := &c.guesses[s.shape]
	if known && g.link == id {
		return 0
	}
	if known {
		c.put(colLink, uint64(id)+1) //nolint:gosec // not negative
	} else {
		c.put(colLink, 0)
		c.putByte(colLinks, l.Dst[:]...)
		c.putByte(colLinks, l.Src[:]...)
		c.put(colLinks, uint64(l.Proto))
		c.put(colLinks, uint64(l.VLAN))
		c.putByte(colLinks, l.TTL)
		id = int32(len(c.links)) //nolint:gosec // at most maxItems
		c.links[l] = id
	}
	g.link = id
	return ctlLink
}

// rare adds what only few events have.
func (c *encoder) rare(e *events.Event, has uint8) {
	if has&hasOther != 0 {
		c.putInt(colOther, int64(e.Packet-e.Other)) //nolint:gosec // the bits are kept
	}
	if has&hasBackend != 0 {
		c.addr(colBackend, e.Backend.Addr())
		c.put(colBackend, uint64(e.Backend.Port()))
	}
	if has&hasSocket == 0 {
		return
	}
	id, known := c.sockets[e.Socket]
	if known {
		c.put(colSocket, uint64(id)+1) //nolint:gosec // not negative
		return
	}
	c.put(colSocket, 0)
	c.sockets[e.Socket] = int32(len(c.sockets)) //nolint:gosec // at most maxItems
	c.put(colSockets, uint64(e.Socket.Inode))
	c.put(colSockets, uint64(e.Socket.PID))
	comm := bytes.TrimRight(e.Socket.Comm[:], "\x00")
	c.put(colSockets, uint64(len(comm)))
	c.putByte(colSockets, comm...)
	if c.notes != nil {
		c.notes.socket(e.Socket.Inode)
	}
}

// addr adds a reference to an address.
func (c *encoder) addr(col int, a netip.Addr) {
	a = a.WithZone("")
	if id, ok := c.addrs[a]; ok {
		c.put(col, uint64(id)+1) //nolint:gosec // not negative
		return
	}
	c.put(col, 0)
	c.addrs[a] = int32(len(c.addrs))      //nolint:gosec // a few for each item
	c.put(colAddrs, uint64(a.BitLen()/8)) //nolint:gosec // not negative
	switch b := a.As16(); {
	case a.Is4():
		c.putByte(colAddrs, b[12:]...)
	case a.Is6():
		c.putByte(colAddrs, b[:]...)
	}
}

// tuple adds a reference to a tuple.
func (c *encoder) tuple(col int, t *events.Tuple) {
	if id, ok := c.tuples[*t]; ok {
		c.put(col, uint64(id)+1) //nolint:gosec // not negative
		return
	}
	c.put(col, 0)
	c.tuples[*t] = int32(len(c.tuples)) //nolint:gosec // a few for each item
	c.addr(colTuples, t.Src)
	c.addr(colTuples, t.Dst)
	c.cols[colTuples] = le.AppendUint16(c.cols[colTuples], t.SrcPort)
	c.cols[colTuples] = le.AppendUint16(c.cols[colTuples], t.DstPort)
	c.putByte(colTuples, t.Proto)
	if c.notes != nil {
		c.notes.tuple(t)
	}
}

func (c *encoder) conntrack(e *events.Event, s *slot) {
	f := &c.flows[s.flow]
	id, known := c.cts[e.CT]
	switch {
	case known && id == f.ct:
		c.put(colConntrack, 1)
	case known:
		c.put(colConntrack, uint64(id)+2) //nolint:gosec // not negative
	default:
		c.put(colConntrack, 0)
		c.tuple(colConntrack, &e.CT.Original)
		c.tuple(colConntrack, &e.CT.Reply)
		c.putByte(colConntrack, e.CT.Info)
		c.put(colConntrack, uint64(e.CT.Status))
		c.put(colConntrack, uint64(e.CT.Zone))
		id = int32(len(c.cts)) //nolint:gosec // at most maxItems
		c.cts[e.CT] = id
	}
	f.ct = id
}
