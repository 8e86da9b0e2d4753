// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// What failed is named once, by its innermost test, with its errors' first lines.
func TestDigest(t *testing.T) {
	lines := []string{
		`{"Action":"output","Package":"p/a","Test":"T/x/y","Output":"    x_test.go:7: no\n"}`,
		`{"Action":"output","Package":"p/a","Test":"T/x/y","Output":"        more\n"}`,
		`{"Action":"fail","Package":"p/a","Test":"T/x/y","Elapsed":1}`,
		`{"Action":"pass","Package":"p/a","Test":"T/z"}`,
		`{"Action":"fail","Package":"p/a","Test":"T/x"}`,
		`{"Action":"fail","Package":"p/a","Test":"T"}`,
		`{"Action":"fail","Package":"p/a"}`,
		`{"Action":"skip","Package":"p/b","Test":"S"}`,
		`{"Action":"output","Package":"p/b","Output":"panic: late\n"}`,
		`{"Action":"fail","Package":"p/b"}`,
	}
	var whole, digest strings.Builder
	if err := run(strings.NewReader(strings.Join(lines, "\n")), &whole, &digest); err != nil {
		t.Fatal(err)
	}
	want := "p/a T/x/y\n    x_test.go:7: no\np/b \n    panic: late\n"
	if digest.String() != want {
		t.Errorf("got %q, want %q", digest.String(), want)
	}
	for _, part := range []string{"FAIL  p/a T/x/y  1.0s\n    x_test.go:7: no\n        more\n", "SKIP  p/b S"} {
		if !strings.Contains(whole.String(), part) {
			t.Errorf("%q is not in %q", part, whole.String())
		}
	}
}
