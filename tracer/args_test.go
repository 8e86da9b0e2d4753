// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/stackhop/stackhop/bpf"
)

// prototype makes parameters: names of structures to point to, "int" for a
// number, "const NAME" and "typedef NAME" for such in between.
func prototype(types ...string) []btf.FuncParam {
	var params []btf.FuncParam
	for _, name := range types {
		var target btf.Type
		switch name {
		case "int":
			params = append(params, btf.FuncParam{Name: "n", Type: &btf.Int{Size: 4}})
			continue
		case "const sk_buff":
			target = &btf.Const{Type: &btf.Struct{Name: "sk_buff"}}
		case "typedef sk_buff":
			target = &btf.Typedef{Name: "skb_t", Type: &btf.Struct{Name: "sk_buff"}}
		default:
			target = &btf.Struct{Name: name}
		}
		params = append(params, btf.FuncParam{Name: "p", Type: &btf.Pointer{Target: target}})
	}
	return params
}

// where tells the argument number of each slot; -1 is the return value.
func where(res *resolved) map[int16]int {
	at := map[int16]int{}
	for _, s := range res.slots {
		switch s.arg.from {
		case argNumber:
			at[s.offset] = int(s.arg.n)
		case argReturn:
			at[s.offset] = -1
		}
	}
	return at
}

func TestResolveBTF(t *testing.T) {
	tests := []struct {
		name   string
		row    row
		params []btf.FuncParam
		want   map[int16]int
		err    error
	}{
		{"found by type", row{prog: "path"}, prototype("net", "sock", "sk_buff"),
			map[int16]int{bpf.ArgSkb: 3, bpf.ArgNet: 1, bpf.ArgSk: 2}, nil},
		{"another order", row{prog: "path"}, prototype("sk_buff", "int", "nf_hook_state", "net"),
			map[int16]int{bpf.ArgSkb: 1, bpf.ArgState: 3, bpf.ArgNet: 4}, nil},
		{"const", row{prog: "path"}, prototype("int", "const sk_buff"), map[int16]int{bpf.ArgSkb: 2}, nil},
		{"typedef", row{prog: "path"}, prototype("typedef sk_buff"), map[int16]int{bpf.ArgSkb: 1}, nil},
		{"no skb", row{prog: "path"}, prototype("net", "int"), nil, errNoArgument},
		{"no parameters", row{prog: "path"}, nil, nil, errNoArgument},
		{"numbers", row{prog: "drop", a: nth(3), b: nth(2)}, prototype("sk_buff", "int", "int"),
			map[int16]int{bpf.ArgSkb: 1, bpf.ArgA: 3, bpf.ArgB: 2}, nil},
		{"number missing", row{prog: "drop", a: nth(3)}, prototype("sk_buff", "int"), nil, errNoArgument},
		{"number missing, which may be", row{prog: "drop", a: nthIfAny(3), b: nth(2)}, prototype("sk_buff", "int"),
			map[int16]int{bpf.ArgSkb: 1, bpf.ArgB: 2}, nil},
		{"return value", row{prog: "clone", at: onReturn, a: returned()}, prototype("sk_buff", "int"),
			map[int16]int{bpf.ArgSkb: 1, bpf.ArgA: -1}, nil},
		{"through a structure", row{prog: "netfilter", derefSkb: true}, prototype("nft_pktinfo", "sk_buff"),
			map[int16]int{bpf.ArgSkb: 1}, nil},
		{"no skb, on purpose", row{noSkb: true, a: nth(1)}, prototype("ip_vs_conn_param"),
			map[int16]int{bpf.ArgA: 1}, nil},
		{"the second skb", row{skb: 2, a: nth(1), b: returned()}, prototype("sk_buff", "sk_buff"),
			map[int16]int{bpf.ArgSkb: 2, bpf.ArgA: 1, bpf.ArgB: -1}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, err := resolveBTF(&tt.row, tt.params)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			if got := where(res); !equalMaps(got, tt.want) {
				t.Errorf("arguments by slot: %v, want %v", got, tt.want)
			}
			if res.params != len(tt.params) {
				t.Errorf("%d parameters, want %d", res.params, len(tt.params))
			}
		})
	}
}

func equalMaps(a, b map[int16]int) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

func TestResolvePositions(t *testing.T) {
	tests := []struct {
		name string
		row  row
		want map[int16]int
		err  error
	}{
		{"all", row{noBTF: positions{skb: 2, net: 1, sk: 3, state: 4}},
			map[int16]int{bpf.ArgSkb: 2, bpf.ArgNet: 1, bpf.ArgSk: 3, bpf.ArgState: 4}, nil},
		{"no skb", row{noBTF: positions{net: 1}}, nil, errNoArgument},
		{"at return", row{at: onReturn, noBTF: positions{skb: 1}}, nil, errNoArgument},
		{"through a structure", row{derefSkb: true}, map[int16]int{bpf.ArgSkb: 1}, nil},
		{"no skb, on purpose", row{noSkb: true, a: nth(3)}, map[int16]int{bpf.ArgA: 3}, nil},
		{"no such register", row{noBTF: positions{skb: 1}, a: nth(7)}, nil, errNoArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, err := resolvePositions(&tt.row)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err == nil && !equalMaps(where(res), tt.want) {
				t.Errorf("arguments by slot: %v, want %v", where(res), tt.want)
			}
		})
	}
}

