// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stackhop/stackhop/tracer"
)

// TestTraceOutput is what a user sees of three traversals: case 6 and case 7
// with its answer.
func TestTraceOutput(t *testing.T) {
	for name, args := range map[string][]string{
		"trace line":        {"trace", "--for", "1s", "tcp"},
		"trace tree":        {"trace", "--for", "1s", "tcp", "-o", "tree"},
		"trace explain":     {"trace", "--for", "1s", "tcp", "--explain"},
		"trace explain all": {"trace", "--for", "1s", "tcp", "--explain", "-o", "tree", "--failed"},
		"trace json":        {"trace", "--for", "1s", "-o", "json", "tcp"},
		"trace all":         {"trace", "--for", "1s", "--all"},
		"trace failed":      {"trace", "--for", "1s", "--failed", "tcp"},
		"trace count":       {"trace", "--count", "2", "tcp"},
		"trace exit status": {"trace", "--for", "1s", "--exit-status", "tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			status := w.run(args...)
			if w.tr.closed != 1 {
				t.Errorf("the tracer was closed %d times", w.tr.closed)
			}
			w.golden(t, status, args)
		})
	}
}

func TestTraceColor(t *testing.T) {
	tests := []struct {
		name     string
		terminal bool
		args     []string
		env      map[string]string
		want     bool
	}{
		{name: "terminal", terminal: true, want: true},
		{name: "pipe"},
		{name: "flag", terminal: true, args: []string{"--no-color"}},
		{name: "NO_COLOR", terminal: true, env: map[string]string{"NO_COLOR": "1"}},
		{name: "empty NO_COLOR", terminal: true, env: map[string]string{"NO_COLOR": ""}, want: true},
		{name: "dumb", terminal: true, env: map[string]string{"TERM": "dumb"}},
		{name: "json", terminal: true, args: []string{"-o", "json"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.sys.terminal = tt.terminal
			w.sys.getenv = func(k string) string { return tt.env[k] }
			w.run(append([]string{"trace", "--count", "1", "tcp"}, tt.args...)...)
			if got := strings.Contains(w.stdout.String(), "\x1b["); got != tt.want {
				t.Errorf("colours: %t, want %t: %q", got, tt.want, w.stdout.String())
			}
		})
	}
}

func TestExitStatus(t *testing.T) {
	tests := []struct {
		name   string
		change func(*world)
		flag   bool
		want   int
	}{
		{"terminated, not asked", func(*world) {}, false, exitDone},
		{"terminated", func(*world) {}, true, exitTerminated},
		{"lost before terminated", func(w *world) { w.tr.stats.Lost["ring"] = 3 }, true, exitLost},
		{"lost, not asked", func(w *world) { w.tr.stats.Lost["ring"] = 3 }, false, exitDone},
		{"lost by sequence", func(w *world) { w.tr.capture.Events = w.tr.capture.Events[1:] }, true, exitLost},
		{"nothing", func(w *world) { w.tr.capture.Events = nil }, true, exitNothing},
		{"nothing, not asked", func(w *world) { w.tr.capture.Events = nil }, false, exitDone},
		{"run failed", func(w *world) { w.tr.runErr = errors.New("ring gone") }, true, exitError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			args := []string{"trace", "--for", "1s", "tcp"}
			if tt.flag {
				args = append(args, "--exit-status")
			}
			if got := w.run(args...); got != tt.want {
				t.Errorf("status %d, want %d: %s", got, tt.want, w.stderr.String())
			}
			if tt.want == exitLost && w.tr.stats.Lost["ring"] > 0 && !strings.Contains(w.stderr.String(), "LOST ring 3") {
				t.Errorf("the summary does not tell: %s", w.stderr.String())
			}
		})
	}
}

