// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// privilegeOf are the lines about privilege in a process's status, of each thread, and
// of how many threads.
func privilegeOf(t *testing.T, pid int) (lines map[string]int, threads int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	lines = map[string]int{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		threads++
		for _, line := range privilegeLines(string(text)) {
			lines[line]++
		}
	}
	return lines, threads
}

func privilegeLines(status string) (out []string) {
	for line := range strings.Lines(status) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), ":"); strings.HasPrefix(key, "Cap") || key == "NoNewPrivs" {
			out = append(out, key+" "+strings.TrimSpace(value))
		}
	}
	return out
}

// sets are the lines of a process that has a set of capabilities and no way to others.
func sets(caps uint64) []string {
	var out []string
	for _, key := range []string{"CapAmb", "CapBnd", "CapEff", "CapInh", "CapPrm"} {
		out = append(out, fmt.Sprintf("%s %016x", key, caps))
	}
	return append(out, "NoNewPrivs 1")
}

// lateCaps is the documented set (see SECURITY.md).
const lateCaps = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON |
	1<<unix.CAP_SYSLOG | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_DAC_READ_SEARCH

// TestNativePrivilege: what the kernel says of all threads once the tool is ready, and
// that it does what it should with that.
func TestNativePrivilege(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to attach programs and make network namespaces")
	}
	bin := buildTool(t)
	t.Run("command", func(t *testing.T) { privilegeOfCommand(t, bin) })
	t.Run("restricted", func(t *testing.T) { privilegeRestricted(t, bin) })
	for keep, want := range map[string][]string{"late": sets(lateCaps), "none": sets(0), "all": ownPrivilege(t)} {
		t.Run(keep, func(t *testing.T) {
			node := newSpace(t, "node")
			old, _ := newPod(t, node, 1)
			ready := filepath.Join(t.TempDir(), "ready")
			r := startTool(t, bin, node, "trace", "--no-kube", "--hooks", "tracepoints", "--keep-caps", keep, "--ready-file", ready, "-o", "json", "udp port 9")
			r.until("ready", func() bool { _, err := os.Stat(ready); return err == nil })
			lines, threads := privilegeOf(t, r.cmd.Process.Pid)
			t.Logf("%d threads: %v", threads, lines)
			for _, line := range want {
				if lines[line] != threads {
					t.Errorf("%d of %d threads have %q", lines[line], threads, line)
				}
			}
			young, host := newPod(t, node, 2)
			covered := func() bool { return tcPrograms(t, node, host) > 0 && tcPrograms(t, young, 2) > 0 }
			const later = "packets pass devices that came after the start"
			if keep == "none" {
				send(t, young, 2)
				r.until("the new device is told of", func() bool { return strings.Contains(r.stderr(), later) })
				if covered() {
					t.Error("a new device was attached to without a capability")
				}
			} else {
				r.until("the new pod's devices are attached to", covered)
			}
			send(t, old, 1)
			send(t, young, 2)
			send(t, young, 2)
			said := r.interrupt()
			t.Logf("%s", said)
			if strings.Contains(said, " 0 packets matched") || strings.Contains(said, "cannot read") {
				t.Error("the counters were not read")
			}
			if n := strings.Count(said, later); n != map[string]int{"none": 1}[keep] {
				t.Errorf("%q was said %d times", later, n)
			}
			if strings.Contains(said, "not permitted") || strings.Contains(said, "denied") {
				t.Error("it says that something is forbidden")
			}
			if keep == "none" && !strings.Contains(r.stdout.String(), `"if`) {
				t.Errorf("a device that came later has a name: %s", r.stdout.String())
			}
		})
	}
}

// ownPrivilege is what this process has.
func ownPrivilege(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	return privilegeLines(string(text))
}

// privilegeOfCommand: COMMAND has what the user has.
func privilegeOfCommand(t *testing.T, bin string) {
	node, want := newSpace(t, "node"), ownPrivilege(t)
	for _, keep := range []string{"late", "none", "all"} {
		r := startTool(t, bin, node, "trace", "--no-kube", "--hooks", "tracepoints", "--keep-caps", keep, "udp port 9", "--", "cat", "/proc/self/status")
		<-r.done
		if got := privilegeLines(r.stderr()); r.err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: COMMAND has %v, want %v: %v\n%s", keep, got, want, r.err, r.stderr())
		}
	}
}

