// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"encoding/binary"
	"net/netip"
)

// Protocol numbers (IPPROTO_*) and header types.
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoIPIP     = 4
	protoTCP      = 6
	protoUDP      = 17
	protoIPv6     = 41
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoICMPv6   = 58
	protoDstOpts  = 60
	protoSCTP     = 132
)

const (
	// maxHeaders bounds the headers of a packet that are kept, in bytes. With
	// VXLAN and all options these are 60+8+8+14+60+60.
	maxHeaders = 320
	// maxDepth bounds the packets inside packets.
	maxDepth = 3
	// maxExtensions bounds the extension headers of an IPv6 packet.
	maxExtensions = 8
)

var be = binary.BigEndian

// Packet returns the headers of a packet in pseudonyms: b is the packet from its
// network header on, and not changed. What follows the headers, and what is not
// understood, is left out; nil: nothing was. The result is the Redactor's, and
// valid until the next call.
func (r *Redactor) Packet(b []byte) []byte {
	n := copy(r.packet[:], b)
	if n = r.network(r.packet[:n], 0); n == 0 {
		return nil
	}
	return r.packet[:n:n]
}

// network rewrites an IP packet in place, and returns how much of it is kept. So
// do all the functions below with what they are named after.
func (r *Redactor) network(b []byte, depth int) int {
	if len(b) == 0 || depth == maxDepth {
		return 0
	}
	switch b[0] >> 4 {
	case 4:
		return r.ipv4(b, depth)
	case 6:
		return r.ipv6(b, depth)
	}
	return 0
}

func (r *Redactor) ipv4(b []byte, depth int) int {
	if len(b) < 20 {
		return 0
	}
	hl := int(b[0]&15) * 4
	if hl < 20 || hl > len(b) {
		return 0
	}
	total := int(be.Uint16(b[2:]))
	b[10], b[11] = 0, 0 // the checksum
	r.addr4(b[12:16])
	r.addr4(b[16:20])
	for i := 20; i < hl; i++ {
		b[i] = 1 // no operation, instead of options
	}
	if be.Uint16(b[6:])&0x1fff != 0 {
		return hl // not the first fragment
	}
	if total >= hl && total < len(b) {
		b = b[:total] // what follows is padding; a length of 0 is a large packet's
	}
	return hl + r.transport(b[9], b[hl:], depth)
}

func (r *Redactor) ipv6(b []byte, depth int) int {
	if len(b) < 40 {
		return 0
	}
	b[1], b[2], b[3] = b[1]&0xf0, 0, 0 // the flow label
	r.addr16(b[8:24])
	r.addr16(b[24:40])
	if n := int(be.Uint16(b[4:])); n != 0 && 40+n < len(b) {
		b = b[:40+n]
	}
	next, at := b[6], 40
	for range maxExtensions {
		if !isExtension(next) {
			return at + r.transport(next, b[at:], depth)
		}
		n := extension(next, b[at:])
		if n == 0 {
			return at
		}
		later := next == protoFragment && be.Uint16(b[at+2:])&0xfff8 != 0
		next, at = b[at], at+n
		if later {
			return at // not the first fragment
		}
	}
	return at
}

func isExtension(next byte) bool {
	switch next {
	case protoHopByHop, protoRouting, protoFragment, protoAH, protoDstOpts:
		return true
	}
	return false
}

// extension clears an extension header of IPv6, whose contents may be addresses.
func extension(kind byte, b []byte) int {
	if len(b) < 8 {
		return 0
	}
	n := (int(b[1]) + 1) * 8
	switch kind {
	case protoFragment:
		return 8
	case protoAH:
		n = (int(b[1]) + 2) * 4
	}
	if n < 8 || n > len(b) {
		return 0
	}
	switch kind {
	case protoHopByHop, protoDstOpts: // one option: padding
		if n-4 > 255 {
			return 0
		}
		b[2], b[3] = 1, byte(n-4)
	}
	clear(b[4:n])
	return n
}

func (r *Redactor) transport(proto byte, b []byte, depth int) int {
	switch proto {
	case protoTCP:
		return r.tcp(b)
	case protoUDP:
		return r.udp(b, depth)
	case protoSCTP:
		return r.sctp(b)
	case protoICMP:
		return r.icmp(b, depth)
	case protoICMPv6:
		return r.icmpv6(b, depth)
	case protoIPIP, protoIPv6:
		return r.network(b, depth+1)
	}
	return 0
}

// quoted is how much of a transport header an ICMP error quotes at least.
const quoted = 8