// TestCommand runs this test binary as the COMMAND.
func TestCommand(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready")
	tests := []struct {
		name, says string // what the command is told to do, and what it then says
		stderr     string
	}{
		{"ends well", "hello from the command", "hello from the command"},
		{"fails", "fail", "COMMAND: exit status 7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			t.Setenv("STACKHOP_TEST_COMMAND", tt.says)
			status := w.run("trace", "tcp", "--ready-file", ready, "-o", "json", "--", os.Args[0], "-test.run", "TestCommandItself")
			if status != exitDone {
				t.Errorf("status %d", status)
			}
			if strings.Count(w.stdout.String(), "\n") != 3 {
				t.Errorf("stdout is not 3 traversals:\n%s", w.stdout.String())
			}
			if !strings.Contains(w.stderr.String(), tt.stderr) {
				t.Errorf("stderr has no %q:\n%s", tt.stderr, w.stderr.String())
			}
			if _, err := os.Stat(ready); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCommandItself is the COMMAND of the test above.
func TestCommandItself(*testing.T) {
	switch says := os.Getenv("STACKHOP_TEST_COMMAND"); says {
	case "":
	case "fail":
		os.Exit(7)
	case "wait":
		_, _ = io.Copy(io.Discard, os.Stdin) // until the other end closes it
	default:
		_, _ = os.Stdout.WriteString(says + "\n")
	}
}

// TestCommandIsEnded: a bound that is reached ends the command too.
func TestCommandIsEnded(t *testing.T) {
	t.Setenv("STACKHOP_TEST_COMMAND", "wait")
	w := newWorld(t)
	stdin, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	defer stdin.Close()
	w.sys.stdin = stdin
	if status := w.run("trace", "tcp", "--for", "1s", "--", os.Args[0], "-test.run", "TestCommandItself"); status != exitDone {
		t.Errorf("status %d: %s", status, w.stderr.String())
	}
	if !strings.Contains(w.stderr.String(), "COMMAND: signal: terminated") {
		t.Errorf("stderr %q", w.stderr.String())
	}
}

func TestReadyFile(t *testing.T) {
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready")
	if err := os.WriteFile(ready, []byte("stale"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	attach := w.sys.newTracer
	w.sys.newTracer = func(c tracer.Config) (liveTracer, error) {
		if _, err := os.Stat(ready); err == nil {
			t.Error("the stale file is still there before anything is attached")
		}
		return attach(c)
	}
	if status := w.run("trace", "tcp", "--count", "1", "--ready-file", ready); status != exitDone {
		t.Errorf("status %d: %s", status, w.stderr.String())
	}
	if data, err := os.ReadFile(ready); err != nil || string(data) == "stale" {
		t.Errorf("ready file %q, %v", data, err)
	}

	w = newWorld(t)
	if status := w.run("trace", "tcp", "--ready-file", filepath.Join(dir, "no", "ready")); status != exitError || w.tr.closed != 1 {
		t.Errorf("status %d, closed %d: %s", status, w.tr.closed, w.stderr.String())
	}
}

func TestSignals(t *testing.T) {
	w := newWorld(t)
	w.tr.afterTick = func(n int) {
		if n == 20 {
			w.signals <- os.Interrupt
		}
	}
	if status := w.run("trace", "tcp"); status != exitDone {
		t.Errorf("status %d", status)
	}
	if !strings.Contains(w.stderr.String(), "3 traversals: ") {
		t.Errorf("no summary: %s", w.stderr.String())
	}
}

// TestSecondSignal comes while the run does not end.
func TestSecondSignal(t *testing.T) {
	w := newWorld(t)
	w.tr.afterTick = func(n int) {
		if n == 2 {
			w.signals <- os.Interrupt
			w.signals <- syscall.SIGTERM
			if code := <-w.exited; code != exitError {
				t.Errorf("exit status %d", code)
			}
		}
	}
	w.run("trace", "tcp")
}

// TestLossIsTold: losses are told while they happen, but not again and again.
func TestLossIsTold(t *testing.T) {
	for stage, want := range map[string]string{
		"ring": "warning: events are being lost, so far ring 3\n",
		"shed": "warning: more packets pass than can be followed (select less, or --sample), so far shed 3\n",
	} {
		w := newWorld(t)
		w.tr.afterTick = func(n int) {
			if n == 30 {
				w.tr.stats.Lost[stage] = 3
			}
		}
		w.run("trace", "tcp", "--for", "5s")
		if n := strings.Count(w.stderr.String(), want); n != 1 {
			t.Errorf("told %d times: %s", n, w.stderr.String())
		}
	}
}

// TestAsked: who asks is told what was counted so far, and the run goes on.
func TestAsked(t *testing.T) {
	for name, args := range map[string][]string{
		"trace":  {"trace", "tcp", "--for", "5s"},
		"record": {"record", "-w", filepath.Join(t.TempDir(), "x.hop"), "tcp", "--for", "5s"},
	} {
		w := newWorld(t)
		w.tr.afterTick = func(n int) {
			switch n {
			case 30:
				w.asks <- syscall.SIGTERM // any: what comes here asks
			case 60:
				w.tr.stats.Lost["ring"] = 3
			}
		}
		w.must(t, args...)
		before, after, ok := strings.Cut(w.stderr.String(), "stackhop: so far 3 packets matched with 108 events, 108 delivered to user space, 0 lost\nstackhop: 3 traversals: ")
		if !ok || !strings.Contains(after, "stackhop: 3 packets matched with 108 events, 108 delivered to user space, LOST ring 3\n") ||
			strings.Contains(before, "matched") {
			t.Errorf("%s: %s", name, w.stderr.String())
		}
		if name == "record" && strings.Count(after, "stackhop: recorded ") != 2 {
			t.Errorf("what was recorded so far, and in the end: %s", w.stderr.String())
		}
	}
}

// TestRateAndSample: what is shed on purpose is told, but no loss.
func TestRateAndSample(t *testing.T) {
	for sample, want := range map[string]uint32{"1/100": 100, "100": 100, "1/1": 1} {
		w := newWorld(t)
		w.tr.stats.Lost["rate"] = 7
		status := w.run("trace", "tcp", "--for", "3s", "--failed", "--exit-status", "--sample", sample, "--rate", "5000")
		if w.config.Sample != want || w.config.Rate != 5000 {
			t.Errorf("--sample %s: %d, rate %d", sample, w.config.Sample, w.config.Rate)
		}
		if status != exitTerminated || !strings.Contains(w.stderr.String(), ", 0 lost; 7 packets shed by --rate\n") || strings.Contains(w.stderr.String(), "warning") {
			t.Errorf("status %d: %s", status, w.stderr.String())
		}
	}
}

// firstWrite tells of the first write that went through it.
type firstWrite struct {
	io.Writer
	once sync.Once
	done chan struct{}
}

func (f *firstWrite) Write(p []byte) (int, error) {
	defer f.once.Do(func() { close(f.done) })
	return f.Writer.Write(p)
}

// TestSlowAttach: whoever has to wait is told for what.
func TestSlowAttach(t *testing.T) {
	w := newWorld(t)
	said := &firstWrite{Writer: w.sys.stderr, done: make(chan struct{})}
	w.sys.stderr = said
	attach := w.sys.newTracer
	w.sys.newTracer = func(c tracer.Config) (liveTracer, error) {
		select { // attaching takes until something was said
		case <-said.done:
		case <-time.After(20 * slowAttach):
			t.Error("nothing was said while hooks were being attached")
		}
		return attach(c)
	}
	w.run("trace", "tcp", "--count", "1")
	if !strings.HasPrefix(w.stderr.String(), "stackhop: attaching hooks…\n") {
		t.Errorf("stderr %s", w.stderr.String())
	}
}

func TestTracepointsOnly(t *testing.T) {
	w := newWorld(t)
	w.tr.hasFunctions = false
	w.run("trace", "tcp", "--hooks", "tracepoints", "--count", "1")
	if w.config.Hooks != "tracepoints" || !strings.Contains(w.stderr.String(), "tracepoints only: IPVS") {
		t.Errorf("hooks %q: %s", w.config.Hooks, w.stderr.String())
	}
}

func TestOnlyNode(t *testing.T) {
	w := newWorld(t)
	path := namesFile(t, someNames)
	if status := w.run("trace", "tcp", "--names", path, "--only-node", "n1", "--for", "1s", "-o", "json"); status != exitDone {
		t.Fatalf("status %d: %s", status, w.stderr.String())
	}
	if string(w.config.NamesFile) != someNames {
		t.Errorf("the tracer got the names file %q", w.config.NamesFile)
	}
	if strings.Contains(w.stdout.String(), `"name":"n2"`) {
		t.Errorf("n2 is there:\n%s", w.stdout.String())
	}
}

// TestOnlyThisHost: where nodes are containers, the one that the tool runs in needs
// no names file.
func TestOnlyThisHost(t *testing.T) {
	w := newWorld(t)
	if status := w.run("trace", "tcp", "--only-node", "host", "--for", "1s", "-o", "json"); status != exitDone {
		t.Fatalf("status %d: %s", status, w.stderr.String())
	}
	if status := w.run("trace", "tcp", "--only-node", "other", "--for", "1s"); status != exitError || !strings.Contains(w.stderr.String(), "--names FILE") {
		t.Errorf("status %d: %s", status, w.stderr.String())
	}
}

// TestNoGoroutineStays: whoever starts one waits for it.
func TestNoGoroutineStays(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		newWorld(t).run("trace", "tcp", "--count", "1")
	}
	if after := runtime.NumGoroutine(); after > before+1 { // the last one may still be ending
		t.Errorf("%d goroutines, %d before", after, before)
	}
}

func TestHooksAndDoctor(t *testing.T) {
	for name, args := range map[string][]string{
		"hooks table":      {"hooks"},
		"hooks json":       {"hooks", "-o", "json"},
		"hooks count":      {"hooks", "--count"},
		"hooks count json": {"hooks", "--count", "--for", "1s", "-o", "json"},
		"doctor text":      {"doctor"},
		"doctor json":      {"doctor", "-o", "json"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.golden(t, w.run(args...), args)
		})
	}
	w := newWorld(t)
	w.run("hooks", "--count")
	if !w.config.Count || w.config.All || w.config.Select.String() != "0 = 1" {
		t.Errorf("counting with %+v", w.config)
	}
	for _, can := range []bool{true, false} {
		w := newWorld(t)
		k := someKernel()
		k.CanTrace, k.CanTracepoints = can, can
		w.sys.probe = func() (*tracer.Kernel, error) { return k, nil }
		want := exitError
		if can {
			want = exitDone
		}
		if status := w.run("doctor"); status != want {
			t.Errorf("doctor: status %d, can trace: %t", status, can)
		}
	}
}
