// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"encoding/binary"

	"github.com/stackhop/stackhop/events"
)

// IP protocol numbers.
const (
	protoICMP         = 1
	protoTCP          = 6
	protoUDP          = 17
	protoIPv6Fragment = 44
	protoICMPv6       = 58
)

const moreFragments = 0x2000

// appendHeaders appends the headers of a packet of which only the fields are
// known. Length, TTL and checksum of IP are left to finish; what is not known
// (options, flow labels, checksums above IP) is missing or 0. The offset of a
// later fragment is not known: it ends behind its IP header.
func appendHeaders(b []byte, h *events.Header) []byte {
	first := !h.Fragment || h.SrcPort != 0 || h.DstPort != 0
	b = appendIP(b, h.Tuple, h)
	if !first {
		return b
	}
	switch h.Proto {
	case protoTCP:
		b = appendPorts(b, h.Tuple)
		b = binary.BigEndian.AppendUint32(b, h.Seq)
		b = binary.BigEndian.AppendUint32(b, h.Ack)
		b = append(b, 5<<4, h.TCPFlags)
		return append(b, 0, 0, 0, 0, 0, 0) // window, checksum, urgent
	case protoUDP:
		b = appendPorts(b, h.Tuple)
		length := uint32(0)
		if n := ipLength(h.Tuple); h.Length >= n {
			length = h.Length - n
		}
		b = binary.BigEndian.AppendUint16(b, short(length))
		return append(b, 0, 0)
	case protoICMP, protoICMPv6:
		return appendICMP(b, h)
	}
	return b
}

// appendICMP appends an ICMP header and, behind that of an error, the headers
// of the packet that it complains of.
func appendICMP(b []byte, h *events.Header) []byte {
	b = append(b, h.ICMPType, h.ICMPCode, 0, 0)
	if !h.HasInner {
		b = binary.BigEndian.AppendUint16(b, h.SrcPort) // an echo's identifier
		return append(b, 0, 0)
	}
	b = append(b, 0, 0, 0, 0)
	const ports = 8 // what an error holds at least of the transport header
	start := len(b)
	b = appendIP(b, h.Inner, nil)
	b = appendPorts(b, h.Inner)
	b = append(b, 0, 0, 0, 0)
	finish(b[start:], ipLength(h.Inner)+ports, 0, true)
	return b
}

func appendPorts(b []byte, t events.Tuple) []byte {
	b = binary.BigEndian.AppendUint16(b, t.SrcPort)
	return binary.BigEndian.AppendUint16(b, t.DstPort)
}

func ipLength(t events.Tuple) uint32 {
	if t.Src.Is4() {
		return lenIPv4
	}
	return lenIPv6
}

// appendIP appends an IP header without length and checksum. h has its other
// fields; nil: they are not known.
func appendIP(b []byte, t events.Tuple, h *events.Header) []byte {
	if h == nil {
		h = &events.Header{}
	}
	if t.Src.Is4() && t.Dst.Is4() {
		b = append(b, 4<<4|lenIPv4/4, h.TOS, 0, 0)
		b = binary.BigEndian.AppendUint16(b, h.IPID)
		fragment := uint16(0)
		if h.Fragment {
			fragment = moreFragments
		}
		b = binary.BigEndian.AppendUint16(b, fragment)
		b = append(b, h.TTL, t.Proto, 0, 0)
		b = append(b, t.Src.AsSlice()...)
		return append(b, t.Dst.AsSlice()...)
	}
	src, dst := t.Src.As16(), t.Dst.As16()
	next := t.Proto
	if h.Fragment {
		next = protoIPv6Fragment
	}
	b = append(b, 6<<4|h.TOS>>4, h.TOS<<4, 0, 0, 0, 0, next, h.TTL)
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	if h.Fragment {
		b = append(b, t.Proto, 0, 0, 1, 0, 0, 0, 0) // offset 0, more fragments
	}
	return b
}
