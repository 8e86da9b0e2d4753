// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stackhop/stackhop/tracer"
)

// TestDropFails: where privilege cannot be dropped nothing is shown or left, nobody is
// told that the run is ready, no COMMAND begins, and all is detached.
func TestDropFails(t *testing.T) {
	for name, args := range map[string][]string{
		"trace":  {"trace", "--all", "-o", "json", "--capture", "DIR/x.jsonl"},
		"record": {"record", "-w", "DIR/x.hop", "--print", "tcp"},
		"ring":   {"record", "-w", "DIR/x.hop", "--ring", "3x64K", "tcp"},
		"hooks":  {"hooks", "--count"},
	} {
		for _, command := range []bool{false, true} {
			dir := t.TempDir()
			words := slices.Clone(args)
			for i := range words {
				words[i] = strings.Replace(words[i], "DIR", dir, 1)
			}
			if name != "hooks" {
				words = append(words, "--ready-file", filepath.Join(dir, "ready"))
			}
			if command {
				words = append(words, "--", "touch", filepath.Join(dir, "begun"))
			}
			w := newWorld(t)
			w.tr.dropErr = errors.New("capabilities stay: --keep-caps all goes on")
			status := w.run(words...)
			if want := "stackhop: capabilities stay: --keep-caps all goes on\n"; status != exitError || w.stderr.String() != want {
				t.Errorf("%s: status %d, %q", name, status, w.stderr.String())
			}
			if left := must(os.ReadDir(dir)); w.stdout.Len() > 0 || len(left) > 0 || w.tr.closed == 0 || w.tr.dropped != 1 {
				t.Errorf("%s: shown %q, left %v, closed %d times, tried %d times", name, w.stdout.String(), left, w.tr.closed, w.tr.dropped)
			}
		}
	}
}

// TestKeepCaps: what is to be kept, and dropped before anybody is told that the run is
// ready.
func TestKeepCaps(t *testing.T) {
	dir := t.TempDir()
	ring := []string{"record", "-w", filepath.Join(dir, "x.hop"), "--ring", "3x64K", "--force", "--for", "1s", "tcp"}
	ready := []string{"trace", "--all", "--for", "1s", "--ready-file", filepath.Join(dir, "ready")}
	for name, tt := range map[string]struct {
		args           []string
		gives, foreign bool
		keep           tracer.KeepCaps
		later          tracer.Later
		refused        bool
	}{
		"default":              {args: []string{"trace", "--all", "--for", "1s"}, gives: true, foreign: true, keep: tracer.KeepLate},
		"one file":             {args: []string{"record", "-w", filepath.Join(dir, "y.hop"), "--for", "1s", "tcp"}, gives: true, foreign: true, keep: tracer.KeepLate},
		"command":              {args: []string{"trace", "--all", "--", "true"}, keep: tracer.KeepLate, later: tracer.Later{Command: true}},
		"hooks":                {args: []string{"hooks", "--count", "--", "true"}, keep: tracer.KeepLate, later: tracer.Later{Command: true}},
		"ring":                 {args: ring, keep: tracer.KeepLate},
		"ring, sudo":           {args: ring, gives: true, keep: tracer.KeepLate, later: tracer.Later{Give: true}},
		"ring beside a folder": {args: []string{"record", "-w", dir, "--ring", "3x64K", "--force", "--for", "1s", "tcp"}, gives: true, keep: tracer.KeepLate, later: tracer.Later{Give: true}},
		"ring, foreign":        {args: ring, foreign: true, keep: tracer.KeepLate, later: tracer.Later{Foreign: true, Sticky: true}},
		"ready file, foreign":  {args: ready, gives: true, foreign: true, keep: tracer.KeepLate, later: tracer.Later{Give: true, Foreign: true}},
		"none":                 {args: append(slices.Clone(ready), "--keep-caps", "none"), keep: tracer.KeepNone},
		"none, sudo":           {args: append(slices.Clone(ready), "--keep-caps", "none"), gives: true, refused: true},
		"none, foreign":        {args: append([]string{"record", "--keep-caps", "none"}, ring[1:]...), foreign: true, refused: true},
	} {
		w := newWorld(t)
		w.sys.gives = func() bool { return tt.gives }
		w.sys.foreign = func(string) (bool, bool) { return tt.foreign, tt.foreign }
		status := w.run(tt.args...)
		if tt.refused {
			if status != exitError || w.config.Keep != "" || !strings.Contains(w.stderr.String(), "--keep-caps late") {
				t.Errorf("%s: status %d, %q, tracer made: %v", name, status, w.stderr.String(), w.config.Keep != "")
			}
			continue
		}
		if status != exitDone || w.config.Keep != tt.keep || w.config.Later != tt.later || w.tr.dropped != 1 {
			t.Errorf("%s: status %d, %s, %+v, dropped %d times: %s", name, status, w.config.Keep, w.config.Later, w.tr.dropped, w.stderr.String())
		}
		if said := strings.Count(w.stderr.String(), "--keep-caps none: "); said != map[bool]int{true: 1}[tt.keep == tracer.KeepNone] {
			t.Errorf("%s: said %d times what is not followed: %s", name, said, w.stderr.String())
		}
	}
	w := newWorld(t)
	if w.must(t, "trace", "--all", "--for", "1s", "--keep-caps", "all"); w.tr.dropped != 0 {
		t.Error("all: something was dropped")
	}
}

