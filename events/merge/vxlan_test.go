// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// TestVXLAN: frames of a tunnel have the same outer headers; the hash of what is
// behind them, the inner headers, tells them apart, also where they overtake.
func TestVXLAN(t *testing.T) {
	s := newSim(1, skew{}, skew{})
	start := uint64(2e9)
	const n = 40
	for i := range n {
		h := header(0, 1, 33333, 17) // UDP
		h.DstPort, h.Length, h.IPID = 4789, 134, 0
		id := s.next
		s.next++
		s.part(0, id, 0, start+uint64(i)*1e3, &h, uint32(1000+i), true)
		h.TTL--
		s.part(1, id, start+1e6+uint64(n-i)*1e3, 0, &h, uint32(1000+i), true)
		s.arrived[id] = true
	}
	out, r := mergeAll(t, s.sources()...)
	if len(out) != n || r.Packets != n || r.Ambiguous != 0 || r.NeverArrived != 0 {
		t.Fatalf("%d traversals, %+v", len(out), r)
	}
	for _, tr := range out {
		if len(tr.Parts) != 2 || tr.Parts[0].Packets[0] != tr.Parts[1].Packets[0] || tr.Verdict != events.Delivered {
			t.Errorf("%+v: %s", tr.Parts, tr.Summary)
		}
	}
}

// TestVXLANParts: a large TCP packet goes over the wire as several of the tunnel's.
// The sequence numbers of what they carry tell which they are.
func TestVXLANParts(t *testing.T) {
	carry := func(_ int, in bool, h *events.Header) {
		h.Inner, h.HasInner = h.Tuple, true
		h.Inner.Proto, h.DstPort = protoTCP, 8472
		h.Length += 50
		h.IPID = 0
		if !in {
			h.GSOSize = 1448
		}
	}
	out, r := exchange(t, 17, [][3]int{{1000, 2896, 0}, {3896, 2896, 10}}, [][3]int{{1000, 1448, 300}, {2448, 1448, 310}, {3896, 1448, 320}, {5344, 1448, 330}}, carry)
	if list := of(out, 7777); len(list) != 2 || r.Ambiguous != 0 || r.NeverArrived != 0 {
		t.Fatalf("%d traversals, %+v", len(list), r)
	}
	for _, tr := range of(out, 7777) {
		if tr.Verdict != events.Delivered || !slices.Contains(tr.Notes, "came to n2 as 2 packets") {
			t.Errorf("%s: %s %q", tr.Verdict, tr.Summary, tr.Notes)
		}
	}
}

// TestVXLANKeys: of packets with the same outer headers, and the same data, the
// inner connection tells which is which.
func TestVXLANKeys(t *testing.T) {
	s := newSim(1, skew{}, skew{})
	s.warm(20)
	start := uint64(2.2e9)
	for i := range 8 {
		h := header(0, 1, 7777, 17)
		h.DstPort, h.Length, h.HasInner = 8472, 102, true
		h.Inner = header(3, 4, 5000+i, protoTCP).Tuple
		id := s.next
		s.next++
		s.part(0, id, 0, start+uint64(i)*1e3, &h, 0, false)
		h.TTL--
		s.part(1, id, start+1e6+uint64(8-i)*1e3, 0, &h, 0, false)
	}
	out, r := mergeAll(t, s.sources()...)
	if list := of(out, 7777); len(list) != 8 || r.Ambiguous != 0 {
		t.Fatalf("%d traversals, %+v", len(list), r)
	}
	for _, tr := range of(out, 7777) {
		if len(tr.Parts) != 2 || tr.Parts[0].Packets[0] != tr.Parts[1].Packets[0] {
			t.Errorf("%+v: %s", tr.Parts, tr.Summary)
		}
	}
}

// TestUDPChecksum: a device may write a datagram's checksum after the node was
// seen to send it, into a tunnel's packet, too.
func TestUDPChecksum(t *testing.T) {
	for _, tunnel := range []bool{false, true} {
		s := newSim(1, skew{}, skew{})
		s.warm(20)
		h := header(0, 1, 7777, protoUDP)
		if tunnel {
			h.Inner, h.HasInner = h.Tuple, true
		}
		h.IPID, h.Seq = 77, 0x00281111
		id := s.next
		s.next++
		s.part(0, id, 0, 2.2e9, &h, 5, false)
		h.TTL--
		h.Seq = 0x00282222
		s.part(1, id, 2.2e9+1e5, 0, &h, 5, false)
		out, _ := mergeAll(t, s.sources()...)
		if list := of(out, 7777); len(list) != 1 || len(list[0].Parts) != 2 {
			t.Errorf("in a tunnel: %v: %d traversals", tunnel, len(list))
		}
	}
}

// TestLateParts: of a large packet whose parts came at a time that does not fit
// nobody says that it never arrived.
func TestLateParts(t *testing.T) {
	out, r := exchange(t, protoTCP, [][3]int{{1000, 2896, 0}, {9000, 2896, 20}}, [][3]int{{1000, 1448, 4_000_000}, {2448, 1448, 4_000_100}}, func(_ int, in bool, h *events.Header) {
		if !in {
			h.GSOSize = 1448
		}
	})
	if r.NeverArrived != 1 || r.Uncovered != 1 {
		t.Errorf("%+v", r)
	}
	said := ""
	for _, tr := range of(out, 7777) {
		said += tr.Summary + "\n"
	}
	if !strings.Contains(said, "at a time that does not fit") || !strings.Contains(said, "never arrived at n2") {
		t.Error(said)
	}
}
