// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// toldAgain gives a capture what a run that records has beside: the headers of a
// packet whenever it comes into another namespace.
func toldAgain(c *events.Capture) {
	type seen struct {
		netns  uint32
		header events.Header
	}
	last := map[uint64]*seen{}
	for i := range c.Events {
		e := &c.Events[i]
		s := last[e.Packet]
		if s == nil {
			s = &seen{netns: e.Netns}
			last[e.Packet] = s
		}
		switch {
		case e.Ext == events.ExtHeader:
			s.header = e.Header
		case e.Ext == events.ExtNone && e.Netns != s.netns && s.header.Src.IsValid():
			e.Ext, e.Header = events.ExtHeader, s.header
		}
		s.netns = e.Netns
	}
}

// recordedNodes records case 5 on both nodes.
func recordedNodes(t *testing.T) (n1, n2 string) {
	t.Helper()
	dir := t.TempDir()
	names := namesFile(t, someNames)
	record := func(node string) string {
		c := readCapture(t, "6.12-case5")
		toldAgain(c)
		w := newWorldOf(t, c)
		w.tr.paced = true
		w.tr.devices = map[uint32][]uint32{4026532361: {2}, 4026532160: {2, 3, 4}, 4026532227: {2, 3, 4}, 4026532495: {2}}
		path := filepath.Join(dir, node+".hop")
		w.must(t, "record", "-w", path, "--names", names, "--only-node", node, "--for", "5s", "--all")
		return path
	}
	return record("n1"), record("n2")
}

// traversal is what the tests look at of a line of JSON.
type traversal struct {
	Node, Verdict, Flow, Direction, Summary string
	Stacks                                  float64
}

func traversals(t *testing.T, lines string) (out []traversal) {
	t.Helper()
	for line := range strings.Lines(lines) {
		var got traversal
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		out = append(out, got)
	}
	return out
}

// TestMerge: two nodes are one picture, and each alone its own part of it.
func TestMerge(t *testing.T) {
	n1, n2 := recordedNodes(t)
	c := readCapture(t, "6.12-case5")
	whole := newWorldOf(t, c).must(t, "trace", "--all", "--for", "5s", "-o", "json")
	packets := len(traversals(t, whole.stdout.String()))
	for name, tt := range map[string]struct {
		args   []string
		stacks float64
	}{
		"both":           {[]string{n1, n2}, 4},
		"the other way":  {[]string{n2, n1}, 4},
		"n1":             {[]string{n1}, 2},
		"n2":             {[]string{n2}, 2},
		"by VIP":         {[]string{n1, n2, "--with", "192.168.13.23"}, 4},
		"by backend":     {[]string{n1, n2, "--with", "172.23.96.163"}, 4},
		"by client":      {[]string{n1, n2, "--from", "pod/default/centos"}, 4},
		"by service":     {[]string{n1, n2, "--to", "svc/nginx1:80"}, 4},
		"by expression":  {[]string{n1, n2, "dst host 192.168.13.23"}, 4},
		"by namespace":   {[]string{n1, n2, "--with", "netns/nginx1a"}, 4},
		"in time":        {[]string{n1, n2, "--since", "+0s"}, 4},
		"other VIP":      {[]string{n1, n2, "--with", "192.168.13.99"}, -1},
		"first of them":  {[]string{n1, n2, "--count", "3"}, 4},
		"what went well": {[]string{n1, n2, "--failed"}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).must(t, append([]string{"replay", "-o", "json"}, tt.args...)...)
			got := traversals(t, w.stdout.String())
			want := packets
			switch {
			case tt.stacks < 0:
				want = 0
			case name == "first of them":
				want = 3
			}
			if len(got) != want {
				t.Errorf("%d traversals, want %d: %s", len(got), want, w.stderr.String())
			}
			directions := map[string]int{}
			for _, tr := range got {
				directions[tr.Direction]++
				if tr.Stacks != tt.stacks || tr.Flow != got[0].Flow {
					t.Errorf("%+v", tr)
				}
				if tt.stacks == 4 && tr.Verdict != "delivered" {
					t.Errorf("%+v", tr)
				}
			}
			if want == packets && (directions["request"] == 0 || directions["reply"] == 0) {
				t.Errorf("directions %v", directions)
			}
			if tt.stacks == 4 && want == packets && !strings.Contains(w.stderr.String(), "that went both ways") {
				t.Errorf("nothing is told of the clocks: %s", w.stderr.String())
			}
		})
	}
}

// TestMergeFiles: what is made of two nodes has both.
func TestMergeFiles(t *testing.T) {
	n1, n2 := recordedNodes(t)
	both := newWorld(t).must(t, "replay", n1, n2, "-o", "json")
	packets := len(traversals(t, both.stdout.String()))
	exported := map[string]string{}
	for name, files := range map[string][]string{"n1": {n1}, "n2": {n2}, "both": {n1, n2}} {
		w := newWorld(t).must(t, append([]string{"export", "-o", "-"}, files...)...)
		exported[name], _, _ = strings.Cut(w.stderr.String(), " packets")
		for _, f := range files {
			if node := strings.TrimSuffix(filepath.Base(f), ".hop"); !strings.Contains(w.stdout.String(), node+"/all devices") {
				t.Errorf("%s: no counters of %s", name, node)
			}
		}
		page := newWorld(t).must(t, append([]string{"report", "-o", "-"}, files...)...)
		if name == "both" && !strings.Contains(page.stderr.String(), plural(uint64(packets), "traversal")+": ") {
			t.Errorf("page: %s", page.stderr.String())
		}
	}
	number := func(name string) (n int) {
		if err := json.Unmarshal([]byte(strings.TrimPrefix(exported[name], "stackhop: ")), &n); err != nil {
			t.Fatal(err, exported)
		}
		return n
	}
	if n := number("both"); n == 0 || n != number("n1")+number("n2") {
		t.Errorf("packets exported: %v", exported)
	}
	if _, err := os.Stat(n1); err != nil {
		t.Error(err)
	}
}

// TestMergeLocal: what only the second node saw is exported as its own.
func TestMergeLocal(t *testing.T) {
	_, n2 := recordedNodes(t)
	n1 := filepath.Join(t.TempDir(), "n1.hop")
	idle := newWorld(t)
	idle.tr.capture.Events = nil
	idle.must(t, "record", "-w", n1, "--names", namesFile(t, someNames), "--only-node", "n1", "--for", "1s", "--all")
	alone := newWorld(t).must(t, "export", n2, "-o", "-", "--with", "172.23.96.163")
	both := newWorld(t).must(t, "export", n1, n2, "-o", "-", "--with", "172.23.96.163")
	words := func(w *world) string { s, _, _ := strings.Cut(w.stderr.String(), " on "); return s }
	if words(alone) == "stackhop: 0 packets" || words(alone) != words(both) {
		t.Errorf("alone: %s\nbeside another: %s", alone.stderr.String(), both.stderr.String())
	}
}
