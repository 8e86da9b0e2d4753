// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import (
	"fmt"

	"github.com/cilium/ebpf/asm"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

// Intermediate results go below the words of the transport header.
const (
	firstSpill = -4 * (maxL4Words - 1)
	maxSpills  = (64 + firstSpill) / 4
)

// spillSlot returns the offset from the frame pointer of an intermediate result.
func (c *compiler) spillSlot(depth int) int16 {
	if depth >= maxSpills {
		c.err = fmt.Errorf("%w: more than %d intermediate results in one comparison; split it or use parentheses less", ErrTooLarge, maxSpills)
		depth = 0
	}
	return int16(firstSpill - 4*(depth+1))
}

var relJumps = map[pcapexpr.RelOp]asm.JumpOp{
	pcapexpr.RelEq: asm.JEq, pcapexpr.RelNe: asm.JNE, pcapexpr.RelLt: asm.JLT,
	pcapexpr.RelLe: asm.JLE, pcapexpr.RelGt: asm.JGT, pcapexpr.RelGe: asm.JGE,
}

func (c *compiler) genRel(n *pcapexpr.RelNode, f facts, yes, no, next label) (fy, fn facts) {
	fn = facts{dead: true}
	for _, ch := range n.Checks() {
		c.genCheck(ch, &f, no, &fn)
	}
	if n == c.l4At && c.l4Late {
		c.fetchL4(f)
	}
	op := relJumps[n.Op]
	if r, ok := n.R.(pcapexpr.Num); ok {
		c.genArith(n.L, &f, 0)
		c.branch(cmp32(op, regA, uint32(r)), yes, no, next)
	} else {
		c.genPair(n.L, n.R, &f, 0)
		c.branch(cmpReg32(op, regA, regB), yes, no, next)
	}
	return f, fn.merge(f)
}

// genCheck goes to no if the packet does not have the header a number is read
// from.
func (c *compiler) genCheck(ch pcapexpr.Check, f *facts, no label, fn *facts) {
	c.wantVersion(f, ch.Version, no, fn)
	if ch.Proto >= 0 && f.proto != ch.Proto {
		at := ip4Proto
		if ch.Version == 6 {
			at = ip6Next
		}
		c.need(f, int32(at+1))
		*fn = fn.merge(*f)
		c.emit(load(regA, at, asm.Byte))
		c.jumpIf(cmp(asm.JNE, regA, int32(ch.Proto)), no)
		f.proto = ch.Proto
	}
	if ch.First && !f.first {
		*fn = fn.merge(*f)
		c.emit(load(regA, ip4Frag, asm.Half))
		c.jumpIf(cmp(asm.JSet, regA, fragOffset), no)
		f.first = true
	}
}

// genPair computes l in regA and r in regB.
func (c *compiler) genPair(l, r pcapexpr.Arith, f *facts, depth int) {
	if v, ok := l.(pcapexpr.Num); ok {
		c.genArith(r, f, depth)
		c.emit(asm.Mov.Reg(regB, regA), asm.Mov.Imm32(regA, int32(v)))
		return
	}
	slot := c.spillSlot(depth)
	c.genArith(l, f, depth)
	c.emit(asm.StoreMem(asm.RFP, slot, regA, asm.Word))
	c.genArith(r, f, depth+1)
	c.emit(asm.Mov.Reg(regB, regA), asm.LoadMem(regA, asm.RFP, slot, asm.Word))
}

// genArith computes a in regA with the upper half zero; depth intermediate
// results are on the stack.
func (c *compiler) genArith(a pcapexpr.Arith, f *facts, depth int) {
	switch a := a.(type) {
	case pcapexpr.Num:
		c.emit(asm.Mov.Imm32(regA, int32(a)))
	case pcapexpr.Len:
		c.emit(load(regA, offLen, asm.Word), asm.Add.Imm32(regA, pcapexpr.LinkBytes))
	case *pcapexpr.Load:
		c.genLoad(a, f, depth)
	case *pcapexpr.Bin:
		if v, ok := a.R.(pcapexpr.Num); ok {
			c.genArith(a.L, f, depth)
			c.emit(aluOps[a.Op].Imm32(regA, int32(v)))
			return
		}
		c.genPair(a.L, a.R, f, depth)
		c.genBin(a.Op)
	}
}

var aluOps = map[pcapexpr.BinOp]asm.ALUOp{
	pcapexpr.OpAdd: asm.Add, pcapexpr.OpSub: asm.Sub, pcapexpr.OpMul: asm.Mul,
	pcapexpr.OpDiv: asm.Div, pcapexpr.OpMod: asm.Mod, pcapexpr.OpAnd: asm.And,
	pcapexpr.OpOr: asm.Or, pcapexpr.OpXor: asm.Xor, pcapexpr.OpShl: asm.LSh,
	pcapexpr.OpShr: asm.RSh,
}

// genBin combines regA with regB.
func (c *compiler) genBin(op pcapexpr.BinOp) {
	ins := aluOps[op].Reg32(regA, regB)
	switch op {
	case pcapexpr.OpDiv, pcapexpr.OpMod:
		c.jumpIf(cmp32(asm.JEq, regB, 0), c.fail)
	case pcapexpr.OpShl, pcapexpr.OpShr:
		// The machine would take the shift count modulo 32.
		inRange, done := c.newLabel(), c.newLabel()
		c.jumpIf(cmp32(asm.JLE, regB, 31), inRange)
		c.emit(asm.Mov.Imm32(regA, 0))
		c.jump(done, -1)
		c.bind(inRange)
		c.emit(ins)
		c.bind(done)
		return
	}
	c.emit(ins)
}
