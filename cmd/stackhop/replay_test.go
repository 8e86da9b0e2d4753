// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Traversals of the scripted capture, by where they went.
const (
	case6  = "tcp 8.219.164.114"
	case7  = "tcp 8.219.164.113"
	answer = "icmp 172.23.96.23"
)

// shown lists the traversals of JSON lines.
func shown(t *testing.T, lines string) []string {
	t.Helper()
	out := []string{}
	for line := range strings.Lines(lines) {
		var got struct {
			Proto string
			Dst   struct{ IP string }
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		out = append(out, got.Proto+" "+got.Dst.IP)
	}
	return out
}

func TestReplaySelects(t *testing.T) {
	path := recorded(t)
	everything := []string{case6, case7, answer}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{nil, everything},
		{[]string{"--with", "172.23.96.23"}, everything},
		{[]string{"--with", "172.23.96.0/26"}, everything},
		{[]string{"--to", ":80"}, everything}, // the answer belongs to what it is about
		{[]string{"--to", "8.219.164.114:80"}, []string{case6}},
		{[]string{"--from", "172.23.96.23", "--to", "8.219.164.113"}, []string{case7, answer}},
		{[]string{"--with", "172.23.96.163"}, []string{case6}}, // behind NAT
		{[]string{"--with", "10.0.0.180"}, []string{case6}},    // the node it hides behind
		{[]string{"--with", "10.9.9.9"}, nil},
		{[]string{"--with", "pod/default/nginx1a"}, []string{case6}},
		{[]string{"--with", "pod/nginx1a"}, []string{case6}},
		{[]string{"-n", "default", "--to", "svc/nginx1-local:80"}, []string{case7, answer}},
		{[]string{"-n", "default"}, everything},
		{[]string{"icmp"}, []string{case7, answer}}, // and what the answer belongs to
		{[]string{"udp"}, nil},
		{[]string{"tcp", "port", "80", "and", "host", "8.219.164.114"}, []string{case6}},
		{[]string{"--with", "172.23.96.23", "dst", "host", "8.219.164.113"}, []string{case7, answer}},
		{[]string{"--failed"}, []string{case7}},
		{[]string{"--failed", "--with", "8.219.164.114"}, nil},
		{[]string{"--count", "2"}, []string{case6, case7}},
		{[]string{"--since", "+1050us"}, []string{case7, answer}},
		{[]string{"--since", "15:04:05.00105"}, []string{case7, answer}},
		{[]string{"--since", "2026-01-02T15:04:05.00105Z"}, []string{case7, answer}},
		{[]string{"--since", "2026-01-02T16:04:05.00105+01:00"}, []string{case7, answer}},
		{[]string{"--until", "+1050us"}, []string{case6}},
		{[]string{"--since", "+1050us", "--until", "+1080us"}, []string{case7}},
		{[]string{"--since", "+1h"}, nil},
	} {
		w := newWorld(t).must(t, append([]string{"replay", path, "-o", "json"}, tt.args...)...)
		if got := shown(t, w.stdout.String()); !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.args, got, tt.want)
		}
	}
}

// TestReplayServices: what the API server said of a service, and which names may be
// out of date, is in the recording, also in a redacted one, without a name there.
func TestReplayServices(t *testing.T) {
	for version, added := range map[string]bool{"v1.1.hop": false, "v1.2.hop": true} {
		t.Run(version, func(t *testing.T) {
			replayServices(t, filepath.Join("..", "..", "events", "record", "testdata", version), added)
		})
	}
}

