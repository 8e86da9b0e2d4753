// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

// TestUndone: only what the rules added goes, and a chain not before nothing leads to it.
func TestUndone(t *testing.T) {
	const rules = "*filter\n:A - [0:0]\n:B - [0:0]\n-I FORWARD -d 10.0.0.1 -j A\n-A A -j B\n-A B -j DROP\nCOMMIT\n"
	const want = "*filter\n-D FORWARD -d 10.0.0.1 -j A\n-F A\n-F B\n-X A\n-X B\nCOMMIT\n"
	if got := undone(rules); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
