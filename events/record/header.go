// SPDX-License-Identifier: Apache-2.0

package record

import (
	"math"

	"github.com/stackhop/stackhop/events"
)

// header adds a packet's headers, by what differs from those last told of it,
// or else from those with which the packet before in its flow began.
func (c *encoder) header(e *events.Event, s *slot) {
	first := &c.flows[s.flow].first[direction(e.Flags)]
	began := s.header < 0
	before := &first.header
	if !began {
		before = &c.headers[s.header]
	}
	c.headerDiff(before, &e.Header)
	if began {
		s.header = int32(len(c.headers)) //nolint:gosec // at most maxItems
		c.headers = append(c.headers, e.Header)
		first.header = e.Header
	} else {
		c.headers[s.header] = e.Header
	}
	if c.shapes[s.shape].has&hasBytes == 0 {
		return
	}
	ref, share := c.arena[s.bytes:s.bytes+s.bytesLen], s.bytesLen
	fresh := s.bytesLen == 0
	if fresh {
		ref, share = c.arena[first.bytes:first.bytes+first.bytesLen], xorBytes
	}
	s.bytes, s.bytesLen = c.packetBytes(e.Bytes[:min(len(e.Bytes), MaxBytes)], ref, int(share))
	if fresh {
		first.bytes, first.bytesLen = s.bytes, s.bytesLen
	}
}

// packetBytes adds a packet's bytes, and the difference to ref as far as share,
// and returns where they are in the arena.
func (c *encoder) packetBytes(b, ref []byte, share int) (at, n int32) {
	c.putInt(colLength, int64(len(b)-len(ref)))
	share = min(share, len(ref), len(b))
	col := c.cols[colBytes]
	for i, v := range b[:share] {
		col = append(col, v^ref[i])
	}
	c.cols[colBytes] = append(col, b[share:]...)
	at = int32(len(c.arena)) //nolint:gosec // about maxPending at most
	c.arena = append(c.arena, b...)
	return at, int32(len(b)) //nolint:gosec // at most MaxBytes
}

// headerDiff adds what of h differs from was.
func (c *encoder) headerDiff(was, h *events.Header) {
	at := len(c.cols[colHeaderMask])
	c.putByte(colHeaderMask, 0, 0)
	mask := uint16(0)
	if h.Tuple != was.Tuple {
		mask |= hdrTuple
		c.tuple(colHeader, &h.Tuple)
	}
	if h.Length != was.Length {
		mask |= hdrLength
		c.putInt(colHeader, int64(h.Length)-int64(was.Length))
	}
	if h.TCPFlags != was.TCPFlags {
		mask |= hdrTCPFlags
		c.putByte(colHeader, h.TCPFlags)
	}
	if h.TTL != was.TTL {
		mask |= hdrTTL
		c.putByte(colHeader, h.TTL-was.TTL)
	}
	if h.TOS != was.TOS {
		mask |= hdrTOS
		c.putByte(colHeader, h.TOS)
	}
	if h.ICMPType != was.ICMPType || h.ICMPCode != was.ICMPCode {
		mask |= hdrICMP
		c.putByte(colHeader, h.ICMPType, h.ICMPCode)
	}
	if h.Fragment != was.Fragment {
		mask |= hdrFragment
	}
	if h.IPID != was.IPID {
		mask |= hdrIPID
		c.putInt(colHeader, int64(int16(h.IPID-was.IPID))) //nolint:gosec // the bits are kept
	}
	mask |= c.headerRest(was, h)
	le.PutUint16(c.cols[colHeaderMask][at:], mask)
}

