// SPDX-License-Identifier: Apache-2.0

package redact

import "strings"

// Words that are easily told apart, read and said, 64 of each: 6 bits.
var (
	adjectives = strings.Fields(`
		amber ample azure bold brave brief bright brisk calm civil clean clear
		cosy crisp daring deep dry eager early easy fair fancy fast firm
		fond free fresh full gentle glad golden good grand green happy high
		honest humble jolly keen kind large light lively loyal lucky mellow merry
		mild modest neat noble open plain polite proud quick quiet rapid ready
		royal solid sunny warm`)
	nouns = strings.Fields(`
		adder ape badger bat bear beaver bee bison bream camel carp cat
		cobra crab crane crow deer dingo dove duck eagle eel egret elk
		falcon finch fox frog gecko goat goose gull hare hawk heron horse
		ibis jay koala lark lemur lion llama lynx magpie marten mole moose
		newt otter owl panda pike puffin quail raven robin salmon seal swan
		tern tiger trout wolf`)
)

// digits are 32 characters without those that are easily confused: 5 bits each.
const digits = "0123456789abcdefghjkmnpqrstvwxyz"

// bitReader takes a digest apart.
type bitReader struct {
	b [32]byte
	n int // bits taken
}

func (r *bitReader) take(n int) int {
	v := 0
	for range n {
		v = v<<1 | int(r.b[r.n/8]>>(7-r.n%8)&1)
		r.n++
	}
	return v
}

func (r *bitReader) digits(n int) string {
	var s [16]byte
	for i := range n {
		s[i] = digits[r.take(5)]
	}
	return string(s[:n])
}

// longWord is a word of 42 bits: brave-otter-x3k9f2.
func longWord(digest [32]byte) string {
	r := bitReader{b: digest}
	return adjectives[r.take(6)] + "-" + nouns[r.take(6)] + "-" + r.digits(6)
}

// shortWord is a word of 41 bits and at most 14 characters: otter-x3k9f2b.
func shortWord(digest [32]byte) string {
	r := bitReader{b: digest}
	return nouns[r.take(6)] + "-" + r.digits(7)
}

// codeWord is a word of 40 bits and 8 characters.
func codeWord(digest [32]byte) string {
	r := bitReader{b: digest}
	return r.digits(8)
}
