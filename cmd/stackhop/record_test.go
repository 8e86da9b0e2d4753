// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/tracer"
)

// must runs the program, which must succeed.
func (w *world) must(t *testing.T, args ...string) *world {
	t.Helper()
	if status := w.run(args...); status != exitDone {
		t.Fatalf("%v: status %d: %s", args, status, w.stderr.String())
	}
	return w
}

// recorded makes a recording of the scripted capture.
func recorded(t *testing.T, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.hop")
	newWorld(t).must(t, append([]string{"record", "-w", path, "--for", "2s", "tcp"}, args...)...)
	return path
}

// rounds repeats a capture's packets: each time that much later, with numbers of
// their own, and slower by a factor. keep chooses among them.
func rounds(c *events.Capture, n int, every time.Duration, slower uint64, keep func(round int, e *events.Event) bool) *events.Capture {
	out := *c
	out.Events = nil
	begin := c.Events[0].Time
	for round := range uint64(n) {
		for _, e := range c.Events {
			if !keep(int(round), &e) {
				continue
			}
			e.Time = uint64(10*time.Second) + round*uint64(every) + (e.Time-begin)*slower
			for _, id := range []*uint64{&e.Packet, &e.Flow, &e.Other} {
				if *id != 0 {
					*id += round << 16
				}
			}
			out.Events = append(out.Events, e)
		}
	}
	slices.SortStableFunc(out.Events, func(a, b events.Event) int { return int(a.Time) - int(b.Time) })
	return &out
}

func all(int, *events.Event) bool { return true }

// TestReplayIsLive: what a recording shows is what was shown while it was made,
// to the byte.
func TestReplayIsLive(t *testing.T) {
	for name, args := range map[string][]string{
		"line":      {"-o", "line"},
		"tree":      {"-o", "tree"},
		"json":      {"-o", "json"},
		"failed":    {"--failed"},
		"count":     {"--count", "2"},
		"only node": {"--names", "NAMES", "--only-node", "n1"},
		"snaplen":   {"--snaplen", "100"},
		"redacted":  {"--redact", "-o", "json"},
		"one key":   {"--redact=KEY", "--redact-ports", "-o", "tree"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.hop")
			words := []string{"record", "-w", path, "--print", "--for", "5s", "tcp"}
			show := []string{"replay", path}
			for i, arg := range args {
				switch arg {
				case "NAMES":
					arg = namesFile(t, someNames)
				case "--redact=KEY":
					arg = "--redact=" + filepath.Join(t.TempDir(), "key")
				case "-o", "--failed", "--count":
					show = append(show, args[i:]...)
				}
				words = append(words, arg)
			}
			live := newWorld(t).must(t, words...)
			again := newWorld(t).must(t, show...)
			if live.stdout.Len() == 0 || live.stdout.String() != again.stdout.String() {
				t.Errorf("live:\n%s\nreplay:\n%s", live.stdout.String(), again.stdout.String())
			}
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
				t.Errorf("mode %o", st.Mode().Perm())
			}
			if !live.config.Record {
				t.Error("the tracer does not know that it is recorded")
			}
		})
	}
}

// TestRecordSays is all that is said by a recorder.
func TestRecordSays(t *testing.T) {
	for name, args := range map[string][]string{
		"record":            {"record", "-w", "FILE", "--for", "1s", "tcp"},
		"record count":      {"record", "-w", "FILE", "--count", "2", "tcp"},
		"record max bytes":  {"record", "-w", "FILE", "--max-bytes", "1k", "tcp"},
		"record ring parts": {"record", "-w", "FILE", "--ring", "2x1k", "--for", "4s", "tcp"},
		"record status":     {"record", "-w", "FILE", "--for", "1s", "--exit-status", "--print", "--failed", "tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			words := slices.Clone(args)
			words[2] = filepath.Join(t.TempDir(), "x.hop")
			w.golden(t, w.run(words...), args)
		})
	}
}

// TestRecordMaxBytes: the bound ends a recording that is whole.
func TestRecordMaxBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.hop")
	w := newWorldOf(t, rounds(readCapture(t, scripted), 200, time.Second, 1, all))
	w.tr.paced = true
	w.must(t, "record", "-w", path, "--max-bytes", "16k", "tcp")
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() < 16<<10 || st.Size() > 80<<10 {
		t.Errorf("%d bytes", st.Size())
	}
	again := newWorld(t).must(t, "replay", path)
	if n := strings.Count(again.stdout.String(), "\n15:0"); strings.Contains(again.stderr.String(), "without its end") || n == 0 {
		t.Errorf("%d traversals, %s", n, again.stderr.String())
	}
}

