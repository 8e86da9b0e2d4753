// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import "testing"

// TestPacketSweep: an entry is stale that was the same at so many looks one after the
// other, and none that moved, was away, or became another packet's in between.
func TestPacketSweep(t *testing.T) {
	const skb, still = 64, "......"
	tests := []struct {
		name, looks string // one letter a look, . for the same as before
		stale       bool
	}{
		{"stands still", "a" + still[:staleLooks], true},
		{"one look less", "a" + still[:staleLooks-1], false},
		{"moves on", "a....b....", false},
		{"moves on, then stands still", "a....b.....", true},
		{"is away once", "a....-......", true}, // it counts anew
		{"is away, and not for long enough since", "a....-.....", false},
		{"another packet", "a....A....", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &packetSweep{seen: map[uint64]lastSeen{}, next: map[uint64]lastSeen{}}
			var p packetValue
			stale := false
			for i, c := range tt.looks {
				switch c {
				case 'a', 'b':
					p = packetValue{ID: 1, Seq: uint16(c)}
				case 'A':
					p = packetValue{ID: 2, Seq: 'a'}
				}
				if c != '-' {
					stale = s.look(skb, &p)
				}
				if stale != (tt.stale && i == len(tt.looks)-1) {
					t.Fatalf("look %d: stale is %t", i, stale)
				}
				s.end()
			}
			if stale == (len(s.seen) > 0) {
				t.Errorf("stale is %t, and %d are remembered", stale, len(s.seen))
			}
		})
	}
}
