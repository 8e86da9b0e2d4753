// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import (
	"fmt"
	"strings"
)

// Error says where an expression is wrong and what is accepted there.
type Error struct {
	// Pos is the byte offset in the expression, counted from 0; it equals the
	// length of the expression when something is missing at its end.
	Pos int
	// Msg names the problem and, where that helps, the accepted forms.
	Msg string
}

// Error implements the error interface; the position it shows is counted from
// 0 in bytes.
func (e *Error) Error() string {
	return fmt.Sprintf("filter expression, offset %d: %s", e.Pos, e.Msg)
}

// Caret returns src, which must be the expression that was parsed, with a caret
// under the place of the error and the message behind it, on two lines.
func (e *Error) Caret(src string) string {
	pos := min(max(e.Pos, 0), len(src))
	// A tab or a line break would put the caret in the wrong column.
	flat := strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, src)
	column := len([]rune(src[:pos]))
	return flat + "\n" + strings.Repeat(" ", column) + "^ " + e.Msg
}

func errAt(pos int, format string, args ...any) *Error {
	return &Error{Pos: pos, Msg: fmt.Sprintf(format, args...)}
}
