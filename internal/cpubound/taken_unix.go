// SPDX-License-Identifier: Apache-2.0

//go:build unix

package cpubound

import (
	"syscall"
	"time"
)

// taken is the CPU time that this process has taken, its own and the kernel's for it.
func taken() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
