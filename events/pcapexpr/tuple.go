// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import "net/netip"

// Tri is an answer that may be open.
type Tri uint8

// The answers.
const (
	No    Tri = iota // no packet of the tuple matches
	Maybe            // it depends on what the tuple does not say
	Yes              // every packet of the tuple matches
)

// String returns no, maybe or yes.
func (t Tri) String() string { return [...]string{"no", "maybe", "yes"}[min(t, Yes)] }

func (t Tri) not() Tri { return Yes - t }

func triOf(b bool) Tri {
	if b {
		return Yes
	}
	return No
}

// Tuple is what is known about the packets of a connection or a service. Its
// packets are taken to be whole: no fragments, no IPv6 extension headers, and
// the transport header available.
type Tuple struct {
	// Proto is the IP protocol number, 0 if it is not known.
	Proto uint8
	// Src and Dst are the addresses; an invalid one is not known. IPv4-mapped
	// addresses are taken as IPv4.
	Src, Dst netip.Addr
	// SrcPort and DstPort are in host byte order.
	SrcPort, DstPort uint16
	// KnownSrc says that Src and SrcPort are known; otherwise they are not
	// looked at.
	KnownSrc bool
	// KnownDst says that Dst and DstPort are known.
	KnownDst bool
}

// end is one end of a tuple.
type end struct {
	addr  netip.Addr
	port  uint16
	known bool
}

func (t Tuple) src() end { return end{t.Src.Unmap(), t.SrcPort, t.KnownSrc} }
func (t Tuple) dst() end { return end{t.Dst.Unmap(), t.DstPort, t.KnownDst} }

// isVersion says whether the packets of t are of IP version v.
func (t Tuple) isVersion(v uint8) Tri {
	for _, e := range []end{t.src(), t.dst()} {
		if e.known && e.addr.IsValid() {
			return triOf(e.addr.Is4() == (v == 4))
		}
	}
	return Maybe
}

func (t Tuple) isProto(num uint8) Tri {
	if t.Proto == 0 {
		return Maybe
	}
	return triOf(t.Proto == num)
}

// MatchTuple says whether packets of t match, as far as t tells. No and Yes are
// certain; what depends on a VLAN, a length or other bytes gives Maybe.
func (e *Expr) MatchTuple(t Tuple) Tri {
	v, mayReject := t.eval(e.Root())
	if v == Yes && mayReject {
		return Maybe
	}
	return v
}

// eval returns the value of n and whether evaluating it may reject the packet
// as a whole, because it reads bytes at a place the tuple does not vouch for.
func (t Tuple) eval(n Node) (v Tri, mayReject bool) {
	switch n := n.(type) {
	case *ConstNode:
		return triOf(n.Value), false
	case *AndNode:
		return t.evalKids(n.Kids, No, func(a, b Tri) Tri { return min(a, b) }, Yes)
	case *OrNode:
		return t.evalKids(n.Kids, Yes, func(a, b Tri) Tri { return max(a, b) }, No)
	case *NotNode:
		v, mayReject = t.eval(n.Kid)
		return v.not(), mayReject
	case *NetNode:
		return t.evalNet(n), false
	case *PortNode:
		return t.evalPort(n), false
	case *SetNode:
		return t.evalSet(n), false
	case *ProtoNode:
		return t.evalProto(n), false
	case *VersionNode:
		return t.isVersion(n.V), false
	case *MulticastNode:
		return t.evalMulticast(n), false
	case *RelNode:
		v = Maybe
		for _, c := range n.Checks() {
			v = min(v, t.isVersion(c.Version))
			if c.Proto >= 0 {
				v = min(v, t.isProto(uint8(c.Proto)))
			}
		}
		return v, v != No
	}
	return Maybe, false
}

// evalKids combines kids from left to right, stopping at one that decides.
func (t Tuple) evalKids(kids []Node, decides Tri, join func(a, b Tri) Tri, start Tri) (v Tri, mayReject bool) {
	v = start
	for _, k := range kids {
		kv, kr := t.eval(k)
		v, mayReject = join(v, kv), mayReject || kr
		if kv == decides {
			break
		}
	}
	return v, mayReject
}

// joinEnds applies the direction to the values of the two ends.
func (d Dir) joinEnds(src, dst Tri) Tri {
	switch d {
	case DirSrc:
		return src
	case DirDst:
		return dst
	case DirBoth:
		return min(src, dst)
	}
	return max(src, dst)
}

func (t Tuple) evalNet(n *NetNode) Tri {
	version := uint8(4)
	if n.Is6 {
		version = 6
	}
	one := func(e end) Tri {
		if !e.known || !e.addr.IsValid() {
			return Maybe
		}
		for i, b := range e.addr.AsSlice() {
			if b&n.Mask[i] != n.Addr[i] {
				return No
			}
		}
		return Yes
	}
	is := t.isVersion(version)
	if is == No {
		return No
	}
	return min(is, n.Dir.joinEnds(one(t.src()), one(t.dst())))
}

func (t Tuple) evalPort(n *PortNode) Tri {
	has := t.isProto(n.Proto)
	if n.Proto == 0 {
		has = Maybe
		if t.Proto != 0 {
			has = triOf(hasPorts(t.Proto))
		}
	}
	one := func(e end) Tri {
		if !e.known {
			return Maybe
		}
		return triOf(n.Lo <= e.port && e.port <= n.Hi)
	}
	return min(has, n.Dir.joinEnds(one(t.src()), one(t.dst())))
}

func (t Tuple) evalProto(n *ProtoNode) Tri {
	is := t.isProto(n.Num)
	if n.Family != 0 {
		is = min(is, t.isVersion(n.Family))
	}
	return is
}

func (t Tuple) evalMulticast(n *MulticastNode) Tri {
	is := t.isVersion(n.V)
	dst := t.dst()
	if is == No || !dst.known || !dst.addr.IsValid() {
		return min(is, Maybe)
	}
	if n.V == 4 {
		return min(is, triOf(dst.addr.As4()[0] >= 224))
	}
	return min(is, triOf(dst.addr.As16()[0] == 255))
}
