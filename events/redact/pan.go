// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"crypto/aes"
	"crypto/cipher"
	"math/bits"
	"net/netip"
)

// pan makes prefix-preserving pseudonyms of addresses: the scheme of Crypto-PAn
// (J. Xu, J. Fan, M. Ammar, S. Moon: Prefix-Preserving IP Address Anonymization,
// 2002) with another padding, see invert; for IPv6 the same with 128 bits. Bit i of an address is inverted or not by the
// cipher's answer to the i bits before it.
//
// Ranges that keep their meaning are those before which nothing is inverted: the
// nodes on the way from the root of the tree of prefixes to them. So they map
// onto themselves and the whole stays prefix-preserving at every length.
type pan struct {
	block cipher.Block
	pad   [16]byte
	fixed []fixedRange

	// in and out belong to one call; here, because they would be allocated
	// for the cipher's interface otherwise.
	in, out [16]byte
}

// fixedRange is a range that maps onto itself.
type fixedRange struct {
	prefix netip.Prefix
	keep   bool // its addresses stay as they are; else they have pseudonyms inside it
}

// specialRanges are the ranges whose meaning must survive.
var specialRanges = []fixedRange{
	{netip.MustParsePrefix("0.0.0.0/8"), true},
	{netip.MustParsePrefix("127.0.0.0/8"), true},
	{netip.MustParsePrefix("169.254.0.0/16"), true}, // autoconfigured, or a service every node has there
	{netip.MustParsePrefix("224.0.0.0/4"), false},
	{netip.MustParsePrefix("224.0.0.0/24"), true},
	{netip.MustParsePrefix("240.0.0.0/4"), false},
	{netip.MustParsePrefix("255.255.255.255/32"), true},
	{netip.MustParsePrefix("::/127"), true},
	{netip.MustParsePrefix("fe80::/64"), false},
	{netip.MustParsePrefix("ff00::/8"), false},
	{netip.MustParsePrefix("ff01::/112"), true},
	{netip.MustParsePrefix("ff02::/112"), true},
	{netip.MustParsePrefix("ff05::/112"), true},
	{netip.MustParsePrefix("ff02::1:0/112"), true},       // DHCP, LLMNR
	{netip.MustParsePrefix("ff02::1:ff00:0/104"), false}, // solicited nodes: the end of an address
}

// newPAN makes the cipher from 32 bytes: 16 of an AES key, 16 for the padding.
func newPAN(key [32]byte, fixed []fixedRange) *pan {
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		panic(err) // 16 bytes are a key of AES
	}
	p := &pan{block: block, fixed: fixed}
	block.Encrypt(p.pad[:], key[16:])
	return p
}

// pseudonym returns the pseudonym of an address: of the same family, and the
// zero Addr for itself. Zones, which are names of devices, are left out.
func (p *pan) pseudonym(a netip.Addr) netip.Addr { return p.transform(a, false) }

// original undoes pseudonym.
func (p *pan) original(a netip.Addr) netip.Addr { return p.transform(a, true) }

func (p *pan) transform(a netip.Addr, undo bool) netip.Addr {
	switch {
	case !a.IsValid():
		return a
	case a.Is4In6():
		return netip.AddrFrom16(p.transform(a.Unmap(), undo).As16())
	case a.Is4():
		b := a.As4()
		var wide [16]byte
		copy(wide[:], b[:])
		p.invert(&wide, p.kept(a, b[:]), 32, undo)
		return netip.AddrFrom4([4]byte(wide[:4]))
	}
	b := a.As16()
	p.invert(&b, p.kept(a, b[:]), 128, undo)
	return netip.AddrFrom16(b)
}

// kept is the number of leading bits that stay. It is the same for an address
// and its pseudonym, because these agree beyond the bit that tells them from
// each range.
func (p *pan) kept(a netip.Addr, b []byte) int {
	n := 0
	for i := range p.fixed {
		f := &p.fixed[i]
		if f.prefix.Addr().BitLen() != a.BitLen() {
			continue
		}
		c := f.common(b)
		switch {
		case c < f.prefix.Bits():
			n = max(n, c+1)
		case f.keep:
			return a.BitLen()
		default:
			n = max(n, f.prefix.Bits())
		}
	}
	return n
}

// common is the number of leading bits that an address has in common with the
// range, at most the range's length.
func (f *fixedRange) common(b []byte) int {
	var r [16]byte
	if f.prefix.Addr().Is4() {
		four := f.prefix.Addr().As4()
		copy(r[:], four[:])
	} else {
		r = f.prefix.Addr().As16()
	}
	for i := range b {
		if x := b[i] ^ r[i]; x != 0 {
			return min(8*i+bits.LeadingZeros8(x), f.prefix.Bits())
		}
	}
	return f.prefix.Bits()
}

// invert goes through the bits from..to of b.
//
// The cipher's input for bit i is the i bits before it, a one, and zeros, so that
// no two prefixes share one, also not those of different lengths. The padding of
// the paper's own program, the end of a secret, does not see to that: wherever a
// bit of the address equals the secret's, two inputs in a row are the same, and
// two bits are inverted together. One address in 350 kept its first 24 bits.
func (p *pan) invert(b *[16]byte, from, to int, undo bool) {
	src := *b // what is known of the original; the bits before from are equal
	p.in = [16]byte{}
	for i := range from {
		setBit(&p.in, i, bit(&src, i))
	}
	for i := from; i < to; i++ {
		setBit(&p.in, i, 1)
		for k := range p.in {
			p.out[k] = p.in[k] ^ p.pad[k]
		}
		if to == 32 {
			p.out[15] ^= 4 // IPv4 shares no inputs with IPv6
		}
		p.block.Encrypt(p.out[:], p.out[:])
		flip := p.out[0] >> 7
		was := bit(&src, i)
		setBit(b, i, was^flip)
		if undo {
			was ^= flip
		}
		setBit(&p.in, i, was)
	}
}

func bit(b *[16]byte, i int) byte { return b[i/8] >> (7 - i%8) & 1 }

func setBit(b *[16]byte, i int, v byte) {
	shift := 7 - i%8
	b[i/8] = b[i/8]&^(1<<shift) | v<<shift
}
