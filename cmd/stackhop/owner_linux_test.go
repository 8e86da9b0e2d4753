// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// TestFilesOwner: every file that the tool makes is for one reader: whoever called it,
// through sudo too, whatever the umask. So are all parts of a ring.
func TestFilesOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, as sudo has it")
	}
	defer syscall.Umask(syscall.Umask(0))
	const uid, gid = 12345, 23456
	t.Setenv("SUDO_UID", "12345")
	t.Setenv("SUDO_GID", "23456")
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	owned := func() *world {
		w := newWorldOf(t, rounds(readCapture(t, scripted), 40, 500*time.Millisecond, 1, func(int, *events.Event) bool { return true }))
		w.tr.paced = true
		w.sys.own = ownFile
		return w
	}
	owned().must(t, "record", "-w", in("x.hop"), "--for", "2s", "--ready-file", in("ready"), "--redact="+in("key"), "tcp")
	owned().must(t, "record", "-w", in("ring.hop"), "--ring", "3x4K", "--for", "15s", "tcp")
	owned().must(t, "trace", "--for", "1s", "--capture", in("x.jsonl"), "tcp")
	owned().must(t, "report", in("x.hop"), "-o", in("x.html"))
	owned().must(t, "export", in("x.hop"), "-o", in("x.pcapng"))
	newWorld(t).must(t, "record", "-w", in("plain.hop"), "--for", "2s", "tcp") // as root
	owned().must(t, "redact", in("plain.hop"), "-o", in("redacted.hop"), "--key", in("key2"))
	if err := os.Remove(in("plain.hop")); err != nil {
		t.Fatal(err)
	}

	var names []string
	for _, e := range must(os.ReadDir(dir)) {
		info := must(e.Info())
		st := info.Sys().(*syscall.Stat_t)
		if info.Mode() != 0o600 || st.Uid != uid || st.Gid != gid {
			t.Errorf("%s: mode %v, owner %d:%d", e.Name(), info.Mode(), st.Uid, st.Gid)
		}
		names = append(names, e.Name())
	}
	parts := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, "ring.") })
	if len(parts) != 3 || slices.Contains(parts, "ring.0001.hop") || len(names) != 3+8 {
		t.Errorf("parts %v (the first ones should be gone), of %v", parts, names)
	}
}

// TestLinksInTheWay: in a folder that others may write to, no file is made where a link
// leads.
func TestLinksInTheWay(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	in := recorded(t)
	for name, args := range map[string][]string{
		"record":  {"record", "--for", "1s", "tcp", "-w"},
		"forced":  {"record", "--for", "1s", "tcp", "--force", "-w"},
		"key":     {"record", "--for", "1s", "tcp", "-w", filepath.Join(dir, "new.hop"), "--force", "--redact=LINK"},
		"capture": {"trace", "--for", "1s", "tcp", "--capture"},
		"ready":   {"trace", "--for", "1s", "tcp", "--ready-file"},
		"report":  {"report", in, "--force", "-o"},
		"export":  {"export", in, "--force", "-o"},
		"redact":  {"redact", in, "--force", "-o"},
	} {
		for _, there := range []bool{false, true} {
			_ = os.Remove(victim)
			if there {
				if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			link := filepath.Join(dir, name)
			_ = os.Remove(link)
			if err := os.Symlink(victim, link); err != nil {
				t.Fatal(err)
			}
			words := slices.Clone(args)
			if i := slices.Index(words, "--redact=LINK"); i >= 0 {
				words[i] = "--redact=" + link
			} else {
				words = append(words, link)
			}
			w := newWorld(t)
			if status := w.run(words...); status != exitError {
				t.Errorf("%s, victim there %v: status %d: %s", name, there, status, w.stderr.String())
			}
			data, err := os.ReadFile(victim)
			if there && string(data) != "mine" || !there && err == nil {
				t.Errorf("%s: behind the link there is %q, %v", name, data, err)
			}
		}
	}
}
