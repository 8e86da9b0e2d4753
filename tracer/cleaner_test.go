// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// acceptAll is a tc program that lets everything pass.
func acceptAll(t *testing.T) *ebpf.Program {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "accept_all", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return prog
}

// The cleaner's input is one device a line: namespace, ifindex, handle, and
// whether the qdisc is ours.
func TestCleanerInput(t *testing.T) {
	tests := []struct {
		name, input    string
		status         int
		stdout, stderr string
	}{
		{"nothing", "", 0, "", ""},
		{"no such namespace", "/proc/0/ns/net 1 2 true\n", 1, "", "no such file"},
		{"garbage", "hello\n", 1, "", `"hello"`},
		{"number missing", "/proc/self/ns/net 1 true\n", 1, "", "tc cleaner"},
		{"number too large", "/proc/self/ns/net 1 99999999999 true\n", 1, "", "tc cleaner"},
		{"negative handle", "/proc/self/ns/net 1 -2 true\n", 1, "", "tc cleaner"},
		{"empty line", "\n", 1, "", "tc cleaner"},
		{"garbage behind a device", "/proc/self/ns/net 1073741824 2 true\nhello\n", 1, "ready\n", `"hello"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = []string{cleanerEnv + "=1"}
			var out, errs bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(tt.input), &out, &errs
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
			if out.String() != tt.stdout || !strings.Contains(errs.String(), tt.stderr) {
				t.Errorf("stdout %q, stderr %q; want %q, and %q in the latter", &out, &errs, tt.stdout, tt.stderr)
			}
		})
	}
}

// A device that has vanished took its filters along: nothing to do.
func TestNativeCleanerVanishedDevice(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{cleanerEnv + "=1"}
	cmd.Stdin, cmd.Stderr = strings.NewReader("/proc/self/ns/net 1073741824 2 true\n"), os.Stderr
	out, err := cmd.Output()
	if err != nil || string(out) != "ready\n" {
		t.Errorf("said %q, %v", out, err)
	}
}

func TestIsCleaner(t *testing.T) {
	if IsCleaner() {
		t.Fatal("this process is none")
	}
	t.Setenv(cleanerEnv, "1")
	if !IsCleaner() {
		t.Error("not told by the environment")
	}
}

// What cannot be understood does not keep the cleaner from what it knows.
func TestReadTargets(t *testing.T) {
	const good = "/proc/self/ns/net 1 2 true\n"
	tests := []struct {
		name, input string
		targets     int
		fails       bool
	}{
		{"two devices", good + good, 2, false},
		{"garbage behind a device", good + "hello\n" + good, 1, true},
		{"no such namespace behind a device", good + "/proc/0/ns/net 1 2 true\n", 1, true},
		{"a line without end", good + strings.Repeat("x", 1<<17), 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			targets, err := readTargets(strings.NewReader(tt.input), &out)
			for i := range targets {
				targets[i].ns.Close()
			}
			if len(targets) != tt.targets || (err != nil) != tt.fails {
				t.Errorf("%d targets, error %v", len(targets), err)
			}
			if got := strings.Count(out.String(), "ready\n"); got != tt.targets {
				t.Errorf("ready for %d, want %d", got, tt.targets)
			}
		})
	}
}
