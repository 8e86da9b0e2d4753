// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

func mustParse(t *testing.T, s string) *pcapexpr.Expr {
	t.Helper()
	e, err := pcapexpr.Parse(s)
	if err != nil {
		t.Fatalf("Parse(%q): %v", s, err)
	}
	return e
}

// TestSize keeps the code for common expressions small: it runs for every packet
// that is not selected yet.
func TestSize(t *testing.T) {
	tests := []struct {
		expr string
		max  int
	}{
		{"", 2},
		{"0 = 1", 2},
		{"host 1.2.3.4", 14},
		{"ip and ip6", 5},
		{"tcp", 20},
		{"tcp port 80", 55},
		{"port 80", 57},
		{"host 1.2.3.4 and port 80", 56},
		{"host 2001:db8::1 and port 443", 50},
		{"tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", 50},
		{"port 80 or 443 or 8080", 70},
		{"tcp[((tcp[12]&0xf0)>>2):4] = 0x47455420", 175},
	}
	for _, tt := range tests {
		insns, err := Compile(mustParse(t, tt.expr))
		if err != nil {
			t.Errorf("Compile(%q): %v", tt.expr, err)
			continue
		}
		t.Logf("%4d instructions: %q", len(insns), tt.expr)
		if len(insns) > tt.max {
			t.Errorf("%q takes %d instructions, want at most %d", tt.expr, len(insns), tt.max)
		}
	}
}

func TestTooLarge(t *testing.T) {
	right := "ip[0]"
	for range 12 {
		right = "(ip[1] + " + right + ")"
	}
	for _, s := range []string{
		strings.Repeat("ip[ip[1]:4] = 1 or ", 40) + "tcp",
		right + " = 1",
	} {
		if _, err := Compile(mustParse(t, s)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("Compile(%.40q…) gives error %v, want ErrTooLarge", s, err)
		}
	}
}

func TestTooManySets(t *testing.T) {
	e := pcapexpr.None()
	for range MaxSets {
		set := pcapexpr.NewSet("")
		e = pcapexpr.Or(e, pcapexpr.And(pcapexpr.SrcIn(set), pcapexpr.DstIn(set)))
	}
	if insns, err := Compile(e); err != nil || len(insns) > 60 {
		t.Errorf("as many sets as there may be: %d instructions, %v", len(insns), err)
	}
	if _, err := Compile(pcapexpr.Or(e, pcapexpr.SrcIn(pcapexpr.NewSet("")))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one set too many gives error %v, want ErrTooLarge", err)
	}
}

// checkInstructions tests what old verifiers ask for and newer ones may not:
// constant, aligned accesses inside the input and 64 bytes of stack.
func checkInstructions(insns asm.Instructions) error {
	for i, ins := range insns {
		class := ins.OpCode.Class()
		size := 0
		base, lo, hi := asm.Register(0), 0, 0
		switch {
		case class.IsLoad():
			size, base = ins.OpCode.Size().Sizeof(), ins.Src
		case class.IsStore():
			size, base = ins.OpCode.Size().Sizeof(), ins.Dst
		}
		if size > 0 {
			switch {
			case base == asm.R1 && class.IsLoad():
				lo, hi = 0, InputSize
			case base == asm.RFP:
				lo, hi = -64, 0
			default:
				return fmt.Errorf("instruction %d (%v) uses another pointer", i, ins)
			}
			if at := int(ins.Offset); at < lo || at+size > hi || at%size != 0 {
				return fmt.Errorf("instruction %d (%v) is out of bounds or unaligned", i, ins)
			}
		}
		if (class.IsALU() || class.IsLoad()) && (ins.Dst == asm.R1 || ins.Dst == asm.RFP) {
			return fmt.Errorf("instruction %d (%v) changes a pointer", i, ins)
		}
		if class.IsJump() {
			op := ins.OpCode.JumpOp()
			if op == asm.Call || op != asm.Exit && (ins.Offset < 0 || i+1+int(ins.Offset) >= len(insns)) {
				return fmt.Errorf("instruction %d (%v) calls or jumps out of the code", i, ins)
			}
		}
		if ins.Symbol() != "" || ins.Reference() != "" || ins.OpCode.IsDWordLoad() {
			return fmt.Errorf("instruction %d (%v) has a symbol or is two long", i, ins)
		}
	}
	if last := insns[len(insns)-1]; last.OpCode != asm.Return().OpCode {
		return fmt.Errorf("the last instruction is %v, want Exit", last)
	}
	return nil
}

func TestInstructions(t *testing.T) {
	for n := range *flagExprs {
		text, _, s := randomExpr(n)
		e, err := pcapexpr.Parse(text)
		if err != nil {
			continue
		}
		if n%setsEvery == 0 {
			e = s.withSets(e)
		}
		insns, err := Compile(e)
		if err != nil {
			t.Errorf("Compile(%q): %v", text, err)
			continue
		}
		if err := checkInstructions(insns); err != nil {
			t.Errorf("%q: %v\n%v", text, err, insns)
		}
	}
}

// TestTuple compares MatchTuple with Match: what it is certain of must hold for
// whole packets.
func TestTuple(t *testing.T) {
	var certain, open int
	for n := range *flagExprs {
		text, _, s := randomExpr(n)
		e, err := pcapexpr.Parse(text)
		if err != nil {
			continue
		}
		if n%setsEvery == 0 {
			e = s.withSets(e)
		}
		for range 20 {
			p := s.packet()
			tuple, ok := p.tuple()
			if !ok {
				continue
			}
			tuple.KnownSrc, tuple.KnownDst = s.chance(70), s.chance(70)
			if s.chance(10) {
				tuple.Proto = 0
			}
			got := e.Match(p.hdr, p.meta)
			switch v := e.MatchTuple(tuple); {
			case v == pcapexpr.Maybe:
				open++
			case (v == pcapexpr.Yes) != got:
				t.Errorf("%q\npacket %x %+v: MatchTuple %v, Match %v", e, p.hdr, tuple, v, got)
			default:
				certain++
			}
		}
	}
	t.Logf("%d certain answers, %d open", certain, open)
}
