// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"sync"

	"golang.org/x/sys/unix"
)

// fewTrampolines are taken away while the user waits.
const fewTrampolines = 8

// detach closes all hooks, or leaves those that take long to another process. In a PID
// namespace that one may be among the last while process 1 ends, which waits for it,
// while taking a trampoline away (synchronize_rcu_tasks) waits for tasks that end: on
// Debian's 6.1 neither came to its end within minutes.
func (t *Tracer) detach() {
	var slow []int
	for _, h := range t.hooks {
		if l, ok := h.link.(interface{ FD() int }); ok && (h.how == "fentry" || h.how == "fexit") {
			slow = append(slow, l.FD())
		}
	}
	if len(slow) > fewTrampolines && inFirstPIDNamespace() {
		if err := detachLater(slow); err != nil {
			t.cfg.Warn(err.Error()) // then it takes as long as it takes
		}
	}
	var wg sync.WaitGroup
	for _, h := range t.hooks {
		wg.Go(h.close)
	}
	wg.Wait()
}

// firstPIDNamespace is the inode of the node's own (PROC_PID_INIT_INO,
// include/linux/proc_ns.h).
const firstPIDNamespace = 0xEFFFFFFC

func inFirstPIDNamespace() bool {
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/pid", &st) == nil && st.Ino == firstPIDNamespace
}