func (c *encoder) headerRest(was, h *events.Header) (mask uint16) {
	if h.Seq != was.Seq {
		mask |= hdrSeq
		c.putInt(colHeader, int64(int32(h.Seq-was.Seq))) //nolint:gosec // the bits are kept
	}
	if h.Ack != was.Ack {
		mask |= hdrAck
		c.putInt(colHeader, int64(int32(h.Ack-was.Ack))) //nolint:gosec // the bits are kept
	}
	if h.Mark != was.Mark {
		mask |= hdrMark
		c.put(colHeader, uint64(h.Mark))
	}
	if h.GSOSize != was.GSOSize || h.GSOSegs != was.GSOSegs {
		mask |= hdrGSO
		c.put(colHeader, uint64(h.GSOSize))
		c.put(colHeader, uint64(h.GSOSegs))
	}
	if h.HasInner != was.HasInner || h.Inner != was.Inner {
		mask |= hdrInner
		c.putByte(colHeader, boolByte(h.HasInner))
		if h.HasInner {
			c.tuple(colHeader, &h.Inner)
		}
	}
	return mask
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// header reads a packet's headers.
func (d *decoder) header(s *slot, has uint8) {
	first := &d.flows[s.flow].first[direction(d.it.e.Flags)]
	began := s.header < 0
	if began {
		s.header = int32(len(d.headers)) //nolint:gosec // at most maxItems
		d.headers = append(d.headers, first.header)
	}
	h := &d.headers[s.header]
	d.headerPatch(h)
	if began {
		first.header = *h
	}
	d.it.e.Header = *h
	if has&hasBytes == 0 {
		return
	}
	ref, share := d.arena[s.bytes:s.bytes+s.bytesLen], s.bytesLen
	fresh := s.bytesLen == 0
	if fresh {
		ref, share = d.arena[first.bytes:first.bytes+first.bytesLen], xorBytes
	}
	s.bytes, s.bytesLen = d.packetBytes(ref, int(share))
	if fresh {
		first.bytes, first.bytesLen = s.bytes, s.bytesLen
	}
	d.it.e.Bytes = d.arena[s.bytes : s.bytes+s.bytesLen : s.bytes+s.bytesLen]
}

// packetBytes reads a packet's bytes, and returns where they are in the arena.
func (d *decoder) packetBytes(ref []byte, share int) (at, n int32) {
	size := int64(len(ref)) + d.getInt(colLength)
	if size <= 0 || size > min(MaxBytes, int64(len(d.cols[colBytes]))) {
		d.fail("packets have more bytes than there are")
		return 0, 0
	}
	start := len(d.arena)
	d.arena = append(d.arena, d.getBytes(colBytes, int(size))...)
	for i, v := range ref[:min(share, len(ref), int(size))] {
		d.arena[start+i] ^= v
	}
	return int32(start), int32(size) //nolint:gosec // at most maxBlock
}

// headerPatch changes what differs in h.
func (d *decoder) headerPatch(h *events.Header) {
	mask := le.Uint16(d.getBytes(colHeaderMask, 2))
	if mask&^hdrAll != 0 {
		d.fail("a header with unknown fields")
		return
	}
	if mask&hdrTuple != 0 {
		h.Tuple = d.tuple(colHeader)
	}
	if mask&hdrLength != 0 {
		length := int64(h.Length) + d.getInt(colHeader)
		if length < 0 || length > math.MaxUint32 {
			d.fail("a number is too large")
		}
		h.Length = uint32(length) //nolint:gosec // checked above
	}
	if mask&hdrTCPFlags != 0 {
		h.TCPFlags = d.getByte(colHeader)
	}
	if mask&hdrTTL != 0 {
		h.TTL += d.getByte(colHeader)
	}
	if mask&hdrTOS != 0 {
		h.TOS = d.getByte(colHeader)
	}
	if mask&hdrICMP != 0 {
		h.ICMPType, h.ICMPCode = d.getByte(colHeader), d.getByte(colHeader)
	}
	if mask&hdrFragment != 0 {
		h.Fragment = !h.Fragment
	}
	if mask&hdrIPID != 0 {
		h.IPID += uint16(d.getInt(colHeader)) //nolint:gosec // the bits are kept
	}
	d.patchRest(h, mask)
}

func (d *decoder) patchRest(h *events.Header, mask uint16) {
	if mask&hdrSeq != 0 {
		h.Seq += uint32(d.getInt(colHeader)) //nolint:gosec // the bits are kept
	}
	if mask&hdrAck != 0 {
		h.Ack += uint32(d.getInt(colHeader)) //nolint:gosec // the bits are kept
	}
	if mask&hdrMark != 0 {
		h.Mark = uint32(d.getMax(colHeader, math.MaxUint32)) //nolint:gosec // bounded
	}
	if mask&hdrGSO != 0 {
		h.GSOSize = uint16(d.getMax(colHeader, math.MaxUint16)) //nolint:gosec // bounded
		h.GSOSegs = uint16(d.getMax(colHeader, math.MaxUint16)) //nolint:gosec // bounded
	}
	if mask&hdrInner != 0 {
		h.HasInner, h.Inner = d.getByte(colHeader) != 0, events.Tuple{}
		if h.HasInner {
			h.Inner = d.tuple(colHeader)
		}
	}
}