// filled follows the instructions of a hook_args body: the offset in the context
// that each slot is read from; -1 is 0, -2 the context itself, -3 the number.
func filled(t *testing.T, insns asm.Instructions) map[int16]int {
	t.Helper()
	got, r3 := map[int16]int{}, -9
	for _, ins := range insns {
		switch {
		case ins.OpCode.Class() == asm.LdXClass && ins.Dst == asm.R3 && ins.Src == asm.R1:
			r3 = int(ins.Offset)
		case ins.OpCode.ALUOp() == asm.Mov && ins.Dst == asm.R3 && ins.Src == asm.R1:
			r3 = -2 // the context itself
		case ins.OpCode.Class() == asm.StXClass && ins.Dst == asm.R2:
			switch ins.Src {
			case asm.R3:
				got[ins.Offset] = r3
			case asm.R0:
				got[ins.Offset] = -1
				if ins.Offset == bpf.ArgHook {
					got[ins.Offset] = -3
				}
			}
		}
	}
	return got
}

func TestHookArgs(t *testing.T) {
	r := &row{prog: "drop", at: onReturn, a: nth(3), b: returned()}
	res, err := resolveBTF(r, prototype("sk_buff", "net", "int", "int"))
	if err != nil {
		t.Fatal(err)
	}
	none := map[int16]int{bpf.ArgSk: -1, bpf.ArgState: -1, bpf.ArgC: -1, bpf.ArgHook: -3}
	tests := []struct {
		name string
		ctx  handover
		want map[int16]int
	}{
		{"array", contextArray, map[int16]int{bpf.ArgSkb: 0, bpf.ArgNet: 8, bpf.ArgA: 16, bpf.ArgB: 32}},
		{"skb", contextSkb, map[int16]int{bpf.ArgSkb: -2, bpf.ArgNet: -1, bpf.ArgA: -1, bpf.ArgB: -1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			insns, err := hookArgs(7, res, tt.ctx)
			if err != nil {
				t.Fatal(err)
			}
			for slot, v := range none {
				tt.want[slot] = v
			}
			if got := filled(t, insns); !equalMaps(got, tt.want) {
				t.Errorf("slots read from %v, want %v", got, tt.want)
			}
			if insns[0].Constant != 7 {
				t.Errorf("hook number %d, want 7", insns[0].Constant)
			}
			if last := insns[len(insns)-1]; last.OpCode.JumpOp() != asm.Exit {
				t.Errorf("ends with %v", last)
			}
		})
	}
	t.Run("return value in registers", func(t *testing.T) {
		if _, err := hookArgs(7, res, contextRegs); !errors.Is(err, errNoArgument) {
			t.Errorf("error %v: a kprobe does not know it", err)
		}
	})
}

func TestHookArgsRegisters(t *testing.T) {
	regs, err := registers()
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 6; n++ {
		res := &resolved{deref: -1}
		res.add(bpf.ArgSkb, n)
		insns, err := hookArgs(1, res, contextRegs)
		if err != nil {
			t.Fatal(err)
		}
		if got := filled(t, insns)[bpf.ArgSkb]; got != int(regs[n-1]) {
			t.Errorf("argument %d is read at %d of pt_regs, want %d", n, got, regs[n-1])
		}
	}
	res := &resolved{deref: -1}
	res.add(bpf.ArgSkb, 7)
	if _, err := hookArgs(1, res, contextRegs); !errors.Is(err, errNoArgument) {
		t.Errorf("argument 7: error %v; it is on the stack", err)
	}
}

func TestHookArgsDeref(t *testing.T) {
	res := &resolved{deref: bpf.ArgSkb, derefAt: 24}
	res.add(bpf.ArgSkb, 1)
	insns, err := hookArgs(1, res, contextArray)
	if err != nil {
		t.Fatal(err)
	}
	calls := slices.ContainsFunc(insns, func(ins asm.Instruction) bool {
		return ins.IsBuiltinCall() && ins.Constant == int64(asm.FnProbeReadKernel)
	})
	if !calls || !slices.Contains(insns, asm.Add.Imm(asm.R3, 24)) {
		t.Errorf("the pointer is not followed to offset 24:\n%v", insns)
	}
}

