// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The committed object is read without any privilege.
func TestSpec(t *testing.T) {
	spec, err := Spec()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{MapRings, MapPackets, MapFlows, MapVia, MapTargets} {
		if spec.Maps[name] == nil {
			t.Errorf("no map %s", name)
		}
	}
	for _, name := range []string{"enabled", "select_all", "prove_identity", "count_hits", "targets", "target_bits", "stats", "hits"} {
		if spec.Variables[name] == nil {
			t.Errorf("no variable %s", name)
		}
	}
	for name := range spec.Maps {
		if len(name) > 15 || strings.HasPrefix(name, ".") == strings.HasPrefix(name, "sh_") {
			t.Errorf("map %s: names begin with sh_ and have 15 characters at most", name)
		}
	}
	if spec.Maps[MapRings].InnerMap == nil || spec.Maps[MapRings].InnerMap.Type != ebpf.RingBuf {
		t.Error("the map of rings holds none")
	}
}

func TestPrograms(t *testing.T) {
	spec, err := Spec()
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range spec.Programs {
		if p.License != "Dual BSD/GPL" {
			t.Errorf("%s: license %q", name, p.License)
		}
		functions := map[string]bool{}
		for _, ins := range p.Instructions {
			functions[ins.Symbol()] = true
		}
		if !functions[FuncHookArgs] && name != ProgForget {
			t.Errorf("%s does not call %s: nothing tells it its packet", name, FuncHookArgs)
		}
	}
}

// Until 6.8 the kernel counts a function's stack in steps of 32 bytes, also one
// that a setting has switched off, and allows 512 for all that call each other.
func TestCombinedStack(t *testing.T) {
	const allowed, step, selMatch = 512, 32, 64 // the last is pcapbpf's promise
	spec, err := Spec()
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range spec.Programs {
		stack, calls := map[string]int64{}, map[string][]string{}
		in, pointer := "", map[asm.Register]bool{}
		for _, ins := range p.Instructions {
			if s := ins.Symbol(); s != "" {
				in, pointer = s, map[asm.Register]bool{}
				stack[in] = step
			}
			used := int64(0)
			class := ins.OpCode.Class()
			switch {
			case ins.IsFunctionCall():
				calls[in] = append(calls[in], ins.Reference())
			case class.IsLoad() && ins.Src == asm.RFP || class.IsStore() && ins.Dst == asm.RFP:
				used = -int64(ins.Offset)
			case class.IsALU() && ins.OpCode.ALUOp() == asm.Add && ins.OpCode.Source() == asm.ImmSource && pointer[ins.Dst]:
				used = -ins.Constant
			}
			if class.IsALU() {
				pointer[ins.Dst] = ins.OpCode.ALUOp() == asm.Mov && ins.Src == asm.RFP && ins.OpCode.Source() == asm.RegSource
			}
			stack[in] = max(stack[in], (used+step-1)/step*step)
		}
		stack[FuncSelMatch] = selMatch
		var deepest func(f string) int64
		deepest = func(f string) int64 {
			below := int64(0)
			for _, c := range calls[f] {
				below = max(below, deepest(c))
			}
			return stack[f] + below
		}
		if n := deepest(p.Instructions[0].Symbol()); n > allowed || n <= step && name != ProgForget {
			t.Errorf("%s: %d bytes of stack with all that it calls, of at most %d", name, n, allowed)
		}
	}
}