// TestRecordRing: the parts that are there show together what was shown live,
// also packets that begin in one part and end in another.
func TestRecordRing(t *testing.T) {
	capture := rounds(readCapture(t, scripted), 10, 1300*time.Millisecond, 8000, all)
	for name, ring := range map[string]string{"all parts": "1000x1k", "the last": "6x1k"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			live := newWorldOf(t, capture)
			live.tr.paced = true
			live.must(t, "record", "-w", filepath.Join(dir, "x.hop"), "--ring", ring, "--print", "-o", "json", "--for", "20s", "tcp")
			parts, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil {
				t.Fatal(err)
			}
			slices.Reverse(parts) // their order tells nothing
			again := newWorld(t).must(t, append([]string{"replay", "-o", "json"}, parts...)...)
			got, want := again.stdout.String(), live.stdout.String()
			if ring == "1000x1k" {
				if len(parts) < 20 || got != want {
					t.Errorf("%d parts; live:\n%s\nreplay:\n%s", len(parts), want, got)
				}
				return
			}
			if len(parts) != 6 || !strings.HasSuffix(want, lastLines(got, 3)) {
				t.Errorf("parts %v; live:\n%s\nreplay:\n%s", parts, want, got)
			}
		})
	}
}

// lastLines is the end of a text.
func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-1-n):], "")
}

