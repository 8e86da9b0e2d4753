// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import "encoding/binary"

func (p *packet) evalRel(n *RelNode) verdict {
	for _, c := range n.Checks() {
		if v := p.evalCheck(c); v != yes {
			return v
		}
	}
	l, ok := p.arith(n.L)
	if !ok {
		return outside
	}
	r, ok := p.arith(n.R)
	if !ok {
		return outside
	}
	return verdictOf(n.Op.holds(l, r))
}

func (p *packet) evalCheck(c Check) verdict {
	if p.version() != c.Version {
		return no
	}
	if c.Proto < 0 {
		return yes
	}
	at := 9
	if c.Version == 6 {
		at = 6
	}
	if !p.has(at + 1) {
		return outside
	}
	if int16(p.hdr[at]) != c.Proto {
		return no
	}
	// The fragment offset is in front of the protocol, hence available.
	return verdictOf(!c.First || binary.BigEndian.Uint16(p.hdr[6:])&0x1fff == 0)
}

// arith computes a; ok is false if it needs a byte that is not available or
// divides by zero. The checks of the comparison must have passed.
func (p *packet) arith(a Arith) (v uint32, ok bool) {
	switch a := a.(type) {
	case Num:
		return uint32(a), true
	case Len:
		return p.m.Len + LinkBytes, true
	case *Load:
		return p.load(a)
	case *Bin:
		l, ok := p.arith(a.L)
		if !ok {
			return 0, false
		}
		r, ok := p.arith(a.R)
		if !ok {
			return 0, false
		}
		return a.Op.apply(l, r)
	}
	return 0, false
}

func (p *packet) load(l *Load) (v uint32, ok bool) {
	index, ok := p.arith(l.Index)
	if !ok {
		return 0, false
	}
	at := uint64(index)
	switch l.Base {
	case BaseIP, BaseIP6:
	case BaseICMP6:
		at += ip6Header
	default:
		_, base, v := p.transport()
		if v != yes || base >= HeaderBytes {
			return 0, false
		}
		// Wraps around like all arithmetic, so a negative offset reads the
		// IPv4 header.
		at = uint64(index + uint32(base))
	}
	if at+uint64(l.Size) > uint64(len(p.hdr)) {
		return 0, false
	}
	for _, b := range p.hdr[at : at+uint64(l.Size)] {
		v = v<<8 | uint32(b)
	}
	return v, true
}

// holds compares two numbers.
func (o RelOp) holds(a, b uint32) bool {
	switch o {
	case RelEq:
		return a == b
	case RelNe:
		return a != b
	case RelLt:
		return a < b
	case RelLe:
		return a <= b
	case RelGt:
		return a > b
	}
	return a >= b
}

// apply computes a o b; ok is false for a division by zero.
func (o BinOp) apply(a, b uint32) (v uint32, ok bool) {
	switch o {
	case OpAdd:
		return a + b, true
	case OpSub:
		return a - b, true
	case OpMul:
		return a * b, true
	case OpDiv, OpMod:
		if b == 0 {
			return 0, false
		}
		if o == OpDiv {
			return a / b, true
		}
		return a % b, true
	case OpAnd:
		return a & b, true
	case OpOr:
		return a | b, true
	case OpXor:
		return a ^ b, true
	case OpShl:
		return a << b, true
	}
	return a >> b, true
}
