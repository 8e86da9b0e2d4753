// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"github.com/stackhop/stackhop/events"
)

// Sink takes what a recording holds, in its order. What it is given is valid
// only until it returns.
type Sink interface {
	Event(*events.Event)
	Tick(now uint64) // ns on the events' clock
}

// decoder reads the columns of blocks of events.
type decoder struct {
	memory
	known   []bool // hooks, by number
	items   int
	done    int // items read
	cols    [numColumns][]byte
	wrong   string // what is malformed; empty: nothing so far
	links   []events.Link
	sockets []events.Socket
	tuples  []events.Tuple
	addrs   []netip.Addr
	cts     []events.Conntrack
	it      *item // that is read
}

// fail notes that the block is malformed.
func (d *decoder) fail(what string) {
	if d.wrong == "" {
		d.wrong = what
	}
}

func (d *decoder) error() error {
	return fmt.Errorf("%w: item %d of %d: %s", errColumns, d.done, d.items, d.wrong)
}

// begin takes a block of events.
func (d *decoder) begin(raw []byte) error {
	d.reset()
	d.links, d.sockets, d.tuples, d.addrs, d.cts = d.links[:0], d.sockets[:0], d.tuples[:0], d.addrs[:0], d.cts[:0]
	d.wrong, d.items, d.done = "", 0, 0
	items, n := binary.Uvarint(raw)
	if n <= 0 || items > maxItems {
		d.fail("there are more items than a block holds")
		return d.error()
	}
	if raw = raw[n:]; len(raw) == 0 || raw[0] < numColumns {
		d.fail("there are too few columns")
		return d.error()
	}
	// What a later version adds comes after what is known here.
	sizes := make([]uint64, raw[0])
	raw = raw[1:]
	sum := uint64(0)
	for i := range sizes {
		v, n := binary.Uvarint(raw)
		if n <= 0 || v > maxBlock {
			d.fail("the columns' sizes are wrong")
			return d.error()
		}
		raw, sizes[i] = raw[n:], v
		sum += v
	}
	if sum != uint64(len(raw)) {
		d.fail(fmt.Sprintf("the columns have %d bytes, not %d", len(raw), sum))
		return d.error()
	}
	for i, n := range sizes[:numColumns] {
		d.cols[i], raw = raw[:n:n], raw[n:]
	}
	d.items = int(items)
	return nil
}

// end checks that a block had nothing beyond its items.
func (d *decoder) end() error {
	for i := range d.cols {
		if len(d.cols[i]) != 0 {
			d.fail(fmt.Sprintf("column %d has %d bytes too many", i, len(d.cols[i])))
			return d.error()
		}
	}
	return nil
}

func (d *decoder) get(col int) uint64 {
	b := d.cols[col]
	if len(b) > 0 && b[0] < 0x80 {
		d.cols[col] = b[1:]
		return uint64(b[0])
	}
	v, n := binary.Uvarint(b)
	if n <= 0 {
		d.fail("a column ends early")
		return 0
	}
	d.cols[col] = b[n:]
	return v
}

func (d *decoder) getInt(col int) int64 { return unzigzag(d.get(col)) }

// getMax reads a number that is not above a bound.
func (d *decoder) getMax(col int, bound uint64) uint64 {
	v := d.get(col)
	if v > bound {
		d.fail("a number is too large")
		return 0
	}
	return v
}

// getRef reads a reference: the index of one of n that are known, or fresh.
func (d *decoder) getRef(col, n int) (at int, fresh bool) {
	v := d.getMax(col, uint64(n)) //nolint:gosec // not negative
	return int(v) - 1, v == 0
}

func (d *decoder) getByte(col int) byte {
	b := d.cols[col]
	if len(b) == 0 {
		d.fail("a column ends early")
		return 0
	}
	d.cols[col] = b[1:]
	return b[0]
}

// getBytes returns n bytes; short of them, as many zeros.
func (d *decoder) getBytes(col, n int) []byte {
	b := d.cols[col]
	if len(b) < n {
		d.fail("a column ends early")
		return make([]byte, min(n, 16))
	}
	d.cols[col] = b[n:]
	return b[:n]
}

// item reads the next item: an event into it, or a tick.
func (d *decoder) item(it *item) (tick bool) {
	d.done++
	d.it = it
	ref := d.get(colRef)
	switch ref {
	case refTick:
		d.tick += uint64(d.getInt(colTick)) //nolint:gosec // the bits are kept
		return true
	case refSame:
		if d.slot < 0 {
			d.fail("an event of no packet")
			d.newSlot(0)
		}
	case refNew:
		d.newSlot(d.lastPacket + uint64(d.getInt(colPacket))) //nolint:gosec // the bits are kept
	default:
		at := int64(d.slot) + unzigzag(ref-refSlot)
		if at < 0 || at >= int64(len(d.slots)) {
			d.fail("an event of an unknown packet")
			d.newSlot(0)
		} else {
			d.slot = int32(at) //nolint:gosec // checked above
		}
	}
	d.event()
	return false
}

