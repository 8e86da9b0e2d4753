// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import "net/netip"

// All returns the expression that matches every packet, also what the empty
// string parses to.
func All() *Expr { return &Expr{root: &ConstNode{Value: true}} }

// None returns the expression that matches no packet; it prints as "0 = 1".
func None() *Expr { return &Expr{root: &ConstNode{Value: false}} }

// And returns the expression that matches what both a and b match. a is
// evaluated first.
func And(a, b *Expr) *Expr { return &Expr{root: andNodes(a.Root(), b.Root())} }

// Or returns the expression that matches what a or b matches. a is evaluated
// first, so a packet too short for a is rejected even if b would match it.
func Or(a, b *Expr) *Expr { return &Expr{root: orNodes(a.Root(), b.Root())} }

// Not returns the expression that matches what a does not match, except packets
// too short to decide: neither matches those.
func Not(a *Expr) *Expr { return &Expr{root: notNode(a.Root())} }

// SrcNet matches packets from an address in p, IPv4-mapped IPv6 prefixes being
// taken as IPv4. Bits of p beyond its length are ignored. An invalid prefix
// gives None.
func SrcNet(p netip.Prefix) *Expr { return netExpr(DirSrc, p) }

// DstNet is SrcNet for the destination address.
func DstNet(p netip.Prefix) *Expr { return netExpr(DirDst, p) }

// SrcPort matches TCP, UDP and SCTP packets from a port between lo and hi, both
// inclusive and in host byte order. The order of lo and hi does not matter.
func SrcPort(lo, hi uint16) *Expr { return portExpr(DirSrc, lo, hi) }

// DstPort is SrcPort for the destination port.
func DstPort(lo, hi uint16) *Expr { return portExpr(DirDst, lo, hi) }

func portExpr(d Dir, lo, hi uint16) *Expr {
	return &Expr{root: &PortNode{Dir: d, Lo: min(lo, hi), Hi: max(lo, hi)}}
}

func netExpr(d Dir, p netip.Prefix) *Expr {
	if !p.IsValid() {
		return None()
	}
	addr, bits := p.Addr(), p.Bits()
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	return &Expr{root: newNet(d, addr, bits)}
}

// newNet returns the node for addr/bits, dropping address bits beyond the mask.
func newNet(d Dir, addr netip.Addr, bits int) *NetNode {
	n := &NetNode{Dir: d, Is6: !addr.Is4()}
	for i := range bits {
		n.Mask[i/8] |= 0x80 >> (i % 8)
	}
	for i, b := range addr.AsSlice() {
		n.Addr[i] = b & n.Mask[i]
	}
	return n
}

func andNodes(a, b Node) Node {
	if c, ok := a.(*ConstNode); ok {
		if c.Value {
			return b
		}
		return c
	}
	if c, ok := b.(*ConstNode); ok {
		if c.Value {
			return a
		}
		return c
	}
	return &AndNode{Kids: append(andKids(a), andKids(b)...)}
}

func orNodes(a, b Node) Node {
	if c, ok := a.(*ConstNode); ok {
		if c.Value {
			return c
		}
		return b
	}
	if c, ok := b.(*ConstNode); ok {
		if c.Value {
			return c
		}
		return a
	}
	return &OrNode{Kids: append(orKids(a), orKids(b)...)}
}

func notNode(n Node) Node {
	switch n := n.(type) {
	case *ConstNode:
		return &ConstNode{Value: !n.Value}
	case *NotNode:
		return n.Kid
	}
	return &NotNode{Kid: n}
}

// andKids and orKids return a slice the caller may append to: nodes are shared
// between expressions, so the slice inside a node must not be.
func andKids(n Node) []Node {
	if a, ok := n.(*AndNode); ok {
		return append([]Node(nil), a.Kids...)
	}
	return []Node{n}
}

func orKids(n Node) []Node {
	if o, ok := n.(*OrNode); ok {
		return append([]Node(nil), o.Kids...)
	}
	return []Node{n}
}
