// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReplayPipe: a pipe is refused, and not waited for.
func TestReplayPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe.hop")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"replay", path}, {"redact", path, "-o", path + ".out"}, {"record", "-w", path, "--force", "tcp"}} {
		w := newWorld(t)
		if status := w.run(args...); status != exitError || !strings.Contains(w.stderr.String(), "not a file") {
			t.Errorf("%v: status %d, %s", args, status, w.stderr.String())
		}
	}
}
