// SPDX-License-Identifier: Apache-2.0

package merge

import (
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