func TestHookSkb(t *testing.T) {
	direct, behind, none := &resolved{deref: -1}, &resolved{deref: bpf.ArgSkb, derefAt: 24}, &resolved{deref: -1}
	direct.add(bpf.ArgSkb, 2)
	behind.add(bpf.ArgSkb, 1)
	none.add(bpf.ArgSkb, 0)
	regs, err := registers()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		res  *resolved
		ctx  handover
		want asm.Instruction // the first one
		n    int             // of them
	}{
		{"array", direct, contextArray, asm.LoadMem(asm.R0, asm.R1, 8, asm.DWord), 2},
		{"registers", direct, contextRegs, asm.LoadMem(asm.R0, asm.R1, regs[1], asm.DWord), 2},
		{"tc", onlySkb(), contextSkb, asm.Mov.Reg(asm.R0, asm.R1), 2},
		{"pointer", behind, contextArray, asm.LoadMem(asm.R0, asm.R1, 0, asm.DWord), 9},
		{"none", none, contextArray, asm.Mov.Imm(asm.R0, 0), 2},
	} {
		got, err := hookSkb(tt.res, tt.ctx)
		if err != nil || len(got) != tt.n || got[0] != tt.want || got[len(got)-1].OpCode.JumpOp() != asm.Exit {
			t.Errorf("%s: %v, error %v", tt.name, got, err)
		}
		for _, ins := range got {
			if ins.OpCode == asm.InvalidOpCode {
				t.Errorf("%s: the assembler has no such instruction:\n%v", tt.name, got)
			}
		}
	}
}

func TestInlineFunction(t *testing.T) {
	call := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoCall, Constant: -1}.WithReference("small")
	program := asm.Instructions{
		asm.Mov.Imm(asm.R0, 1).WithSymbol("main"), call, asm.Return(),
		asm.Mov.Imm(asm.R0, 2).WithSymbol("small"), asm.Return(),
		asm.Mov.Imm(asm.R0, 3).WithSymbol("last"), asm.Return(),
	}
	one := asm.LoadMem(asm.R0, asm.R1, 8, asm.DWord)
	got := inlineFunction(slices.Clone(program), "small", asm.Instructions{one, asm.Return()})
	if len(got) != 5 || got[1].OpCode != one.OpCode || got[1].Offset != 8 || got[1].Reference() != "" || got[3].Symbol() != "last" {
		t.Errorf("one instruction:\n%v", got)
	}
	got = inlineFunction(slices.Clone(program), "small", asm.Instructions{one, asm.Mov.Imm(asm.R1, 0), asm.Return()})
	if len(got) != 8 || got[1].Reference() != "small" || got[3].Symbol() != "small" {
		t.Errorf("more than one:\n%v", got)
	}
	if got := inlineFunction(slices.Clone(program), "absent", asm.Instructions{one, asm.Return()}); len(got) != len(program) {
		t.Errorf("absent:\n%v", got)
	}
}

func TestReplaceFunction(t *testing.T) {
	ret := func(n int32) asm.Instructions {
		return asm.Instructions{asm.Mov.Imm(asm.R0, n), asm.Return()}
	}
	named := func(name string, insns asm.Instructions) asm.Instructions {
		out := slices.Clone(insns)
		out[0] = out[0].WithSymbol(name)
		return out
	}
	program := slices.Concat(named("main", ret(1)), named("first", ret(2)), named("last", ret(3)))
	body := asm.Instructions{asm.Mov.Imm(asm.R0, 9), asm.Add.Imm(asm.R0, 1), asm.Return()}
	tests := []struct {
		name string
		want []int64 // constants of what loads R0
	}{
		{"first", []int64{1, 9, 3}},
		{"last", []int64{1, 2, 9}},
		{"absent", []int64{1, 2, 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := replaceFunction(slices.Clone(program), tt.name, body)
			var constants []int64
			var symbols []string
			for _, ins := range got {
				if ins.OpCode.ALUOp() == asm.Mov {
					constants = append(constants, ins.Constant)
				}
				if s := ins.Symbol(); s != "" {
					symbols = append(symbols, s)
				}
			}
			if !slices.Equal(constants, tt.want) {
				t.Errorf("program loads %v, want %v", constants, tt.want)
			}
			if !slices.Equal(symbols, []string{"main", "first", "last"}) {
				t.Errorf("functions %v", symbols)
			}
		})
	}
	if body[0].Symbol() != "" {
		t.Error("the body that was put in has changed")
	}
}

// withFunction is a kernel that has one function with BTF.
func withFunction(t *testing.T, name string, params []btf.FuncParam) *kernel {
	t.Helper()
	b, err := btf.NewBuilder([]btf.Type{&btf.Func{Name: name, Linkage: btf.GlobalFunc,
		Type: &btf.FuncProto{Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, Params: params}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	types, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{types: types}
	symbols, err := parseSymbols(strings.NewReader("10 t " + name + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	k.symbols.Store(symbols)
	return k
}

// A function that no longer has what a row needs makes the row absent; it is
// not tried by a kprobe instead, which would not find it either.
func TestAttachUnknownPrototype(t *testing.T) {
	tests := []struct {
		name   string
		row    row
		params []btf.FuncParam
		fails  bool
	}{
		{"no skb", row{}, prototype("net", "sock"), false},
		{"no such argument", row{a: nth(3)}, prototype("sk_buff"), false},
		{"required", row{required: true}, prototype("net"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.row.name, tt.row.prog = "ip_something", "path"
			l := &loader{kernel: withFunction(t, "ip_something", tt.params)}
			h := &hook{row: &tt.row, id: 1}
			if err := l.attach(h); (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %t", err, tt.fails)
			}
			if !errors.Is(h.err, errNoArgument) || h.how != "" || h.prog != nil || h.link != nil {
				t.Errorf("the hook is %+v", h)
			}
		})
	}
}
