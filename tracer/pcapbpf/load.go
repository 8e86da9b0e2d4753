// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import (
	"math"
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

// genLoad reads a number from the packet.
func (c *compiler) genLoad(l *pcapexpr.Load, f *facts, depth int) {
	index, constant := l.Index.(pcapexpr.Num)
	_, transport := l.Base.Transport()
	switch {
	case !constant:
		c.genArith(l.Index, f, depth)
		c.genVariable(l)
	case !transport:
		at := int(index)
		if l.Base == pcapexpr.BaseICMP6 {
			at += ip6Size
		}
		c.need(f, int32(at)+int32(l.Size))
		c.genBytes(at, int(l.Size), c.headerWord, c.headerDirect)
	case c.hasL4(int(index), int(l.Size)):
		c.needL4(f, int32(index)+int32(l.Size))
		c.genBytes(int(index), int(l.Size), c.l4Word, c.l4Direct)
	default:
		// More words are used than are fetched beforehand.
		c.emit(asm.Mov.Imm32(regA, int32(index)))
		c.genVariable(l)
	}
}

// hasL4 says whether fetchL4 provides these bytes.
func (c *compiler) hasL4(at, size int) bool {
	return slices.Contains(c.l4Words, at/4) && slices.Contains(c.l4Words, (at+size-1)/4)
}

var sizes = map[int]asm.Size{1: asm.Byte, 2: asm.Half, 4: asm.Word}

// genBytes reads size bytes at a constant offset into regA. The verifier allows
// only aligned accesses to the stack, so others are put together from the words
// that word reads as numbers. direct reads aligned bytes in one instruction, if
// it can.
func (c *compiler) genBytes(at, size int, word func(dst asm.Register, w int), direct func(at, size int) bool) {
	if at%size == 0 && direct(at, size) {
		if size > 1 {
			c.emit(asm.HostTo(asm.BE, regA, sizes[size]))
		}
		return
	}
	word(regA, at/4)
	end := at%4 + size
	if end <= 4 {
		c.shiftDown(32-8*end, size)
		return
	}
	word(regB, at/4+1)
	c.emit(asm.LSh.Imm(regA, 32), asm.Or.Reg(regA, regB))
	c.shiftDown(64-8*end, size)
}

// shiftDown drops the low bits of regA and keeps size bytes.
func (c *compiler) shiftDown(bits, size int) {
	if bits > 0 {
		c.emit(asm.RSh.Imm(regA, int32(bits)))
	}
	c.keep(size)
}

// keep clears all but the low size bytes of regA.
func (c *compiler) keep(size int) {
	if size == 4 {
		c.emit(asm.Mov.Reg32(regA, regA))
		return
	}
	c.emit(asm.And.Imm(regA, 1<<(8*size)-1))
}

func (c *compiler) headerWord(dst asm.Register, w int) {
	c.emit(load(dst, 4*w, asm.Word), asm.HostTo(asm.BE, dst, asm.Word))
}

func (c *compiler) headerDirect(at, size int) bool {
	c.emit(load(regA, at, sizes[size]))
	return true
}

func (c *compiler) l4Word(dst asm.Register, w int) {
	slot := slices.Index(c.l4Words, w)
	if slot == 0 {
		c.emit(asm.Mov.Reg(dst, regL4))
		return
	}
	c.emit(asm.LoadMem(dst, asm.RFP, l4Slot(slot), asm.Word), asm.HostTo(asm.BE, dst, asm.Word))
}

func (c *compiler) l4Direct(at, size int) bool {
	slot := slices.Index(c.l4Words, at/4)
	if slot == 0 {
		return false
	}
	c.emit(asm.LoadMem(regA, asm.RFP, l4Slot(slot)+int16(at%4), sizes[size]))
	return true
}

