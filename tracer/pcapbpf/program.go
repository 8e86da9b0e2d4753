// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import "github.com/cilium/ebpf/asm"

// label is a place in the code, known or still to come.
type label int

// instr is an instruction; a jump has a target.
type instr struct {
	asm.Instruction
	jumps  bool
	target label // index of an instruction once the program is finished
}

// program collects instructions. Jumps end up as plain offsets: the code is put
// into programs whose symbols it must not collide with.
type program struct {
	code   []instr
	labels []int // index of the instruction behind the label
}

func (p *program) newLabel() label {
	p.labels = append(p.labels, -1)
	return label(len(p.labels) - 1)
}

// bind puts l behind the last instruction.
func (p *program) bind(l label) { p.labels[l] = len(p.code) }

func (p *program) emit(insns ...asm.Instruction) {
	for _, i := range insns {
		p.code = append(p.code, instr{Instruction: i})
	}
}

// jump emits a jump to l unless l is what follows anyhow.
func (p *program) jump(l, next label) {
	if l != next {
		p.jumpIf(asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Ja)}, l)
	}
}

// jumpIf emits the jump ins to l.
func (p *program) jumpIf(ins asm.Instruction, l label) {
	p.code = append(p.code, instr{Instruction: ins, jumps: true, target: l})
}

// cmp returns a conditional jump that compares 64 bits of a register with v.
func cmp(op asm.JumpOp, r asm.Register, v int32) asm.Instruction {
	return asm.Instruction{OpCode: op.Op(asm.ImmSource), Dst: r, Constant: int64(v)}
}

// cmp32 returns a conditional jump that compares 32 bits.
func cmp32(op asm.JumpOp, r asm.Register, v uint32) asm.Instruction {
	code := asm.OpCode(asm.Jump32Class).SetJumpOp(op).SetSource(asm.ImmSource)
	return asm.Instruction{OpCode: code, Dst: r, Constant: int64(int32(v))}
}

// cmpReg32 returns a conditional jump that compares 32 bits of two registers.
func cmpReg32(op asm.JumpOp, a, b asm.Register) asm.Instruction {
	code := asm.OpCode(asm.Jump32Class).SetJumpOp(op).SetSource(asm.RegSource)
	return asm.Instruction{OpCode: code, Dst: a, Src: b}
}

// opposite of the conditional jumps that have one.
var opposite = map[asm.JumpOp]asm.JumpOp{
	asm.JEq: asm.JNE, asm.JNE: asm.JEq,
	asm.JGT: asm.JLE, asm.JLE: asm.JGT,
	asm.JGE: asm.JLT, asm.JLT: asm.JGE,
	asm.JSGE: asm.JSLT, asm.JSLT: asm.JSGE,
}

// branch goes to yes if the conditional jump ins would jump and to no otherwise,
// with next directly behind.
func (p *program) branch(ins asm.Instruction, yes, no, next label) {
	if yes == next {
		if inv, ok := opposite[ins.OpCode.JumpOp()]; ok {
			ins.OpCode = ins.OpCode.SetJumpOp(inv)
			p.jumpIf(ins, no)
			return
		}
	}
	p.jumpIf(ins, yes)
	p.jump(no, next)
}

func (i instr) always() bool { return i.jumps && i.OpCode.JumpOp() == asm.Ja }

// finish resolves the labels and removes what is superfluous. The verifier
// refuses instructions that cannot be reached.
func (p *program) finish() asm.Instructions {
	code := p.code
	for i := range code {
		if code[i].jumps {
			code[i].target = label(p.labels[code[i].target])
		}
	}
	for {
		follow(code)
		shorter := drop(code, unneeded(code))
		if len(shorter) == len(code) {
			break
		}
		code = shorter
	}
	insns := make(asm.Instructions, len(code))
	for i, c := range code {
		insns[i] = c.Instruction
		if c.jumps {
			insns[i].Offset = int16(int(c.target) - i - 1)
		}
	}
	return insns
}

// follow lets jumps to a jump go to where that one goes.
func follow(code []instr) {
	for i := range code {
		for code[i].jumps && code[code[i].target].always() {
			code[i].target = code[code[i].target].target
		}
	}
}

// unneeded marks unreachable instructions and jumps to the next one. All jumps
// go forward, so one pass finds what can be reached.
func unneeded(code []instr) []bool {
	reached := make([]bool, len(code)+1)
	reached[0] = true
	exit := asm.Return().OpCode
	for i, c := range code {
		if !reached[i] {
			continue
		}
		if c.jumps {
			reached[c.target] = true
		}
		if !c.always() && c.OpCode != exit {
			reached[i+1] = true
		}
	}
	remove := make([]bool, len(code))
	for i, c := range code {
		remove[i] = !reached[i]
		if !c.always() || !reached[i] {
			continue
		}
		next := i + 1
		for next < len(code) && !reached[next] {
			next++
		}
		remove[i] = int(c.target) == next
	}
	return remove
}

// drop removes instructions and corrects the targets.
func drop(code []instr, remove []bool) []instr {
	moved := make([]label, len(code)+1)
	kept := 0
	for i := range code {
		moved[i] = label(kept)
		if !remove[i] {
			kept++
		}
	}
	out := make([]instr, 0, kept)
	for i, c := range code {
		if remove[i] {
			continue
		}
		if c.jumps {
			c.target = moved[c.target]
		}
		out = append(out, c)
	}
	return out
}
