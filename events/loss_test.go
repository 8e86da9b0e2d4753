// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/internal/cpubound"
)

// golden is a run whose traversals are known: what is said of it when events are
// missing is held against what is said of the whole of it.
type golden struct {
	name   string
	config Config
	events []Event
	whole  map[uint64]*Traversal // by each of its packets
}

// goldens are the captures of kernels whose names match, and the scripts of all
// cases and endings.
func goldens(tb testing.TB, captures string) (all []*golden) {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "captures", captures))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no captures %s: %v", captures, err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			tb.Fatal(err)
		}
		c, err := ReadCapture(f)
		_ = f.Close()
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, newGolden(filepath.Base(file), Config{Hooks: c.Hooks, Names: c.Names, HasFunctions: c.Header.HasFunctions}, c.Events))
	}
	l := newLab()
	script := func(name, text string) {
		all = append(all, newGolden(name, Config{Hooks: l.hooks, Names: l, HasFunctions: true}, l.script(tb).add(text).events))
	}
	for _, e := range endings {
		script("ending: "+e.name, e.script)
	}
	for _, c := range labCases() {
		script("case: "+c.name, c.script)
	}
	return all
}

func newGolden(name string, c Config, evs []Event) *golden {
	c.Wires = true // for Traversal.Packets
	g := &golden{name: name, config: c, events: evs, whole: map[uint64]*Traversal{}}
	for _, tr := range g.stitch(g.order(), func(int) bool { return true }) {
		for _, p := range tr.Packets {
			g.whole[p] = tr
		}
	}
	return g
}

// stitch makes traversals of the events that arrive. Those that do not are counted as
// lost, as the kernel side does it, and that is told.
func (g *golden) stitch(order []int, arrives func(i int) bool) (out []*Traversal) {
	s := NewStitcher(g.config, func(tr *Traversal) { out = append(out, tr) })
	for _, i := range order {
		if arrives(i) {
			s.Add(&g.events[i])
		} else {
			s.Missed(g.events[i].Time)
		}
	}
	s.Flush()
	return out
}

// order is that in which the events were captured.
func (g *golden) order() []int {
	out := make([]int, len(g.events))
	for i := range out {
		out[i] = i
	}
	return out
}

// interleaved is an order in which the rings of the CPUs may be read: each in its own
// order, but beside the others.
func (g *golden) interleaved(rnd *rand.Rand) (out []int) {
	rings := map[uint16][]int{}
	var cpus []uint16
	for i := range g.events {
		cpu := g.events[i].CPU
		if rings[cpu] == nil {
			cpus = append(cpus, cpu)
		}
		rings[cpu] = append(rings[cpu], i)
	}
	for len(out) < len(g.events) {
		cpu := cpus[rnd.IntN(len(cpus))]
		n := min(rnd.IntN(20), len(rings[cpu]))
		out = append(out, rings[cpu][:n]...)
		rings[cpu] = rings[cpu][n:]
	}
	return out
}

// station is where an event was seen.
func (g *golden) station(i int) Station {
	at := slices.IndexFunc(g.config.Hooks, func(h Hook) bool { return h.ID == g.events[i].Hook })
	return g.config.Hooks[at].Station
}

// TestEachLoss drops each single event of each golden traversal in turn. Its packet is
// never shown as complete, and nothing is said to have been delivered, or to have
// ended in another way, that is not said with all events there.
func TestEachLoss(t *testing.T) {
	captures := "6.12-*.jsonl"
	if long() {
		captures = "*.jsonl"
	}
	dropped := 0
	for _, g := range goldens(t, captures) {
		order := g.order()
		for i := range g.events {
			dropped++
			arrives := func(k int) bool { return k != i }
			for _, tr := range g.stitch(order, arrives) {
				g.check(t, fmt.Sprintf("without event %d (%s)", i, StationName(g.station(i))), tr, arrives)
			}
		}
	}
	t.Logf("%d events dropped, each alone: none of their packets is shown as complete", dropped)
}

// check holds a traversal, made of the events that arrived, against what is said with
// all of them there.
func (g *golden) check(t testing.TB, how string, tr *Traversal, arrives func(i int) bool) {
	t.Helper()
	w := g.whole[tr.Packets[0]]
	lost := slices.ContainsFunc(tr.Packets, func(p uint64) bool { return g.lacks(p, arrives) })
	switch {
	case lost && tr.Complete:
		t.Errorf("%s, %s: complete: %s\nwith all %s", g.name, how, tr.Summary, w.Summary)
	case (tr.Complete || tr.Verdict == Delivered) && (tr.Verdict != w.Verdict || tr.Stacks != w.Stacks || tr.Reason != w.Reason):
		t.Errorf("%s, %s: %s\nwith all %s", g.name, how, tr.Summary, w.Summary)
	case tr.Lost > 0 && (tr.Verdict != Incomplete || !strings.HasPrefix(tr.Summary, incompletePrefix)):
		t.Errorf("%s, %s: %d lost, but %s", g.name, how, tr.Lost, tr.Summary)
	}
}

// lacks says whether an event of a packet did not arrive.
func (g *golden) lacks(packet uint64, arrives func(i int) bool) bool {
	for i := range g.events {
		if g.events[i].Packet == packet && !arrives(i) {
			return true
		}
	}
	return false
}

// long says whether tests may take their time (make test-long).
func long() bool { return os.Getenv("STACKHOP_LONG") != "" }

