// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import (
	"strconv"
	"strings"
)

type tokenKind uint8

const (
	tokEOF    tokenKind = iota
	tokNum              // a number
	tokWord             // a keyword, name or constant
	tokEscape           // a name behind a backslash
	tokAddr4            // digits and dots: an IPv4 address or the beginning of one
	tokAddr6            // anything with colons outside brackets
	tokOp               // an operator or bracket
	tokSet              // the name of a set
)

// token is a piece of the expression.
type token struct {
	kind tokenKind
	pos  int    // byte offset
	text string // as written, without the backslash; operators in one spelling
	num  uint32 // value of a tokNum
	pair int    // for "(": index of the token that closes it
}

// maxSource bounds the work a single expression can cause, in bytes.
const maxSource = 16384

// operators, the longer ones before those they begin with, and the spelling
// the parser uses for them.
var operators = []struct{ text, canon string }{
	{"&&", "and"}, {"||", "or"}, {"<<", "<<"}, {">>", ">>"}, {"<=", "<="},
	{">=", ">="}, {"==", "="}, {"!=", "!="}, {"=", "="}, {"<", "<"}, {">", ">"},
	{"!", "not"}, {"&", "&"}, {"|", "|"}, {"^", "^"}, {"+", "+"}, {"-", "-"},
	{"*", "*"}, {"/", "/"}, {"%", "%"}, {"(", "("}, {")", ")"}, {"[", "["},
	{"]", "]"}, {":", ":"},
}

// lex splits src into tokens, ending with a tokEOF. With sets, what follows the
// word in is the name of one.
func lex(src string, sets bool) ([]token, error) {
	if len(src) > maxSource {
		return nil, errAt(maxSource, "expression too long: %d bytes, at most %d are accepted", len(src), maxSource)
	}
	var toks []token
	var parens, brackets []int
	for i := 0; i < len(src); {
		if strings.IndexByte(" \t\r\n", src[i]) >= 0 {
			i++
			continue
		}
		t, n, err := lexOne(src, i, len(brackets) > 0)
		if sets && len(toks) > 0 && toks[len(toks)-1].isJoin("in") {
			t, n, err = lexSet(src, i)
		}
		if err != nil {
			return nil, err
		}
		if t.kind == tokOp {
			if err := nest(&t, toks, len(toks), &parens, &brackets); err != nil {
				return nil, err
			}
		}
		toks = append(toks, t)
		i += n
	}
	if len(parens) > 0 {
		return nil, errAt(toks[parens[len(parens)-1]].pos, "this ( is never closed")
	}
	if len(brackets) > 0 {
		return nil, errAt(toks[brackets[len(brackets)-1]].pos, "this [ is never closed")
	}
	return append(toks, token{kind: tokEOF, pos: len(src)}), nil
}

// lexSet reads the name of a set at src[i:], which ends before a space or a
// parenthesis.
func lexSet(src string, i int) (token, int, error) {
	n := strings.IndexAny(src[i:], " \t\r\n()")
	if n < 0 {
		n = len(src) - i
	}
	if n == 0 {
		return token{}, 0, errAt(i, "the name of a set must follow in")
	}
	return token{kind: tokSet, pos: i, text: src[i : i+n]}, n, nil
}

// nest follows the parentheses and brackets; index is where t will be stored.
func nest(t *token, toks []token, index int, parens, brackets *[]int) error {
	pop := func(stack *[]int, open string) (int, error) {
		if len(*stack) == 0 {
			return 0, errAt(t.pos, "this %s has no %s before it", t.text, open)
		}
		top := (*stack)[len(*stack)-1]
		*stack = (*stack)[:len(*stack)-1]
		return top, nil
	}
	switch t.text {
	case "(":
		*parens = append(*parens, index)
	case "[":
		*brackets = append(*brackets, index)
	case ")":
		top, err := pop(parens, "(")
		if err != nil {
			return err
		}
		toks[top].pair = index
	case "]":
		_, err := pop(brackets, "[")
		return err
	}
	return nil
}

// lexOne reads the token at src[i:] and returns how many bytes it takes. Inside
// brackets a colon separates offset and size, elsewhere it belongs to an
// address.
func lexOne(src string, i int, inBrackets bool) (token, int, error) {
	if src[i] == '\\' {
		n := wordLen(src[i+1:], false)
		if n == 0 {
			return token{}, 0, errAt(i, "a protocol name must follow the backslash, such as \\tcp")
		}
		return token{kind: tokEscape, pos: i, text: src[i+1 : i+1+n]}, n + 1, nil
	}
	if n := wordLen(src[i:], !inBrackets); n > 0 {
		t, err := wordToken(src[i:i+n], i)
		return t, n, err
	}
	for _, op := range operators {
		if strings.HasPrefix(src[i:], op.text) {
			return token{kind: tokOp, pos: i, text: op.canon}, len(op.text), nil
		}
	}
	r := []rune(src[i:min(len(src), i+4)])
	return token{}, 0, errAt(i, "unexpected character %q", r[0])
}

// wordLen returns the length of the word s begins with. As in tcpdump a word
// may contain minus signs: tcp-syn is one word and so is len-4.
func wordLen(s string, colons bool) int {
	isAlnum := func(c byte) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	n := 0
	for n < len(s) && (isAlnum(s[n]) || colons && s[n] == ':' || n > 0 && strings.IndexByte("-_.", s[n]) >= 0) {
		n++
	}
	for n > 0 && (s[n-1] == '-' || s[n-1] == '_') {
		n--
	}
	return n
}

// wordToken classifies a word.
func wordToken(w string, pos int) (token, error) {
	t := token{kind: tokWord, pos: pos, text: w}
	if strings.Contains(w, ":") {
		t.kind = tokAddr6
		return t, nil
	}
	digits := strings.Trim(w, "0123456789") == ""
	hex := len(w) > 2 && w[0] == '0' && (w[1] == 'x' || w[1] == 'X') &&
		strings.Trim(w[2:], "0123456789abcdefABCDEF") == ""
	switch {
	case digits || hex:
		text, base := w, 10
		if hex {
			text, base = w[2:], 16
		} else if len(w) > 1 && w[0] == '0' {
			base = 8
		}
		v, err := strconv.ParseUint(text, base, 32)
		if err != nil {
			return t, errAt(pos, "%s is not a number from 0 to 4294967295 (a leading 0 means octal)", w)
		}
		t.kind, t.num = tokNum, uint32(v)
	case strings.Trim(w, "0123456789.") == "":
		t.kind = tokAddr4
	}
	return t, nil
}
