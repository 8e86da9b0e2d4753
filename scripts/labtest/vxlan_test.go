// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"fmt"
	"strings"
	"testing"
)

// TestVXLAN runs the cases over Flannel's vxlan backend on every kernel: once as
// one kernel sees both nodes, and once with nodes that share nothing but wires.
func TestVXLAN(t *testing.T) {
	bin := build(t)
	slots := make(chan struct{}, machines)
	for _, series := range strings.Split(*kernels, ",") {
		t.Run(series, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			m := run(t, bin, series, fmt.Sprintf("lab up -backend vxlan && lab check -seed %d cases; lab down; lab check -seed %d vxlan", *seed, *seed))
			<-slots
			for _, name := range []string{"cases", "vxlan"} {
				t.Run(name, func(t *testing.T) { m.check(t, name) })
			}
		})
	}
}
