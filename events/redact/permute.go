// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// permuteRounds of a Feistel network make it a good permutation also where
// half a number is only a few bits.
const permuteRounds = 8

// permutations makes keyed permutations of numbers: a different number for each,
// that can be undone with the key. 0, which means "none" everywhere, stays 0.
type permutations struct {
	block   cipher.Block
	in, out [16]byte // of one call, see pan
}

// domain is a kind of number with a permutation of its own.
type domain struct {
	tag  byte
	bits uint // even; numbers are below 1<<bits
}

// The kinds of number.
var (
	netnsNumbers    = domain{1, 32}
	inodeNumbers    = domain{2, 32}
	pidNumbers      = domain{3, 22} // PID_MAX_LIMIT of 64-bit kernels
	portNumbers     = domain{4, 16} // and ICMP identifiers
	hashNumbers     = domain{5, 32}
	idNumbers       = domain{6, 28} // the part of a packet's number that is from an address
	locationNumbers = domain{7, 64}
)

func newPermutations(key [32]byte) *permutations {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 32 bytes are a key of AES
	}
	return &permutations{block: block}
}

// forward returns the pseudonym of x, which is below 1<<d.bits.
func (p *permutations) forward(d domain, x uint64) uint64 { return p.nonZero(d, x, false) }

// back undoes forward.
func (p *permutations) back(d domain, x uint64) uint64 { return p.nonZero(d, x, true) }

// nonZero takes 0 out of the permutation: the number that would become 0 gets
// what 0 would have become.
func (p *permutations) nonZero(d domain, x uint64, undo bool) uint64 {
	if x == 0 {
		return 0
	}
	y := p.network(d, x, undo)
	if y == 0 {
		y = p.network(d, 0, undo)
	}
	return y
}

func (p *permutations) network(d domain, x uint64, undo bool) uint64 {
	half := d.bits / 2
	mask := uint64(1)<<half - 1
	l, r := x>>half&mask, x&mask
	for i := range permuteRounds {
		if undo {
			l, r = r^p.round(d, permuteRounds-1-i, l)&mask, l
		} else {
			l, r = r, l^p.round(d, i, r)&mask
		}
	}
	return l<<half | r
}

func (p *permutations) round(d domain, i int, half uint64) uint64 {
	p.in = [16]byte{d.tag, byte(i)}
	binary.LittleEndian.PutUint64(p.in[8:], half)
	p.block.Encrypt(p.out[:], p.in[:])
	return binary.LittleEndian.Uint64(p.out[:])
}
