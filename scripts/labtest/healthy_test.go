// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"fmt"
	"strings"
	"testing"
)

// TestHealthy: traffic of every kind in which nothing fails has no verdict that
// says so, and no warning that is not true, on any kernel.
//
//	go test -tags lab ./scripts/labtest -run TestHealthy -kernels 6.12 -v
func TestHealthy(t *testing.T) {
	bin := build(t)
	slots := make(chan struct{}, machines)
	for _, k := range strings.Split(*kernels, ",") {
		t.Run(k, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			m := run(t, bin, k, fmt.Sprintf("lab up && lab check -o /out -seed %d healthy", *seed))
			<-slots
			m.check(t, "healthy")
		})
	}
}
