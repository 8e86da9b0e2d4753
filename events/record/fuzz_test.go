// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/internal/cpubound"
)

// fuzzSink stitches what it gets, and checks what no recording may give.
type fuzzSink struct {
	t *testing.T
	s *events.Stitcher
	r *Reader
	h SetHistory
}

func (f *fuzzSink) SetChange(c *SetChange) {
	f.h.Put(c)
	for _, at := range []uint64{0, c.From, c.By, c.By + uint64(SetSettle), math.MaxUint64} {
		then, ok := f.h.At(string(c.Set), at, at)
		if ok && (f.h.doubted || at >= c.From && c.Untold) {
			f.t.Fatalf("what is not told is known: %+v", c)
		}
		for _, m := range c.Add {
			_ = ok && then.Has(netip.AddrPort(m))
		}
	}
}

func (f *fuzzSink) Tick(now uint64) { f.s.Advance(now) }
func (f *fuzzSink) Event(e *events.Event) {
	if e.Hook != events.Elsewhere && !f.r.dec.known[e.Hook] || e.Ext > events.ExtConntrack {
		f.t.Fatalf("an event that makes no sense: %+v", e)
	}
	if e.Hook == events.Elsewhere && (e.Time != 0 || e.Netns != 0 || e.Ext != 0 || e.Bytes != nil || e.Link != (events.Link{})) {
		f.t.Fatalf("an event from elsewhere says more: %+v", e)
	}
	f.s.Add(e)
}

// fuzzRead reads a file, stitches it, and writes it again.
func fuzzRead(t *testing.T, data []byte) {
	defer cpubound.Run(t)()
	r, err := NewReader(bytes.NewReader(data))
	if err != nil {
		return
	}
	s := events.NewStitcher(events.Config{Hooks: r.Hooks(), Names: r.Names(), Wall: r.Wall, MaxPackets: 64}, func(*events.Traversal) {})
	_ = r.Run(&fuzzSink{t: t, s: s, r: r}) // damage is to be expected
	s.Flush()

	// What was read can be written, and is read as the same.
	if r, err = NewReader(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	w, err := NewWriter(&again, &Meta{Hooks: r.Meta().Hooks})
	if err != nil {
		return // written anew, with other escapes, its description is too long
	}
	_ = r.Run(copier{w}) // likewise
	evs, _ := w.Written()
	if err := w.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	var n counter
	replay(t, again.Bytes(), &n)
	if uint64(n.events) != evs { //nolint:gosec // not negative
		t.Fatalf("%d events, not %d", n.events, evs)
	}
}

// seeds are recordings of captures, and those with what later versions of the format added.
func seeds(f *testing.F) (files [][]byte) {
	for _, name := range []string{"6.12-case7.jsonl", "5.10-case4.jsonl", "7-case10.jsonl", "script-*.jsonl"} {
		w := mixed(f, name, 1, 1, 0)
		files = append(files, w.small(f, 20), w.small(f, 1000))
	}
	for _, file := range []string{"testdata/v1.1.hop", "testdata/v1.2.hop"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		files = append(files, data)
	}
	return files
}

// FuzzReader: no file makes the reader panic.
func FuzzReader(f *testing.F) {
	for _, data := range seeds(f) {
		f.Add(data)
	}
	f.Fuzz(fuzzRead)
}

// FuzzBlocks: nor does what is in a block, whose checksum is right.
func FuzzBlocks(f *testing.F) {
	un, err := newUnpacker()
	if err != nil {
		f.Fatal(err)
	}
	p, err := newPacker()
	if err != nil {
		f.Fatal(err)
	}
	var meta []byte
	for _, data := range seeds(f) {
		for _, b := range blocks(f, data) {
			h, _ := parseHead(data[b.at:])
			raw, err := un.unpack(h, data[b.at+blockHeader:b.at+b.size])
			if err != nil {
				f.Fatal(err)
			}
			if meta == nil {
				meta = bytes.Clone(data[:b.at+b.size])
			}
			f.Add(uint8(b.kind), bytes.Clone(raw))
		}
	}
	f.Fuzz(func(t *testing.T, k uint8, raw []byte) {
		defer cpubound.Run(t)()
		if len(raw) > kind(k).limit() {
			return
		}
		fuzzRead(t, p.pack(bytes.Clone(meta), kind(k), raw))
	})
}

// FuzzSets: nothing that a block of sets says is known for longer than it is told,
// and it is written as it was read.
func FuzzSets(f *testing.F) {
	for _, s := range []string{
		`{"set":"x","whole":true,"add":["10.0.0.1","[2001:db8::1]:80"]}`,
		`{"set":"x","whole":true}` + "\n" + `{"set":"x","from":5000000000,"by":6000000000,"add":["10.0.0.1"]}` + "\n" + `{"set":"x","from":9000000000,"untold":true}`,
		`{"set":"x","whole":true,"add":["10.0.0.1"]}` + "\n" + `{"set":"x","from":5,"by":5,"del":["10.0.0.1","10.0.0.1"]}`,
	} {
		f.Add([]byte(s), uint64(7e9))
	}
	f.Fuzz(func(t *testing.T, raw []byte, at uint64) {
		defer cpubound.Run(t)()
		var h SetHistory
		_ = parseSets(raw, func(c *SetChange) {
			h.Put(c)
			line, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := parseSets(line, func(again *SetChange) {
				if text, _ := json.Marshal(again); !bytes.Equal(text, line) {
					t.Fatalf("%s became %s", line, text)
				}
			}); err != nil && len(line) < maxLine {
				t.Fatalf("%s: %v", line, err)
			}
			if _, ok := h.At(string(c.Set), at, at); ok && c.Untold && at >= c.From {
				t.Fatalf("%s, but it is known at %d", line, at)
			}
		})
		size := 0
		for name, s := range h.sets {
			size += s.size
			if then, ok := h.At(name, at, at); ok && !s.epochs[then.at].told {
				t.Fatalf("what is untold of %q is known", name)
			}
		}
		if size < 0 || size > len(raw) || len(h.sets) > maxSets {
			t.Fatalf("%d members of %d sets", size, len(h.sets))
		}
	})
}