// TestRecordRingGap: a part that is missing is not bridged.
func TestRecordRingGap(t *testing.T) {
	dir := t.TempDir()
	live := newWorldOf(t, rounds(readCapture(t, scripted), 4, 1300*time.Millisecond, 8000, all))
	live.tr.paced = true
	live.must(t, "record", "-w", filepath.Join(dir, "x.hop"), "--ring", "1000x1k", "--for", "10s", "tcp")
	parts, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	again := newWorld(t).must(t, "replay", "-o", "json", parts[0], parts[1], parts[4], parts[5], parts[6])
	incomplete := 0
	for line := range strings.Lines(again.stdout.String()) {
		var got struct {
			Verdict, Node string
			Visits        []struct{ Name string }
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		if got.Verdict == string(events.Incomplete) || got.Verdict == string(events.InFlight) {
			incomplete++
		}
		for _, v := range got.Visits {
			if v.Name == "" {
				t.Errorf("a visit without its name: %s", line)
			}
		}
	}
	if incomplete < 2 {
		t.Errorf("the packets at the gap are not cut: %d of %d; %d parts; %s", incomplete, strings.Count(again.stdout.String(), "\n"), len(parts), again.stderr.String())
	}
}

// TestRecordOnFailure: what is far from a failure is left out, what is near it
// is shown as it was.
func TestRecordOnFailure(t *testing.T) {
	const failing, every = 15, 2 * time.Second
	capture := rounds(readCapture(t, scripted), 30, every, 1, func(round int, e *events.Event) bool { return e.Packet == 11 || round == failing })
	for flag, around := range map[string]time.Duration{"--on-failure": defaultAround, "--on-failure=3s": 3 * time.Second} {
		path := filepath.Join(t.TempDir(), "x.hop")
		live := newWorldOf(t, capture)
		live.tr.paced = true
		live.must(t, "record", "-w", path, flag, "--print", "--for", "80s", "tcp")
		again := newWorld(t).must(t, "replay", path)
		got := again.stdout.String()
		if !strings.Contains(live.stdout.String(), got) || !strings.Contains(got, "terminated in IPVS") || strings.Contains(got, "incomplete") {
			t.Errorf("%s: live:\n%s\nreplay:\n%s", flag, live.stdout.String(), got)
		}
		// What is at the very edge may be in or not.
		n, want := strings.Count(got, "8.219.164.114:80 (nginx"), 1+2*int((around-every/2)/every)
		if n < want || n > want+2 {
			t.Errorf("%s: %d traversals around, want %d", flag, n, want)
		}
	}
}

// contents is all that a recording tells, as text.
func contents(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := record.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	d := &dump{}
	if err := r.Run(d); err != nil {
		t.Fatal(err)
	}
	d.add(r.Meta())
	d.add(r.Facts())
	d.add(r.End())
	return d.String()
}

// dump is a sink that writes everything down.
type dump struct{ strings.Builder }

func (d *dump) add(x any)               { fmt.Fprintf(d, "%+v %s\n", x, must(json.Marshal(x))) }
func (d *dump) Event(e *events.Event)   { fmt.Fprintf(d, "%+v\n", *e) }
func (d *dump) Tick(uint64)             {}
func (d *dump) Name(n *record.Name)     { d.add(n) }
func (d *dump) Status(s *record.Status) { d.add(s) }

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// originals are what no redacted recording of the scripted capture has.
var originals = []string{
	"172.23.96.23", "172.23.96.163", "8.219.164", "10.0.0.180", "centos", "nginx", "curl", "nginx512", "4026532345",
	"5ca1ab1e", "40932",
}

// standsIn is where a word is in a text, not counting where its digits are part of
// a longer number, which a pseudonym may be; -1: nowhere.
func standsIn(text, word string) int {
	if at := regexp.MustCompile(`(^|[^0-9])` + regexp.QuoteMeta(word) + `($|[^0-9])`).FindStringIndex(text); at != nil {
		return at[0]
	}
	return -1
}

// TestRecordRedacts: neither what is shown nor what is written has an original,
// and one key gives the same pseudonyms each time.
func TestRecordRedacts(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	var shown []string
	for _, name := range []string{"a.hop", "b.hop"} {
		path := filepath.Join(dir, name)
		w := newWorld(t)
		w.must(t, "record", "-w", path, "--redact="+key, "--redact-ports", "--print", "-o", "tree", "--for", "2s", "--with", "172.23.96.23")
		for _, text := range []string{w.stdout.String(), contents(t, path), w.stderr.String()} {
			for _, original := range originals {
				if at := standsIn(text, original); at >= 0 {
					t.Errorf("%s is there: %q", original, text[max(0, at-100):min(len(text), at+100)])
				}
			}
		}
		if told := strings.Contains(w.stderr.String(), "made the key"); told != (name == "a.hop") {
			t.Errorf("%s: %s", name, w.stderr.String())
		}
		shown = append(shown, w.stdout.String())
	}
	if shown[0] != shown[1] {
		t.Errorf("the same key, but\n%s\nand\n%s", shown[0], shown[1])
	}
	// The oracle can fail.
	plain := contents(t, recorded(t))
	for _, original := range originals[:4] {
		if !strings.Contains(plain, original) {
			t.Errorf("%s is not in a recording that is not redacted", original)
		}
	}
}

// TestRecordStream: a recording can go into a pipe.
func TestRecordStream(t *testing.T) {
	w := newWorld(t).must(t, "record", "-w", "-", "--for", "2s", "tcp")
	path := filepath.Join(t.TempDir(), "x.hop")
	if err := os.WriteFile(path, w.stdout.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	live := newWorld(t).must(t, "trace", "--for", "2s", "tcp")
	if got := newWorld(t).must(t, "replay", path); got.stdout.String() != live.stdout.String() {
		t.Errorf("%s\nlive:\n%s", got.stdout.String(), live.stdout.String())
	}

	w = newWorld(t)
	w.sys.stdout = brokenWriter{syscall.EPIPE}
	if status := w.run("record", "-w", "-", "tcp"); status != exitDone || strings.Contains(w.stderr.String(), "pipe") {
		t.Errorf("closed pipe: status %d: %s", status, w.stderr.String())
	}
	w = newWorld(t)
	w.sys.stdout = brokenWriter{syscall.ENOSPC}
	if status := w.run("record", "-w", "-", "tcp"); status != exitError || !strings.Contains(w.stderr.String(), "no space left on device") {
		t.Errorf("full disk: status %d: %s", status, w.stderr.String())
	}
}

// TestRecordLosses: what a recorder lost is told by the recording, also what it
// lost at the very end.
func TestRecordLosses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.hop")
	w := newWorld(t)
	w.tr.afterTick = func(n int) {
		w.tr.stats.Lost = map[string]uint64{"ring": uint64(n)}
	}
	w.must(t, "record", "-w", path, "--for", "3s", "tcp")
	lost := fmt.Sprintf("LOST: ring %d\n", w.tr.stats.Lost["ring"])
	again := newWorld(t)
	if status := again.run("replay", path, "--exit-status"); status != exitLost || !strings.Contains(again.stderr.String(), lost) {
		t.Errorf("status %d, no %q in %s", status, lost, again.stderr.String())
	}
	if page := newWorld(t).must(t, "report", path, "-o", "-"); !strings.Contains(page.stdout.String(), `"ring"`) {
		t.Error("the page does not tell of losses")
	}
}

// TestRecordProgress: on a terminal there is one line, and messages go above it.
func TestRecordProgress(t *testing.T) {
	w := newWorld(t)
	w.sys.errTerminal = true
	w.tr.afterTick = func(n int) {
		if n == 50 {
			w.tr.stats.Lost["ring"] = 3
		}
	}
	w.must(t, "record", "-w", filepath.Join(t.TempDir(), "x.hop"), "--for", "5s", "tcp")
	var lines []string // as a terminal shows them in the end
	for line := range strings.Lines(w.stderr.String()) {
		screen := []rune{}
		column := 0
		for _, r := range strings.TrimSuffix(line, "\n") {
			if r == '\r' {
				column = 0
				continue
			}
			screen = append(screen[:column], append([]rune{r}, screen[min(len(screen), column+1):]...)...)
			column++
		}
		lines = append(lines, strings.TrimRight(string(screen), " "))
	}
	for i, want := range []string{"stackhop: 2 hooks attached", "stackhop: warning: events are being lost, so far ring 3", "stackhop: 3 packets matched"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d is not %q: %q", i, want, lines)
		}
	}
	if !strings.Contains(w.stderr.String(), "stackhop: 108 events, 3 traversals, ") || !strings.Contains(w.stderr.String(), ", LOST ring 3") {
		t.Errorf("no progress: %q", w.stderr.String())
	}
}

