// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/stackhop/stackhop/bpf"
)

// errNoArgument says that a function's prototype lacks what a row needs.
var errNoArgument = errors.New("argument not found")

// slot is one member of struct hook_args and where its value comes from.
type slot struct {
	offset int16
	arg    arg
}

// resolved is a row whose arguments were found on this kernel.
type resolved struct {
	slots  []slot
	params int // number of parameters; the return value of fexit lies behind them
	// deref is the slot that holds a pointer to the value meant; -1: none.
	deref   int16
	derefAt int32 // where in the structure it points to the value is
}

// resolveBTF finds the arguments of a row by the types in a prototype.
func resolveBTF(r *row, params []btf.FuncParam) (*resolved, error) {
	res := &resolved{params: len(params), deref: r.derefSlot(), derefAt: r.derefAt}
	skb := paramOfType(params, "sk_buff")
	switch {
	case r.skb > 0:
		skb = int(r.skb)
	case r.derefSkb:
		skb = 1
	case skb == 0 && !r.noSkb:
		return nil, fmt.Errorf("%s has no struct sk_buff *: %w", r.name, errNoArgument)
	}
	res.add(bpf.ArgSkb, skb)
	res.add(bpf.ArgNet, paramOfType(params, "net"))
	res.add(bpf.ArgSk, paramOfType(params, "sock"))
	res.add(bpf.ArgState, paramOfType(params, "nf_hook_state"))
	return res, res.addExtra(r, len(params))
}

// resolvePositions is for functions without BTF.
func resolvePositions(r *row) (*resolved, error) {
	if r.at == onReturn {
		return nil, fmt.Errorf("%s: arguments at return need BTF: %w", r.name, errNoArgument)
	}
	res := &resolved{deref: r.derefSlot(), derefAt: r.derefAt}
	skb := r.noBTF.skb
	if r.derefSkb {
		skb = 1
	}
	if skb == 0 && !r.noSkb {
		return nil, fmt.Errorf("%s: no BTF, and no known position of the skb: %w", r.name, errNoArgument)
	}
	res.add(bpf.ArgSkb, int(skb))
	res.add(bpf.ArgNet, int(r.noBTF.net))
	res.add(bpf.ArgSk, int(r.noBTF.sk))
	res.add(bpf.ArgState, int(r.noBTF.state))
	return res, res.addExtra(r, 6)
}

// onlySkb is for tc programs, whose context is the skb.
func onlySkb() *resolved {
	res := &resolved{deref: -1}
	for off := int16(0); off < bpf.ArgHook; off += 8 {
		res.add(off, 0)
	}
	return res
}

func (res *resolved) add(offset int16, n int) {
	s := slot{offset: offset}
	if n > 0 {
		s.arg = nth(uint8(n))
	}
	res.slots = append(res.slots, s)
}

func (res *resolved) addExtra(r *row, params int) error {
	for i, a := range []arg{r.a, r.b, r.c} {
		if a.from == argNumber && int(a.n) > params {
			if !a.optional {
				return fmt.Errorf("%s has no argument %d: %w", r.name, a.n, errNoArgument)
			}
			a = arg{}
		}
		res.slots = append(res.slots, slot{offset: bpf.ArgA + int16(i)*8, arg: a})
	}
	return nil
}

// paramOfType returns the number, from 1, of the first pointer to a struct of
// that name; 0 if there is none.
func paramOfType(params []btf.FuncParam, name string) int {
	for i, p := range params {
		ptr, ok := btf.UnderlyingType(p.Type).(*btf.Pointer)
		if !ok {
			continue
		}
		if s, ok := btf.UnderlyingType(ptr.Target).(*btf.Struct); ok && s.Name == name {
			return i + 1
		}
	}
	return 0
}

// handover is how a program type hands over a function's arguments.
type handover uint8

const (
	contextArray handover = iota // fentry, fexit, BTF tracepoint: an array of u64
	contextRegs                  // kprobe: struct pt_regs
	contextSkb                   // tc: the context is the skb
)

// registers are the offsets of the argument registers in struct pt_regs.
func registers() ([]int16, error) {
	switch runtime.GOARCH {
	case "amd64": // di si dx cx r8 r9
		return []int16{112, 104, 96, 88, 72, 64}, nil
	case "arm64": // x0 to x5
		return []int16{0, 8, 16, 24, 32, 40}, nil
	}
	return nil, fmt.Errorf("kprobes on %s: %w", runtime.GOARCH, errors.ErrUnsupported)
}

