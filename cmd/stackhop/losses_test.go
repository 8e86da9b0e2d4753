// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// tracerStages are the stages of tracer.Stats, and how a summary tells of 7 there.
var tracerStages = map[string]string{
	"ring": "LOST ring 7", "decode": "LOST decode 7", "packet-table": "LOST packet-table 7", "flow-table": "LOST flow-table 7", "read": "LOST read 7", stageShed: "LOST shed 7",
	stageRate: "7 packets shed by --rate", stageNotRun: "the kernel left out 7 hook runs",
}

// stagesIn are the stages that a text tells of.
func stagesIn(text string) (out []string) {
	for stage, words := range tracerStages {
		if strings.Contains(text, words) {
			out = append(out, stage)
		}
	}
	return out
}

// TestEachStageIsTold: what each stage of the tracer lost is told by the exit summary,
// by the live warning, in the JSON of the traversals behind it, in the recording, and by
// its replay; and each tells of no other stage. That of a purpose, and of whose packets
// nothing is known, is no warning.
func TestEachStageIsTold(t *testing.T) {
	for stage := range tracerStages {
		t.Run(stage, func(t *testing.T) {
			want := map[string]uint64{stage: 7}
			path := filepath.Join(t.TempDir(), "x.hop")
			w := losingWorld(t, want)
			w.must(t, "record", "-w", path, "--print", "-o", "json", "--for", "4s", "tcp")
			if got := stagesIn(w.stderr.String()); !slices.Equal(got, []string{stage}) {
				t.Errorf("the summary tells of %v: %s", got, w.stderr.String())
			}
			warned := strings.Contains(w.stderr.String(), ", so far "+stage+" 7\n")
			if warned == (stage == stageRate || stage == stageNotRun) {
				t.Errorf("warned: %t: %s", warned, w.stderr.String())
			}
			expectLostInRun(t, w.stdout.String(), want)

			again := newWorld(t).must(t, "replay", path, "-o", "json")
			if again.stdout.String() != w.stdout.String() {
				t.Errorf("live:\n%s\nreplay:\n%s", w.stdout.String(), again.stdout.String())
			}
			if got := stagesIn(strings.Replace(again.stderr.String(), "LOST: ", "LOST ", 1)); !slices.Equal(got, []string{stage}) {
				t.Errorf("the replay tells of %v: %s", got, again.stderr.String())
			}
			if got := endOf(t, path).Lost; !maps.Equal(got, want) {
				t.Errorf("the recording ends with %v", got)
			}

			live := losingWorld(t, want)
			live.must(t, "trace", "-o", "json", "--for", "4s", "tcp")
			expectLostInRun(t, live.stdout.String(), want)
		})
	}
}

// losingWorld is a world that has lost something, in which packets come for some
// seconds.
func losingWorld(t *testing.T, lost map[string]uint64) *world {
	t.Helper()
	w := newWorldOf(t, rounds(readCapture(t, scripted), 3, time.Second, 1, all))
	w.tr.paced = true
	w.tr.stats.Lost = maps.Clone(lost)
	return w
}

// expectLostInRun compares what the last of some traversals says of the run's losses.
func expectLostInRun(t *testing.T, lines string, want map[string]uint64) {
	t.Helper()
	all := strings.Split(strings.TrimSpace(lines), "\n")
	var last events.Traversal
	if err := json.Unmarshal([]byte(all[len(all)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(last.LostInRun, want) {
		t.Errorf("the last of %d traversals tells of %v, want %v", len(all), last.LostInRun, want)
	}
}

// endOf is a recording's last block.
func endOf(t *testing.T, path string) *record.End {
	t.Helper()
	file, r, err := openRecording(path, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := &player{
		playing: &playing{}, ctx: t.Context(), out: &replayed{lost: map[string]uint64{}}, addresses: map[devKey][]netip.Addr{},
		stitcher: events.NewStitcher(events.Config{}, func(*events.Traversal) {}),
	}
	if err := r.Run(p); err != nil {
		t.Fatal(err)
	}
	if r.End() == nil {
		t.Fatal("the recording has no end")
	}
	return r.End()
}

// TestOwnStages: what is lost behind the tracer is told by the summary, each stage
// alone: packets given out early for want of room, or of too many events, are those of
// the stitcher's own tests; here is how they are said.
func TestOwnStages(t *testing.T) {
	for stage, change := range map[string]func(*outcome){
		"stitch":  func(o *outcome) { o.stitched.Overlong = 7 },
		"evicted": func(o *outcome) { o.stitched.Evicted = 7 },
		"output":  func(o *outcome) { o.unwritten = 7 },
	} {
		o := &outcome{}
		change(o)
		if got := o.lost(); !maps.Equal(got, map[string]uint64{stage: 7}) {
			t.Errorf("%s: %v", stage, got)
		}
		if want := fmt.Sprintf("LOST %s 7\n", stage); !strings.Contains(o.summary(), want) {
			t.Errorf("no %q in %s", want, o.summary())
		}
		if o.status() != exitLost {
			t.Errorf("%s: status %d", stage, o.status())
		}
	}
	w := newWorld(t)
	w.sys.stdout = brokenWriter{syscall.ENOSPC}
	w.run("trace", "tcp")
	if !strings.Contains(w.stderr.String(), "LOST output 3\n") {
		t.Errorf("a full disk: %s", w.stderr.String())
	}
}
