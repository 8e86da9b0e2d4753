// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// sim makes the traversals of nodes that send each other packets.
type sim struct {
	rnd   *rand.Rand
	nodes []*simNode
	next  uint64 // number of the next packet
	// arrived counts the packets that came to where they went, by number; left
	// those that left a node.
	arrived, left map[uint64]bool
	ipid          uint16
}

type simNode struct {
	name string
	clk  skew
	all  []*events.Traversal
	last uint64
}

func newSim(seed uint64, clocks ...skew) *sim {
	s := &sim{rnd: rand.New(rand.NewPCG(seed, 9)), arrived: map[uint64]bool{}, left: map[uint64]bool{}, next: 1}
	for i, k := range clocks {
		s.nodes = append(s.nodes, &simNode{name: fmt.Sprintf("n%d", i+1), clk: k})
	}
	return s
}

// part is what one node sees of a packet: it comes in at a true moment, leaves
// at another, or does only one of both (0).
func (s *sim) part(node int, id, in, out uint64, h *events.Header, hash uint32, reply bool) *events.Traversal {
	n := s.nodes[node]
	at := max(in, out)
	if in != 0 {
		at = in
	}
	t := &events.Traversal{
		Time: n.clk.wallOf(n.clk.mono(at)), ID: hexID(id<<8 | uint64(node)), Node: n.name, Flow: hexID(uint64(h.SrcPort) + uint64(node)*1e6),
		Direction: "request", Proto: "tcp", Stacks: 1, Verdict: events.Delivered, Summary: "1 stack, delivered to x", Complete: true,
		Packets: []uint64{id}, Src: events.Endpoint{IP: h.Src.String(), Port: h.SrcPort}, Dst: events.Endpoint{IP: h.Dst.String()},
		Visits: []events.Visit{{Name: n.name, Kind: events.KindNode, Entered: events.ViaSocket, Left: events.ViaSocket, Stacks: 1}},
	}
	if reply {
		t.Direction = "reply"
	}
	if in != 0 {
		t.In = &events.WireEnd{Time: n.clk.mono(in), Device: "eth0", Header: *h, Hash: hash}
		t.Visits[0].Entered = events.ViaDevice
	}
	if out != 0 {
		t.Out = &events.WireEnd{Time: n.clk.mono(out), Device: "eth0", Header: *h, Hash: hash}
		t.Verdict, t.Visits[0].Left, t.Summary = events.LeftNode, events.ViaDevice, "1 stack, left the node by eth0"
	}
	n.all = append(n.all, t)
	n.last = max(n.last, at)
	return t
}

// delay is how long a packet is on its way, in ns.
func (s *sim) delay() uint64 {
	if s.rnd.IntN(100) == 0 {
		return 3_000_000 + uint64(s.rnd.IntN(4_000_000))
	}
	return 60_000 + uint64(s.rnd.ExpFloat64()*150_000)
}

// send sends a packet over the nodes of a path, and may lose it on the way.
func (s *sim) send(t uint64, h events.Header, hash uint32, loss float64, reply bool, path ...int) {
	id := s.next
	s.next++
	s.part(path[0], id, 0, t, &h, hash, reply)
	s.left[id] = true
	for k, n := range path[1:] {
		if s.rnd.Float64() < loss {
			return
		}
		t += s.delay()
		h.TTL--
		out := uint64(0)
		if k < len(path)-2 {
			out = t + 20_000
		}
		s.part(n, id, t, out, &h, hash, reply)
		t = out
	}
	s.arrived[id] = true
}

func (s *sim) sources() []*Source {
	var out []*Source
	last := uint64(0)
	for _, n := range s.nodes {
		last = max(last, n.last)
	}
	for i, n := range s.nodes {
		slices.SortStableFunc(n.all, func(a, b *events.Traversal) int { return a.Time.Compare(b.Time) })
		out = append(out, &Source{
			Node: n.name, BootID: fmt.Sprint(i), RunID: fmt.Sprint(i), Wall: n.clk.wallOf, Start: n.clk.mono(1), End: n.clk.mono(last + 2e9),
			Addrs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", i))},
			Each: func(out func(*events.Traversal)) error {
				for _, t := range n.all {
					c := *t
					c.Notes, c.Visits = slices.Clone(t.Notes), slices.Clone(t.Visits)
					out(&c)
				}
				return nil
			},
		})
	}
	return out
}

func addrOf(node, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(node), byte(host)})
}

func header(from, to, sport int, proto uint8) events.Header {
	return events.Header{
		Tuple: events.Tuple{Src: addrOf(from, 1), Dst: addrOf(to, 1), SrcPort: uint16(sport), DstPort: 80, Proto: proto},
		TTL:   64, Length: 60,
	}
}