func replayServices(t *testing.T, path string, endpoints bool) {
	hidden := filepath.Join(t.TempDir(), "x.hop")
	newWorld(t).must(t, "redact", path, "-o", hidden)
	for _, tt := range []struct {
		path  string
		named bool
	}{{path, true}, {hidden, false}} {
		out := newWorld(t).must(t, "replay", tt.path).stdout.String()
		for _, want := range []string{"    note: policy Local, 2 endpoints on other nodes, none here; 1 not ready\n", ", perhaps no longer, "} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", tt.path, want, out)
			}
		}
		json := newWorld(t).must(t, "replay", tt.path, "-o", "json", "--failed").stdout.String()
		if !strings.Contains(json, `"type":"LoadBalancer","policy":"Local","affinity":true,"here":0,"elsewhere":2,"terminating":0,"not_ready":1`) {
			t.Errorf("%s: %s", tt.path, json)
		}
		for _, what := range []string{`"endpoints":{"list":[{"addr":"`, `:80","node":"`, `"zone":"`, `"ready":true,"serving":true,"terminating":false},{"`, `"left_out":0}`, `"labels":{"`} {
			if strings.Contains(json, what) != endpoints {
				t.Errorf("%s: %s is there: %v; %s", tt.path, what, !endpoints, json)
			}
		}
		tree := newWorld(t).must(t, "replay", tt.path, "-o", "tree", "--failed").stdout.String()
		if got := strings.Contains(tree, ", endpoints: ") && strings.Contains(tree, ":80 on "); got != endpoints {
			t.Errorf("%s: endpoints are in the tree: %v", tt.path, got)
		}
		page := filepath.Join(t.TempDir(), "x.html")
		newWorld(t).must(t, "report", tt.path, "-o", page)
		html, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := string(html)
		if !strings.Contains(text, `"title":"Services that packets were sent to"`) || strings.Contains(text, `"title":"Endpoints of these services"`) != endpoints {
			t.Errorf("%s: the page lists endpoints: %v", tt.path, !endpoints)
		}
		for _, name := range []string{"172.23.96.164", "zone-b"} { // no packet had them
			if there := strings.Contains(json, name); there != (tt.named && endpoints) || there != strings.Contains(text, name) {
				t.Errorf("%s: %q is there: %v", tt.path, name, there)
			}
		}
		for _, name := range []string{"default/", "nginx1", `"http"`} {
			if there := strings.Contains(json, name); there != tt.named {
				t.Errorf("%s: %q is there: %v", tt.path, name, there)
			}
		}
	}
}

// TestReplayNetns: a namespace of the recording stands for its addresses.
func TestReplayNetns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.hop")
	w := newWorldOf(t, readCapture(t, "6.12-case5"))
	w.tr.paced = true
	live := w.must(t, "record", "-w", path, "--all", "--print", "-o", "json", "--for", "5s")
	for _, target := range []string{"netns/centos", "netns/4026532361", "netns/nginx1a"} {
		again := newWorld(t).must(t, "replay", path, "--with", target, "-o", "json")
		if got := again.stdout.String(); got == "" || got != live.stdout.String() {
			t.Errorf("%s: %v", target, shown(t, got))
		}
	}
	// The node has other addresses.
	if got := newWorld(t).must(t, "replay", path, "--with", "netns/n1", "-o", "json"); got.stdout.Len() > 0 {
		t.Errorf("netns/n1: %v", shown(t, got.stdout.String()))
	}
}

// TestReplayIsTrace: a filter shows of a recording of everything what it shows
// of a recording of what it matched.
func TestReplayIsTrace(t *testing.T) {
	live := newWorld(t)
	live.tr.capture = rounds(live.tr.capture, 1, 0, 1, func(_ int, e *events.Event) bool { return e.Packet == 11 })
	live.must(t, "trace", "--for", "2s", "host", "8.219.164.114")
	path := filepath.Join(t.TempDir(), "x.hop")
	w := newWorld(t)
	w.tr.capture = rounds(w.tr.capture, 1, 0, 1, all)
	w.must(t, "record", "-w", path, "--for", "2s", "--all")
	if again := newWorld(t).must(t, "replay", path, "host", "8.219.164.114"); again.stdout.String() != live.stdout.String() {
		t.Errorf("replay:\n%s\nlive:\n%s", again.stdout.String(), live.stdout.String())
	}
}

