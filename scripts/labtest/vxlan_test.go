// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"fmt"
	"testing"
	"time"
)

// TestVXLAN runs the cases over Flannel's vxlan backend on every kernel: once as
// one kernel sees both nodes, and once with nodes that share nothing but wires.
func TestVXLAN(t *testing.T) {
	t.Parallel()
	bin := build(t)
	onKernels(t, inDepth(), 4*time.Minute, func(t *testing.T, series string) *machine {
		return run(t, bin, series, fmt.Sprintf("lab up -backend vxlan && lab check -seed %d cases; lab down; lab check -seed %d vxlan", *seed, *seed))
	}, func(t *testing.T, _ string, m *machine) {
		for _, name := range []string{"cases", "vxlan"} {
			t.Run(name, func(t *testing.T) { m.check(t, name) })
		}
	})
}
