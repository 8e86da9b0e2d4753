// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import "github.com/cilium/ebpf/asm"

// Sets of IP versions.
const (
	ver4 uint8 = 1 << iota
	ver6
	verOther
)

func verBit(version uint8) uint8 {
	if version == 4 {
		return ver4
	}
	return ver6
}

// facts is what earlier tests have established at a place in the code, so that
// they need not be repeated.
type facts struct {
	dead  bool  // the place is never reached
	ver   uint8 // IP versions the packet can be of
	valid int32 // at least so many bytes are available
	avail int32 // at least so many bytes from the transport header on
	// proto is the protocol in the IPv4 header or next header in the fixed
	// IPv6 header, -1 if not known.
	proto int16
	first bool // IPv4: not a later fragment
	ports bool // the transport header is one with ports
}

// merge returns what is known at a place that can be reached with f or with g.
func (f facts) merge(g facts) facts {
	if f.dead {
		return g
	}
	if g.dead {
		return f
	}
	if f.proto != g.proto {
		f.proto = -1
	}
	return facts{
		ver:   f.ver | g.ver,
		valid: min(f.valid, g.valid),
		avail: min(f.avail, g.avail),
		proto: f.proto,
		first: f.first && g.first,
		ports: f.ports && g.ports,
	}
}

// wantVersion goes to no unless the packet is of IP version v; fn is merged
// with what is known there.
func (c *compiler) wantVersion(f *facts, v uint8, no label, fn *facts) {
	bit := verBit(v)
	if f.ver == bit {
		return
	}
	other := *f
	other.ver &^= bit
	*fn = fn.merge(other)
	if f.ver&bit == 0 {
		c.jump(no, -1)
		f.dead = true
	} else {
		c.usesVersion = true
		c.jumpIf(cmp(asm.JNE, regVersion, int32(v)), no)
	}
	f.ver = bit
}

// need rejects packets with fewer than n bytes available.
func (c *compiler) need(f *facts, n int32) {
	if f.valid >= n {
		return
	}
	c.usesValid = true
	c.jumpIf(cmp(asm.JLT, regValid, n), c.fail)
	f.valid = n
}

// needL4 rejects packets with fewer than n bytes of transport header and data.
func (c *compiler) needL4(f *facts, n int32) {
	if f.avail >= n {
		return
	}
	c.jumpIf(cmp(asm.JSLT, regAvail, n), c.fail)
	f.avail = n
}
