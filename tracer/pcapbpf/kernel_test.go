// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

// strictAlignment is BPF_F_STRICT_ALIGNMENT: what holds with it holds on
// machines that cannot read unaligned words.
const strictAlignment = 1

// harness returns a program that takes a struct sel_input as packet data, copies
// it to its stack and calls the subprogram on it.
func harness(body asm.Instructions) *ebpf.ProgramSpec {
	const in = -InputSize
	insns := asm.Instructions{
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, in),
		asm.Mov.Imm(asm.R4, InputSize),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "error"),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, in),
		asm.Call.Label("sel_match"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("error"),
		asm.Return(),
	}
	body = append(asm.Instructions(nil), body...)
	body[0] = body[0].WithSymbol("sel_match")
	return &ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		License:      "GPL",
		Instructions: append(insns, body...),
		Flags:        strictAlignment,
	}
}

// input encodes a struct sel_input for an expression.
func (p testPacket) input(e *pcapexpr.Expr) []byte {
	b := make([]byte, InputSize)
	for i := range offValid { // what lies behind the packet is not the packet's
		b[i] = byte(17 * i)
	}
	copy(b, p.hdr)
	binary.NativeEndian.PutUint32(b[offValid:], uint32(len(p.hdr)))
	binary.NativeEndian.PutUint32(b[offLen:], p.meta.Len)
	binary.NativeEndian.PutUint32(b[offVLAN:], uint32(p.meta.VLAN))
	var src, dst uint16
	for i, set := range e.Sets() {
		if pcapexpr.SrcIn(set).Match(p.hdr, p.meta) {
			src |= 1 << i
		}
		if pcapexpr.DstIn(set).Match(p.hdr, p.meta) {
			dst |= 1 << i
		}
	}
	binary.NativeEndian.PutUint16(b[offSrcSets:], src)
	binary.NativeEndian.PutUint16(b[offDstSets:], dst)
	return b
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("loading BPF programs needs root: run make test as root")
	}
}

// runExpr compares the compiled expression with Match on packets from s and
// returns how many matched.
func runExpr(t *testing.T, name string, e *pcapexpr.Expr, s source, packets int) (matches int) {
	t.Helper()
	insns, err := Compile(e)
	if err != nil {
		t.Errorf("%s: Compile(%q): %v", name, e, err)
		return 0
	}
	prog, err := ebpf.NewProgram(harness(insns))
	if err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			t.Errorf("%s: loading %q: %+v\n%v", name, e, ve, insns)
		} else {
			t.Errorf("%s: loading %q: %v", name, e, err)
		}
		return 0
	}
	defer prog.Close()
	for range packets {
		p := s.packet()
		want := e.Match(p.hdr, p.meta)
		got, err := prog.Run(&ebpf.RunOptions{Data: p.input(e)})
		if err != nil {
			t.Errorf("%s: running %q: %v", name, e, err)
			return matches
		}
		if want {
			matches++
		}
		if (got == 1) != want || got > 1 {
			t.Errorf("%s: %q\npacket %x %+v: kernel returns %d, Match %v\n%v", name, e, p.hdr, p.meta, got, want, insns)
			return matches
		}
	}
	return matches
}

// TestAgainstKernel compares the compiled program with Match in the kernel.
func TestAgainstKernel(t *testing.T) {
	needRoot(t)
	var exprs, matches atomic.Uint64
	eachExpr(t, func(n uint64) {
		text, _, s := randomExpr(n)
		e, err := pcapexpr.Parse(text)
		if err != nil {
			return // TestAgainstLibpcap judges this
		}
		exprs.Add(1)
		matches.Add(uint64(runExpr(t, text, e, s, packetsPerExpr)))
		if n%setsEvery == 0 {
			matches.Add(uint64(runExpr(t, text, s.withSets(e), s, packetsPerExpr)))
		}
	})
	t.Logf("%d expressions, %d packets, %d matches", exprs.Load(), exprs.Load()*packetsPerExpr, matches.Load())
}

// TestKernelLimits loads expressions that use much of what there is, or that
// random ones rarely get to.
func TestKernelLimits(t *testing.T) {
	needRoot(t)
	var words []string
	for i := range 26 {
		words = append(words, fmt.Sprintf("tcp[%d] = %d", 4*i+i%4, 17*i))
	}
	var ports []string
	for i := range 200 {
		ports = append(ports, fmt.Sprintf("tcp port %d", 1000+i))
	}
	for _, s := range []string{
		strings.Join(words, " or "),
		"tcp[1:4] + tcp[6:4] + tcp[11:2] != udp[3:4]",
		strings.Join(ports, " or "),
		"not (" + strings.Join(ports, " or ") + ")",
		strings.Repeat("ip[ip[1]:4] = 1 or ", 15) + "tcp",
		strings.Repeat("tcp[tcp[12] >> 2] & 1 = 0 and ", 15) + "tcp",
		"ip[ip[ip[ip[0] & 7] & 63] & 31:2] > 100",
		"icmp6[ip6[7]:2] = 0 or udp[ip[8] - 4] = 3 or tcp[100:4] = 0",
		"ip[0] + (ip[1] + (ip[2] + (ip[3] + (ip[4] + (ip[5] + (ip[6] + ip[7])))))) > 700",
		"tcp[(ip[8] & 1) - 4:4] = ip[16:4]", // wraps around into the IPv4 header
		"icmp6 and icmp6[0] < 200",          // behind a fragment header only the first holds
		"port 80 and (host 10.0.0.1 or 2001:db8::1) and not vlan 3 and tcp[tcpflags] & tcp-syn = 0",
	} {
		matches := runExpr(t, s, mustParse(t, s), newSource(*flagSeed, 0), 5000)
		t.Logf("%d matches: %.60s", matches, s)
	}
}
