// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// warm lets packets go both ways, so that the clocks are known.
func (s *sim) warm(n int) {
	for i := range n {
		for from := range s.nodes {
			for to := range s.nodes {
				if from != to {
					h := header(from, to, 999, protoTCP)
					h.Seq, h.IPID, h.TCPFlags = uint32(i), uint16(i+1), 2
					s.send(uint64(2e9)+uint64(i)*5e6, h, 0, 0, from > to, from, to)
				}
			}
		}
	}
}

// of are the traversals of a source port.
func of(out []*events.Traversal, port uint16) (list []*events.Traversal) {
	for _, t := range out {
		if t.Src.Port == port {
			list = append(list, t)
		}
	}
	return list
}

// one sends over one wire the packets whose data is out, and lets in arrive:
// both are sequence number, length of the data and, behind the slash, time in
// µs. It returns what is made of them.
func exchange(t *testing.T, proto uint8, out, in [][3]int, change func(n int, in bool, h *events.Header)) ([]*events.Traversal, *Report) {
	t.Helper()
	s := newSim(1, skew{}, skew{wall: -3 * time.Second, drift: 50e-6})
	s.warm(20)
	add := func(list [][3]int, isIn bool) {
		for i, p := range list {
			h := header(0, 1, 7777, proto)
			h.Seq, h.Length, h.TCPFlags, h.IPID = uint32(p[0]), uint32(52+p[1]), 0x10, uint16(4000+p[0]/1448)
			if change != nil {
				change(i, isIn, &h)
			}
			at := uint64(2.2e9) + uint64(p[2])*1000
			id := s.next
			s.next++
			if isIn {
				s.part(1, id, at, 0, &h, 0, false)
			} else {
				s.part(0, id, 0, at, &h, 0, false)
			}
		}
	}
	add(out, false)
	add(in, true)
	all, r := mergeAll(t, s.sources()...)
	return of(all, 7777), r
}

// TestParts: packets that were cut or merged on their way are joined where
// their sequence numbers tell it.
func TestParts(t *testing.T) {
	type p = [][3]int
	for _, tt := range []struct {
		name    string
		out, in p
		want    []string // notes or end of the summary of each that left
	}{
		{"cut in three", p{{1000, 4344, 0}}, p{{1000, 1448, 100}, {2448, 1448, 110}, {3896, 1448, 120}}, []string{"came to n2 as 3 packets"}},
		{"two, cut in three and two", p{{1000, 4344, 0}, {5344, 2896, 5}}, p{{1000, 1448, 100}, {2448, 1448, 110}, {3896, 1448, 120}, {5344, 1448, 130}, {6792, 1448, 140}}, []string{"came to n2 as 3 packets", "came to n2 as 2 packets"}},
		{"three, merged", p{{1000, 1448, 0}, {2448, 1448, 3}, {3896, 1448, 6}}, p{{1000, 4344, 100}}, []string{"came to n2 merged with 2 other packets", "came to n2 merged with 2 other packets", "came to n2 merged with 2 other packets"}},
		{"cut anew", p{{1000, 4344, 0}, {5344, 4344, 5}}, p{{1000, 2896, 100}, {3896, 2896, 110}, {6792, 2896, 120}}, []string{"came to n2 as 2 packets", "came to n2 as 2 packets"}},
		{"wrapping", p{{1<<32 - 1448, 2896, 0}}, p{{1<<32 - 1448, 1448, 100}, {0, 1448, 110}}, []string{"came to n2 as 2 packets"}},
		{"one of them gone", p{{1000, 1448, 0}, {2448, 1448, 3}, {3896, 1448, 6}}, p{{1000, 2896, 100}}, []string{"came to n2 merged with 1 other packet", "came to n2 merged with 1 other packet", "never arrived at n2"}},
		{"sent twice, and only one merged", p{{1000, 1448, 0}, {1000, 1448, 300}, {2448, 1448, 303}}, p{{1000, 2896, 500}}, []string{"1 packet that came to n2 may be this one, so it is joined to none", "1 packet that came to n2 may be this one, so it is joined to none", "1 packet that came to n2 may be this one, so it is joined to none"}},
		{"other data", p{{1000, 1448, 0}}, p{{50000, 2896, 100}}, []string{"never arrived at n2"}},
		{"much later", p{{1000, 2896, 0}}, p{{1000, 1448, 900_000}}, []string{"one that may be this came to n2, but at a time that does not fit"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, r := exchange(t, protoTCP, tt.out, tt.in, func(n int, in bool, h *events.Header) {
				if tt.name == "sent twice, and only one merged" && !in {
					h.IPID += uint16(n * 100)
				}
			})
			var ends []string
			joined := 0
			for _, tr := range got {
				if len(tr.Parts) > 1 {
					joined++
					ends = append(ends, strings.Join(tr.Notes, "; "))
					if tr.Verdict != events.Delivered || tr.Stacks != 2 {
						t.Errorf("%s %v", tr.Verdict, tr.Stacks)
					}
				} else if tr.Out != nil {
					ends = append(ends, strings.TrimLeft(strings.TrimPrefix(tr.Summary, "1 stack, left n1 by eth0"), ",; "))
				}
			}
			if !slices.Equal(ends, tt.want) {
				t.Errorf("%q, want %q; %+v", ends, tt.want, r)
			}
		})
	}
}

