// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"fmt"
	"testing"
	"time"
)

// TestHealthy: traffic of every kind in which nothing fails has no verdict that
// says so, and no warning that is not true, on any kernel.
//
//	go test -tags lab ./scripts/labtest -run TestHealthy -kernels 6.12 -v
func TestHealthy(t *testing.T) {
	alone(t, "healthy", 2*time.Minute)
}

// alone runs a check with the cluster, in a guest of its own.
func alone(t *testing.T, check string, lasts time.Duration) {
	t.Parallel()
	bin := build(t)
	onKernels(t, inDepth(), lasts, func(t *testing.T, series string) *machine {
		return run(t, bin, series, fmt.Sprintf("lab up && lab check -o /out -seed %d %s", *seed, check))
	}, func(t *testing.T, _ string, m *machine) { m.check(t, check) })
}
