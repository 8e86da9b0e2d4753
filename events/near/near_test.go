// SPDX-License-Identifier: Apache-2.0

package near

import (
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	known := []string{"shop/cart", "shop/web", "test/web", "prod/checkout", "shop/carts", "shop/part", "line", "tree", "json", strings.Repeat("x", 600)}
	for _, tt := range []struct {
		s    string
		want []string
	}{
		{"shop/cart", []string{"shop/cart", "shop/carts", "shop/part"}},
		{"shop/crat", []string{"shop/cart", "shop/carts", "shop/part"}}, // swapped; inserted and swapped; two others
		{"dev/web", []string{"shop/web", "test/web"}},
		{"jsn", []string{"json"}},
		{"lien", []string{"line"}},
		{"yaml", nil},
		{"", nil},
		{strings.Repeat("x", 601), nil},
	} {
		if got := Names(tt.s, known); !slices.Equal(got, tt.want) {
			t.Errorf("near %.20q: %q, want %q", tt.s, got, tt.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "abcd", 1}, {"abc", "ab", 1}, {"abc", "axc", 1}, {"kitten", "sitting", 3},
	} {
		if got, back := distance(tt.a, tt.b), distance(tt.b, tt.a); got != tt.want || back != tt.want {
			t.Errorf("%q, %q: %d and %d, want %d", tt.a, tt.b, got, back, tt.want)
		}
	}
}