func (d *decoder) event() {
	s, e := &d.slots[d.slot], &d.it.e
	ctl := d.getByte(colControl)
	shape := d.shape(ctl, d.guesses[s.shape].next)
	d.guesses[s.shape].next, s.shape = shape, shape
	seq := s.seq + 1
	if ctl&ctlSeq != 0 {
		seq += uint16(d.getInt(colSeq)) //nolint:gosec // the bits are kept
	}
	s.seq = seq
	d.clean()
	sh := &d.shapes[shape]
	e.Packet, e.Seq, e.Hook, e.Flags, e.Ext = d.packets[d.slot], seq, sh.hook, sh.flags, sh.ext
	e.Netns, e.Ifindex = sh.netns, sh.ifindex
	e.Location, e.Reason, e.Ret = sh.location, sh.reason, sh.ret
	e.NFFamily, e.NFHook, e.ICMPType, e.ICMPCode = sh.family, sh.nfHook, sh.icmpType, sh.icmpC
	if sh.hook == events.Elsewhere {
		e.Time, e.CPU, e.Flow = 0, 0, 0
		return
	}
	d.seen(s, sh, ctl)
}

// clean clears what the event had that was there before, and not every event sets.
func (d *decoder) clean() {
	e := &d.it.e
	switch e.Ext {
	case events.ExtHeader:
		e.Header = events.Header{}
	case events.ExtConntrack:
		e.CT = events.Conntrack{}
	}
	if d.it.has == 0 {
		return
	}
	e.Other, e.Link, e.Bytes = 0, events.Link{}, nil
	if d.it.has&(hasSocket|hasBackend) != 0 {
		e.Socket, e.Backend = events.Socket{}, netip.AddrPort{}
	}
	d.it.has = 0
}

// seen reads what only events have that were observed here.
func (d *decoder) seen(s *slot, sh *shape, ctl byte) {
	e := &d.it.e
	if ctl&ctlCPU != 0 {
		s.cpu = uint16(d.getMax(colCPU, math.MaxUint16)) //nolint:gosec // bounded
	}
	d.cpu, e.CPU = s.cpu, s.cpu
	if ctl&ctlTime != 0 {
		d.time += uint64(d.getInt(colTime)) //nolint:gosec // the bits are kept
	} else {
		d.time += uint64(d.getByte(colTimeLow)) | uint64(d.getByte(colTimeHigh))<<8
	}
	e.Time = d.time
	if ctl&ctlFlow != 0 {
		s.flow = d.flow()
	}
	e.Flow = d.flowIDs[s.flow]
	d.it.has = sh.has
	if sh.has&hasLink != 0 {
		e.Link = d.link(s, ctl)
	}
	if sh.has&hasHash != 0 {
		if ctl&ctlHash != 0 {
			s.hash = le.Uint32(d.getBytes(colHash, 4))
		}
		e.Link.Hash = s.hash
	}
	if sh.has&(hasOther|hasSocket|hasBackend) != 0 {
		d.rare(sh.has)
	}
	switch sh.ext {
	case events.ExtHeader:
		d.header(s, sh.has)
	case events.ExtConntrack:
		d.conntrack(s)
	}
}

// shape returns the shape of an event.
func (d *decoder) shape(ctl byte, foreseen int32) int32 {
	if ctl&ctlShape == 0 {
		return foreseen
	}
	at, fresh := d.getRef(colShape, len(d.shapes))
	if !fresh {
		return int32(at) //nolint:gosec // at most maxItems
	}
	var s shape
	before := &d.shapes[len(d.shapes)-1]
	s.hook = events.HookID(d.getMax(colShapes, MaxHookID)) //nolint:gosec // bounded
	s.flags, s.ext, s.has = events.Flags(d.getByte(colShapes)), events.Ext(d.getByte(colShapes)), d.getByte(colShapes)
	netns := int64(before.netns) + d.getInt(colShapes)
	s.netns = uint32(netns)                                 //nolint:gosec // checked below
	s.ifindex = uint32(d.getMax(colShapes, math.MaxUint32)) //nolint:gosec // bounded
	s.family, s.nfHook, s.icmpType, s.icmpC = d.getByte(colShapes), d.getByte(colShapes), d.getByte(colShapes), d.getByte(colShapes)
	ret := d.getInt(colShapes)
	s.ret = int32(ret)                                     //nolint:gosec // checked below
	s.reason = uint32(d.getMax(colShapes, math.MaxUint32)) //nolint:gosec // bounded
	s.location = d.get(colShapes)
	switch {
	case int64(s.ret) != ret || int64(s.netns) != netns:
		d.fail("a number is too large")
	case s.hook == events.Elsewhere && s != (shape{}):
		d.fail("an event from elsewhere that says more")
	case int(s.hook) >= len(d.known) || !d.known[s.hook]:
		d.fail(fmt.Sprintf("there is no hook %d", s.hook))
	case s.ext > events.ExtConntrack || s.has&^hasAll != 0 || (s.has&hasBytes != 0 && s.ext != events.ExtHeader):
		d.fail("an event of an unknown kind")
	}
	d.shapes = append(d.shapes, s)
	d.guesses = append(d.guesses, guess{link: -1})
	return int32(len(d.shapes) - 1) //nolint:gosec // at most maxItems
}

