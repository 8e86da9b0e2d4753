// SPDX-License-Identifier: Apache-2.0

package events

import (
	"strconv"
	"strings"
	"testing"
)

// TestLinksAreBounded finishes more traversals than are remembered.
func TestLinksAreBounded(t *testing.T) {
	var l links
	l.init()
	for i := range 3 * maxLinks {
		id := strconv.Itoa(i)
		l.put(&Traversal{ID: id, Proto: "udp"})
		l.put(&Traversal{ID: id, Proto: "tcp", Verdict: Delivered}) // again
	}
	if len(l.words.entries) != maxLinks {
		t.Errorf("%d remembered, want %d", len(l.words.entries), maxLinks)
	}
	got := Traversal{CausedBy: strconv.Itoa(3*maxLinks - 1), Causes: []string{"0"}, CausesText: []string{"an old one"}}
	l.fill(&got)
	if !strings.HasPrefix(got.CausedByText, "tcp ") || got.CausesText[0] != "an old one" {
		t.Errorf("the last one is %q, the first one %q", got.CausedByText, got.CausesText[0])
	}
}

// TestLinkWords: cause and effect name each other in words, whichever is given
// out first, and however long the other one takes.
func TestLinkWords(t *testing.T) {
	const syn = "tcp S 172.23.96.23:40932 → 8.219.164.113:80"
	const icmp = "icmp 3/3 reply 8.219.164.113 → 172.23.96.23"
	l := newLab()
	sc := l.script(t).add(case7)
	first := len(sc.events)
	sc.add(case7icmp)
	for _, tt := range []struct {
		name             string
		after            int // how many events of the effect come before the cause is given out
		cause, therefore string
	}{
		{"both finished", len(sc.events) - first, syn + ", terminated", icmp + ", delivered"},
		{"the effect is on its way", 3, syn + ", terminated", icmp},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out []*Traversal
			s := NewStitcher(Config{Hooks: l.hooks, Names: l, HasFunctions: true}, func(t *Traversal) { out = append(out, t) })
			for i := range sc.events[:first+tt.after] {
				s.Add(&sc.events[i])
			}
			s.Advance(sc.time + 400_000_000)
			for i := range sc.events[first+tt.after:] {
				s.Add(&sc.events[first+tt.after+i])
			}
			s.Flush()
			if len(out) != 2 {
				t.Fatalf("%d traversals, want 2", len(out))
			}
			if got := strings.Join(out[0].CausesText, ";"); got != tt.therefore {
				t.Errorf("therefore %q, want %q", got, tt.therefore)
			}
			if out[1].CausedByText != tt.cause {
				t.Errorf("because of %q, want %q", out[1].CausedByText, tt.cause)
			}
		})
	}
}
