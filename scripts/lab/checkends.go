// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How much memory is taken away from the tool, so that the kernel kills it.
const takenAway = 8 << 20

// violentEnds lets two tools end that trace: one as by a panic, one killed by the
// kernel for want of memory. SIGABRT makes the Go runtime write down all goroutines
// and end with status 2, as a panic does, without a deferred function or a handler.
func (c *checker) violentEnds() error {
	panicking, err := c.tool.start("tcp")
	if err != nil {
		return err
	}
	group, err := newGroup("lab-oom")
	if err != nil {
		return err
	}
	defer group.Close()
	inGroup := c.tool
	inGroup.attr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	hungry, err := inGroup.start(everything)
	if err != nil {
		return err
	}
	go output(c.me, "churn", "-totals", "-from", "centos", "-to", "nginx1a", "-dst", "172.23.96.163:9", "-packets", "300", "-flows", "4")
	status, err := panicking.signal(syscall.SIGABRT)
	if err != nil || status != 2 || !strings.Contains(panicking.stderr.String(), "goroutine ") {
		return fmt.Errorf("SIGABRT: status %d, error %v: %s", status, err, lastLines(panicking.stderr.String(), 4))
	}
	if err := shrink(group.Name()); err != nil {
		return err
	}
	status, err = hungry.wait()
	if err != nil || status != -1 {
		return fmt.Errorf("out of memory: status %d, error %v: %s", status, err, lastLines(hungry.stderr.String(), 4))
	}
	events, err := os.ReadFile(group.Name() + "/memory.events")
	if err != nil {
		return err
	}
	if fieldOf(string(events), "oom_kill") < 1 {
		return fmt.Errorf("the tool was killed, but not for its memory: %s", events)
	}
	if err := c.clean("a crash of the Go runtime and an OOM kill, with traffic"); err != nil {
		return err
	}
	return vacate(group.Name())
}

// newGroup makes a cgroup whose memory can be limited.
func newGroup(name string) (*os.File, error) {
	const root = "/sys/fs/cgroup"
	if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("+memory"), 0); err != nil {
		return nil, fmt.Errorf("have memory cgroups: %w", err)
	}
	if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(root, name))
}

// shrink takes memory away from a cgroup. All of it is to be killed then, as Kubernetes
// has it for a container (memory.oom.group).
func shrink(group string) error {
	text, err := os.ReadFile(group + "/memory.current")
	if err != nil {
		return err
	}
	current, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(group+"/memory.oom.group", []byte("1"), 0),
		os.WriteFile(group+"/memory.max", []byte(strconv.Itoa(current-takenAway)), 0))
}

// fieldOf is a number of a file of names and numbers, 0 if it is not there.
func fieldOf(text, name string) (n int) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, _ = strconv.Atoi(f[1])
		}
	}
	return n
}

// vacate removes a cgroup once the last process of it, our watcher, has ended.
func vacate(group string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(unwinding); ; <-tick.C {
		err := os.Remove(group)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

// What of /proc/sys changes by itself, or by who reads it.
var restless = []string{
	"fs/aio-nr", "fs/dentry-state", "fs/file-nr", "fs/inode-nr", "fs/inode-state", "kernel/ns_last_pid", "kernel/pty/nr", "kernel/random/",
	"kernel/sched_domain/", "net/netfilter/nf_conntrack_count", "kernel/perf_event_max_sample_rate", "kernel/perf_cpu_time_max_percent",
}

// addSettings lists all settings of the kernel, and of this program's namespaces.
func addSettings(v *inventory) error {
	const root = "/proc/sys/"
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // a device's settings vanish with it
		}
		key := strings.TrimPrefix(path, root)
		for _, one := range restless {
			if strings.HasPrefix(key, one) {
				return nil
			}
		}
		if text, err := os.ReadFile(path); err == nil {
			v.add("sysctl %s=%s", key, strings.TrimSpace(string(text)))
		}
		return nil
	})
}

// kernelWarning is the beginning of the last warning in the kernel's log, none without
// one: what kernel/tainted=512 (TAINT_WARN) is because of.
func kernelWarning() []string {
	const readAll, size = 3, 1 << 18 // SYSLOG_ACTION_READ_ALL
	text := make([]byte, size)
	n, err := unix.Klogctl(readAll, text)
	if err != nil {
		return nil
	}
	i := bytes.LastIndex(text[:n], []byte("[ cut here ]"))
	if i < 0 {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(text[i:n])), "\n")
	return lines[1:min(len(lines), 30)]
}
