// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestPseudonymsStay: files that different versions redact with one key have the
// same pseudonyms.
func TestPseudonymsStay(t *testing.T) {
	var key [32]byte
	for i := range key {
		key[i] = byte(i)
	}
	p := newPAN(key, nil)
	for _, v := range [][2]string{
		{"172.23.96.23", "148.135.110.181"}, {"172.23.96.24", "148.135.110.189"}, {"8.219.164.113", "75.91.233.40"},
		{"2001:db8::1", "9320:97c4:9437:2f53:fcc0:d778:4175:2d41"}, {"2001:db8::2", "9320:97c4:9437:2f53:fcc0:d778:4175:2d43"},
	} {
		was, want := netip.MustParseAddr(v[0]), netip.MustParseAddr(v[1])
		if got := p.pseudonym(was); got != want {
			t.Errorf("pseudonym of %s: %s, want %s", was, got, want)
		}
		if got := p.original(want); got != was {
			t.Errorf("original of %s: %s, want %s", want, got, was)
		}
	}
}

// common is how many leading bits two addresses of one family share.
func common(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return a.BitLen()
}

// neighbours makes pairs of addresses that share a random number of bits; some
// of them are near the special ranges.
func neighbours(n int, each func(a, b netip.Addr)) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func(size int) netip.Addr {
		var b [16]byte
		binary.LittleEndian.PutUint64(b[:], rnd.Uint64())
		binary.LittleEndian.PutUint64(b[8:], rnd.Uint64())
		a, _ := netip.AddrFromSlice(b[:size])
		return a
	}
	for i := range n {
		a := random([]int{4, 16}[i%2])
		if i%4 < 2 {
			f := specialRanges[rnd.IntN(len(specialRanges))].prefix.Addr()
			a = splice(f, random(f.BitLen()/8), rnd.IntN(f.BitLen()+1))
		}
		each(a, splice(a, random(a.BitLen()/8), rnd.IntN(a.BitLen()+1)))
	}
}

// splice takes the first n bits of a and the rest of b.
func splice(a, b netip.Addr, n int) netip.Addr {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		mask := byte(0xff)
		switch k := n - 8*i; {
		case k >= 8:
			mask = 0
		case k > 0:
			mask >>= k
		}
		x[i] = x[i]&^mask | y[i]&mask
	}
	s, _ := netip.AddrFromSlice(x)
	return s
}

// TestPrefixesPreserved: exactly as many bits in common as before, special
// ranges onto themselves, and back again with the key.
func TestPrefixesPreserved(t *testing.T) {
	p := newPAN(Key{7}.derive("addresses"), specialRanges)
	neighbours(4000, func(a, b netip.Addr) {
		pa, pb := p.pseudonym(a), p.pseudonym(b)
		if was, is := common(a, b), common(pa, pb); was != is {
			t.Fatalf("%s and %s share %d bits, their pseudonyms %s and %s %d", a, b, was, pa, pb, is)
		}
		if back := p.original(pa); back != a.Unmap() && back != a {
			t.Fatalf("%s became %s, and that %s", a, pa, back)
		}
		for _, f := range specialRanges {
			if f.prefix.Contains(a) != f.prefix.Contains(pa) {
				t.Fatalf("%s became %s: one of them is in %s", a, pa, f.prefix)
			}
			if f.keep && f.prefix.Contains(a) && a != pa {
				t.Fatalf("%s of %s became %s", a, f.prefix, pa)
			}
		}
	})
}

