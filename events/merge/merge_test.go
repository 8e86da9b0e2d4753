// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Skew is how a node's clock differs from the true one.
type skew struct {
	boot  uint64 // its monotonic clock
	wall  time.Duration
	drift float64
}

// clockOf makes the clocks of a node out of the true monotonic one.
func (k skew) mono(t uint64) uint64 { return t + k.boot + uint64(int64(float64(t)*k.drift)) }

func (k skew) wallOf(mono uint64) time.Time {
	return time.Unix(1_800_000_000, int64(mono-k.boot)).Add(k.wall)
}

// truth is how far the wall clock of a node is ahead of the true one at a true
// moment, in ns.
func (k skew) truth(t uint64) float64 { return float64(k.wall) + float64(t)*k.drift }

func readCapture(t testing.TB, name string) *events.Capture {
	t.Helper()
	f, err := os.Open(filepath.Join("../testdata/captures", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c, err := events.ReadCapture(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// nodeSource is what a recording of one node of a capture's kernel hands out,
// with a clock of its own. Events for which drop says so are not in it.
func nodeSource(c *events.Capture, node string, k skew, drop func(*events.Event) bool) *Source {
	s := &Source{Node: node, BootID: "boot-" + node, RunID: "run-" + node, Wall: k.wallOf}
	first, last := c.Events[0].Time, c.Events[len(c.Events)-1].Time
	s.Start, s.End = k.mono(first-uint64(time.Second)), k.mono(last+uint64(time.Second))
	seen := map[netip.Prefix]bool{}
	for _, d := range c.Header.Devices {
		if c.Names.Namespace(d.Netns).Node != node {
			continue
		}
		for _, a := range d.Addrs {
			if p := netip.PrefixFrom(a, a.BitLen()); !seen[p] && !a.IsLinkLocalUnicast() {
				seen[p] = true
				s.Addrs = append(s.Addrs, p)
			}
		}
	}
	s.Each = func(out func(*events.Traversal)) error {
		st := events.NewStitcher(events.Config{
			Hooks: c.Hooks, Names: c.Names, HasFunctions: true, OnlyNode: node, Wires: true, Wall: k.wallOf,
		}, out)
		for i := range c.Events {
			e := c.Events[i]
			if drop != nil && drop(&e) {
				continue
			}
			e.Time = k.mono(e.Time)
			st.Add(&e)
			st.Advance(e.Time)
		}
		st.Flush()
		return nil
	}
	return s
}

func mergeAll(t testing.TB, sources ...*Source) ([]*events.Traversal, *Report) {
	t.Helper()
	var out []*events.Traversal
	r, err := Merge(sources, func(tr *events.Traversal) error { out = append(out, tr); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return out, r
}

var skews = map[string]skew{
	"same clock":           {},
	"-3 s, 50 ppm":         {boot: 77_000_000_000_000, wall: -3 * time.Second, drift: 50e-6},
	"+250 ms, -50 ppm":     {boot: 3_000_000_000, wall: 250 * time.Millisecond, drift: -50e-6},
	"two days behind":      {wall: -48 * time.Hour, drift: 20e-6},
	"little, and no drift": {wall: 3 * time.Millisecond},
}

var cases = map[string]float64{"4": 4, "5": 4, "6": 4, "9": 3}

// TestCases: the two nodes' parts of the cases that cross nodes are one
// traversal each, whatever their clocks say.
func TestCases(t *testing.T) {
	for _, kernel := range []string{"5.10", "6.1", "6.12", "6.18", "7"} {
		for name, stacks := range cases {
			c := readCapture(t, kernel+"-case"+name)
			for what, k := range skews {
				t.Run(kernel+" case "+name+" "+what, func(t *testing.T) { checkCase(t, c, k, stacks) })
			}
		}
	}
}

func checkCase(t *testing.T, c *events.Capture, k skew, stacks float64) {
	t.Helper()
	out, r := mergeAll(t, nodeSource(c, "n1", skew{}, nil), nodeSource(c, "n2", k, nil))
	want := stitchWhole(c)
	flows := map[string]bool{}
	crossed := 0
	for _, tr := range out {
		if tr.Proto == "icmp" {
			continue // a router's redirect, which only one node has a part in
		}
		crossed++
		checkWhole(t, tr, stacks)
		w := want[packetsOf(tr)]
		if w == nil {
			t.Errorf("joined what is not one packet: %v", tr.Parts)
			continue
		}
		compare(t, tr, w)
		flows[tr.Flow] = true
	}
	for id, w := range want {
		if w.Proto == "icmp" {
			delete(want, id)
		}
	}
	if crossed != len(want) || r.Ambiguous+r.NeverArrived != 0 {
		t.Errorf("%d traversals, want %d; %+v", crossed, len(want), r)
	}
	if len(flows) != 1 {
		t.Errorf("%d flows, want 1", len(flows))
	}
	if len(r.Offsets) != 1 {
		t.Fatalf("offsets %+v", r.Offsets)
	}
	mid := c.Events[0].Time/2 + c.Events[len(c.Events)-1].Time/2
	if o := r.Offsets[0]; math.Abs(float64(o.OffsetNS)-k.truth(mid)) > 1e6 || o.ErrNS <= 0 || o.ErrNS > 1_500_000 || o.OneWay != "" ||
		math.Abs(float64(o.OffsetNS)-k.truth(mid)) > float64(o.ErrNS) {
		t.Errorf("offset %+v, in truth %.0f", o, k.truth(mid))
	}
	for i := 1; i < len(out); i++ {
		if out[i].Time.Before(out[i-1].Time) {
			t.Errorf("%d and %d are out of order", i-1, i)
		}
	}
}

// stitchWhole is the capture as one kernel that holds all nodes tells it, by
// the lives of its packets.
func stitchWhole(c *events.Capture) map[string]*events.Traversal {
	all := map[string]*events.Traversal{}
	s := events.NewStitcher(events.Config{Hooks: c.Hooks, Names: c.Names, HasFunctions: true, Wires: true}, func(t *events.Traversal) {
		for _, p := range t.Packets {
			all[fmt.Sprint(p)] = t
		}
	})
	for i := range c.Events {
		s.Add(&c.Events[i])
		s.Advance(c.Events[i].Time)
	}
	s.Flush()
	one := map[string]*events.Traversal{}
	for _, t := range all {
		one[fmt.Sprint(t.Packets[0])] = t
	}
	return one
}

// packetsOf is the buffer that all parts of a traversal share. The nodes of a
// capture are one kernel's, so the buffer's life is the same on all.
func packetsOf(t *events.Traversal) string {
	id := ""
	for _, p := range t.Parts {
		if id == "" {
			id = fmt.Sprint(p.Packets[0])
		}
		if fmt.Sprint(p.Packets[0]) != id {
			return "none"
		}
	}
	return id
}

func checkWhole(t *testing.T, tr *events.Traversal, stacks float64) {
	t.Helper()
	// The outside client and the load balancer are on no node.
	outside := tr.Visits[len(tr.Visits)-1].Node == "n1" && tr.Verdict == events.LeftNode
	if tr.Stacks != stacks || (tr.Verdict != events.Delivered && !outside) || !tr.Complete || len(tr.Parts) < 2 {
		t.Errorf("%v stacks, %s, complete %v, %d parts: %s", tr.Stacks, tr.Verdict, tr.Complete, len(tr.Parts), tr.Summary)
	}
	if prefix := fmt.Sprintf("%g stacks, ", stacks); !strings.HasPrefix(tr.Summary, prefix) {
		t.Errorf("summary %q", tr.Summary)
	}
	last := uint64(0)
	for _, v := range tr.Visits {
		if v.Node == "" || v.StartNS < last || v.EndNS < v.StartNS {
			t.Errorf("visit %s of %q from %d to %d, behind %d", v.Name, v.Node, v.StartNS, v.EndNS, last)
		}
		last = v.EndNS
	}
}

// compare holds a merged traversal against that of the whole kernel, which sees
// the network between the nodes, too.
func compare(t *testing.T, got, want *events.Traversal) {
	t.Helper()
	if got.Stacks != want.Stacks || got.Direction != want.Direction {
		t.Errorf("%v %s, want %v %s", got.Stacks, got.Direction, want.Stacks, want.Direction)
	}
	if want.Visits[0].Kind != events.KindNetwork && got.Src != want.Src {
		t.Errorf("source %+v, want %+v", got.Src, want.Src)
	}
	if got.Verdict == want.Verdict && got.Summary != want.Summary {
		t.Errorf("%q, want %q", got.Summary, want.Summary)
	}
	var link []string
	for _, d := range want.DataLink {
		if !strings.HasPrefix(d, "[") {
			link = append(link, d)
		}
	}
	if strings.Join(got.DataLink, ",") != strings.Join(link, ",") {
		t.Errorf("data link %v, want %v", got.DataLink, link)
	}
	// The load balancer's translation is none of the nodes'.
	nat := func(ns []events.NAT) (words []string) {
		for _, n := range ns {
			if w := n.By + " " + n.Hook + " " + n.From + " " + n.To; !strings.Contains(w, "8.219.164.114") || strings.Contains(w, "172.23.96.23:") {
				words = append(words, w)
			}
		}
		return words
	}
	if g, w := strings.Join(nat(got.NAT), "\n"), strings.Join(nat(want.NAT), "\n"); g != w {
		t.Errorf("NAT\n%s, want\n%s", g, w)
	}
}