// TestPartLost: a packet of which one part did not arrive did not arrive.
func TestPartLost(t *testing.T) {
	s := newSim(1, skew{}, skew{})
	s.warm(20)
	h := header(0, 1, 7777, protoTCP)
	h.Seq, h.Length, h.TCPFlags = 1000, 52+2896, 0x10
	s.part(0, 900, 0, 2.2e9, &h, 0, false)
	h.Length = 52 + 1448
	s.part(1, 901, 2.2e9+1e5, 0, &h, 0, false)
	h.Seq += 1448
	bad := s.part(1, 902, 2.2e9+1e5, 0, &h, 0, false)
	bad.Verdict, bad.Where, bad.Summary, bad.Visits[0].Left = events.Terminated, "netfilter", "1 stack, terminated in netfilter: dropped", events.ViaTerminated
	all, _ := mergeAll(t, s.sources()...)
	got := of(all, 7777)
	if len(got) != 1 || got[0].Verdict != events.Terminated || got[0].Notes[0] != "came to n2 as 2 packets, 1 of them arrived" || got[0].Summary != "2 stacks, terminated in netfilter: dropped" {
		t.Errorf("%d: %s %v", len(got), got[0].Summary, got[0].Notes)
	}
}

// TestFragments: all fragments of a datagram are the packet that it was.
func TestFragments(t *testing.T) {
	got, r := exchange(t, 17, [][3]int{{0, 1448, 0}}, [][3]int{{0, 1448, 100}, {0, 1448, 105}, {0, 100, 110}}, func(n int, in bool, h *events.Header) {
		h.Seq, h.IPID, h.Fragment, h.TCPFlags = 0, 4711, true, 0
		if n > 0 {
			h.SrcPort, h.DstPort = 0, 0
		}
	})
	if len(got) != 1 || strings.Join(got[0].Notes, ";") != "came to n2 as 3 fragments" || got[0].Verdict != events.Delivered || r.Packets != 41 {
		t.Errorf("%d, %+v: %v", len(got), r, got[0])
	}
}

// TestDatagramsCut: nothing tells which datagrams one was cut into.
func TestDatagramsCut(t *testing.T) {
	got, _ := exchange(t, 17, [][3]int{{0, 2896, 0}}, [][3]int{{0, 1448, 100}, {0, 1448, 105}}, func(n int, in bool, h *events.Header) {
		h.Seq, h.TCPFlags = 0, 0
		if !in {
			h.GSOSize = 1448
		}
	})
	if len(got) != 3 || got[0].Verdict != events.LeftNode || !strings.Contains(got[0].Summary, "to be cut in several") {
		t.Errorf("%d: %s", len(got), got[0].Summary)
	}
}