// TestHeldCommand: a COMMAND that a process waits to become is as one that is started.
func TestHeldCommand(t *testing.T) {
	if !canHold {
		return
	}
	dir := t.TempDir()
	noProgram := filepath.Join(dir, "no-program")
	if err := os.WriteFile(noProgram, []byte("\x7fELF"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		words  []string
		status int
		said   string
	}{
		{[]string{"sh", "-c", `echo "$0 $# [$STACKHOP_LAUNCHER]" "$@"; ls -l /proc/self/fd | grep -c pipe:`, "a b", "", "x'y"}, exitDone, "a b 2 []  x'y\n"},
		{[]string{"sh", "-c", "exit 7"}, exitDone, "COMMAND: exit status 7"},
		{[]string{"sh", "-c", "kill -TERM $$"}, exitDone, "COMMAND: signal: terminated"},
		{[]string{noProgram}, exitError, "start COMMAND: fork/exec " + noProgram + ": exec format error"},
	} {
		for _, keep := range []string{"all", "late"} {
			w := newWorld(t)
			status := w.run(append([]string{"trace", "--all", "-o", "json", "--keep-caps", keep, "--"}, tt.words...)...)
			if status != tt.status || !strings.Contains(w.stderr.String(), tt.said) {
				t.Errorf("%v, %s: status %d, %q", tt.words, keep, status, w.stderr.String())
			}
		}
	}
}

// TestHeldCommandSignals: the terminal's signals are not for a process that waits to
// become COMMAND, which has them as they should be.
func TestHeldCommandSignals(t *testing.T) {
	if !canHold {
		return
	}
	w := newWorld(t)
	c, err := newChild(w.sys, w.sys.stderr, []string{"sh", "-c", "grep -E 'Sig(Ign|Blk|Cgt)' /proc/self/status"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.hold(); err != nil {
		t.Fatal(err)
	}
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT} {
		if err := c.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	<-c.done
	plain, err := newChild(w.sys, w.sys.stderr, []string{"sh", "-c", "grep -E 'Sig(Ign|Blk|Cgt)' /proc/self/status"})
	if err != nil {
		t.Fatal(err)
	}
	held := w.stderr.String()
	w.stderr.Reset()
	if err := plain.start(); err != nil {
		t.Fatal(err)
	}
	if <-plain.done; c.err != nil || held == "" || held != w.stderr.String() {
		t.Errorf("held: %v, %q; started: %q", c.err, held, w.stderr.String())
	}
	never, err := newChild(w.sys, w.sys.stderr, []string{"touch", filepath.Join(t.TempDir(), "begun")})
	if err != nil {
		t.Fatal(err)
	}
	if err := never.hold(); err != nil {
		t.Fatal(err)
	}
	if err := never.stop(); err != nil || !never.ended() || never.err != nil {
		t.Errorf("one that never began: %v, ended %v, %v", err, never.ended(), never.err)
	}
}
