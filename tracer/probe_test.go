// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import "testing"

// The machine that this runs on traces, as the other tests show: what is tried
// before a run must not refuse it.
func TestNativeKernelReads(t *testing.T) {
	needRoot(t)
	if err := checkKernelReads(); err != nil {
		t.Error(err)
	}
}
