// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stackhop/stackhop/events"
)

// evil is text that workloads may choose as a name: ESC, BEL, a newline, a control
// character of C1, a bidirectional one, invalid UTF-8, HTML, and 4 KiB of it.
var evil = "\x1b]0;owned\a\x1b[2J\nroot# \u009b31m\u202exyz\xff\x7f<script>alert(1)</script>" + strings.Repeat("z", 4096)

// hostileNames calls everything so.
type hostileNames struct{ events.Names }

func (h hostileNames) Namespace(netns uint32) events.Namespace {
	ns := h.Names.Namespace(netns)
	ns.Name, ns.Pod = evil, "default/"+evil
	ns.Labels = events.NewLabels(map[string]string{evil: evil})
	return ns
}

func (h hostileNames) Device(netns, ifindex uint32) (events.Device, bool) {
	d, ok := h.Names.Device(netns, ifindex)
	d.Name = evil
	return d, ok
}

func (h hostileNames) Address(ip string, port uint16) events.AddressNames {
	return events.AddressNames{Pod: "default/" + evil, Service: "default/" + evil, Node: evil, Stale: true}
}

func (h hostileNames) Process(uint32) (string, uint32, bool) { return evil, 541, true }
func (h hostileNames) Symbol(uint64) string                  { return evil }
func (h hostileNames) DropReason(uint32) string              { return evil }

// hostileWorld is one whose workloads mean to do harm.
func hostileWorld(t *testing.T) *world {
	t.Helper()
	c := *readCapture(t, scripted)
	c.Names = hostileNames{c.Names}
	c.Events = append([]events.Event(nil), c.Events...)
	for i := range c.Events {
		if c.Events[i].Socket.PID != 0 {
			copy(c.Events[i].Socket.Comm[:], evil)
		}
	}
	return newWorldOf(t, &c)
}

// TestHostileNames: whatever workloads call themselves, nothing that a person sees has
// control characters in it, one line stays one line, and JSON is JSON.
func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.hop")
	recording := hostileWorld(t)
	recording.must(t, "record", "-w", path, "--for", "2s", "tcp")
	checkHarmless(t, "record's messages", recording.stderr.String())
	lines := map[string]int{}
	for _, form := range []string{"line", "tree", "json", "summary"} {
		for name, args := range map[string][]string{
			"trace":         {"trace", "--for", "2s", "tcp", "-o", form},
			"replay":        {"replay", path, "-o", form},
			"explain":       {"replay", path, "-o", form, "--explain"},
			"merged":        {"replay", path, "-o", form, "--failed"},
			"not a filter":  {"replay", path, "-o", form, evil},
			"not a file":    {"replay", filepath.Join(dir, evil[:80]), "-o", form},
			"not a command": {evil},
			"not a flag":    {"replay", "--" + evil, path},
			"names":         {"trace", "--for", "1s", "--names", filepath.Join(dir, evil[:80]), "tcp"},
			"from":          {"trace", "--from", evil},
			"pod":           {"trace", "--from", "pod/" + evil},
			"topology":      {"topology"},
			"doctor":        {"doctor"},
			"hooks":         {"hooks"},
		} {
			w := hostileWorld(t)
			w.run(args...)
			if form == "json" && w.stdout.Len() > 0 && (name == "trace" || name == "replay" || name == "explain") {
				for line := range strings.Lines(w.stdout.String()) {
					if !json.Valid([]byte(line)) {
						t.Errorf("%s: not JSON: %.200q", name, line)
					}
				}
			}
			if name == "replay" {
				lines[form] = strings.Count(w.stdout.String(), "\n")
			}
			checkHarmless(t, name+" "+form, w.stdout.String())
			checkHarmless(t, name+"'s messages", w.stderr.String())
		}
	}
	plain := filepath.Join(dir, "plain.hop")
	newWorld(t).must(t, "record", "-w", plain, "--for", "2s", "tcp")
	for _, form := range []string{"line", "json"} {
		if want := strings.Count(newWorld(t).must(t, "replay", plain, "-o", form).stdout.String(), "\n"); form == "json" && lines[form] != want || lines[form] > 2*want {
			t.Errorf("%s: %d lines, of ordinary names %d", form, lines[form], want)
		}
	}
	page := hostileWorld(t).must(t, "report", path, "-o", "-").stdout.String()
	if strings.Contains(page, "<script>alert") {
		t.Error("the page runs what a workload is called")
	}
	export := filepath.Join(dir, "x.pcapng")
	hostileWorld(t).must(t, "export", path, "-o", export)
	if data := string(must(os.ReadFile(export))); strings.Contains(data, "\x1b") || strings.Contains(data, "\u202e") {
		t.Error("a comment of the capture file has control characters")
	}
}

// checkHarmless wants text of which a terminal does nothing but show it.
func checkHarmless(t *testing.T, what, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s: not UTF-8", what)
	}
	for i, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%s: %U in %.200q", what, r, text[max(0, i-60):])
			return
		}
	}
}