func TestSpecialAddresses(t *testing.T) {
	r := New(Key{1})
	for _, same := range []string{
		"0.0.0.0", "127.0.0.1", "127.0.0.53", "169.254.169.254", "224.0.0.1", "224.0.0.251", "255.255.255.255",
		"::", "::1", "ff02::1", "ff02::2", "ff02::fb", "ff02::1:2", "ff05::2",
	} {
		if a := netip.MustParseAddr(same); r.Addr(a) != a {
			t.Errorf("%s became %s", a, r.Addr(a))
		}
	}
	for _, tt := range []struct{ addr, within string }{
		{"239.1.2.3", "224.0.0.0/4"}, {"241.1.2.3", "240.0.0.0/4"}, {"fe80::94a7:aeff:fec9:a523", "fe80::/64"},
		{"ff02::1:ffc9:a523", "ff02::1:ff00:0/104"}, {"ff3e::4321", "ff00::/8"}, {"fd00:10:96:1::23", "fc00::/7"},
		{"8.219.164.113", "0.0.0.0/0"}, {"172.23.96.23", "0.0.0.0/0"}, {"2001:db8::1", "2000::/3"},
		{"::ffff:172.23.96.23", "::/0"},
	} {
		a, within := netip.MustParseAddr(tt.addr), netip.MustParsePrefix(tt.within)
		if p := r.Addr(a); p == a || (!a.Is4In6() && !within.Contains(p)) {
			t.Errorf("%s became %s, want another one in %s", a, p, within)
		}
	}
	if got, want := r.Addr(netip.MustParseAddr("::ffff:172.23.96.23")), r.Addr(netip.MustParseAddr("172.23.96.23")); got.Unmap() != want {
		t.Errorf("an address in IPv6 form became %s, in its own %s", got, want)
	}
	if got := r.Addr(netip.MustParseAddr("fe80::1%secret")); got.Zone() != "" {
		t.Errorf("zone %q is left", got.Zone())
	}
	if got := r.Addr(netip.Addr{}); got.IsValid() {
		t.Errorf("no address became %s", got)
	}
	p := netip.MustParsePrefix("172.23.96.23/24")
	if got := r.Prefix(p); !got.Contains(r.Addr(p.Addr())) || got.Bits() != 24 || got != got.Masked() {
		t.Errorf("%s became %s, which is not around %s", p, got, r.Addr(p.Addr()))
	}
}

func TestPermutations(t *testing.T) {
	p := newPermutations(Key{1}.derive("numbers"))
	other := newPermutations(Key{2}.derive("numbers"))
	for _, d := range []domain{netnsNumbers, inodeNumbers, pidNumbers, portNumbers, hashNumbers, idNumbers, locationNumbers} {
		if p.forward(d, 0) != 0 || p.back(d, 0) != 0 {
			t.Errorf("kind %d: 0 does not stay 0", d.tag)
		}
		same := 0
		for i := uint64(1); i < 2000; i++ {
			x := i * 0x9e3779b97f4a7c15 >> (64 - d.bits)
			y := p.forward(d, x)
			if y == 0 || (d.bits < 64 && y>>d.bits != 0) {
				t.Fatalf("kind %d: %d became %d", d.tag, x, y)
			}
			if back := p.back(d, y); back != x {
				t.Fatalf("kind %d: %d became %d, and that %d", d.tag, x, y, back)
			}
			if y == x || y == other.forward(d, x) {
				same++
			}
		}
		if same > 2 {
			t.Errorf("kind %d: %d of 2000 numbers stay, or do not depend on the key", d.tag, same)
		}
	}
	seen := map[uint64]bool{}
	for x := range uint64(1 << portNumbers.bits) {
		seen[p.forward(portNumbers, x)] = true
	}
	if len(seen) != 1<<portNumbers.bits {
		t.Errorf("%d of %d ports are different afterwards", len(seen), 1<<portNumbers.bits)
	}
}

// TestFlipsAreIndependent: whether a bit is inverted says nothing about the next.
// With inputs that repeat from one bit to the next, three in four were alike.
func TestFlipsAreIndependent(t *testing.T) {
	const keys = 2000
	for _, text := range []string{"8.219.164.113", "172.23.96.23", "2001:db8:0:1::42"} {
		a := netip.MustParseAddr(text)
		pairs, alike := 0, 0
		for range keys {
			p := newPAN(randomKey(), nil)
			was, is := a.AsSlice(), p.pseudonym(a).AsSlice()
			flip := func(i int) byte { return (was[i/8] ^ is[i/8]) >> (7 - i%8) & 1 }
			for i := 1; i < a.BitLen(); i++ {
				pairs++
				if flip(i) == flip(i-1) {
					alike++
				}
			}
		}
		if share := float64(alike) / float64(pairs); share < 0.48 || share > 0.52 {
			t.Errorf("%s: %.3f of the bits are inverted as the one before, want a half", text, share)
		}
	}
}

// randomKey is what newPAN takes.
func randomKey() [32]byte {
	k := NewKey()
	return k.derive("addresses")
}