// TestRecordBegins: nothing stays of a recording that cannot begin.
func TestRecordBegins(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t)
	w.sys.own = func(*os.File) error { return errors.New("no such user") }
	if status := w.run("record", "-w", filepath.Join(dir, "x.hop"), "tcp"); status != exitError || w.tr.closed != 1 || !strings.Contains(w.stderr.String(), "no such user") {
		t.Errorf("status %d, closed %d: %s", status, w.tr.closed, w.stderr.String())
	}
	w = newWorld(t)
	w.sys.bootID = func() (string, error) { return "", errors.New("no boot id") }
	if status := w.run("record", "-w", filepath.Join(dir, "x.hop"), "tcp"); status != exitError || w.tr.closed != 1 {
		t.Errorf("status %d, closed %d: %s", status, w.tr.closed, w.stderr.String())
	}
	w = newWorld(t)
	w.sys.newTracer = func(tracer.Config) (liveTracer, error) { return nil, errors.New("CAP_BPF is missing") }
	if status := w.run("record", "-w", filepath.Join(dir, "x.hop"), "tcp"); status != exitError {
		t.Errorf("status %d: %s", status, w.stderr.String())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestRecordedHooks: a recording says which hooks it lacks, and why.
func TestRecordedHooks(t *testing.T) {
	w := newWorld(t)
	hooks := w.tr.Table()
	w.tr.hooks = []tracer.HookStatus{{Name: hooks[0].Name, How: "fentry"}, {Name: hooks[1].Name, How: record.HowAbsent, Err: "no such function"}}
	got := recordedHooks(w.tr)
	if len(got) != len(hooks) {
		t.Fatalf("%d hooks, want %d", len(got), len(hooks))
	}
	for i, want := range []record.Hook{
		{ID: hooks[0].ID, Name: hooks[0].Name, Station: events.StationName(hooks[0].Station), How: "fentry"},
		{ID: hooks[1].ID, Name: hooks[1].Name, Station: events.StationName(hooks[1].Station), How: record.HowAbsent, Err: "no such function"},
	} {
		if got[i] != want {
			t.Errorf("%+v, want %+v", got[i], want)
		}
	}
}

// TestMissedEnd: while events are being lost nothing is said to have ended well whose
// end may be among them: neither live, nor in a replay, nor in one of a recording that
// was cut off.
func TestMissedEnd(t *testing.T) {
	for _, form := range []string{"line", "json"} {
		path := filepath.Join(t.TempDir(), "x.hop")
		w := newWorld(t)
		unended := 0
		w.tr.capture.Events = slices.DeleteFunc(w.tr.capture.Events, func(e events.Event) bool {
			if e.Flags&events.FlagEnd != 0 {
				unended++
			}
			return e.Flags&events.FlagEnd != 0
		})
		w.tr.afterTick = func(n int) {
			if n >= 1 { // from before the events are there
				w.tr.stats.Lost = map[string]uint64{"ring": uint64(n)} //nolint:gosec // small
			}
		}
		live := w.must(t, "record", "-w", path, "--print", "-o", form, "--for", "5s", "tcp").stdout.String()
		if n := strings.Count(live, "incomplete: events were lost"); n < 3 || strings.Contains(live, `"complete":true`) {
			t.Errorf("%d incomplete, of %d packets without an end:\n%s", n, unended, live)
		}
		if again := newWorld(t).must(t, "replay", path, "-o", form).stdout.String(); again != live {
			t.Errorf("live:\n%s\nreplay:\n%s", live, again)
		}
	}

	path := filepath.Join(t.TempDir(), "x.hop")
	w := newWorld(t)
	w.tr.capture.Events = slices.DeleteFunc(w.tr.capture.Events, func(e events.Event) bool { return e.Flags&events.FlagEnd != 0 })
	w.must(t, "record", "-w", path, "--for", "50ms", "tcp") // they do not settle
	data := must(os.ReadFile(path))
	if err := os.WriteFile(path, data[:len(data)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	w = newWorld(t)
	w.run("replay", path, "-o", "json")
	if out := w.stdout.String(); !strings.Contains(out, "incomplete: events were lost") || strings.Contains(out, `"complete":true`) {
		t.Errorf("of a file that is cut off: %s", out)
	}
}
