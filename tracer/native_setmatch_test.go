// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

// A matcher runs the kernel side's whole selection on packets that a test makes:
// the program of a device, as if it were one for tc.
type matcher struct {
	t      *testing.T
	tracer *Tracer
	prog   *ebpf.Program
}

func newMatcher(t *testing.T, e *pcapexpr.Expr) *matcher {
	t.Helper()
	needRoot(t)
	k, err := readKernel()
	if err != nil {
		t.Fatal(err)
	}
	tr := &Tracer{cfg: Config{Select: e}, kernel: k, clock: newClock()}
	if err := tr.cfg.validate(); err != nil {
		t.Fatal(err)
	}
	tr.early = startMaps(&tr.cfg)
	defer tr.early.close()
	if err := tr.load(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	// Older kernels have no tasks for tc. Whose packet it is does not matter here.
	insns := tr.loader.spec.Programs["device"].Instructions
	for i, ins := range insns {
		if ins.IsBuiltinCall() && (ins.Constant == int64(asm.FnGetCurrentPidTgid) || ins.Constant == int64(asm.FnGetCurrentComm)) {
			insns[i] = asm.Mov.Imm(asm.R0, 0).WithMetadata(ins.Metadata)
		}
	}
	prog, err := tr.loader.program(&hook{row: &row{name: "device", prog: "device"}, id: 1}, "tc", onlySkb(), contextSkb)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	if err := tr.state.set("enabled", 1); err != nil {
		t.Fatal(err)
	}
	return &matcher{t, tr, prog}
}

// selects says whether a packet is selected by itself, without what came before it.
func (m *matcher) selects(packet []byte) bool {
	m.t.Helper()
	frame := make([]byte, 14, 14+len(packet))
	binary.BigEndian.PutUint16(frame[12:], 0x0800)
	if packet[0]>>4 == 6 {
		binary.BigEndian.PutUint16(frame[12:], 0x86dd)
	}
	if _, err := m.prog.Run(&ebpf.RunOptions{Data: append(frame, packet...)}); err != nil {
		m.t.Fatal(err)
	}
	if err := m.tracer.state.set("flows_used", 0); err != nil {
		m.t.Fatal(err)
	}
	n := 0
	for _, name := range []string{bpf.MapPackets, bpf.MapFlows} {
		n += m.clear(m.tracer.state.coll.Maps[name])
	}
	return n > 0
}

func (m *matcher) clear(of *ebpf.Map) (n int) {
	m.t.Helper()
	for {
		var k []byte
		if err := of.NextKey(nil, &k); err != nil {
			return n
		}
		if err := of.Delete(k); err != nil {
			m.t.Fatal(err)
		}
		n++
	}
}

// randomPacket is a whole one between a few ends.
func randomPacket(rnd *rand.Rand, addrs []netip.Addr, ports []uint16) []byte {
	src, dst := addrs[rnd.IntN(len(addrs))], addrs[rnd.IntN(len(addrs))]
	for src.Is4() != dst.Is4() {
		dst = addrs[rnd.IntN(len(addrs))]
	}
	proto := []byte{6, 17, 132, 1, 44}[rnd.IntN(5)]
	b := make([]byte, 40)
	b[0], b[6] = 0x60, proto
	if src.Is4() {
		words := 5 + rnd.IntN(11)
		b = make([]byte, 4*words)
		b[0], b[8], b[9] = 0x40|byte(words), 64, proto
		binary.BigEndian.PutUint16(b[6:], []uint16{0, 0x4000, 0x2000, 0x2001, 0x0100}[rnd.IntN(5)])
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
	} else {
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
	}
	b = binary.BigEndian.AppendUint16(b, ports[rnd.IntN(len(ports))])
	b = binary.BigEndian.AppendUint16(b, ports[rnd.IntN(len(ports))])
	if rnd.IntN(10) == 0 {
		return b[:len(b)-1-rnd.IntN(4)] // without ports, though it should have them
	}
	return append(b, make([]byte, 20)...)
}

// The kernel finds the sets of a packet's ends as Match does, whatever the sets
// become.
func TestNativeSetsAgainstMatch(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var addrs []netip.Addr
	for _, s := range []string{"10.0.0.1", "10.0.0.2", "10.1.0.1", "192.0.2.7", "0.0.0.1", "2001:db8::1", "2001:db8::2", "2001:db8:1::1", "::1"} {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	ports := []uint16{0, 80, 443, 32768, 65535}
	sets := make([]*pcapexpr.Set, 8)
	e := pcapexpr.None()
	for i := range sets {
		sets[i] = newSet("x")
	}
	// Each set's bit counts for one of the ends.
	for i := range 4 {
		e = pcapexpr.Or(e, pcapexpr.And(pcapexpr.SrcIn(sets[i]), pcapexpr.DstIn(sets[7-i])))
	}
	m := newMatcher(t, e)
	matches := 0
	const updates, packets = 60, 150
	for range updates {
		for _, s := range sets {
			var members []pcapexpr.Member
			for range rnd.IntN(7) {
				members = append(members, ends([]uint16{0, ports[rnd.IntN(len(ports))]}[rnd.IntN(2)], addrs[rnd.IntN(len(addrs))])...)
			}
			s.Replace(members)
		}
		if err := m.tracer.updateTargets(); err != nil {
			t.Fatal(err)
		}
		for range packets {
			p := randomPacket(rnd, addrs, ports)
			want := e.Match(p, pcapexpr.Meta{Len: uint32(len(p)), VLAN: -1})
			if want {
				matches++
			}
			if got := m.selects(p); got != want {
				t.Fatalf("packet %x: the kernel says %v, Match %v", p, got, want)
			}
		}
	}
	t.Logf("%d of %d packets matched", matches, updates*packets)
	if matches < updates*packets/20 {
		t.Errorf("only %d packets matched", matches)
	}
}
