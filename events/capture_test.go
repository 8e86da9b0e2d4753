// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/internal/cpubound"
)

var updateStitch = flag.Bool("update-stitch", false, "rewrite the golden traversals of the captures under testdata/captures")

// TestCaptureRoundTrip: what is written is read again, and stitches to the
// same traversals.
func TestCaptureRoundTrip(t *testing.T) {
	l := newLab()
	all := goldenRun(t, l)
	for _, e := range endings {
		all = append(all, l.script(t).add(e.script).events...)
	}
	n := len(all)
	all[n-1].Link = Link{Dst: [6]byte{2, 1}, Src: [6]byte{2, 2}, Proto: 0x800, VLAN: 0x1005, TTL: 63, Hash: 7}
	all[n-2].Link = Link{Proto: 0x800, TTL: 64} // loopback's addresses are 0
	all[n-3].Bytes = []byte{0x45, 0}
	var buf bytes.Buffer
	h := NewCaptureHeader(l.hooks, l, all)
	h.HasFunctions = true
	if err := WriteCapture(&buf, &h, all); err != nil {
		t.Fatal(err)
	}
	c, err := ReadCapture(&buf)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range l.hooks {
		used := slices.ContainsFunc(all, func(e Event) bool { return e.Hook == h.ID })
		if slices.Contains(c.Hooks, h) != used {
			t.Errorf("hook %v, which occurs: %t, is not so among %v", h, used, c.Hooks)
		}
	}
	for i := range all {
		want := all[i]
		if want.Ext != ExtHeader {
			want.Header = Header{} // meaningless without Ext
		}
		if !reflect.DeepEqual(c.Events[i], want) {
			t.Fatalf("event %d:\n%+v, want\n%+v", i, c.Events[i], want)
		}
	}
	golden := goldenRun(t, l)
	want, _ := stitch(l, golden, nil)
	var got []*Traversal
	s := NewStitcher(Config{Hooks: c.Hooks, Names: c.Names, HasFunctions: true}, func(t *Traversal) { got = append(got, t) })
	for i := range golden {
		s.Add(&c.Events[i])
	}
	s.Flush()
	if !reflect.DeepEqual(got, want) {
		t.Error("a capture stitches to other traversals than its events")
	}
}

// TestCaptureNamesEcho: the identifier of an echo is no port to name its end by.
func TestCaptureNamesEcho(t *testing.T) {
	l := newLab()
	evs := l.script(t).add("centos/eth0 __ip_local_out h=172.23.96.23:77>192.168.13.23:77 icmp=8/0\n").events
	h := NewCaptureHeader(l.hooks, l, evs)
	names, err := newCaptureNames(&h)
	if err != nil {
		t.Fatal(err)
	}
	if got := names.Address("172.23.96.23", 0); got.Pod != "default/centos" {
		t.Errorf("%+v", got)
	}
}

func TestReadCaptureErrors(t *testing.T) {
	const head = `{"capture":1,"has_functions":true,"hooks":[{"id":1,"name":"f","station":"ip-in"}],"namespaces":[],"devices":[]}` + "\n"
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "it is empty"},
		{"version", `{"capture":2}`, "capture version 2"},
		{"station", strings.Replace(head, "ip-in", "nowhere", 1), "unknown station"},
		{"hook number", strings.Replace(head, `"id":1`, `"id":60000`, 1), "above"},
		{"symbol", strings.Replace(head, `"hooks"`, `"symbols":{"x":"y"},"hooks"`, 1), "line 1: symbols"},
		{"reason", strings.Replace(head, `"hooks"`, `"drop_reasons":{"x":"y"},"hooks"`, 1), "line 1: drop_reasons"},
		{"unknown hook", head + `{"t":1,"pkt":1,"hook":2,"seq":0}`, "line 2: unknown hook"},
		{"tuple", head + `{"t":1,"pkt":1,"hook":1,"seq":0,"hdr":{"tuple":[6,"1.2.3.4:5"]}}`, "3 elements"},
		{"comm", head + `{"t":1,"pkt":1,"hook":1,"seq":0,"sock":{"comm":"12345678901234567"}}`, "comm"},
		{"location", head + `{"t":1,"pkt":1,"hook":1,"seq":0,"loc":"here"}`, "loc"},
		{"both", head + `{"t":1,"pkt":1,"hook":1,"seq":0,"hdr":{"tuple":[6,"",""]},"ct":{"orig":[6,"",""],"reply":[6,"",""],"info":0}}`, "not both"},
		{"cut", head + `{"t":1,"pkt":1,"ho`, "line 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ReadCapture(strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestStationNames: every station has a name of its own.
func TestStationNames(t *testing.T) {
	for st := StationNone; st <= StationEnd; st++ {
		name := StationName(st)
		if back, ok := StationByName(name); name == "" || !ok || back != st {
			t.Errorf("station %d: name %q stands for %d", st, name, back)
		}
	}
}

// TestCaptures stitches each capture under testdata/captures, whole, and
// compares the traversals with the golden ones beside it. The ones named
// script-… are made by TestScriptCaptures; all others come from kernels.
func TestCaptures(t *testing.T) {
	files, err := filepath.Glob("testdata/captures/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { checkCapture(t, file) })
	}
}

func checkCapture(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c, err := ReadCapture(f)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	s := NewStitcher(Config{Hooks: c.Hooks, Names: c.Names, HasFunctions: c.Header.HasFunctions}, func(tr *Traversal) {
		if err := enc.Encode(tr); err != nil {
			t.Error(err)
		}
	})
	for i := range c.Events {
		s.Add(&c.Events[i])
	}
	s.Flush()
	checkEmpty(t, s)
	golden := strings.TrimSuffix(file, ".jsonl") + ".golden"
	if *updateStitch {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil { //nolint:gosec // test data is public
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("other traversals than in %s (-update-stitch rewrites it):\n%s", golden, got.String())
	}
}

// TestScriptCaptures keeps the captures that are made from scripts in step
// with them.
func TestScriptCaptures(t *testing.T) {
	l := newLab()
	for name, evs := range map[string][]Event{
		"script-case6-and-7": goldenRun(t, l),
	} {
		var buf bytes.Buffer
		h := NewCaptureHeader(l.hooks, l, evs)
		h.HasFunctions, h.Note = true, "written by TestScriptCaptures, not by a kernel"
		if err := WriteCapture(&buf, &h, evs); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata/captures", name+".jsonl")
		if *updateStitch {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // test data is public
				t.Fatal(err)
			}
			if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil { //nolint:gosec // test data is public
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf.Bytes(), want) {
			t.Errorf("%s is not what its script makes (-update-stitch rewrites it)", file)
		}
	}
}

// FuzzReadCapture: no file makes the reader or the stitcher panic.
func FuzzReadCapture(f *testing.F) {
	l := newLab()
	evs := l.script(f).add(case7).events
	var buf bytes.Buffer
	h := NewCaptureHeader(l.hooks, l, evs)
	if err := WriteCapture(&buf, &h, evs); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		defer cpubound.Run(t)()
		c, err := ReadCapture(bytes.NewReader(data))
		if err != nil {
			return
		}
		s := NewStitcher(Config{Hooks: c.Hooks, Names: c.Names, MaxPackets: 64}, func(*Traversal) {})
		for i := range c.Events {
			s.Add(&c.Events[i])
		}
		s.Flush()
		checkEmpty(t, s)
	})
}