// TestChain: a packet over three nodes, one of which only routes it, is one;
// so is one that a router sends back and forth.
func TestChain(t *testing.T) {
	for name, unknown := range map[string]bool{"": false, "no identification": true} {
		t.Run(name, func(t *testing.T) {
			s := newSim(3, skew{}, skew{wall: time.Hour}, skew{wall: -time.Hour, drift: 40e-6})
			for i := range 50 {
				for _, path := range [][]int{{0, 1, 2}, {2, 1, 0}, {0, 1, 2, 1, 0}} {
					h := header(path[0], path[len(path)-1], 1000+len(path), protoTCP)
					h.Seq, h.IPID, h.TCPFlags, h.TTL = uint32(i*100), uint16(i+1), 0x18, 64
					if unknown {
						h.IPID = 0
					}
					s.send(2e9+uint64(i)*30e6, h, 0, 0, path[0] == 2, path...)
				}
			}
			out, r := mergeAll(t, s.sources()...)
			for _, tr := range out {
				ids := map[uint64]bool{}
				for _, p := range tr.Parts {
					ids[p.Packets[0]] = true
				}
				if want := float64(len(tr.Parts)); len(ids) != 1 || (len(tr.Parts) != 3 && len(tr.Parts) != 5) || tr.Stacks != want || tr.Verdict != events.Delivered || tr.Summary != fmt.Sprintf("%v stacks, delivered to x", want) {
					t.Fatalf("%d parts of %d packets: %s", len(tr.Parts), len(ids), tr.Summary)
				}
				last := time.Duration(0)
				for _, v := range tr.Visits {
					if d := time.Duration(v.StartNS); d < last || d > time.Second {
						t.Fatalf("visit of %s at %s, behind %s", v.Node, d, last)
					}
					last = time.Duration(v.StartNS)
				}
			}
			if len(out) != 150 || r.Packets != 150 || r.Ambiguous+r.NeverArrived+r.Uncovered+r.FromElsewhere != 0 {
				t.Errorf("%d, %+v", len(out), r)
			}
		})
	}
}

// TestOneWay: packets of one direction bound the clocks on one side only, which
// is said.
func TestOneWay(t *testing.T) {
	for _, from := range []int{0, 1} {
		s := newSim(5, skew{}, skew{wall: 250 * time.Millisecond})
		for i := range 100 {
			h := header(from, 1-from, 1000, protoTCP)
			h.Seq, h.IPID = uint32(i), uint16(i+1)
			s.send(2e9+uint64(i)*1e6, h, 0, 0, false, from, 1-from)
		}
		_, r := mergeAll(t, s.sources()...)
		if len(r.Offsets) != 1 {
			t.Fatalf("%+v", r)
		}
		o := r.Offsets[0]
		if o.ErrNS != -1 || o.OneWay != s.nodes[from].name || math.Abs(float64(o.OffsetNS)-250e6) > 1e6 || !strings.Contains(r.Lines()[0], "only the other direction would tell") {
			t.Errorf("%+v: %s", o, r.Lines())
		}
		if r.Packets != 100 {
			t.Errorf("%d joined", r.Packets)
		}
	}
}

// TestClockJumps: packets are joined before and behind a jump of a clock, and
// the jump is named.
func TestClockJumps(t *testing.T) {
	s := newSim(7, skew{}, skew{})
	s.traffic(2000, true)
	jump := (2e9 + s.nodes[1].last) / 2
	src := s.sources()
	wall := src[1].Wall
	src[1].Wall = func(mono uint64) time.Time {
		if mono > jump {
			return wall(mono).Add(700 * time.Millisecond)
		}
		return wall(mono)
	}
	_, r := mergeAll(t, src...)
	text := strings.Join(r.Lines(), "\n")
	if len(r.Clocks) != 1 || !strings.Contains(text, "the clock of n2 jumped by +") || r.Packets < len(s.arrived)*8/10 {
		t.Errorf("%d of %d joined\n%s", r.Packets, len(s.arrived), text)
	}
}

