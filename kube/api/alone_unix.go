// SPDX-License-Identifier: Apache-2.0

//go:build unix

package api

import (
	"os/exec"
	"syscall"
)

// alone gives a command a session of its own: it cannot ask at this process's
// terminal, and ends with all that it started.
func alone(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
