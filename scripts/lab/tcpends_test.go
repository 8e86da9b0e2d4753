// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
)

func TestOpenSockets(t *testing.T) {
	const text = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:BC22 0100007F:0016 06 00000000:00000000 03:00000F0A 00000000     0        0 0 3 0
   2: 0100007F:0016 0100007F:BC22 09 00000000:00000000 01:00000014 00000000     0        0 0 4 0
`
	if open, want := openSockets(text), []string{"0100007F:0016 0100007F:BC22 09"}; !slices.Equal(open, want) {
		t.Errorf("open: %q, want %q", open, want)
	}
}
