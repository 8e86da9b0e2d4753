// SPDX-License-Identifier: Apache-2.0

package events

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestRecent compares with a map and a list, over keys that come back and keys
// that do not.
func TestRecent(t *testing.T) {
	for _, tt := range []struct{ limit, keys int }{{1, 3}, {2, 2}, {7, 5}, {31, 40}, {32, 1000}, {1000, 1500}, {4096, 1 << 30}} {
		var r recent[int, int]
		r.init(tt.limit)
		rng := rand.New(rand.NewPCG(1, uint64(tt.limit))) //nolint:gosec // a test's
		known, order := map[int]int{}, []int{}
		for i := range 20 * tt.limit {
			key := rng.IntN(tt.keys)
			if rng.IntN(4) == 0 {
				want, ok := known[key]
				if got := r.get(key); (got != nil) != ok || (ok && *got != want) {
					t.Fatalf("limit %d, step %d: get(%d) = %v, want %d, %v", tt.limit, i, key, got, want, ok)
				}
				continue
			}
			_, ok := known[key]
			if !ok {
				if order = append(order, key); len(order) > tt.limit {
					delete(known, order[0])
					order = order[1:]
				}
			}
			value, was := r.put(key)
			if was != ok || *value != known[key] {
				t.Fatalf("limit %d, step %d: put(%d) = %d, %v, want %d, %v", tt.limit, i, key, *value, was, known[key], ok)
			}
			*value, known[key] = i, i
		}
		for key, want := range known {
			if got := r.get(key); got == nil || *got != want {
				t.Errorf("limit %d: get(%d) = %v, want %d", tt.limit, key, got, want)
			}
		}
		if len(r.entries) != len(known) || len(r.slots) < 2*len(known) {
			t.Errorf("limit %d: %d entries in %d slots, want %d", tt.limit, len(r.entries), len(r.slots), len(known))
		}
	}
}

// TestPlain: an address without its pointer is the same one.
func TestPlain(t *testing.T) {
	seen := map[plainEnd]netip.AddrPort{}
	for _, want := range []netip.AddrPort{
		{}, netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("0.0.0.0:0"), netip.MustParseAddrPort("[::]:0"),
		netip.MustParseAddrPort("[::ffff:10.0.0.1]:80"), netip.MustParseAddrPort("[fd00::1]:443"), netip.MustParseAddrPort("[fd00::1]:444"),
	} {
		e := plainEndOf(want.Addr(), want.Port())
		if got := netip.AddrPortFrom(e.addr.addr(), e.port); got != want || e.String() != want.String() {
			t.Errorf("%v became %v", want, got)
		}
		if other, ok := seen[e]; ok {
			t.Errorf("%v and %v are the same", want, other)
		}
		seen[e] = want
	}
}