// FuzzLoss lets the events of golden traversals come in any order in which the
// rings of several CPUs may be read, and loses any of them. Never is something said to be complete
// that is not, or to have ended in a way in which it did not.
func FuzzLoss(f *testing.F) {
	all := goldens(f, "6.12-case*.jsonl")
	for i := range all {
		f.Add(uint16(i), uint64(i), uint16(20), false) //nolint:gosec // a short list
		f.Add(uint16(i), uint64(i), uint16(300), true) //nolint:gosec // a short list
	}
	f.Fuzz(func(t *testing.T, which uint16, seed uint64, perMille uint16, shuffled bool) {
		defer cpubound.Run(t)()
		all[int(which)%len(all)].lose(t, seed, perMille%1001, shuffled)
	})
}

func (g *golden) lose(t testing.TB, seed uint64, perMille uint16, shuffled bool) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test repeats
	gone := make([]bool, len(g.events))
	for i := range gone {
		gone[i] = rnd.IntN(1000) < int(perMille)
	}
	order := g.order()
	if shuffled {
		order = g.interleaved(rnd)
	}
	arrives := func(i int) bool { return !gone[i] }
	for _, tr := range g.stitch(order, arrives) {
		g.check(t, fmt.Sprintf("seed %d, %d ‰ lost, shuffled %v", seed, perMille, shuffled), tr, arrives)
	}
}

// TestManyLosses is the same, for so many random losses and orders.
func TestManyLosses(t *testing.T) {
	rounds, runs := uint64(1), 0
	if long() {
		rounds = 100
	}
	for _, g := range goldens(t, "6.12-*.jsonl") {
		for seed := range rounds {
			for _, perMille := range []uint16{5, 50, 200, 500} {
				for _, shuffled := range []bool{false, true} {
					g.lose(t, seed, perMille, shuffled)
					runs++
				}
			}
		}
	}
	t.Logf("%d runs with losses", runs)
}

// TestMissed: only of packets that had not ended, and were last seen before a loss was
// noticed, the end is unknown.
func TestMissed(t *testing.T) {
	l := newLab()
	arrived := toPod("udp") + "pod/eth0 udp_rcv\npod udp_queue_rcv_skb\n"
	for _, tt := range []struct {
		name, script string
		missed       int64 // ns behind the last event
		complete     bool
	}{
		{"noticed later", arrived, 1000, false},
		{"noticed with its last event", arrived, 0, false},
		{"noticed before", arrived, -1, true},
		{"ended", arrived + "pod consume_skb", 1000, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out []*Traversal
			s, last := l.added(t, tt.script, &out)
			s.Missed(uint64(int64(last) + tt.missed)) //nolint:gosec // small
			s.Missed(1)                               // an older one says nothing new
			s.Advance(last + uint64(time.Second))
			if len(out) != 1 || out[0].Complete != tt.complete || (out[0].Verdict == Delivered) != tt.complete {
				t.Fatalf("%d traversals: %+v", len(out), out)
			}
			if !tt.complete && !strings.HasPrefix(out[0].Summary, "incomplete: events were lost, of this packet perhaps the last; last: delivered to default/pod") {
				t.Error(out[0].Summary)
			}
		})
	}
}

// added is a stitcher that was given a script's events, the last one at last.
func (l *lab) added(t *testing.T, script string, out *[]*Traversal) (s *Stitcher, last uint64) {
	t.Helper()
	evs := l.script(t).add(script).events
	s = NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true}, func(tr *Traversal) { *out = append(*out, tr) })
	for i := range evs {
		s.Add(&evs[i])
	}
	return s, evs[len(evs)-1].Time
}

// TestMissedElsewhere: what is concluded from what another packet did not do is not,
// where events of that one may be among those that were lost.
func TestMissedElsewhere(t *testing.T) {
	l := newLab()
	syn := toPod("S") + "pod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv\npod tcp_conn_request\npod consume_skb"
	const flooded = fromEth + "real/eth0 br_flood\npkt=2\nother=1\nreal/eth0 skb_clone\nreal/vethpod __br_forward\nreal/vethpod net_dev_start_xmit\n" +
		"pkt=1\nother=0\nreal/vethpod nf_hook_slow nf=2\nreal/vethpod kfree_skb reason=NETFILTER_DROP\n"
	const cut = "real/eth0 __ip_local_out h=172.23.97.1:9>172.23.97.2:81,udp\nreal/vethpod net_dev_queue\npkt=2\nother=1\nreal/vethpod ip_fragment\nreal/vethpod net_dev_start_xmit\n" +
		"pod/eth0 netif_receive_skb\npod/eth0 ip_rcv_core\npod/eth0 udp_rcv\npod udp_queue_rcv_skb\npod consume_skb\n"
	for _, tt := range []struct {
		name, script, want string
		told               func(s *Stitcher, until uint64)
	}{
		{"an answer to a SYN", syn, "incomplete: events were lost, perhaps of the answer", (*Stitcher).Missed},
		{"an answer that was not followed", syn, "incomplete: some packets were not followed, perhaps the answer", (*Stitcher).Unfollowed},
		{"none", syn, "its accept queue is full", nil},
		{"all of a copy", flooded, "terminated in netfilter", nil},
		{"all of a fragment", cut, "incomplete: events were lost, of this packet perhaps the last", (*Stitcher).Missed},
		{"nothing, in one fragment", cut, "delivered to default/pod", nil},
		{"the end of a copy", flooded, "incomplete: events were lost, of this packet perhaps the last", (*Stitcher).Missed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out []*Traversal
			s, last := l.added(t, tt.script, &out)
			if tt.told != nil {
				tt.told(s, last)
			}
			s.Flush()
			if len(out) != 1 || !strings.Contains(out[0].Summary, tt.want) || out[0].Complete != (tt.told == nil) {
				t.Fatalf("%d traversals: %+v", len(out), out)
			}
		})
	}
}
