// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// referenceKey is the key of the sample in Crypto-PAn's original distribution.
var referenceKey = [32]byte{
	21, 34, 23, 141, 51, 164, 207, 128, 19, 10, 91, 22, 73, 144, 125, 16,
	216, 152, 143, 131, 121, 121, 101, 39, 98, 87, 76, 45, 42, 132, 34, 2,
}

// TestReference compares with the sample trace of the original distribution;
// the IPv6 ones are what other implementations agree on.
func TestReference(t *testing.T) {
	p := newPAN(referenceKey, nil)
	for _, v := range [][2]string{
		{"128.11.68.132", "135.242.180.132"}, {"129.118.74.4", "134.136.186.123"},
		{"130.132.252.244", "133.68.164.234"}, {"141.223.7.43", "141.167.8.160"},
		{"141.233.145.108", "141.129.237.235"}, {"152.163.225.39", "151.140.114.167"},
		{"156.29.3.236", "147.225.12.42"}, {"165.247.96.84", "162.9.99.234"},
		{"166.107.77.190", "160.132.178.185"}, {"192.102.249.13", "252.138.62.131"},
		{"192.215.32.125", "252.43.47.189"}, {"192.233.80.103", "252.25.108.8"},
		{"192.41.57.43", "252.222.221.184"}, {"193.150.244.223", "253.169.52.216"},
		{"195.205.63.100", "255.186.223.5"}, {"198.200.171.101", "249.199.68.213"},
		{"198.26.132.101", "249.36.123.202"}, {"198.36.213.5", "249.7.21.132"},
		{"207.25.71.27", "241.33.119.156"}, {"207.33.151.131", "241.1.233.131"},
		{"208.147.89.59", "227.237.98.191"}, {"216.254.18.172", "235.7.16.162"},
		{"24.0.250.221", "100.15.198.226"}, {"24.14.213.138", "100.1.42.141"},
		{"38.15.67.68", "64.3.66.187"}, {"4.3.88.225", "124.60.155.63"},
		{"63.14.55.111", "95.9.215.7"}, {"64.14.118.196", "0.255.183.58"},
		{"64.39.15.238", "0.219.7.41"}, {"10.185.25.118", "117.161.29.118"},
		{"::1", "78ff:f001:9fc0:20df:8380:b1f1:704:ed"},
		{"::2", "78ff:f001:9fc0:20df:8380:b1f1:704:ef"},
		{"::ffff", "78ff:f001:9fc0:20df:8380:b1f1:704:f838"},
		{"2001:db8::1", "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1e"},
		{"2001:db8::2", "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1c"},
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