// traffic sends what is hard to tell apart: connections with retransmissions,
// and datagrams that look all the same.
func (s *sim) traffic(packets int, hashed bool) {
	now := uint64(2e9)
	seqs := make([]uint32, 64)
	nodes := len(s.nodes)
	for range packets {
		now += uint64(s.rnd.ExpFloat64() * 400_000)
		conn := s.rnd.IntN(len(seqs))
		from := conn % nodes
		to := (from + 1 + conn/nodes%(nodes-1)) % nodes
		reply := s.rnd.IntN(2) == 1
		if reply {
			from, to = to, from
		}
		hash := uint32(0)
		if hashed {
			hash = s.rnd.Uint32() | 1
		}
		switch kind := s.rnd.IntN(10); {
		case kind < 5: // TCP, of which some is sent again
			h := header(from, to, 10000+conn, protoTCP)
			s.ipid++
			h.IPID, h.Seq, h.TCPFlags = s.ipid, seqs[conn], 0x18
			h.Length = 152
			s.send(now, h, hash, 0.05, reply, from, to)
			if s.rnd.IntN(10) == 0 {
				s.ipid++
				h.IPID = s.ipid
				s.send(now+uint64(s.rnd.IntN(3_000_000)), h, hash, 0.05, reply, from, to)
			}
			seqs[conn] += 100
		case kind < 8: // a datagram like many others: no ID, same data
			h := header(from, to, 20000+conn, 17)
			s.send(now, h, 5, 0.1, reply, from, to)
		case kind < 9: // bursts of the same
			h := header(from, to, 30000+conn, 17)
			for range 1 + s.rnd.IntN(3) {
				s.send(now+uint64(s.rnd.IntN(2_000_000)), h, 0, 0.1, reply, from, to)
			}
		default: // pure acknowledgements of IPv4, all with ID 0
			h := header(from, to, 10000+conn, protoTCP)
			h.Seq, h.TCPFlags, h.Length = seqs[conn], 0x10, 40
			s.send(now, h, 0, 0.05, reply, from, to)
		}
	}
}

// TestRandom: no packet is joined to another one, whatever the clocks; most of
// those that can be told apart are joined; and none that arrived is said not to
// have.
func TestRandom(t *testing.T) {
	for what, k := range skews {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s %d", what, seed), func(t *testing.T) {
				s := newSim(seed+uint64(len(what)), skew{}, k, skew{wall: 20 * time.Millisecond, drift: -30e-6})
				if seed%2 == 0 {
					s.nodes = s.nodes[:2]
				}
				s.traffic(3000, seed < 2)
				checkSim(t, s)
			})
		}
	}
}

func checkSim(t *testing.T, s *sim) {
	t.Helper()
	out, r := mergeAll(t, s.sources()...)
	joined, wrong, falsely, gone, seen := 0, 0, 0, 0, map[uint64]int{}
	for _, tr := range out {
		ids := append([]uint64(nil), tr.Packets...)
		for _, p := range tr.Parts {
			ids = append(ids, p.Packets...)
		}
		for _, id := range ids {
			seen[id]++
		}
		switch {
		case len(tr.Parts) > 1 && len(slices.Compact(ids)) > 1:
			wrong++
		case len(tr.Parts) > 1:
			joined++
		case tr.Reason == "never-arrived" && s.arrived[ids[0]]:
			falsely++
		case tr.Reason == "never-arrived":
			gone++
		}
	}
	total := 0
	for _, n := range s.nodes {
		total += len(n.all)
	}
	parts := 0
	for _, n := range seen {
		parts += n
	}
	t.Logf("%d of %d that arrived are joined, %d of %d that did not are said to be gone; %d, %+v", joined, len(s.arrived), gone, len(s.left)-len(s.arrived), len(out), r)
	if wrong != 0 || falsely != 0 || parts != total {
		t.Errorf("%d wrongly joined, %d falsely gone; %d of %d parts given out", wrong, falsely, parts, total)
	}
	if joined < len(s.arrived)*8/10 {
		t.Errorf("only %d of %d are joined", joined, len(s.arrived))
	}
	for _, o := range r.Offsets {
		a, b := s.node(o.From), s.node(o.To)
		mid := (2e9 + float64(a.last)) / 2
		truth := b.clk.truth(uint64(mid)) - a.clk.truth(uint64(mid))
		if d := math.Abs(float64(o.OffsetNS) - truth); d > 1e6 || d > float64(o.ErrNS)+20e3 || math.Abs(o.DriftPPM-(b.clk.drift-a.clk.drift)*1e6) > 100 {
			t.Errorf("offset %+v, in truth %.0f and %.0f ppm", o, truth, (b.clk.drift-a.clk.drift)*1e6)
		}
	}
	if !slices.IsSortedFunc(out, func(a, b *events.Traversal) int { return cmp.Compare(a.Time.UnixMicro()/2000, b.Time.UnixMicro()/2000) }) {
		t.Error("out of order")
	}
}

func (s *sim) node(name string) *simNode {
	for _, n := range s.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}