func (r *Redactor) ports(b []byte) {
	be.PutUint16(b, r.Port(be.Uint16(b)))
	be.PutUint16(b[2:], r.Port(be.Uint16(b[2:])))
}

func (r *Redactor) tcp(b []byte) int {
	if len(b) < quoted {
		return 0
	}
	r.ports(b)
	if len(b) < 20 {
		return quoted // ports and sequence number
	}
	b[16], b[17] = 0, 0 // the checksum
	hl := int(b[12]>>4) * 4
	if hl < 20 || hl > len(b) {
		return 20
	}
	tcpOptions(b[20:hl])
	return hl
}

// tcpOptions keeps the options that say how a connection works, and overwrites
// those that may say between whom: Multipath TCP's addresses, cookies, keys.
func tcpOptions(b []byte) {
	for len(b) > 0 {
		switch b[0] {
		case 0: // the end
			clear(b)
			return
		case 1:
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			clear(b)
			return
		}
		o := b[:b[1]]
		b = b[b[1]:]
		if !plainTCPOption(o[0], len(o)) {
			for i := range o {
				o[i] = 1
			}
		}
	}
}

func plainTCPOption(kind byte, n int) bool {
	switch kind {
	case 2: // maximum segment size
		return n == 4
	case 3: // window scale
		return n == 3
	case 4: // SACK permitted
		return n == 2
	case 5: // SACK
		return n%8 == 2
	case 8: // timestamps
		return n == 10
	}
	return false
}

func (r *Redactor) sctp(b []byte) int {
	if len(b) < quoted {
		return 0
	}
	r.ports(b)
	if len(b) < 12 {
		return quoted
	}
	clear(b[8:12]) // the checksum
	return 12
}

func (r *Redactor) udp(b []byte, depth int) int {
	if len(b) < quoted {
		return 0
	}
	dst := be.Uint16(b[2:])
	r.ports(b)
	b[6], b[7] = 0, 0 // the checksum
	if dst == 4789 || dst == 8472 {
		return 8 + r.vxlan(b[8:], depth)
	}
	return 8
}

// vxlan rewrites the headers inside a VXLAN tunnel, with their Ethernet header.
func (r *Redactor) vxlan(b []byte, depth int) int {
	if len(b) < 8+14 || b[0] != 0x08 || b[1] != 0 || b[2] != 0 || b[3] != 0 || b[7] != 0 {
		return 0
	}
	eth := b[8:22]
	dst, src := r.MAC([6]byte(eth)), r.MAC([6]byte(eth[6:]))
	copy(eth, dst[:])
	copy(eth[6:], src[:])
	switch be.Uint16(eth[12:]) {
	case 0x0800, 0x86dd:
		return 22 + r.network(b[22:], depth+1)
	}
	return 22
}

func (r *Redactor) icmp(b []byte, depth int) int {
	if len(b) < 8 {
		return 0
	}
	b[2], b[3] = 0, 0 // the checksum
	switch b[0] {
	case 0, 8, 13, 14, 15, 16, 17, 18: // questions and answers, with an identifier
		r.id(b[4:])
	case 3, 11, 12: // errors
		return 8 + r.network(b[8:], depth+1)
	case 5: // redirect
		r.addr4(b[4:8])
		return 8 + r.network(b[8:], depth+1)
	default:
		clear(b[4:8])
	}
	return 8
}

func (r *Redactor) icmpv6(b []byte, depth int) int {
	if len(b) < 8 {
		return 0
	}
	b[2], b[3] = 0, 0 // the checksum
	switch b[0] {
	case 1, 2, 3, 4: // errors
		return 8 + r.network(b[8:], depth+1)
	case 128, 129: // echo
		r.id(b[4:])
	case 134: // router advertisement: hop limit, flags, lifetime
	case 130, 131, 132, 135, 136: // a group, or a neighbour
		if len(b) >= 24 {
			r.addr16(b[8:24])
			return 24
		}
	case 137: // redirect
		if len(b) >= 40 {
			r.addr16(b[8:24])
			r.addr16(b[24:40])
			return 40
		}
	default:
		clear(b[4:8])
	}
	return 8
}

func (r *Redactor) id(b []byte) { be.PutUint16(b, r.identifier(be.Uint16(b))) }

func (r *Redactor) addr4(b []byte) {
	p := r.Addr(netip.AddrFrom4([4]byte(b))).As4()
	copy(b, p[:])
}

func (r *Redactor) addr16(b []byte) {
	p := r.Addr(netip.AddrFrom16([16]byte(b))).As16()
	copy(b, p[:])
}