// TestFlows: what each node calls a flow becomes one, and its direction is that
// of the first node.
func TestFlows(t *testing.T) {
	s := newSim(11, skew{}, skew{})
	for i := range 20 {
		h := header(0, 1, 1000+i%2, protoTCP)
		h.Seq, h.IPID = uint32(i), uint16(i+1)
		s.send(2e9+uint64(i)*1e6, h, 0, 0, false, 0, 1)
	}
	for _, tr := range s.nodes[1].all {
		tr.Direction = "reply" // it has heard the other end first
	}
	h := header(1, 1, 1000, 17)
	h.SrcPort = 1001
	local := s.part(1, 500, 0, 0, &h, 0, false) // of a joined flow, but never on the wire
	local.Time, local.Flow = s.nodes[1].clk.wallOf(3e9), hexID(1001+1e6)
	other := s.part(1, 501, 0, 0, &h, 0, false)
	other.Time, other.Flow = s.nodes[1].clk.wallOf(3e9), hexID(1000) // the number of another flow on n1
	out, _ := mergeAll(t, s.sources()...)
	flows := map[string][]string{}
	for _, tr := range out {
		flows[tr.Flow] = append(flows[tr.Flow], tr.Direction)
	}
	if len(out) != 22 || len(flows) != 3 || len(flows[hexID(1000)]) != 10 || len(flows[hexID(1001)]) != 11 {
		t.Errorf("%d traversals, flows %v", len(out), flows)
	}
	if d := flows[hexID(1001)]; d[10] != "reply" || slices.Contains(d[:10], "reply") {
		t.Errorf("directions %v", d)
	}
}

// TestLinks: what caused what is told by the ids of the whole, and how it ended
// there.
func TestLinks(t *testing.T) {
	c := readCapture(t, "6.12-case4")
	out, _ := mergeAll(t, nodeSource(c, "n1", skew{}, nil), nodeSource(c, "n2", skew{wall: time.Second}, nil))
	ids := map[string]*events.Traversal{}
	for _, tr := range out {
		ids[tr.ID] = tr
	}
	links := 0
	for _, tr := range out {
		if tr.CausedBy != "" {
			links++
			if c := ids[tr.CausedBy]; c == nil || !strings.HasSuffix(tr.CausedByText, ", "+string(c.Verdict)) {
				t.Errorf("caused by %s, %q", tr.CausedBy, tr.CausedByText)
			}
		}
		for i, id := range tr.Causes {
			if c := ids[id]; c == nil || !slices.Contains([]string{tr.ID, ""}, c.CausedBy) || !strings.HasSuffix(tr.CausesText[i], ", "+string(c.Verdict)) {
				t.Errorf("causes %s, %q", id, tr.CausesText[i])
			}
		}
	}
	if links == 0 {
		t.Error("no links")
	}
}

// TestTranslated: a load balancer between the nodes changes addresses; what it
// leaves alone tells that it is the same packet.
func TestTranslated(t *testing.T) {
	for _, hashed := range []uint32{0, 99} {
		s := newSim(13, skew{}, skew{wall: -3 * time.Second})
		s.warm(20)
		for i := range 10 {
			h := header(0, 1, 7777, protoTCP)
			h.Seq, h.IPID, h.Length = uint32(i*100), uint16(500+i), 152
			h.Dst, h.DstPort = addrOf(9, 9), 443 // the load balancer's
			at := 2.3e9 + uint64(i)*1e6
			s.part(0, s.next, 0, at, &h, hashed, false)
			h.Dst, h.DstPort = addrOf(1, 1), 30080
			if hashed != 0 {
				h.Src, h.SrcPort = addrOf(9, 9), 7777
			}
			s.part(1, s.next, at+2e5, 0, &h, hashed, false)
			s.next++
		}
		out, r := mergeAll(t, s.sources()...)
		got := of(out, 7777)
		for _, tr := range got {
			if len(tr.Parts) != 2 || tr.Parts[0].Packets[0] != tr.Parts[1].Packets[0] || len(tr.Notes) != 1 || !strings.HasPrefix(tr.Notes[0], "the network between n1 and n2 translated it: 10.0.0.1:7777→10.0.9.9:443 became ") {
				t.Errorf("%d parts, %q: %s", len(tr.Parts), tr.Notes, tr.Summary)
			}
		}
		if len(got) != 10 || r.Uncovered != 0 {
			t.Errorf("%d, %+v", len(got), r)
		}
	}
}

