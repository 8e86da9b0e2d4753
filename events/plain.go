// SPDX-License-Identifier: Apache-2.0

package events

import "net/netip"

// plainAddr is a netip.Addr without a pointer, which is there for the zone: no
// event has one.
type plainAddr struct {
	bytes [16]byte
	bits  uint8 // 32 or 128; 0: not valid
}

func plainAddrOf(a netip.Addr) plainAddr {
	if !a.IsValid() {
		return plainAddr{}
	}
	return plainAddr{a.As16(), uint8(a.BitLen())} //nolint:gosec // 32 or 128
}

func (a plainAddr) addr() netip.Addr {
	switch a.bits {
	case 0:
		return netip.Addr{}
	case 32:
		return netip.AddrFrom16(a.bytes).Unmap()
	}
	return netip.AddrFrom16(a.bytes)
}

// plainEnd is a netip.AddrPort without a pointer.
type plainEnd struct {
	addr plainAddr
	port uint16
}

func plainEndOf(a netip.Addr, port uint16) plainEnd { return plainEnd{plainAddrOf(a), port} }

// String is as that of a netip.AddrPort.
func (e plainEnd) String() string { return netip.AddrPortFrom(e.addr.addr(), e.port).String() }

// plainTuple is a Tuple without pointers, and without gaps: so it is hashed and
// compared in one piece.
type plainTuple struct {
	src, dst         [16]byte
	srcPort, dstPort uint16
	srcBits, dstBits uint8 // as in plainAddr
	proto            uint8
	zero             uint8
}

func plainTupleOf(t *Tuple) plainTuple {
	src, dst := plainAddrOf(t.Src), plainAddrOf(t.Dst)
	return plainTuple{
		src: src.bytes, dst: dst.bytes, srcPort: t.SrcPort, dstPort: t.DstPort, srcBits: src.bits, dstBits: dst.bits, proto: t.Proto,
	}
}

func (t *plainTuple) from() plainEnd { return plainEnd{plainAddr{t.src, t.srcBits}, t.srcPort} }
func (t *plainTuple) to() plainEnd   { return plainEnd{plainAddr{t.dst, t.dstBits}, t.dstPort} }

func (t *plainTuple) tuple() Tuple {
	return Tuple{
		Src: plainAddr{t.src, t.srcBits}.addr(), Dst: plainAddr{t.dst, t.dstBits}.addr(),
		SrcPort: t.srcPort, DstPort: t.dstPort, Proto: t.proto,
	}
}

func (t *plainTuple) reverse() plainTuple {
	return plainTuple{
		src: t.dst, dst: t.src, srcPort: t.dstPort, dstPort: t.srcPort, srcBits: t.dstBits, dstBits: t.srcBits, proto: t.proto,
	}
}

// plainHeader is a Header as it is kept while its packet is open: half as large, and
// nothing that the collector looks at.
type plainHeader struct {
	plainTuple
	length             uint32
	seq, ack, mark     uint32
	gsoSize, gsoSegs   uint16
	ipid               uint16
	inner              uint16 // index + 1 of the inner tuple in its packet's rare; 0: none
	tcpFlags, ttl, tos uint8
	icmpType, icmpCode uint8
	fragment           bool
}

// plainHeaderOf leaves out what lies inside.
func plainHeaderOf(h *Header) plainHeader {
	return plainHeader{
		plainTuple: plainTupleOf(&h.Tuple), length: h.Length, seq: h.Seq, ack: h.Ack, mark: h.Mark,
		gsoSize: h.GSOSize, gsoSegs: h.GSOSegs, ipid: h.IPID, tcpFlags: h.TCPFlags, ttl: h.TTL, tos: h.TOS,
		icmpType: h.ICMPType, icmpCode: h.ICMPCode, fragment: h.Fragment,
	}
}

func (h *plainHeader) header() Header {
	return Header{
		Tuple: h.tuple(), Length: h.length, Seq: h.seq, Ack: h.ack, Mark: h.mark,
		GSOSize: h.gsoSize, GSOSegs: h.gsoSegs, IPID: h.ipid, TCPFlags: h.tcpFlags, TTL: h.ttl, TOS: h.tos,
		ICMPType: h.icmpType, ICMPCode: h.icmpCode, Fragment: h.fragment,
	}
}

// hasPorts is that of a Header.
func (h *plainHeader) hasPorts() bool {
	return (h.proto == protoTCP || h.proto == protoUDP || h.proto == protoSCTP) && (!h.fragment || h.srcPort != 0 || h.dstPort != 0)
}
