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

// plainTuple is a Tuple without pointers.
type plainTuple struct {
	src, dst plainEnd
	proto    uint8
}

func plainTupleOf(t *Tuple) plainTuple {
	return plainTuple{plainEndOf(t.Src, t.SrcPort), plainEndOf(t.Dst, t.DstPort), t.Proto}
}