// privilegeRestricted: who has fewer capabilities than are kept, as in a
// container, has those of them that he had.
func privilegeRestricted(t *testing.T, bin string) {
	node := newSpace(t, "node")
	const had = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_CHOWN
	for name, extra := range map[string]uint64{"with CAP_SETPCAP": 1 << unix.CAP_SETPCAP, "without": 0} {
		t.Run(name, func(t *testing.T) {
			ready := filepath.Join(t.TempDir(), "ready")
			var r *toolRun
			inSpace(t, node, func() error {
				for bit := range uintptr(unix.CAP_LAST_CAP + 1) {
					if (had|extra)&(1<<bit) == 0 {
						if err := unix.Prctl(unix.PR_CAPBSET_DROP, bit, 0, 0, 0); err != nil {
							return err
						}
					}
				}
				r = &toolRun{t: t, cmd: exec.Command(bin, "trace", "--no-kube", "--hooks", "tracepoints", "--ready-file", ready, "udp port 9"), done: make(chan struct{})}
				r.cmd.Stdout, r.cmd.Stderr = &r.stdout, r
				return r.cmd.Start()
			})
			go func() { r.err = r.cmd.Wait(); close(r.done) }()
			r.until("ready", func() bool { _, err := os.Stat(ready); return err == nil })
			lines, threads := privilegeOf(t, r.cmd.Process.Pid)
			t.Logf("%d threads: %v", threads, lines)
			want := sets(had & lateCaps)
			if extra == 0 {
				want[1] = fmt.Sprintf("CapBnd %016x", had)
			}
			for _, line := range want {
				if lines[line] != threads {
					t.Errorf("%d of %d threads have %q", lines[line], threads, line)
				}
			}
			r.interrupt()
		})
	}
}

// TestNativePrivilegeStays: where threads cannot be told to drop it, as in a program
// built with cgo (go test -race builds one), the run ends before anything is attached.
func TestNativePrivilegeStays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to attach programs")
	}
	node := newSpace(t, "node")
	t.Setenv(toolEnv, "1")
	failed := map[string]bool{}
	for _, keep := range []string{"late", "none", "all"} {
		r := startTool(t, os.Args[0], node, "trace", "--no-kube", "--hooks", "tracepoints", "--keep-caps", keep, "--for", "100ms", "udp port 9")
		<-r.done
		if failed[keep] = r.err != nil; failed[keep] && (!strings.Contains(r.stderr(), "CGO_ENABLED=0") || strings.Contains(r.stderr(), "attached")) {
			t.Errorf("%s: %v\n%s", keep, r.err, r.stderr())
		}
	}
	// Without cgo all of them work.
	if failed["late"] != failed["none"] || failed["all"] {
		t.Errorf("failed: %v", slices.Sorted(maps.Keys(failed)))
	}
	t.Logf("failed: %v", failed)
}

// needed are the capabilities that it takes to attach (SECURITY.md).
var needed = map[string]uintptr{"CAP_BPF": unix.CAP_BPF, "CAP_PERFMON": unix.CAP_PERFMON, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN}

// TestNativeLeastPrivilege: nobody at all, with these four and no others, can trace; with
// one less he is told which.
func TestNativeLeastPrivilege(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to give capabilities and make network namespaces")
	}
	const nobody = 65534
	bin, dir := buildTool(t), t.TempDir()
	for path, mode := range map[string]os.FileMode{filepath.Dir(dir): 0o755, filepath.Dir(bin): 0o755, bin: 0o755, dir: 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	node := newSpace(t, "node")
	pod, _ := newPod(t, node, 1)
	ready := filepath.Join(dir, "ready")
	start := func(without string) *toolRun {
		r := &toolRun{t: t, cmd: exec.Command(bin, "trace", "--no-kube", "--hooks", "tracepoints", "--ready-file", ready, "--for", "30s", "udp port 9"), done: make(chan struct{})}
		r.cmd.Stdout, r.cmd.Stderr, r.cmd.Dir = r, r, dir
		r.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		for name, bit := range needed {
			if name != without {
				r.cmd.SysProcAttr.AmbientCaps = append(r.cmd.SysProcAttr.AmbientCaps, bit)
			}
		}
		inSpace(t, node, r.cmd.Start)
		go func() { r.err = r.cmd.Wait(); close(r.done) }()
		t.Cleanup(func() { _ = r.cmd.Process.Kill(); <-r.done })
		return r
	}
	for name := range needed {
		r := start(name)
		<-r.done
		if said := r.stderr(); r.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said, name) || strings.Contains(said, "hooks attached") {
			t.Errorf("without %s: %v\n%s", name, r.err, said)
		}
	}
	r := start("")
	r.until("ready", func() bool { _, err := os.Stat(ready); return err == nil })
	var set uint64
	for _, bit := range needed {
		set |= 1 << bit
	}
	lines, threads := privilegeOf(t, r.cmd.Process.Pid)
	t.Logf("%d threads: %v", threads, lines)
	for _, line := range []string{fmt.Sprintf("CapEff %016x", set), fmt.Sprintf("CapPrm %016x", set), "NoNewPrivs 1"} {
		if lines[line] != threads {
			t.Errorf("%d of %d threads have %q", lines[line], threads, line)
		}
	}
	send(t, pod, 1)
	r.until("a line of the datagram", func() bool { return strings.Contains(r.stderr(), "udp 10.99.1.2:") })
	if said := r.interrupt(); strings.Contains(said, " 0 packets matched") || strings.Contains(said, "cannot read") {
		t.Errorf("%s", said)
	}
}