// BenchmarkMerge is for 200,000 packets between two nodes.
func BenchmarkMerge(b *testing.B) {
	s := newSim(1, skew{}, skew{wall: -3 * time.Second, drift: 50e-6})
	s.traffic(180_000, true)
	src := s.sources()
	for b.Loop() {
		if _, err := Merge(src, func(*events.Traversal) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(s.nodes[0].all)+len(s.nodes[1].all))*float64(b.N)/b.Elapsed().Seconds(), "traversals/s")
}

// TestAlike: of datagrams that look the same those are joined of which the
// times leave no choice; of the others it is said how many fit.
func TestAlike(t *testing.T) {
	const fit = "s that came to n2 may be this one, so it is joined to none"
	for _, tt := range []struct {
		name    string
		out, in []int // µs
		joined  []int // for each that left, the one that came; -1: none
		ends    []string
		notes   string // of what came and is not joined
	}{
		{"one after the other", []int{0, 1000, 2000}, []int{300, 1300, 2300}, []int{0, 1, 2}, nil, ""},
		{"far apart, one is lost", []int{0, 100_000, 200_000}, []int{300, 200_300}, []int{0, -1, 1}, []string{"", ", never arrived at n2", ""}, ""},
		{"close, one is lost", []int{0, 1000}, []int{1300}, []int{-1, -1}, []string{"; 1 packet that came to n2 may be this one, so it is joined to none", "; 1 packet that came to n2 may be this one, so it is joined to none"}, "2 packets that left n1 may be this one, so it is joined to none"},
		{"close, and the order is not known", []int{0, 50}, []int{300, 350}, []int{-1, -1}, []string{"; 2 packet" + fit, "; 2 packet" + fit}, "2 packets that left n1 may be this one, so it is joined to none"},
		{"came twice", []int{0, 100_000}, []int{300, 310, 100_300}, []int{-1, 2}, []string{"; 2 packet" + fit, ""}, "1 packet that left n1 may be this one, so it is joined to none"},
		{"came before it left", []int{0, 1000, 100_000}, []int{700, 100_300}, []int{0, -1, 1}, []string{"", ", never arrived at n2", ""}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, in [][3]int
			for _, at := range tt.out {
				out = append(out, [3]int{0, 100, at})
			}
			for _, at := range tt.in {
				in = append(in, [3]int{0, 100, at})
			}
			got, r := exchange(t, 17, out, in, func(_ int, _ bool, h *events.Header) { h.IPID, h.Seq, h.TCPFlags = 0, 0, 0 })
			k := 0
			for _, tr := range got {
				if tr.Node != "n1" {
					if notes := strings.Join(tr.Notes, "; "); notes != tt.notes {
						t.Errorf("came with %q, want %q", notes, tt.notes)
					}
					continue
				}
				// The packets that came are numbered behind those that left.
				id := -1
				if len(tr.Parts) > 1 {
					id = int(tr.Parts[1].Packets[0]-tr.Parts[0].Packets[0]) + k - len(tt.out) //nolint:gosec // few
				}
				if id != tt.joined[k] {
					t.Errorf("%d is joined to %d, want %d: %s", k, id, tt.joined[k], tr.Summary)
				}
				if id < 0 && tr.Summary != "1 stack, left n1 by eth0"+tt.ends[k] {
					t.Errorf("%d: %q, want %q", k, tr.Summary, tt.ends[k])
				}
				k++
			}
			if k != len(tt.out) {
				t.Errorf("%d left, %+v", k, r)
			}
		})
	}
}
