// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"fmt"
	"testing"
)

// TestNested: inside a node that is itself a container, as kind's are, the tool says
// of that node what it says from outside.
//
//	go test -tags lab ./scripts/labtest -run TestNested -kernels 6.12 -v
func TestNested(t *testing.T) {
	bin := build(t)
	onKernels(t, func(t *testing.T, series string) *machine {
		return run(t, bin, series, fmt.Sprintf("lab up && lab check -o /out -seed %d nested", *seed))
	}, func(t *testing.T, _ string, m *machine) { m.check(t, "nested") })
}
