// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import (
	"encoding/binary"
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

// Offsets in the IPv4 and IPv6 headers, in bytes.
const (
	ip4Frag  = 6
	ip4Proto = 9
	ip4Src   = 12
	ip4Dst   = 16
	ip6Next  = 6
	ip6Src   = 8
	ip6Dst   = 24
	ip6Size  = 40
)

const protoFragment = 44

// fragOffset is the mask of the fragment offset as it is loaded from the header.
var fragOffset = int32(binary.NativeEndian.Uint16([]byte{0x1f, 0xff}))

// load returns an instruction that reads the packet at a constant offset.
func load(dst asm.Register, at int, size asm.Size) asm.Instruction {
	return asm.LoadMem(dst, regIn, int16(at), size)
}

func (c *compiler) genVLAN(n *pcapexpr.VLANNode, f facts, yes, no, next label) (fy, fn facts) {
	c.emit(load(regA, offVLAN, asm.Word))
	if n.ID < 0 {
		c.branch(cmp32(asm.JSGE, regA, 0), yes, no, next)
		return f, f
	}
	c.jumpIf(cmp32(asm.JSLT, regA, 0), no)
	c.emit(asm.And.Imm(regA, 0xfff))
	c.branch(cmp(asm.JEq, regA, n.ID), yes, no, next)
	return f, f
}

// genSet tests the bit of a set.
func (c *compiler) genSet(n *pcapexpr.SetNode, f facts, yes, no, next label) (fy, fn facts) {
	at := offSrcSets
	if n.Dir == pcapexpr.DirDst {
		at = offDstSets
	}
	c.emit(load(regA, at, asm.Half), asm.And.Imm(regA, 1<<slices.Index(c.sets, n.Set)))
	c.branch(cmp(asm.JNE, regA, 0), yes, no, next)
	return f, f
}

func (c *compiler) genMulticast(n *pcapexpr.MulticastNode, f facts, yes, no, next label) (fy, fn facts) {
	fn = facts{dead: true}
	c.wantVersion(&f, n.V, no, &fn)
	at, from := ip4Dst, int32(224)
	if n.V == 6 {
		at, from = ip6Dst, 255
	}
	c.need(&f, int32(at+1))
	c.emit(load(regA, at, asm.Byte))
	c.branch(cmp(asm.JGE, regA, from), yes, no, next)
	return f, fn.merge(f)
}

func (c *compiler) genNet(n *pcapexpr.NetNode, f facts, yes, no, next label) (fy, fn facts) {
	version, src, dst := uint8(4), ip4Src, ip4Dst
	if n.Is6 {
		version, src, dst = 6, ip6Src, ip6Dst
	}
	fn = facts{dead: true}
	c.wantVersion(&f, version, no, &fn)
	var kn facts
	switch n.Dir {
	case pcapexpr.DirSrc:
		fy, kn = c.genAddr(n, src, f, yes, no, next)
		return fy, fn.merge(kn)
	case pcapexpr.DirDst:
		fy, kn = c.genAddr(n, dst, f, yes, no, next)
		return fy, fn.merge(kn)
	}
	then := c.newLabel()
	if n.Dir == pcapexpr.DirBoth {
		f, kn = c.genAddr(n, src, f, then, no, then)
		fn = fn.merge(kn)
		c.bind(then)
		fy, kn = c.genAddr(n, dst, f, yes, no, next)
		return fy, fn.merge(kn)
	}
	sy, f := c.genAddr(n, src, f, yes, then, then)
	c.bind(then)
	fy, kn = c.genAddr(n, dst, f, yes, no, next)
	return sy.merge(fy), fn.merge(kn)
}

// genAddr compares the address at offset at.
func (c *compiler) genAddr(n *pcapexpr.NetNode, at int, f facts, yes, no, next label) (fy, fn facts) {
	var words []int
	for i := 0; i < len(n.Mask); i += 4 {
		if binary.NativeEndian.Uint32(n.Mask[i:]) != 0 {
			words = append(words, i)
		}
	}
	fn = facts{dead: true}
	if len(words) == 0 {
		c.jump(yes, next)
		return f, fn
	}
	last := words[len(words)-1]
	if no == c.fail {
		// Being too short and being different come to the same.
		c.need(&f, int32(at+last+4))
	}
	for _, i := range words {
		c.need(&f, int32(at+i+4))
		c.emit(load(regA, at+i, asm.Word))
		if mask := binary.NativeEndian.Uint32(n.Mask[i:]); mask != 0xffffffff {
			c.emit(asm.And.Imm32(regA, int32(mask)))
		}
		want := binary.NativeEndian.Uint32(n.Addr[i:])
		fn = fn.merge(f)
		if i == last {
			c.branch(cmp32(asm.JEq, regA, want), yes, no, next)
		} else {
			c.jumpIf(cmp32(asm.JNE, regA, want), no)
		}
	}
	return f, fn
}

func (c *compiler) genProto(n *pcapexpr.ProtoNode, f facts, yes, no, next label) (fy, fn facts) {
	switch {
	case n.Family == 4 || n.Family == 0 && f.ver == ver4:
		fn = facts{dead: true}
		c.wantVersion(&f, 4, no, &fn)
		fy, kn := c.genProto4(n.Num, f, yes, no, next)
		return fy, fn.merge(kn)
	case n.Family == 6 || f.ver&ver4 == 0:
		fn = facts{dead: true}
		c.wantVersion(&f, 6, no, &fn)
		fy, kn := c.genProto6(n.Num, f, yes, no, next)
		return fy, fn.merge(kn)
	}
	// Both versions: IPv4 and whatever is neither are decided first.
	six := c.newLabel()
	rest, fn6 := f, facts{dead: true}
	c.wantVersion(&f, 4, six, &fn6)
	fy4, fn := c.genProto4(n.Num, f, yes, no, six)
	c.bind(six)
	rest.ver &^= ver4
	c.wantVersion(&rest, 6, no, &fn)
	fy6, kn := c.genProto6(n.Num, rest, yes, no, next)
	return fy4.merge(fy6), fn.merge(kn)
}

// genProto4 compares the protocol of an IPv4 packet.
func (c *compiler) genProto4(num uint8, f facts, yes, no, next label) (fy, fn facts) {
	if f.proto == int16(num) {
		c.jump(yes, next)
		return f, facts{dead: true}
	}
	c.need(&f, ip4Proto+1)
	c.emit(load(regA, ip4Proto, asm.Byte))
	c.branch(cmp(asm.JEq, regA, int32(num)), yes, no, next)
	fn = f
	f.proto = int16(num)
	return f, fn
}

// genProto6 compares the protocol of an IPv6 packet, looking behind a fragment
// header.
func (c *compiler) genProto6(num uint8, f facts, yes, no, next label) (fy, fn facts) {
	if f.proto == int16(num) {
		c.jump(yes, next)
		return f, facts{dead: true}
	}
	c.need(&f, ip6Next+1)
	c.emit(load(regA, ip6Next, asm.Byte))
	c.jumpIf(cmp(asm.JEq, regA, int32(num)), yes)
	c.jumpIf(cmp(asm.JNE, regA, protoFragment), no)
	fn, fy = f, f
	fy.proto = int16(num)
	c.need(&f, ip6Size+1)
	c.emit(load(regA, ip6Size, asm.Byte))
	c.branch(cmp(asm.JEq, regA, int32(num)), yes, no, next)
	return fy.merge(f), fn.merge(f)
}
