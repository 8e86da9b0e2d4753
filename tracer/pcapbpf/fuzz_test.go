// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf/asm"

	"github.com/stackhop/stackhop/events/pcapexpr"
	"github.com/stackhop/stackhop/internal/cpubound"
)

// FuzzCompile: an expression that parses is compiled to a subprogram that keeps what
// Compile promises the verifier, or is refused for its size.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		"", "host 10.0.0.1 or 10.0.0.2 and port 80", "not (tcp or udp)", "vlan 5 and len > 100", "host 2001:db8::1 and port 443",
		"tcp[((tcp[12]&0xf0)>>2):4] = 0x47455420", "net 10.0.0.1 mask 255.0.0.255", "icmp6[0] / ip[0] << (len % 7) >= 3",
		"portrange 1-2 or 3", "0 = 1", "ip[0:4] - 1 > tcp[2:2] * 3", "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", "less 4 || !greater 6",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		defer cpubound.Run(t)()
		e, err := pcapexpr.Parse(s)
		if err != nil {
			return
		}
		insns, err := Compile(e)
		if err != nil {
			if !errors.Is(err, ErrTooLarge) {
				t.Fatalf("Compile(%q): %v", s, err)
			}
			return
		}
		if len(insns) == 0 || insns[len(insns)-1].OpCode.JumpOp() != asm.Exit {
			t.Fatalf("Compile(%q) does not end with Exit", s)
		}
		for i := range insns {
			switch op := insns[i].OpCode; {
			case op.JumpOp() == asm.Call && op.Class().IsJump():
				t.Fatalf("Compile(%q) calls something", s)
			case insns[i].Dst > asm.R9 && insns[i].Dst != asm.RFP:
				t.Fatalf("Compile(%q) writes %s", s, insns[i].Dst)
			case op.Class().IsJump() && op.JumpOp() != asm.Exit && insns[i].Reference() == "" && insns[i].Offset < 0:
				t.Fatalf("Compile(%q) jumps back", s)
			}
		}
	})
}
