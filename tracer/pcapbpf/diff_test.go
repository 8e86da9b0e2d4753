// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

var (
	flagExprs = flag.Uint64("exprs", 2500, "number of random expressions in the differential tests")
	flagSeed  = flag.Uint64("seed", 1, "seed of the random expressions and packets")
)

const packetsPerExpr = 60

// errRejectsAll is how tcpdump says that its optimiser found an expression to
// match nothing.
const errRejectsAll = "expression rejects all packets"

// oracle is an expression compiled by libpcap; no instructions match nothing.
type oracle []bpf.Instruction

// tcpdump compiles an expression for Ethernet. The optimiser is off for -O.
func tcpdump(expr string, options ...string) (oracle, error) {
	args := append([]string{"-ddd", "-y", "EN10MB"}, options...)
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("tcpdump", append(args, expr)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if strings.Contains(stderr.String(), errRejectsAll) {
			return nil, nil
		}
		return nil, fmt.Errorf("tcpdump %q: %w: %s", expr, err, stderr.String())
	}
	var raw []bpf.RawInstruction
	for line := range strings.Lines(stdout.String()) {
		var v [4]uint64
		fields := strings.Fields(line)
		if len(fields) != len(v) {
			continue // the number of instructions
		}
		for i, s := range fields {
			var err error
			if v[i], err = strconv.ParseUint(s, 10, 32); err != nil {
				return nil, fmt.Errorf("tcpdump output %q: %w", line, err)
			}
		}
		raw = append(raw, bpf.RawInstruction{Op: uint16(v[0]), Jt: uint8(v[1]), Jf: uint8(v[2]), K: uint32(v[3])})
	}
	insns, ok := bpf.Disassemble(raw)
	if !ok {
		return nil, fmt.Errorf("tcpdump %q: program with unknown instructions", expr)
	}
	return insns, nil
}

// match runs the program on a packet in an Ethernet frame.
func (o oracle) match(p testPacket, tagged bool) (bool, error) {
	if o == nil {
		return false, nil
	}
	frame := make([]byte, 12, 14+4+len(p.hdr))
	if tagged && p.meta.VLAN >= 0 {
		frame = binary.BigEndian.AppendUint16(frame, 0x8100)
		frame = binary.BigEndian.AppendUint16(frame, uint16(p.meta.VLAN))
	}
	frame = binary.BigEndian.AppendUint16(frame, p.etherType)
	frame = append(frame, p.hdr...)
	insns := make([]bpf.Instruction, len(o))
	for i, ins := range o {
		insns[i] = ins
		if ext, ok := ins.(bpf.LoadExtension); ok && ext.Num == bpf.ExtLen {
			// The machine would take the length of the cut packet.
			insns[i] = bpf.LoadConstant{Dst: bpf.RegA, Val: p.meta.Len + 14}
		}
	}
	vm, err := bpf.NewVM(insns)
	if err != nil {
		return false, fmt.Errorf("preparing the classic BPF machine: %w", err)
	}
	n, err := vm.Run(frame)
	return n != 0, err
}

// randomExpr returns the n-th expression and whether frames carry the VLAN tag:
// libpcap then changes the meaning of everything behind vlan.
func randomExpr(n uint64) (text string, tagged bool, s source) {
	s = newSource(*flagSeed, n)
	text = s.expr(2)
	if s.chance(8) && !strings.Contains(text, "len") && !strings.Contains(text, "less") && !strings.Contains(text, "greater") {
		return pick(s, []string{"vlan", "vlan 3", "vlan 5"}) + " and (" + text + ")", true, s
	}
	return text, false, s
}

// refusedByDesign are the errors for random expressions that tcpdump accepts: it
// sees a constant 0 only where it is written, not where it is computed.
func refusedByDesign(err error) bool {
	for _, s := range []string{"out of reach", "division by zero", "shift by"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

func eachExpr(t *testing.T, do func(n uint64)) {
	t.Helper()
	var wg sync.WaitGroup
	var next atomic.Uint64
	for range min(4, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for n := next.Add(1); n <= *flagExprs && !t.Failed(); n = next.Add(1) {
				do(n)
			}
		})
	}
	wg.Wait()
}

// TestAgainstLibpcap compares Match with what tcpdump makes of an expression.
func TestAgainstLibpcap(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Fatalf("tcpdump is needed as the reference: apt-get install tcpdump (%v)", err)
	}
	var c counts
	eachExpr(t, func(n uint64) {
		text, tagged, s := randomExpr(n)
		e, err := pcapexpr.Parse(text)
		want, pcapErr := tcpdump(text)
		switch {
		case err != nil && !refusedByDesign(err) && pcapErr == nil:
			t.Errorf("expression %d %q: %v, but tcpdump accepts it", n, text, err)
		case err == nil && pcapErr != nil && !refusedByMistake(pcapErr):
			t.Errorf("expression %d: accepted, but %v", n, pcapErr)
		case err == nil && pcapErr == nil:
			c.exprs.Add(1)
			if err := c.compare(e, text, want, tagged, s); err != nil {
				t.Errorf("expression %d: %v", n, err)
			}
		}
	})
	t.Logf("%d expressions, %d packets, %d matches; libpcap's optimiser changed the meaning for %d packets",
		c.exprs.Load(), c.packets.Load(), c.matches.Load(), c.ambiguous.Load())
	if t.Failed() {
		return
	}
	if want := *flagExprs * 8 / 10; c.exprs.Load() < want {
		t.Errorf("only %d expressions were compared, want at least %d", c.exprs.Load(), want)
	}
	if c.ambiguous.Load() > c.packets.Load()/100 {
		t.Errorf("libpcap disagrees with itself for %d packets, want at most 1 of 100", c.ambiguous.Load())
	}
}

// refusedByMistake are the errors of tcpdump for expressions that make sense: it
// takes the offset of a load for the divisor or the shift count and refuses
// ip[8] / ip[0].
func refusedByMistake(err error) bool {
	return strings.Contains(err.Error(), "by zero") || strings.Contains(err.Error(), "shift by more")
}

// counts is what was compared.
type counts struct {
	exprs, packets, matches atomic.Uint64
	// ambiguous counts the packets for which libpcap without its optimiser
	// agrees with Match, but not with it: the optimiser drops or moves loads,
	// which shows with packets that are cut short.
	ambiguous atomic.Uint64
}

// compare evaluates e and libpcap's program for it on packets from s.
func (c *counts) compare(e *pcapexpr.Expr, text string, want oracle, tagged bool, s source) error {
	for range packetsPerExpr {
		p := s.packet()
		if p.oddIHL() || !tagged && p.meta.VLAN >= 0 && s.chance(50) {
			continue
		}
		c.packets.Add(1)
		got := e.Match(p.hdr, p.meta)
		if got {
			c.matches.Add(1)
		}
		ref, err := want.match(p, tagged)
		if err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		if got == ref {
			continue
		}
		plain, err := tcpdump(text, "-O")
		if err != nil {
			return err
		}
		if ref, err = plain.match(p, tagged); err != nil || got != ref {
			return fmt.Errorf("%q\nparsed as %q\npacket %x %+v: match %v, tcpdump says %v, error %v",
				text, e, p.hdr, p.meta, got, ref, err)
		}
		c.ambiguous.Add(1)
	}
	return nil
}