func (d *decoder) flow() int32 {
	at, fresh := d.getRef(colFlow, len(d.flowIDs))
	if !fresh {
		return int32(at) //nolint:gosec // at most maxItems
	}
	d.flowIDs = append(d.flowIDs, d.it.e.Packet-uint64(d.getInt(colFlow))) //nolint:gosec // the bits are kept
	d.flows = append(d.flows, flowRef{ct: -1})
	return int32(len(d.flows) - 1) //nolint:gosec // at most maxItems
}

func (d *decoder) link(s *slot, ctl byte) events.Link {
	g := &d.guesses[s.shape]
	if ctl&ctlLink != 0 {
		at, fresh := d.getRef(colLink, len(d.links))
		if fresh {
			l := events.Link{Dst: [6]byte(d.getBytes(colLinks, 6)), Src: [6]byte(d.getBytes(colLinks, 6))}
			l.Proto = uint16(d.getMax(colLinks, math.MaxUint16)) //nolint:gosec // bounded
			l.VLAN = uint16(d.getMax(colLinks, math.MaxUint16))  //nolint:gosec // bounded
			l.TTL = d.getByte(colLinks)
			at = len(d.links)
			d.links = append(d.links, l)
		}
		g.link = int32(at) //nolint:gosec // at most maxItems
	}
	if g.link < 0 {
		d.fail("an event without its link")
		return events.Link{}
	}
	return d.links[g.link]
}

func (d *decoder) rare(has uint8) {
	e := &d.it.e
	if has&hasOther != 0 {
		e.Other = e.Packet - uint64(d.getInt(colOther)) //nolint:gosec // the bits are kept
	}
	if has&hasBackend != 0 {
		a := d.addr(colBackend)
		e.Backend = netip.AddrPortFrom(a, uint16(d.getMax(colBackend, math.MaxUint16))) //nolint:gosec // bounded
	}
	if has&hasSocket == 0 {
		return
	}
	at, fresh := d.getRef(colSocket, len(d.sockets))
	if !fresh {
		e.Socket = d.sockets[at]
		return
	}
	e.Socket = events.Socket{}
	e.Socket.Inode = uint32(d.getMax(colSockets, math.MaxUint32)) //nolint:gosec // bounded
	e.Socket.PID = uint32(d.getMax(colSockets, math.MaxUint32))   //nolint:gosec // bounded
	n := d.getMax(colSockets, uint64(len(e.Socket.Comm)))
	copy(e.Socket.Comm[:], d.getBytes(colSockets, int(n))) //nolint:gosec // bounded
	d.sockets = append(d.sockets, e.Socket)
}

func (d *decoder) addr(col int) netip.Addr {
	at, fresh := d.getRef(col, len(d.addrs))
	if !fresh {
		return d.addrs[at]
	}
	var a netip.Addr
	switch d.get(colAddrs) {
	case 0:
	case 4:
		a = netip.AddrFrom4([4]byte(d.getBytes(colAddrs, 4)))
	case 16:
		a = netip.AddrFrom16([16]byte(d.getBytes(colAddrs, 16)))
	default:
		d.fail("an address of no known size")
	}
	d.addrs = append(d.addrs, a)
	return a
}

func (d *decoder) tuple(col int) events.Tuple {
	at, fresh := d.getRef(col, len(d.tuples))
	if !fresh {
		return d.tuples[at]
	}
	t := events.Tuple{Src: d.addr(colTuples), Dst: d.addr(colTuples)}
	b := d.getBytes(colTuples, 5)
	t.SrcPort, t.DstPort, t.Proto = le.Uint16(b), le.Uint16(b[2:]), b[4]
	d.tuples = append(d.tuples, t)
	return t
}

func (d *decoder) conntrack(s *slot) {
	f := &d.flows[s.flow]
	switch v := d.getMax(colConntrack, uint64(len(d.cts))+1); v {
	case 0:
		ct := events.Conntrack{Original: d.tuple(colConntrack), Reply: d.tuple(colConntrack), Info: d.getByte(colConntrack)}
		ct.Status = uint32(d.getMax(colConntrack, math.MaxUint32)) //nolint:gosec // bounded
		ct.Zone = uint16(d.getMax(colConntrack, math.MaxUint16))   //nolint:gosec // bounded
		f.ct = int32(len(d.cts))                                   //nolint:gosec // at most maxItems
		d.cts = append(d.cts, ct)
	case 1:
	default:
		f.ct = int32(v - 2) //nolint:gosec // bounded
	}
	if f.ct < 0 {
		d.fail("a conntrack entry like one before, but there is none")
		return
	}
	d.it.e.CT = d.cts[f.ct]
}
