// SPDX-License-Identifier: Apache-2.0

package events

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stackhop/stackhop/internal/cpubound"
)

func TestSafe(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain", "default/centos", "default/centos"},
		{"empty", "", ""},
		{"letters of other scripts", "grüße-ポッド", "grüße-ポッド"},
		{"escape", "a\x1b[31mb", `a\x1b[31mb`},
		{"bell and newline", "a\ab\n", `a\ab\n`},
		{"delete and C1", "a\x7fb\u009bc", `a\x7fb\u009bc`},
		{"bidirectional", "a\u202eb\u2066c", `a\u202eb\u2066c`},
		{"zero width", "a\u200bb", `a\u200bb`},
		{"line separator", "a\u2028b", `a\u2028b`},
		{"invalid UTF-8", "a\xffb\xc3", `a\xffb\xc3`},
		{"replacement character itself", "a\ufffdb", "a\ufffdb"},
		{"quotation marks", `a"b'c`, `a"b'c`},
		{"backslash", `a\x1b`, `a\\x1b`},
		{"64", strings.Repeat("x", 64), strings.Repeat("x", 64)},
		{"65", strings.Repeat("x", 65), strings.Repeat("x", 63) + "…"},
		{"64 of two bytes", strings.Repeat("ü", 64), strings.Repeat("ü", 64)},
		{"65 of two bytes", strings.Repeat("ü", 65), strings.Repeat("ü", 63) + "…"},
		{"no escape is cut", strings.Repeat("x", 61) + "\x1b" + "yy", strings.Repeat("x", 61) + "…"},
		{"4 KiB", strings.Repeat("\n", 4096), strings.Repeat(`\n`, 31) + "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Safe(tt.in); got != tt.want {
				t.Errorf("Safe(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestSafeMessage(t *testing.T) {
	for in, want := range map[string]string{
		"stackhop: two\nlines\n":      "stackhop: two\nlines\n",
		"a\x1b[2J\x07\x7f\u009b":      `a\x1b[2J\a\x7f\u009b`,
		"a\u202eb\xff\xc3":            `a\u202eb\xff\xc3`,
		`escaped \x1b[31m already`:    `escaped \x1b[31m already`,
		"\x1b and " + `\x1b "quoted"`: `\x1b and \x1b "quoted"`,
		"\ufffd":                      "\ufffd",
	} {
		if got := SafeMessage(in); got != want {
			t.Errorf("SafeMessage(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzSafe(f *testing.F) {
	f.Add("default/centos")
	f.Add("a\x1b[31m\xff\u202e" + strings.Repeat("\\", 70))
	f.Fuzz(func(t *testing.T, in string) {
		defer cpubound.Run(t)()
		out := Safe(in)
		if !utf8.ValidString(out) {
			t.Errorf("Safe(%q) = %q is not UTF-8", in, out)
		}
		if n := utf8.RuneCountInString(out); n > maxNameRunes {
			t.Errorf("Safe(%q) has %d characters", in, n)
		}
		for _, r := range out {
			if !unicode.IsPrint(r) {
				t.Errorf("Safe(%q) = %q has %U", in, out, r)
			}
		}
	})
}
