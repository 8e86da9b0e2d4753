// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// TestMadeFiles: what is made of a recording is its owner's, replaces nothing
// unasked, and does not stay if it is not whole.
func TestMadeFiles(t *testing.T) {
	in := recorded(t)
	for _, cmd := range []string{"report", "export", "redact"} {
		t.Run(cmd, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			w := newWorld(t).must(t, cmd, in, "-o", out)
			first := must(os.ReadFile(out))
			if st := must(os.Stat(out)); runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
				t.Errorf("mode %o", st.Mode().Perm())
			}
			if said := w.stderr.String(); cmd == "export" && !strings.HasPrefix(said, "stackhop: 16 packets on 10 interfaces written\n") {
				t.Errorf("export says %s", said)
			}

			w = newWorld(t)
			if status := w.run(cmd, in, "-o", out); status != exitError || !strings.Contains(w.stderr.String(), "is there already") {
				t.Errorf("there already: status %d, %s", status, w.stderr.String())
			}
			if !bytes.Equal(must(os.ReadFile(out)), first) {
				t.Error("it was changed")
			}
			newWorld(t).must(t, cmd, in, "-o", out, "--force")

			link := filepath.Join(filepath.Dir(out), "link")
			if err := os.Symlink(out, link); err != nil {
				t.Fatal(err)
			}
			if status := newWorld(t).run(cmd, in, "-o", link, "--force"); status != exitError {
				t.Errorf("link: status %d", status)
			}

			w = newWorld(t).must(t, cmd, in, "-o", "-")
			if w.stdout.Len() < len(first)/2 {
				t.Errorf("%d bytes on standard output, %d in the file", w.stdout.Len(), len(first))
			}
			w = newWorld(t)
			w.sys.terminal = true
			if status := w.run(cmd, in, "-o", "-"); status != exitError || w.stdout.Len() > 0 || !strings.Contains(w.stderr.String(), "is a terminal") {
				t.Errorf("terminal: status %d, %s", status, w.stderr.String())
			}
			w = newWorld(t)
			if status := w.run(cmd, in); status != exitError || !strings.Contains(w.stderr.String(), "say where to: stackhop "+cmd) {
				t.Errorf("no -o: status %d, %s", status, w.stderr.String())
			}
			w = newWorld(t)
			w.sys.stdout = brokenWriter{syscall.ENOSPC}
			if status := w.run(cmd, in, "-o", "-"); status != exitError || !strings.Contains(w.stderr.String(), "no space left") {
				t.Errorf("full disk: status %d, %s", status, w.stderr.String())
			}
			w = newWorld(t)
			w.signals <- os.Interrupt
			interrupted := filepath.Join(t.TempDir(), "interrupted")
			w.sys.own = func(*os.File) error { return syscall.EPERM }
			if status := w.run(cmd, in, "-o", interrupted); status != exitError {
				t.Errorf("not ours: status %d, %s", status, w.stderr.String())
			}
			if _, err := os.Stat(interrupted); err == nil {
				t.Error("half a file stays")
			}
		})
	}
}

// TestRecordTerminal: a recording is not written to a terminal.
func TestRecordTerminal(t *testing.T) {
	w := newWorld(t)
	w.sys.terminal = true
	if status := w.run("record", "-w", "-", "tcp"); status != exitError || w.stdout.Len() > 0 || !strings.Contains(w.stderr.String(), "is a terminal") {
		t.Errorf("status %d, %s", status, w.stderr.String())
	}
}

// TestRedact: a recording redacted later is as one redacted at once.
func TestRedact(t *testing.T) {
	dir := t.TempDir()
	in, key := recorded(t), filepath.Join(dir, "key")
	at := filepath.Join(dir, "at-once.hop")
	newWorld(t).must(t, "record", "-w", at, "--redact="+key, "--for", "2s", "tcp")
	later := filepath.Join(dir, "later.hop")
	newWorld(t).must(t, "redact", in, "-o", later, "--key", key)
	show := func(path string) string {
		return newWorld(t).must(t, "replay", path, "-o", "tree").stdout.String()
	}
	if a, b := show(at), show(later); a == "" || a != b {
		t.Errorf("at once:\n%s\nlater:\n%s", a, b)
	}
	for _, text := range []string{show(later), contents(t, later)} {
		for _, original := range originals {
			if at := strings.Index(text, original); at >= 0 && original != "40932" { // ports were not asked for
				t.Errorf("%s is there: %q", original, text[max(0, at-100):min(len(text), at+100)])
			}
		}
	}
	w := newWorld(t)
	twice := filepath.Join(dir, "twice.hop")
	if status := w.run("redact", later, "-o", twice, "--key", filepath.Join(dir, "other")); status != exitError || !strings.Contains(w.stderr.String(), "redacted already") {
		t.Errorf("twice: status %d, %s", status, w.stderr.String())
	}
	for _, path := range []string{twice, filepath.Join(dir, "other")} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s was made", path)
		}
	}
	// Nothing is recovered with another key, or none.
	other := filepath.Join(dir, "forgotten.hop")
	newWorld(t).must(t, "redact", in, "-o", other)
	if show(other) == show(later) {
		t.Error("the pseudonyms do not depend on the key")
	}
}
