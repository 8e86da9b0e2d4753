// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
)

// Member is one end that a [Set] has.
type Member struct {
	// Net is a single address: a prefix of full length. IPv4-mapped addresses
	// are taken as IPv4.
	Net netip.Prefix
	// Port is of TCP, UDP and SCTP, in host byte order; 0: every packet of the
	// address, whatever its protocol.
	Port uint16
}

// Set is a set of ends that may change while packets are matched. It is safe for
// concurrent use.
type Set struct {
	name string
	now  atomic.Pointer[members]
}

// members never change: a set gets others.
type members struct {
	list []Member
	has  map[netip.AddrPort]bool
}

// NewSet returns an empty set, which matches no packet. name is what messages
// and String call it.
func NewSet(name string) *Set {
	s := &Set{name: name}
	s.Replace(nil)
	return s
}

// Name is what the set is called.
func (s *Set) Name() string { return s.name }

// Replace gives the set other members, all at once. What is not a single
// address is left out, and so is what was there before in the list.
func (s *Set) Replace(list []Member) {
	m := &members{has: make(map[netip.AddrPort]bool, len(list))}
	for _, e := range list {
		if !e.Net.IsSingleIP() {
			continue
		}
		addr := e.Net.Addr().Unmap()
		end := netip.AddrPortFrom(addr, e.Port)
		if !m.has[end] {
			m.has[end] = true
			m.list = append(m.list, Member{Net: netip.PrefixFrom(addr, addr.BitLen()), Port: e.Port})
		}
	}
	s.now.Store(m)
}

// Members are the members as they are now, each once.
func (s *Set) Members() []Member { return slices.Clone(s.now.Load().list) }

// has says whether an end is in the set.
func (s *Set) has(addr netip.Addr, port uint16, hasPort bool) bool {
	m := s.now.Load()
	return m.has[netip.AddrPortFrom(addr, 0)] || hasPort && m.has[netip.AddrPortFrom(addr, port)]
}

// SetNode is true for a packet of which one end is in a set. It never rejects a
// packet: one without the whole fixed IP header has no ends, and one without
// ports, such as a later fragment, is only that of members with any port. Ports
// are found where PortNode finds them.
type SetNode struct {
	// Dir is DirSrc or DirDst.
	Dir Dir
	Set *Set
}

func (*SetNode) isNode() {}

// SrcIn matches packets from a member of the set, as its members are at the time.
func SrcIn(s *Set) *Expr { return &Expr{root: &SetNode{Dir: DirSrc, Set: s}} }

// DstIn is SrcIn for the destination.
func DstIn(s *Set) *Expr { return &Expr{root: &SetNode{Dir: DirDst, Set: s}} }

// Sets returns the sets that the expression asks for, each once, in the order in
// which they first appear.
func (e *Expr) Sets() []*Set {
	var sets []*Set
	walk(e.Root(), func(n Node) {
		if n, ok := n.(*SetNode); ok && !slices.Contains(sets, n.Set) {
			sets = append(sets, n.Set)
		}
	})
	return sets
}

// ReadsVLAN says whether the expression asks for the VLAN.
func (e *Expr) ReadsVLAN() (reads bool) {
	walk(e.Root(), func(n Node) {
		_, is := n.(*VLANNode)
		reads = reads || is
	})
	return reads
}

// walk calls f for n and all nodes below it.
func walk(n Node, f func(Node)) {
	f(n)
	switch n := n.(type) {
	case *AndNode:
		for _, k := range n.Kids {
			walk(k, f)
		}
	case *OrNode:
		for _, k := range n.Kids {
			walk(k, f)
		}
	case *NotNode:
		walk(n.Kid, f)
	}
}

func (p *packet) evalSet(n *SetNode) verdict {
	var at, size int
	switch p.version() {
	case 4:
		at, size = 12, 4
	case 6:
		at, size = 8, 16
	}
	if size == 0 || !p.has(at+2*size) {
		return no
	}
	port := 0
	if n.Dir == DirDst {
		at, port = at+size, 2
	}
	addr, _ := netip.AddrFromSlice(p.hdr[at : at+size])
	proto, l4, v := p.transport()
	if v != yes || !hasPorts(proto) || !p.has(l4+4) {
		return verdictOf(n.Set.has(addr, 0, false))
	}
	return verdictOf(n.Set.has(addr, binary.BigEndian.Uint16(p.hdr[l4+port:]), true))
}

func (t Tuple) evalSet(n *SetNode) Tri {
	e := t.src()
	if n.Dir == DirDst {
		e = t.dst()
	}
	switch {
	case !e.known || !e.addr.IsValid():
		if len(n.Set.now.Load().list) == 0 {
			return No
		}
		return Maybe
	case n.Set.has(e.addr, 0, false):
		return Yes
	case !n.Set.has(e.addr, e.port, true):
		return No
	case t.Proto == 0:
		return Maybe
	}
	return triOf(hasPorts(t.Proto))
}