// genVariable reads a number at the offset in regA, which is only known when
// the packet is: it looks for the word by bisection.
func (c *compiler) genVariable(l *pcapexpr.Load) {
	lo, hi := reach(l)
	switch _, transport := l.Base.Transport(); {
	case transport:
		c.emit(load(regB, 0, asm.Byte), asm.And.Imm(regB, 15), asm.LSh.Imm(regB, 2))
		c.jumpIf(cmp(asm.JLT, regB, 4*minIHL), c.fail)
		c.emit(asm.Add.Reg32(regA, regB))
	case l.Base == pcapexpr.BaseICMP6:
		c.emit(asm.Add.Imm(regA, ip6Size))
	}
	c.usesValid = true
	size := int32(l.Size)
	c.emit(asm.Mov.Reg(regB, regA), asm.Add.Imm(regB, size))
	c.jumpIf(asm.Instruction{OpCode: asm.JGT.Op(asm.RegSource), Dst: regB, Src: regValid}, c.fail)
	c.emit(
		asm.Mov.Reg(regC, regA), asm.And.Imm(regC, 3), asm.LSh.Imm(regC, 3),
		asm.RSh.Imm(regA, 2))
	done := c.newLabel()
	c.bisect(lo, hi, l.Size > 1, done)
	c.bind(done)
	c.emit(asm.HostTo(asm.BE, regB, asm.Word))
	width := int32(32)
	if l.Size > 1 {
		c.emit(asm.HostTo(asm.BE, regD, asm.Word), asm.LSh.Imm(regB, 32), asm.Or.Reg(regB, regD))
		width = 64
	}
	c.emit(
		asm.Mov.Imm(regA, width-8*size), asm.Sub.Reg(regA, regC),
		asm.RSh.Reg(regB, regA), asm.Mov.Reg(regA, regB))
	c.keep(int(l.Size))
}

// bisect loads the word whose number is in regA and known to be from lo to hi
// into regB, and the one behind it into regD if two are asked for.
func (c *compiler) bisect(lo, hi int, two bool, done label) {
	if lo < hi {
		mid := (lo + hi + 1) / 2
		upper := c.newLabel()
		c.jumpIf(cmp(asm.JGE, regA, int32(mid)), upper)
		c.bisect(lo, mid-1, two, done)
		c.bind(upper)
		c.bisect(mid, hi, two, done)
		return
	}
	c.emit(load(regB, 4*lo, asm.Word))
	switch {
	case two && 4*lo+8 <= pcapexpr.HeaderBytes:
		c.emit(load(regD, 4*lo+4, asm.Word))
	case two:
		c.emit(asm.Mov.Imm(regD, 0))
	}
	c.jump(done, -1)
}

// reach returns the first and last word a load can begin in.
func reach(l *pcapexpr.Load) (lo, hi int) {
	const lastWord = pcapexpr.HeaderBytes/4 - 1
	low, high := uint64(0), uint64(0)
	if l.Base == pcapexpr.BaseICMP6 {
		low, high = ip6Size, ip6Size
	} else if _, ok := l.Base.Transport(); ok {
		low, high = 4*minIHL, 4*maxIHL
	}
	high += atMost(l.Index)
	if high > math.MaxUint32 {
		// The sum may wrap around.
		low = 0
	}
	return int(low / 4), int(min(high/4, lastWord))
}

// atMost returns a bound of a.
func atMost(a pcapexpr.Arith) uint64 {
	switch a := a.(type) {
	case pcapexpr.Num:
		return uint64(a)
	case *pcapexpr.Load:
		return 1<<(8*a.Size) - 1
	case *pcapexpr.Bin:
		return min(atMostBin(a), math.MaxUint32)
	}
	return math.MaxUint32
}

func atMostBin(a *pcapexpr.Bin) uint64 {
	l, r := atMost(a.L), atMost(a.R)
	if v, ok := a.R.(pcapexpr.Num); ok {
		switch a.Op {
		case pcapexpr.OpShr:
			return l >> v
		case pcapexpr.OpShl:
			return l << v
		case pcapexpr.OpDiv:
			return l / uint64(v)
		}
	}
	switch a.Op {
	case pcapexpr.OpAnd:
		return min(l, r)
	case pcapexpr.OpAdd:
		return l + r
	case pcapexpr.OpMul:
		return l * r
	case pcapexpr.OpMod:
		return r
	}
	return math.MaxUint32
}
