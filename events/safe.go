// SPDX-License-Identifier: Apache-2.0

package events

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Lengths at which text from outside is cut. A sentence holds several names.
const (
	maxNameRunes     = 64
	maxSentenceRunes = 512
)

// Safe makes text chosen by a workload (names of processes, pods, devices,
// rules) fit for a terminal and for one line of output. What does not print,
// that is control characters, ESC, bidirectional controls and invalid UTF-8,
// is escaped as strconv.Quote does it, and what is longer than 64 characters
// is cut and ends in "…".
func Safe(s string) string { return safeText(s, maxNameRunes) }

// quoted is Safe between quotation marks.
func quoted(s string) string { return `"` + Safe(s) + `"` }

// SafeSentence is Safe for a sentence that has such names in it: it is cut at
// 512 characters.
func SafeSentence(s string) string { return safeText(s, maxSentenceRunes) }

// SafeMessage is a whole message, of several lines perhaps, in which names were
// escaped already: only what would not print is. It is the last barrier before a
// terminal, for errors of others with names in them, such as those of files.
func SafeMessage(s string) string {
	printable := true
	for _, r := range s {
		printable = printable && r != utf8.RuneError && (r == '\n' || strconv.IsPrint(r))
	}
	if printable {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == '\n' || r == '\\' {
			b.WriteRune(r)
		} else {
			b.WriteString(escapeRune(r, size, s[0]))
		}
		s = s[size:]
	}
	return b.String()
}

func safeText(s string, limit int) string {
	if plain(s) && len(s) <= limit {
		return s
	}
	var b strings.Builder
	// cut is the length of b up to which "…" still fits behind it.
	count, cut := 0, 0
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		piece := escapeRune(r, size, s[0])
		s = s[size:]
		n := utf8.RuneCountInString(piece)
		if count+n > limit {
			return b.String()[:cut] + "…"
		}
		b.WriteString(piece)
		if count += n; count < limit {
			cut = b.Len()
		}
	}
	return b.String()
}

// plain says whether s is printable ASCII without a backslash, as nearly all
// names are.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}

// escapeRune returns the text for one rune of size bytes, the first of which is
// first. Quotation marks stand as they are: nothing is quoted here.
func escapeRune(r rune, size int, first byte) string {
	switch {
	case r == utf8.RuneError && size == 1:
		const hex = "0123456789abcdef"
		return `\x` + string(hex[first>>4]) + string(hex[first&15])
	case r == '\'' || r == '"':
		return string(r)
	}
	q := strconv.QuoteRune(r)
	return q[1 : len(q)-1]
}