// load loads what a slot is filled with into register to; ok is false where the
// hook has no such value.
func (res *resolved) load(s slot, ctx handover, to asm.Register) (ins asm.Instruction, ok bool, err error) {
	if ctx == contextSkb {
		return asm.Mov.Reg(to, asm.R1), s.offset == bpf.ArgSkb, nil
	}
	switch s.arg.from {
	case argNone:
		return ins, false, nil
	case argReturn:
		if ctx == contextRegs {
			return ins, false, fmt.Errorf("a kprobe's return value: %w", errNoArgument)
		}
		return asm.LoadMem(to, asm.R1, int16(res.params)*8, asm.DWord), true, nil
	}
	from := int16(s.arg.n-1) * 8
	if ctx == contextRegs {
		regs, err := registers()
		if err != nil {
			return ins, false, err
		}
		if int(s.arg.n) > len(regs) {
			return ins, false, fmt.Errorf("argument %d in registers: %w", s.arg.n, errNoArgument)
		}
		from = regs[s.arg.n-1]
	}
	return asm.LoadMem(to, asm.R1, from, asm.DWord), true, nil
}

// hookArgs generates the body of hook_args(ctx R1, args R2): it fills every
// member of struct hook_args (bpf/hook.h).
func hookArgs(id uint16, res *resolved, ctx handover) (asm.Instructions, error) {
	insns := asm.Instructions{
		asm.Mov.Imm(asm.R0, int32(id)),
		asm.StoreMem(asm.R2, bpf.ArgHook, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
	}
	for _, s := range res.slots {
		load, ok, err := res.load(s, ctx, asm.R3)
		switch {
		case err != nil:
			return nil, err
		case ok:
			insns = append(insns, load, asm.StoreMem(asm.R2, s.offset, asm.R3, asm.DWord))
		default:
			insns = append(insns, asm.StoreMem(asm.R2, s.offset, asm.R0, asm.DWord))
		}
	}
	if res.deref >= 0 {
		insns = append(insns,
			asm.LoadMem(asm.R3, asm.R2, res.deref, asm.DWord),
			asm.Add.Imm(asm.R3, res.derefAt),
			asm.Mov.Reg(asm.R1, asm.R2),
			asm.Add.Imm(asm.R1, int32(res.deref)),
			asm.Mov.Imm(asm.R2, 8),
			asm.FnProbeReadKernel.Call())
	}
	return append(insns, asm.Mov.Imm(asm.R0, 0), asm.Return()), nil
}

// hookSkb generates the body of hook_skb(ctx R1), which returns the skb: one
// instruction, unless it is behind a pointer.
func hookSkb(res *resolved, ctx handover) (asm.Instructions, error) {
	load, ok, err := res.load(res.slots[0], ctx, asm.R0)
	if err != nil {
		return nil, err
	}
	if !ok {
		load = asm.Mov.Imm(asm.R0, 0)
	}
	if res.deref != bpf.ArgSkb {
		return asm.Instructions{load, asm.Return()}, nil
	}
	return asm.Instructions{
		load,
		asm.Mov.Reg(asm.R3, asm.R0),
		asm.Add.Imm(asm.R3, res.derefAt),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, -8),
		asm.Mov.Imm(asm.R2, 8),
		asm.FnProbeReadKernel.Call(),
		asm.LoadMem(asm.R0, asm.RFP, -8, asm.DWord),
		asm.Return(),
	}, nil
}

// inlineFunction puts body in the place of a subprogram's calls, if it is no more
// than one instruction, and of the subprogram otherwise. The instruction may change
// R0 to R5, as a call does.
func inlineFunction(insns asm.Instructions, name string, body asm.Instructions) asm.Instructions {
	if len(body) > 2 {
		return replaceFunction(insns, name, body)
	}
	out := make(asm.Instructions, 0, len(insns))
	inside := false
	for _, ins := range insns {
		if s := ins.Symbol(); s != "" {
			inside = s == name
		}
		switch {
		case inside: // nobody calls it any more, which the verifier refuses
		case ins.IsFunctionCall() && ins.Reference() == name:
			instead := body[0]
			instead.Metadata = ins.Metadata
			out = append(out, instead.WithReference(""))
		default:
			out = append(out, ins)
		}
	}
	return out
}

// replaceFunction puts body in the place of a subprogram's instructions. The
// first one keeps the symbol and the BTF of the function.
func replaceFunction(insns asm.Instructions, name string, body asm.Instructions) asm.Instructions {
	start := -1
	for i, ins := range insns {
		if start < 0 && ins.Symbol() == name {
			start = i
			continue
		}
		if start >= 0 && ins.Symbol() != "" {
			return splice(insns, start, i, body)
		}
	}
	if start < 0 {
		return insns // the program does not call it
	}
	return splice(insns, start, len(insns), body)
}

func splice(insns asm.Instructions, start, end int, body asm.Instructions) asm.Instructions {
	out := make(asm.Instructions, 0, len(insns)-(end-start)+len(body))
	out = append(out, insns[:start]...)
	first := body[0]
	first.Metadata = insns[start].Metadata
	out = append(out, first)
	out = append(out, body[1:]...)
	return append(out, insns[end:]...)
}
