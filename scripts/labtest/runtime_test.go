// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRuntime runs the check of a real container runtime, for which one kernel
// does: what it is about does not depend on the kernel.
//
//	go test -tags lab -timeout 30m ./scripts/labtest -run TestRuntime -v
func TestRuntime(t *testing.T) {
	bin := build(t)
	slots.take(t, time.Minute)
	cmd := exec.Command(filepath.Join(root, "scripts/runtime"))
	cmd.Stderr = os.Stderr
	archive, err := cmd.Output()
	if err != nil {
		t.Fatalf("no container runtime for the guest: %v", err)
	}
	m := run(t, bin, "6.12", fmt.Sprintf("lab check -seed %d runtime", *seed),
		"-m", "2048", "-a", strings.TrimSpace(string(archive)))
	m.check(t, "runtime")
}