func TestReplayOutput(t *testing.T) {
	for name, args := range map[string][]string{
		"replay line":    {"replay", "FILE"},
		"replay summary": {"replay", "FILE", "-o", "summary"},
		"replay failed":  {"replay", "--failed", "FILE", "-o", "tree"},
		"replay nothing": {"replay", "FILE", "udp"},
		"replay explain": {"replay", "FILE", "--explain", "--failed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			words := slices.Clone(args)
			words[slices.Index(words, "FILE")] = recorded(t)
			w.golden(t, w.run(words...), args)
		})
	}
}

func TestReplayExitStatus(t *testing.T) {
	path := recorded(t)
	for _, tt := range []struct {
		args []string
		want int
	}{
		{[]string{"--exit-status"}, exitTerminated},
		{nil, exitDone},
		{[]string{"--exit-status", "--with", "8.219.164.114"}, exitDone},
		{[]string{"--exit-status", "udp"}, exitNothing},
	} {
		if got := newWorld(t).run(append([]string{"replay", path}, tt.args...)...); got != tt.want {
			t.Errorf("%v: status %d, want %d", tt.args, got, tt.want)
		}
	}
}

// TestReplayDamaged: everything that is whole is shown, and where it is not is
// told.
func TestReplayDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.hop")
	w := newWorldOf(t, rounds(readCapture(t, scripted), 20, time.Second, 1, all))
	w.tr.paced = true
	w.must(t, "record", "-w", path, "--for", "30s", "tcp")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(b []byte) []byte
		places int
		killed bool
	}{
		"a bit":      {func(b []byte) []byte { b[len(b)/2] ^= 4; return b }, 1, false},
		"two places": {func(b []byte) []byte { b[len(b)/3] ^= 4; b[2*len(b)/3] ^= 1; return b }, 2, false},
		"cut":        {func(b []byte) []byte { return b[:2*len(b)/3] }, 1, true},
		"end":        {func(b []byte) []byte { return b[:len(b)-1] }, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			bad := filepath.Join(t.TempDir(), "x.hop")
			if err := os.WriteFile(bad, tt.change(bytes.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			w := newWorld(t)
			status := w.run("replay", bad)
			said := w.stderr.String()
			places := regexp.MustCompile(`(?m)^stackhop: "[^"]*x\.hop": damaged at byte [0-9]+: .*; [0-9]+ bytes are left out$`).FindAllString(said, -1)
			if status != exitError || len(places) != tt.places || !strings.Contains(said, "damaged: what is whole was used\n") {
				t.Errorf("status %d: %s", status, said)
			}
			if killed := strings.Contains(said, "ends without its end"); killed != tt.killed {
				t.Errorf("killed: %t: %s", killed, said)
			}
			if n := strings.Count(w.stdout.String(), "nginx 512"); n < 10 {
				t.Errorf("only %d traversals", n)
			}
			// Files that are made of it stay.
			for _, cmd := range []string{"report", "export", "redact"} {
				out := filepath.Join(t.TempDir(), cmd)
				if status := newWorld(t).run(cmd, bad, "-o", out); status != exitError {
					t.Errorf("%s: status %d", cmd, status)
				}
				if st, err := os.Stat(out); err != nil || st.Size() < 1000 {
					t.Errorf("%s: %v", cmd, err)
				}
			}
		})
	}
}

// TestReplayEnds: who has seen enough is not made to wait for the rest.
func TestReplayEnds(t *testing.T) {
	path := recorded(t)
	w := newWorld(t)
	w.sys.stdout = brokenWriter{syscall.EPIPE}
	if status := w.run("replay", path); status != exitDone || w.stderr.Len() > 0 {
		t.Errorf("closed pipe: status %d, %s", status, w.stderr.String())
	}
	w = newWorld(t)
	w.sys.stdout = brokenWriter{syscall.ENOSPC}
	if status := w.run("replay", path); status != exitError || !strings.Contains(w.stderr.String(), "no space left on device") {
		t.Errorf("full disk: status %d, %s", status, w.stderr.String())
	}
	w = newWorld(t)
	w.must(t, "replay", path, "--count", "1")
	if strings.Contains(w.stderr.String(), "without its end") {
		t.Errorf("%s", w.stderr.String())
	}
	// A recording of which nothing matches is left too.
	w = newWorld(t)
	w.signals <- os.Interrupt
	w.must(t, "replay", path, "udp")
}

