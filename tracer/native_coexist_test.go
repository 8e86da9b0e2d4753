// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/stackhop/stackhop/events"
)

// A foreign is somebody else's tc program, which counts what passes.
type foreign struct {
	prog  *ebpf.Program
	count *ebpf.Map
}

// What a program on tc says of a packet (linux/bpf.h, enum tcx_action_base).
const (
	tcxNext = -1
	tcxPass = 0
	tcxDrop = 2
)

// newForeign makes a program that counts packets of a length, its link-layer header with
// it, and says of them and all others: says.
func newForeign(t *testing.T, name string, length, says int32) foreign {
	t.Helper()
	count, err := ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { count.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 0, asm.Word), // skb->len
		asm.JNE.Imm(asm.R6, length, "out"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, count.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, says).WithSymbol("out"),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return foreign{prog, count}
}

func (f foreign) seen(t *testing.T) (n uint64) {
	t.Helper()
	if err := f.count.Lookup(uint32(0), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (f foreign) id(t *testing.T) ebpf.ProgramID {
	t.Helper()
	info, err := f.prog.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return id
}

// A side is the ingress of a device in a cluster's node, where others have programs.
type side struct {
	t     *testing.T
	c     *cluster
	index int
	known []ebpf.ProgramID // the test's own and its tracers': a tool of another test may be there too
}

func ingressOf(t *testing.T, c *cluster, device string) *side {
	t.Helper()
	s := &side{t: t, c: c}
	c.in(c.node, func(h *netlink.Handle) error {
		l, err := h.LinkByName(device)
		if err == nil {
			s.index = l.Attrs().Index
		}
		return err
	})
	return s
}

// attach puts a program there by link, for as long as the test takes.
func (s *side) attach(f foreign, at link.Anchor) {
	s.t.Helper()
	s.c.within(s.c.node, func() error {
		l, err := link.AttachTCX(link.TCXOptions{Interface: s.index, Program: f.prog, Attach: ebpf.AttachTCXIngress, Anchor: at})
		if err == nil {
			s.t.Cleanup(func() { l.Close() })
		}
		return err
	})
	s.known = append(s.known, f.id(s.t))
}

// trace starts a tracer.
func (s *side) trace(cfg Config) *run {
	s.t.Helper()
	r := startRun(s.t, cfg, nil)
	s.known = append(s.known, foreign{prog: r.tracer.tc.ingress.prog}.id(s.t))
	return r
}

// attachFilter puts it there as a filter of a clsact qdisc, as before 6.6.
func (s *side) attachFilter(f foreign) {
	s.t.Helper()
	s.c.within(s.c.node, func() error {
		q := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: s.index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
		filter := (&cleaner{handle: 7}).filter(s.index, netlink.HANDLE_MIN_INGRESS)
		filter.Name, filter.Priority, filter.Fd = "somebody", 1, f.prog.FD()
		return errors.Join(netlink.QdiscAdd(q), netlink.FilterAdd(filter))
	})
}

// order lists the known programs that are there by link.
func (s *side) order() (ids []ebpf.ProgramID) {
	s.t.Helper()
	s.c.within(s.c.node, func() error {
		got, err := link.QueryPrograms(link.QueryOptions{Target: s.index, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		for _, p := range got.Programs {
			if slices.Contains(s.known, p.ID) {
				ids = append(ids, p.ID)
			}
		}
		return nil
	})
	return ids
}

// expect checks which of them are there, in order, beside so many of ours.
func (s *side) expect(when string, ours int, others ...ebpf.ProgramID) {
	s.t.Helper()
	got := s.order()
	theirs := slices.DeleteFunc(slices.Clone(got), func(id ebpf.ProgramID) bool { return !slices.Contains(others, id) })
	if len(got)-len(theirs) != ours || !slices.Equal(theirs, others) {
		s.t.Errorf("%s: programs %v, want those of others %v, in this order, and %d of ours", when, got, others, ours)
	}
}

// at counts the events of a hook at the device.
func (s *side) at(r *run, hook string) (n int) {
	id := r.hook(hook)
	for _, e := range r.seen() {
		if e.Hook == id && int(e.Ifindex) == s.index {
			n++
		}
	}
	return n
}

// frame is the length of a datagram's frame: Ethernet, IPv4 and UDP before it.
func frame(size int) int32 { return int32(14 + 20 + 8 + size) }

// Whoever has programs on a device keeps them, in their order, and they see all packets:
// those that were there before us, one that comes while we trace, a filter of the old kind,
// and another tracer.
func TestNativeCoexistence(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	const n, size = 5, 333
	if !haveTCX(acceptAll(t)) {
		t.Skip("this kernel has no links on tc (6.6); TestNativeCleanerKeepsOthers is of filters alone")
	}
	s := ingressOf(t, c, a.host)
	first, last := newForeign(t, "first", frame(size), tcxNext), newForeign(t, "last", frame(size), tcxNext)
	filter, late := newForeign(t, "filter", frame(size), tcxNext), newForeign(t, "late", frame(size), tcxNext)
	s.attach(last, link.Tail())
	s.attach(first, link.Head())
	s.attachFilter(filter)
	s.expect("before", 0, first.id(t), last.id(t))

	cfg := Config{Select: expression(t, fmt.Sprintf("udp and dst %s", b.addr))}
	one := s.trace(cfg)
	eventually(t, "we are on the device", func() bool { return len(s.order()) == 3 })
	s.attach(late, link.Head())
	s.expect("with one tracer", 1, late.id(t), first.id(t), last.id(t))
	two := s.trace(cfg)
	eventually(t, "both are on the device", func() bool { return len(s.order()) == 5 })
	s.expect("with two tracers", 2, late.id(t), first.id(t), last.id(t))
	say(t, c, a, b, 4301, n, size)
	for _, r := range []*run{one, two} {
		eventually(t, "all have arrived", func() bool { _, arrived := r.arrivals(b); return arrived >= n })
	}
	two.stop()
	eventually(t, "the other one has gone", func() bool { return len(s.order()) == 4 }) // links are let go of in the background
	s.expect("behind one of them", 1, late.id(t), first.id(t), last.id(t))
	say(t, c, a, b, 4301, n, size)
	eventually(t, "all others have arrived", func() bool { _, arrived := one.arrivals(b); return arrived >= 2*n })
	one.stop()
	eventually(t, "we have gone", func() bool { return len(s.order()) == 3 })
	s.expect("behind both", 0, late.id(t), first.id(t), last.id(t))
	c.within(c.node, func() error {
		l, err := netlink.LinkByIndex(s.index)
		if err != nil {
			return err
		}
		if total, own := countFilters(l); total != 1 || own != 0 {
			return fmt.Errorf("%d filters, %d of them ours; want the other one alone", total, own)
		}
		return nil
	})
	for name, f := range map[string]foreign{"first": first, "last": last, "filter": filter, "late": late} {
		if got := f.seen(t); got != 2*n {
			t.Errorf("the program %s saw %d packets, want %d", name, got, 2*n)
		}
	}
	if got, other := s.at(one, "tc_ingress"), s.at(two, "tc_ingress"); got != 2*n || other != n {
		t.Errorf("we saw %d and %d packets on tc, want %d and %d", got, other, 2*n, n)
	}
	t.Logf("%d packets beside three programs by link, a filter and another tracer: order kept, all seen by all", 2*n)
}

// One in front of ours, as of a network plugin, may let nobody behind it see a packet: then
// tc_ingress is missing where it was, and what became of the packet is told all the same.
func TestNativeBehindOthers(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	const n, size = 5, 222
	if !haveTCX(acceptAll(t)) {
		t.Skip("this kernel has no links on tc (6.6): filters of equal priority run in the order in which they came")
	}
	s := ingressOf(t, c, a.host)
	for _, tt := range []struct {
		name    string
		says    int32
		arrive  int
		dropped int
	}{{"lets it pass", tcxPass, n, 0}, {"drops it", tcxDrop, 0, n}} {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			front := newForeign(t, "front", frame(size), tt.says)
			r := s.trace(Config{Select: expression(t, fmt.Sprintf("udp and dst %s", b.addr))})
			eventually(t, "we are on the device", func() bool { return len(s.order()) == 1 })
			s.attach(front, link.Head())
			client := c.dialUDP(a, b, 4302)
			server := c.listenUDP(b, 4302)
			defer server.Close()
			for range n {
				if _, err := client.Write(make([]byte, size)); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all have come to their end", func() bool {
				_, arrived := r.arrivals(b)
				return arrived >= tt.arrive && s.at(r, "netif_receive_skb") >= n && front.seen(t) >= n && dropsOf(r) >= tt.dropped
			})
			r.stop()
			if got := s.at(r, "tc_ingress"); got != 0 {
				t.Errorf("%d packets came to tc_ingress behind who ends there", got)
			}
			_, arrived := r.arrivals(b)
			if got := dropsOf(r); arrived != tt.arrive || got != tt.dropped {
				t.Errorf("%d arrived, %d were dropped; want %d, %d", arrived, got, tt.arrive, tt.dropped)
			}
			for _, tr := range r.stitch() {
				if int32(tr.Length) != frame(size)-14 {
					continue
				}
				t.Log(tr.Summary)
				if (tr.Verdict == events.Terminated) != (tt.dropped > 0) {
					t.Errorf("%s: %s", tt.name, tr.Summary)
				}
			}
		})
	}
}

// dropsOf counts the packets that were dropped.
func dropsOf(r *run) (n int) {
	id := r.hook("kfree_skb")
	for _, e := range r.seen() {
		if e.Hook == id {
			n++
		}
	}
	return n
}
