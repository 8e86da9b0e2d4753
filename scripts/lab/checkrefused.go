// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// An environment is one in which the tool cannot trace.
type environment struct {
	name    string
	make    func() error // nil: nothing has to be done
	hidden  string       // a folder under a mount that only the tool has
	user    int          // its user, 0: root
	dropped []uintptr    // capabilities that it cannot get
	want    []string     // what it must say
}

// environments are in the order in which they are made; the last one stays.
var environments = []environment{
	{name: "without root", user: 65534, want: []string{"missing capabilities [CAP_BPF CAP_PERFMON CAP_NET_ADMIN CAP_SYS_ADMIN]", "run as root"}},
	{name: "root without CAP_BPF and CAP_PERFMON", dropped: []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, want: []string{"missing capabilities [CAP_BPF CAP_PERFMON]:"}},
	{name: "without BTF", hidden: "/sys/kernel/btf", want: []string{"the kernel has no BTF (/sys/kernel/btf/vmlinux)", "CONFIG_DEBUG_INFO_BTF=y"}},
	{name: "locked down for confidentiality", make: lockDown, want: []string{"kernel lockdown: confidentiality", "lockdown=integrity"}},
}

// trace is a run in an environment that would end by itself, were it not refused.
func (e *environment) trace(path string) (text []byte, status int, err error) {
	argv := []string{path, "trace", "--no-kube", "--for", "1ms", "tcp"}
	attr := &syscall.SysProcAttr{}
	if e.hidden != "" {
		argv = append([]string{"sh", "-c", `mount -t tmpfs none "$1" && shift && exec "$@"`, "sh", e.hidden}, argv...)
		attr.Unshareflags = syscall.CLONE_NEWNS
	}
	if e.user != 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(e.user), Gid: uint32(e.user)} //nolint:gosec // a constant
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = attr
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // what it drops it drops for good: it ends with this goroutine
		for _, one := range e.dropped {
			if err = unix.Prctl(unix.PR_CAPBSET_DROP, one, 0, 0, 0); err != nil {
				return
			}
		}
		text, err = cmd.CombinedOutput()
	}()
	<-done
	if cmd.ProcessState == nil {
		return text, 0, err
	}
	return text, cmd.ProcessState.ExitCode(), nil
}

// refused: where the tool cannot trace it says why and what to do, ends with status 1,
// and has attached nothing. After this check the kernel is locked down, and nothing
// else can be traced.
func (c *checker) refused() error {
	if err := c.anew(); err != nil {
		return err
	}
	// Elsewhere functions are hooked by trampolines, which need neither anyway: it is
	// left out for its time.
	if _, err := os.Stat("/sys/kernel/btf/ip_vs"); err != nil {
		if err := c.worksWithout(); err != nil {
			return err
		}
	}
	var faults []string
	for i := range environments {
		if err := c.refusedIn(&environments[i]); err != nil {
			faults = append(faults, environments[i].name+": "+err.Error())
		}
	}
	return faultsError(faults)
}

func (c *checker) refusedIn(e *environment) error {
	if e.make != nil {
		if err := e.make(); err != nil {
			return err
		}
	}
	text, status, err := e.trace(c.tool.path)
	if err != nil || status != 1 {
		return fmt.Errorf("status %d, not 1, error %v: %s", status, err, text)
	}
	for _, want := range e.want {
		if !strings.Contains(string(text), want) {
			return fmt.Errorf("no %q in: %s", want, text)
		}
	}
	c.fact("%s: %s", e.name, strings.TrimSpace(string(text)))
	now, err := inventoryText()
	if err != nil {
		return err
	}
	// A locked down kernel does not let tracefs be looked into.
	left := slices.DeleteFunc(diff(c.before, now), func(line string) bool {
		return strings.HasPrefix(line, "gone: tracefs ") || strings.HasPrefix(line, "gone: kprobe ")
	})
	if len(left) > 0 {
		return fmt.Errorf("left: %s", strings.Join(left[:min(8, len(left))], "; "))
	}
	return nil
}

// lockDown locks the kernel down until it is booted again.
func lockDown() error {
	const dir = "/sys/kernel/security"
	if _, err := os.Stat(dir + "/lockdown"); err != nil {
		if err := unix.Mount("securityfs", dir, "securityfs", 0, ""); err != nil {
			return fmt.Errorf("mount securityfs: %w", err)
		}
	}
	if err := os.WriteFile(dir+"/lockdown", []byte("confidentiality"), 0); err != nil {
		return fmt.Errorf("lock the kernel down: %w", err)
	}
	return nil
}

// worksWithout: with kprobes, too, neither tracefs nor the addresses of symbols are needed. What is
// missing then is the name of the function that dropped a packet.
func (c *checker) worksWithout() error {
	const restrict = "/proc/sys/kernel/kptr_restrict"
	was, err := os.ReadFile(restrict)
	if err == nil {
		err = os.WriteFile(restrict, []byte("2"), 0)
	}
	if err != nil {
		return err
	}
	hidden := c.tool
	hidden.path = "sh"
	hidden.attr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	s, err := hidden.launch("-c", `mount -t tmpfs none /sys/kernel/tracing && mount -t tmpfs none /sys/kernel/debug && exec "$@"`, "sh",
		c.tool.path, "trace", "-o", "json", "--names", namesFile, "--from", "172.23.96.23", "--", c.me, "case", "7")
	if err == nil {
		err = s.good()
	}
	if restoreErr := os.WriteFile(restrict, was, 0); err != nil || restoreErr != nil {
		return fmt.Errorf("without tracefs and addresses: %w, %w", err, restoreErr)
	}
	all, err := s.traversals()
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.Where == "ipvs" && t.Reason == "no-destination" {
			c.fact("without tracefs and with kptr_restrict=2: %s; location %q; said: %s", t.Summary, t.Location, strings.Join(s.summary(), " | "))
			return c.clean("a run without tracefs")
		}
	}
	return fmt.Errorf("without tracefs and addresses case 7 is not seen to end in IPVS: %s", s.stdout.String())
}