// TestBadRecordings are all messages about files that cannot be used. The words
// in capitals stand for files.
func TestBadRecordings(t *testing.T) {
	dir := t.TempDir()
	good, err := os.ReadFile(recorded(t))
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(good)
	newer[8]++
	node := func(name, boot string) []byte {
		path := filepath.Join(t.TempDir(), "x.hop")
		w := newWorld(t)
		w.sys.hostname = func() (string, error) { return name, nil }
		w.sys.bootID = func() (string, error) { return boot, nil }
		w.must(t, "record", "-w", path, "--for", "1s", "tcp")
		return must(os.ReadFile(path))
	}
	for name, data := range map[string][]byte{
		"good.hop": good, "copy.hop": good, "empty.hop": nil, "text.hop": []byte("hello\n"), "short.hop": good[:12], "newer.hop": newer,
		"header.hop": good[:16], "again.hop": node("host", "5ca1ab1e-0000-4000-8000-000000000001"), "reboot.hop": node("host", "another-boot"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.hop"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"bad text":          {"replay", "text.hop"},
		"bad empty":         {"replay", "empty.hop"},
		"bad short":         {"replay", "short.hop"},
		"bad header":        {"replay", "header.hop"},
		"bad newer":         {"replay", "newer.hop"},
		"bad directory":     {"replay", "dir.hop"},
		"bad missing":       {"replay", "missing.hop"},
		"bad missing too":   {"replay", "good.hop", "missing.hop"},
		"bad first word":    {"replay", "tcp"},
		"bad second word":   {"replay", "good.hop", "goood.hopp"},
		"bad twice":         {"replay", "good.hop", "copy.hop"},
		"bad same node":     {"replay", "good.hop", "again.hop"},
		"bad other boot":    {"replay", "good.hop", "reboot.hop"},
		"bad report":        {"report", "empty.hop", "-o", "out"},
		"bad report merge":  {"report", "good.hop", "again.hop", "-o", "out"},
		"bad export":        {"export", "text.hop", "-o", "out"},
		"bad export merge":  {"export", "good.hop", "again.hop", "-o", "out"},
		"bad redact":        {"redact", "newer.hop", "-o", "out"},
		"bad target":        {"replay", "good.hop", "--with", "pod/nginx2a"},
		"bad netns":         {"replay", "good.hop", "--with", "netns/cento"},
		"bad expression":    {"replay", "good.hop", "tcp", "prot", "80"},
		"bad since":         {"replay", "good.hop", "--since", "yesterday"},
		"bad until":         {"replay", "good.hop", "--until", "+10"},
		"bad output is in":  {"redact", "good.hop", "-o", "good.hop", "--force"},
		"bad output is in2": {"report", "good.hop", "-o", "./good.hop", "--force"},
	} {
		t.Run(name, func(t *testing.T) {
			w, here := newWorld(t), must(os.Getwd())
			t.Chdir(dir)
			status := w.run(args...)
			if status != exitError || w.stdout.Len() > 0 {
				t.Errorf("status %d, stdout %q", status, w.stdout.String())
			}
			if _, err := os.Lstat("out"); err == nil {
				t.Error("a file was left")
			}
			t.Chdir(here)
			w.golden(t, status, args)
		})
	}
	if data := must(os.ReadFile(filepath.Join(dir, "good.hop"))); !bytes.Equal(data, good) {
		t.Error("the recording was changed")
	}
}
