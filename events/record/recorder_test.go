// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

const tickEvery = 100 * time.Millisecond

// hooksOf is a hook table as a run has it.
func hooksOf(m *Meta) (hooks []events.Hook) {
	for _, h := range m.Hooks {
		st, _ := events.StationByName(h.Station)
		hooks = append(hooks, events.Hook{ID: h.ID, Name: h.Name, Station: st})
	}
	return hooks
}

// drive records a workload as a live run does, and returns its traversals. After
// each tick it calls after, with the time since the first event.
func drive(t *testing.T, r *Recorder, w *workload, after func(time.Duration)) ([]byte, error) {
	t.Helper()
	live := newStitched(t, w.meta, hooksOf(w.meta), r.Names())
	begin := w.events[0].Time
	next := begin
	for i := range w.events {
		e := &w.events[i]
		for ; e.Time >= next; next += uint64(tickEvery) {
			live.Tick(next)
			if err := r.Tick(next); err != nil {
				return nil, err
			}
			if after != nil {
				after(time.Duration(next - begin)) //nolint:gosec // seconds
			}
		}
		live.Event(e)
		r.Event(e)
	}
	live.Stitcher.Flush()
	return live.Bytes(), nil
}

func create(t *testing.T, o Options, w *workload) *Recorder {
	t.Helper()
	r, err := Create(o, w.meta, w.names)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// switching are the names of the part that is being read.
type switching struct{ events.Names }

// replayFiles reads parts in their order into one stitcher.
func replayFiles(t *testing.T, files []string, each func(*Reader) Sink) []byte {
	t.Helper()
	var names switching
	var s *stitched
	for _, file := range files {
		r := open(t, file)
		names.Names = r.Names()
		if s == nil {
			s = newStitched(t, r.Meta(), r.Hooks(), &names)
		}
		sink := Sink(s)
		if each != nil {
			sink = &both{s, each(r)}
		}
		if err := r.Run(sink); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	s.Stitcher.Flush()
	return s.Bytes()
}

// both gives everything to two sinks.
type both struct{ a, b Sink }

func (x *both) Event(e *events.Event) { x.a.Event(e); x.b.Event(e) }
func (x *both) Tick(now uint64)       { x.a.Tick(now); x.b.Tick(now) }
func (x *both) Status(s *Status) {
	if b, ok := x.b.(interface{ Status(*Status) }); ok {
		b.Status(s)
	}
}

// open opens a recording that is whole at its beginning.
func open(t *testing.T, file string) *Reader {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return r
}

// named checks that of each event its namespace and device are named as in the run.
type named struct {
	t      *testing.T
	names  events.Names // of the run
	r      *Reader
	events []uint64 // their times
	gaps   int
}

func (n *named) Tick(uint64) {}
func (n *named) Status(s *Status) {
	if s.Gap {
		n.gaps++
	}
}
func (n *named) Event(e *events.Event) {
	n.events = append(n.events, e.Time)
	if got, want := n.r.Names().Namespace(e.Netns), n.names.Namespace(e.Netns); got != want {
		n.t.Fatalf("namespace %d is %+v, not %+v", e.Netns, got, want)
	}
	got, _ := n.r.Names().Device(e.Netns, e.Ifindex)
	if want, _ := n.names.Device(e.Netns, e.Ifindex); !sameDevice(&got, &want) {
		n.t.Fatalf("device %d is %+v, not %+v", e.Ifindex, got, want)
	}
}

// TestRecorderFile: what a Recorder wrote is replayed as it was live.
func TestRecorderFile(t *testing.T) {
	w := mixed(t, "6.12-case[47].jsonl", 10, 1, 20*time.Second)
	path := filepath.Join(t.TempDir(), "x.hop")
	r := create(t, Options{Path: path}, w)
	live, err := drive(t, r, w, nil)
	if err = errors.Join(err, r.Close(&End{Reason: "done"}), r.Close(&End{})); err != nil {
		t.Fatal(err)
	}
	if got := replayFiles(t, []string{path}, nil); !bytes.Equal(got, live) || len(live) == 0 {
		t.Errorf("replayed:\n%s\nlive:\n%s", got, live)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if n, size := r.Written(); n != uint64(len(w.events)) || size != st.Size() || !slices.Equal(r.Files(), []string{path}) {
		t.Errorf("%d events, %d bytes, %v; it has %d, %d", n, size, r.Files(), len(w.events), st.Size())
	}
}

// TestRecorderStream: the same into a stream, which is not closed.
func TestRecorderStream(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 2, 1, time.Second)
	var buf bytes.Buffer
	r := create(t, Options{Stream: &buf}, w)
	if _, err := drive(t, r, w, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	c := &comparer{t: t, want: w.events}
	if rd := replay(t, buf.Bytes(), c); len(c.want) != 0 || rd.End() == nil || len(r.Files()) != 0 {
		t.Errorf("%d events are missing; end %v, files %v", len(c.want), rd.End(), r.Files())
	}

	to := &failing{left: buf.Len() * 3 / 4}
	r = create(t, Options{Stream: to}, w)
	if _, err := drive(t, r, w, nil); err != nil && !errors.Is(err, errFull) {
		t.Error(err)
	}
	if err := r.Close(&End{}); !errors.Is(err, errFull) || strings.Count(err.Error(), errFull.Error()) != 1 {
		t.Errorf("a stream that fails: %v", err)
	}
}

// TestRing: the parts of a run, each a recording by itself, are replayed in their
// order as the run was.
func TestRing(t *testing.T) {
	w := mixed(t, "6.12-case[47].jsonl", 20, 1, 20*time.Second)
	dir := t.TempDir()
	r := create(t, Options{Path: filepath.Join(dir, "x.hop"), Parts: 100, PartBytes: 12 << 10}, w)
	facts := &Facts{Sysctls: []Sysctl{{1, "net.ipv4.ip_forward", "1"}}}
	if err := r.Facts(facts); err != nil {
		t.Fatal(err)
	}
	live, err := drive(t, r, w, nil)
	if err = errors.Join(err, r.Close(&End{Reason: "done"})); err != nil {
		t.Fatal(err)
	}
	files := r.Files()
	if len(files) < 5 || files[0] != filepath.Join(dir, "x.0001.hop") {
		t.Fatalf("parts %v", files)
	}
	part := 0
	var read []*Reader
	got := replayFiles(t, files, func(rd *Reader) Sink {
		if rd.Meta().Part != part || rd.Meta().RunID != w.meta.RunID {
			t.Errorf("part %d of %s", rd.Meta().Part, rd.Meta().RunID)
		}
		part++
		read = append(read, rd)
		return &named{t: t, names: w.names, r: rd}
	})
	if !bytes.Equal(got, live) {
		t.Errorf("the parts are replayed otherwise:\n%s\nlive:\n%s", got, live)
	}
	for i, rd := range read {
		if !reflect.DeepEqual(rd.Facts(), facts) || rd.End() == nil {
			t.Errorf("part %d: facts %+v, end %+v", i, rd.Facts(), rd.End())
		}
	}
}

// TestRingRotates: the oldest part makes room, even if it is gone already.
func TestRingRotates(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 40, 1, 20*time.Second)
	dir := t.TempDir()
	o := Options{Path: filepath.Join(dir, "x.hop"), Parts: 3, PartBytes: 12 << 10}
	r := create(t, o, w)
	most := 0
	_, err := drive(t, r, w, func(time.Duration) {
		found, _ := filepath.Glob(filepath.Join(dir, "*"))
		most = max(most, len(found))
		if r.meta.Part == 4 && len(found) == 3 {
			if err := os.Remove(r.Files()[0]); err != nil {
				t.Error(err)
			}
		}
	})
	if err = errors.Join(err, r.Close(&End{})); err != nil {
		t.Fatal(err)
	}
	files := r.Files()
	found, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != 3 || !slices.Equal(files, found) || most != 3 || r.meta.Part < 5 {
		t.Fatalf("%d parts; there are %v, it says %v; at most there were %d", r.meta.Part, found, files, most)
	}
	n := &named{t: t, names: w.names}
	replayFiles(t, files, func(rd *Reader) Sink { n.r = rd; return n })
	if last := w.events[len(w.events)-len(n.events):]; n.events[0] != last[0].Time {
		t.Error("the parts do not hold what was last")
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Size() > 3*o.PartBytes {
			t.Errorf("a part has %d bytes, %v", st.Size(), err)
		}
	}
}

// TestMaxBytes: a recording ends when it has its size.
func TestMaxBytes(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 40, 1, 20*time.Second)
	for _, o := range []Options{{}, {Parts: 2, PartBytes: 10 << 10}} {
		o.Path, o.MaxBytes = filepath.Join(t.TempDir(), "x.hop"), 40<<10
		r := create(t, o, w)
		if _, err := drive(t, r, w, nil); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		if err := r.Close(&End{Reason: "full"}); err != nil {
			t.Fatal(err)
		}
		if _, size := r.Written(); size < o.MaxBytes || size > 2*o.MaxBytes {
			t.Errorf("it has %d bytes", size)
		}
		replayFiles(t, r.Files(), func(rd *Reader) Sink { return &named{t: t, names: w.names, r: rd} })
	}
}
