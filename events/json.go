// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"io"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// JSONRenderer writes one JSON object a line for each traversal, as Schema
// describes it. Times are UTC; lists are never null.
type JSONRenderer struct {
	W io.Writer
	// Explain adds the chain of evidence, and what to check next.
	Explain bool

	buf []byte
}

var _ Renderer = (*JSONRenderer)(nil)

// Render writes t.
func (r *JSONRenderer) Render(t *Traversal) error {
	w := jsonLine{b: r.buf[:0]}
	why := t.Explanation
	if r.Explain {
		why = Explain(t)
	}
	w.traversal(t, why)
	r.buf = w.b
	if w.err != nil {
		return fmt.Errorf("encode traversal %s: %w", t.ID, w.err)
	}
	_, err := r.W.Write(w.b)
	return err
}

func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// SafeJSON escapes what encoding/json lets through and a terminal would obey:
// DEL, C1 controls and bidirectional controls. All of them can only stand
// inside strings, where JSON has an escape for each.
func SafeJSON(b []byte) []byte {
	if !hasUnprintable(b) {
		return b
	}
	out := make([]byte, 0, len(b)+16)
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if unprintable(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, b[:size]...)
		}
		b = b[size:]
	}
	return out
}

// hasUnprintable is bytes.ContainsFunc, for what is nearly all ASCII: decoding each rune
// takes as long as the rest of writing a line.
func hasUnprintable(b []byte) bool {
	for i := 0; i < len(b); {
		if c := b[i]; ' ' <= c && c <= '~' {
			i++
			continue
		}
		r, size := utf8.DecodeRune(b[i:])
		if unprintable(r) {
			return true
		}
		i += size
	}
	return false
}

func unprintable(r rune) bool {
	if ' ' <= r && r <= '~' || r == '→' { // nearly all there is
		return false
	}
	// Characters above U+FFFF would need two escapes; none of them is a
	// control that terminals know.
	return r != '\n' && r <= 0xffff && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && !strconv.IsPrint(r))
}
