// SPDX-License-Identifier: Apache-2.0

package merge

import "testing"

// TestLateTwins: two packets that look alike and took much longer than all others
// are not joined, but neither are they said never to have arrived.
func TestLateTwins(t *testing.T) {
	s := newSim(1, skew{}, skew{})
	now := uint64(2e9)
	for i := range 60 {
		h := header(i%2, 1-i%2, 10000+i, protoTCP)
		h.IPID, h.Seq, h.TCPFlags = uint16(100+i), uint32(i), 0x18
		s.send(now, h, uint32(77+i), 0, i%2 == 1, i%2, 1-i%2)
		now += 1e6
	}
	for k := range 2 {
		h := header(1, 0, 9999, protoTCP)
		h.TCPFlags, h.Seq, h.Ack = 0x12, 5, 6
		id := s.next
		s.next++
		at := now + uint64(k)*1e9
		s.part(1, id, 0, at, &h, 0, true)
		h.TTL--
		s.part(0, id, at+60e6, 0, &h, 0, true)
		s.arrived[id] = true
	}
	h := header(0, 1, 5, protoTCP)
	h.IPID = 9999
	s.send(now+5e9, h, 3, 0, false, 0, 1) // so that the recordings go on
	out, r := mergeAll(t, s.sources()...)
	for _, tr := range out {
		if tr.Reason == "never-arrived" {
			t.Errorf("%v: %s", tr.Packets, tr.Summary)
		}
	}
	if r.NeverArrived != 0 {
		t.Errorf("%d never arrived", r.NeverArrived)
	}
}
