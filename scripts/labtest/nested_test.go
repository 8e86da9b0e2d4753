// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"testing"
	"time"
)

// TestNested: inside a node that is itself a container, as kind's are, the tool says
// of that node what it says from outside.
//
//	go test -tags lab ./scripts/labtest -run TestNested -kernels 6.12 -v
func TestNested(t *testing.T) {
	alone(t, "nested", 2*time.Minute)
}
