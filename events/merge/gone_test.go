// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// away keeps a capture's packets from nodes other than n1: as if the network
// had dropped what went there.
func away(c *events.Capture) func(*events.Event) bool {
	gone := map[uint64]bool{}
	return func(e *events.Event) bool {
		ns := c.Names.Namespace(e.Netns)
		if ns.Node == "n2" {
			gone[e.Packet] = true
		}
		return gone[e.Packet]
	}
}

// TestNeverArrived: what left n1 and is not in n2's recording is said to have
// never arrived only where that recording must have it.
func TestNeverArrived(t *testing.T) {
	c := readCapture(t, "6.12-case5")
	mid := c.Events[len(c.Events)/2].Time
	for _, tt := range []struct {
		name    string
		change  func(n2 *Source)
		words   string
		verdict events.Verdict
	}{
		{"dropped", func(*Source) {}, "2 stacks, left n1 by eth0, never arrived at n2", events.Terminated},
		{"nothing is known of n2's addresses", func(s *Source) { s.Addrs = nil }, "2 stacks, left n1 by eth0; no recording covers where it went", events.LeftNode},
		{"n2's recording was over", func(s *Source) { s.End = s.Start + 1 }, "2 stacks, left n1 by eth0; the recording of n2 does not cover that moment", events.LeftNode},
		{"n2's recording began later", func(s *Source) { s.Start = s.End - 1 }, "2 stacks, left n1 by eth0; the recording of n2 does not cover that moment", events.LeftNode},
		{"n2 lost events", func(s *Source) { s.Lost = func(from, to uint64) uint64 { return 1 } }, "2 stacks, left n1 by eth0; not seen at n2, whose recording is not whole at that time", events.LeftNode},
		{"n2 lost events at another time", func(s *Source) {
			s.Lost = func(from, to uint64) uint64 {
				if from <= mid+2e9 && to >= mid+2e9 {
					return 1
				}
				return 0
			}
		}, "2 stacks, left n1 by eth0, never arrived at n2", events.Terminated},
		{"n2 selected others", func(s *Source) { s.Selects = func(h *events.Header, _, _ uint64) bool { return h.DstPort != 80 } }, "2 stacks, left n1 by eth0; the recording of n2 may not have selected such packets", events.LeftNode},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n1 := nodeSource(c, "n1", skew{}, func(e *events.Event) bool {
				return c.Names.Namespace(e.Netns).Node == "n2" || e.Flags&events.FlagReply != 0
			})
			n2 := nodeSource(c, "n2", skew{}, func(*events.Event) bool { return true })
			tt.change(n2)
			out, r := mergeAll(t, n1, n2)
			if len(out) == 0 {
				t.Fatal("nothing came out")
			}
			for _, tr := range out {
				if tr.Summary != tt.words || tr.Verdict != tt.verdict || tr.Stacks != 2 {
					t.Errorf("%s %v: %s", tr.Verdict, tr.Stacks, tr.Summary)
				}
				if gone := tr.Verdict == events.Terminated; gone != (tr.Where == "network" && tr.Reason == "never-arrived") || gone != (len(tr.Notes) > 0 && strings.Contains(tr.Notes[len(tr.Notes)-1], "taken to agree")) {
					t.Errorf("%s %s %v", tr.Where, tr.Reason, tr.Notes)
				}
			}
			if r.NeverArrived+r.Uncovered != len(out) || (r.NeverArrived > 0) != (tt.verdict == events.Terminated) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestOneOfThemGone: the loss of some packets is found among others that
// arrived, and their clocks tell the offset.
func TestOneOfThemGone(t *testing.T) {
	c := readCapture(t, "6.12-case4")
	var victim uint64
	for _, e := range c.Events {
		if c.Names.Namespace(e.Netns).Node == "n2" && e.Flags&events.FlagReply == 0 {
			victim = e.Packet
		}
	}
	k := skew{wall: -3 * time.Second, drift: 50e-6}
	out, r := mergeAll(t, nodeSource(c, "n1", skew{}, nil), nodeSource(c, "n2", k, func(e *events.Event) bool { return e.Packet == victim }))
	gone := 0
	for _, tr := range out {
		if tr.Verdict == events.Terminated {
			gone++
			if tr.Summary != "2 stacks, left n1 by eth0, never arrived at n2" || len(tr.Notes) != 0 || tr.Packets[0] != victim {
				t.Errorf("%v %q %v", tr.Packets, tr.Summary, tr.Notes)
			}
		}
	}
	if gone != 1 || r.NeverArrived != 1 || r.Packets != len(out)-1 {
		t.Errorf("%d never arrived; %+v", gone, r)
	}
}

// TestErrors: what cannot be merged is named.
func TestErrors(t *testing.T) {
	src := func(node, boot, run string) *Source {
		return &Source{Node: node, BootID: boot, RunID: run, Each: func(func(*events.Traversal)) error { return nil }}
	}
	for _, tt := range []struct {
		name    string
		sources []*Source
		want    string
	}{
		{"twice", []*Source{src("n1", "b", "r"), src("n1", "b", "r")}, "given twice"},
		{"same node", []*Source{src("n1", "b", "r"), src("n1", "b", "s")}, "of the same node, n1"},
		{"boots", []*Source{src("n1", "b", "r"), src("n2", "c", "s"), src("n1", "d", "t")}, "different boots (b and d)"},
		{"nameless", []*Source{src("", "b", "r")}, "does not name its node"},
		{"text is escaped", []*Source{src("n\x1b[1m", "b", "r"), src("n\x1b[1m", "b", "s")}, `of the same node, n\x1b`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Merge(tt.sources, func(*events.Traversal) error { return nil })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	if _, err := Merge([]*Source{src("n1", "b", "r"), src("n2", "b", "s")}, nil); err != nil {
		t.Errorf("two nodes of one kernel: %v", err)
	}
}

// TestAlone: a single source is given out as it is.
func TestAlone(t *testing.T) {
	c := readCapture(t, "6.12-case4")
	out, r := mergeAll(t, nodeSource(c, "n1", skew{}, nil))
	left := 0
	for _, tr := range out {
		if tr.Verdict == events.LeftNode && strings.HasSuffix(tr.Summary, "2 stacks, left the node by eth0") {
			left++
		}
	}
	if left == 0 || r.Packets != 0 || r.Uncovered != 0 {
		t.Errorf("%d left; %+v", left, r)
	}
}

// TestClockSet: a wall clock that was set during a recording is named.
func TestClockSet(t *testing.T) {
	c := readCapture(t, "6.12-case4")
	n1, n2 := nodeSource(c, "n1", skew{}, nil), nodeSource(c, "n2", skew{}, nil)
	n1.Clocks = []Clock{{1e9, 100e9}, {2e9, 101e9 + 1000}, {3e9, 102e9}}
	n2.Clocks = []Clock{{1e9, 100e9}, {2e9, 103e9}, {3e9, 103e9}}
	_, r := mergeAll(t, n1, n2)
	got := strings.Join(r.Lines(), "\n")
	if len(r.Clocks) != 2 || !strings.Contains(got, "clock of n2 was set forward by 2s") || !strings.Contains(got, "set back by 1s") {
		t.Error(got)
	}
}

// TestSelectsWhen: what a recording selected is asked for the moment at which the
// packet should have come, on that node's clock.
func TestSelectsWhen(t *testing.T) {
	for what, k := range skews {
		t.Run(what, func(t *testing.T) {
			s := newSim(3, skew{}, k)
			s.warm(40)
			lost := s.next
			s.next++
			h := header(0, 1, 7777, protoTCP)
			h.IPID, h.Seq = 4242, 4242
			at := s.nodes[0].last + 10e6
			s.part(0, lost, 0, at, &h, 99, false)
			src := s.sources()
			asked := 0
			src[1].Selects = func(h *events.Header, from, to uint64) bool {
				asked++
				if is := k.mono(at); h.Seq != 4242 || from > is || to < is || to-from > uint64(time.Second) {
					t.Errorf("asked for %d to %d, and it is %d", from, to, is)
				}
				return false
			}
			_, r := mergeAll(t, src...)
			if asked != 1 || r.NeverArrived != 0 || r.Uncovered != 1 {
				t.Errorf("asked %d times; %+v", asked, r)
			}
		})
	}
}
