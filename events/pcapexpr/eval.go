// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import "encoding/binary"

// Meta is what is known about a packet beside its bytes.
type Meta struct {
	// Len is the length of the packet in bytes, counted from its network
	// header. The primitive len is LinkBytes more.
	Len uint32
	// VLAN is the tag control information of the packet's VLAN tag, in host
	// byte order, of which only the low 12 bits, the VLAN, are used; -1 if the
	// packet has no tag.
	VLAN int32
}

// packet is one packet being evaluated.
type packet struct {
	hdr []byte
	m   Meta
}

// verdict is the result of a node. outside means that a byte was needed that is
// not available, which ends the evaluation.
type verdict uint8

const (
	no verdict = iota
	yes
	outside
)

func verdictOf(b bool) verdict {
	if b {
		return yes
	}
	return no
}

// Match says whether a packet matches. hdr holds the available bytes from the
// network header on; what is beyond the first HeaderBytes is ignored.
func (e *Expr) Match(hdr []byte, m Meta) bool {
	p := &packet{hdr: hdr[:min(len(hdr), HeaderBytes)], m: m}
	return p.eval(e.Root()) == yes
}

// version returns the version nibble of the packet, 0 if it has no bytes.
func (p *packet) version() uint8 {
	if len(p.hdr) == 0 {
		return 0
	}
	return p.hdr[0] >> 4
}

// has says whether the packet has n bytes.
func (p *packet) has(n int) bool { return len(p.hdr) >= n }

func (p *packet) eval(n Node) verdict {
	switch n := n.(type) {
	case *ConstNode:
		return verdictOf(n.Value)
	case *AndNode:
		for _, k := range n.Kids {
			if v := p.eval(k); v != yes {
				return v
			}
		}
		return yes
	case *OrNode:
		for _, k := range n.Kids {
			if v := p.eval(k); v != no {
				return v
			}
		}
		return no
	case *NotNode:
		switch v := p.eval(n.Kid); v {
		case yes:
			return no
		case no:
			return yes
		default:
			return v
		}
	case *VersionNode:
		return verdictOf(p.version() == n.V)
	case *VLANNode:
		return verdictOf(p.m.VLAN >= 0 && (n.ID < 0 || p.m.VLAN&0xfff == n.ID))
	}
	return p.evalHeader(n)
}

// evalHeader evaluates the nodes that read bytes of the packet.
func (p *packet) evalHeader(n Node) verdict {
	switch n := n.(type) {
	case *NetNode:
		return p.evalNet(n)
	case *ProtoNode:
		return p.evalProto(n)
	case *MulticastNode:
		if p.version() != n.V {
			return no
		}
		at, from := 16, uint8(224)
		if n.V == 6 {
			at, from = 24, 255
		}
		if !p.has(at + 1) {
			return outside
		}
		return verdictOf(p.hdr[at] >= from)
	case *PortNode:
		return p.evalPort(n)
	case *SetNode:
		return p.evalSet(n)
	case *RelNode:
		return p.evalRel(n)
	}
	return no
}

func (p *packet) evalNet(n *NetNode) verdict {
	version, src, size := uint8(4), 12, 4
	if n.Is6 {
		version, src, size = 6, 8, 16
	}
	if p.version() != version {
		return no
	}
	return n.Dir.eval(
		func() verdict { return p.evalAddr(n, src, size) },
		func() verdict { return p.evalAddr(n, src+size, size) })
}

// evalAddr compares the address at offset at word by word and stops at the
// first difference; a word that is not compared is not read either.
func (p *packet) evalAddr(n *NetNode, at, size int) verdict {
	for i := 0; i < size; i += 4 {
		mask := binary.BigEndian.Uint32(n.Mask[i:])
		if mask == 0 {
			continue
		}
		if !p.has(at + i + 4) {
			return outside
		}
		if binary.BigEndian.Uint32(p.hdr[at+i:])&mask != binary.BigEndian.Uint32(n.Addr[i:]) {
			return no
		}
	}
	return yes
}

// eval applies the direction to the two ends of a packet, looking at the
// destination only if the source does not decide.
func (d Dir) eval(src, dst func() verdict) verdict {
	switch d {
	case DirSrc:
		return src()
	case DirDst:
		return dst()
	case DirBoth:
		if v := src(); v != yes {
			return v
		}
		return dst()
	}
	if v := src(); v != no {
		return v
	}
	return dst()
}

func (p *packet) evalProto(n *ProtoNode) verdict {
	switch v := p.version(); {
	case v == 4 && n.Family != 6:
		if !p.has(10) {
			return outside
		}
		return verdictOf(p.hdr[9] == n.Num)
	case v == 6 && n.Family != 4:
		if !p.has(7) {
			return outside
		}
		if p.hdr[6] == n.Num {
			return yes
		}
		if p.hdr[6] != protoFragment {
			return no
		}
		if !p.has(ip6Header + 1) {
			return outside
		}
		return verdictOf(p.hdr[ip6Header] == n.Num)
	}
	return no
}

// transport finds the header behind the IP header, but not in later fragments
// of IPv4 and not behind extension headers of IPv6. The offset is HeaderBytes,
// which is never available, if the IPv4 header length is impossible.
func (p *packet) transport() (proto uint8, at int, v verdict) {
	switch p.version() {
	case 4:
		if !p.has(10) {
			return 0, 0, outside
		}
		if binary.BigEndian.Uint16(p.hdr[6:])&0x1fff != 0 {
			return 0, 0, no
		}
		at = 4 * int(p.hdr[0]&15)
		if at < ip4Header {
			at = HeaderBytes
		}
		return p.hdr[9], at, yes
	case 6:
		if !p.has(7) {
			return 0, 0, outside
		}
		return p.hdr[6], ip6Header, yes
	}
	return 0, 0, no
}

func (p *packet) evalPort(n *PortNode) verdict {
	proto, at, v := p.transport()
	if v != yes {
		return v
	}
	if n.Proto != 0 && proto != n.Proto || !hasPorts(proto) {
		return no
	}
	end := func(at int) func() verdict {
		return func() verdict {
			if !p.has(at + 2) {
				return outside
			}
			port := binary.BigEndian.Uint16(p.hdr[at:])
			return verdictOf(n.Lo <= port && port <= n.Hi)
		}
	}
	return n.Dir.eval(end(at), end(at+2))
}

func hasPorts(proto uint8) bool {
	return proto == protoTCP || proto == protoUDP || proto == protoSCTP
}
