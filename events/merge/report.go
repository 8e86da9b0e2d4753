// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Report is what was found in merging.
type Report struct {
	Offsets       []Offset
	Packets       int      // packets that several nodes saw, given out as one traversal each
	Joined        int      // how often one part was joined to the next in them
	Ambiguous     int      // ends that were not joined, as several fit
	NeverArrived  int      // packets that left a node and did not come to the one that they went to
	Uncovered     int      // packets that went where no recording covers
	FromElsewhere int      // packets that came from where no recording covers
	Clocks        []string // what was wrong with clocks
}

// Offset is how two nodes' wall clocks differ.
type Offset struct {
	From, To string
	// OffsetNS is how far the clock of To is ahead of that of From, in the middle
	// of the time over which it was measured; ErrNS is how wrong that may be.
	// -1: packets went one way only, and their quickest is taken to need no time.
	OffsetNS, ErrNS int64
	DriftPPM        float64 // how fast OffsetNS grows
	// Joined counts the packets joined, both ways; OneWay names the node that
	// they all left, "" if they went both ways.
	Joined int
	OneWay string
}

// reportClocks says what was found of the clocks.
func (m *merger) reportClocks() {
	for _, s := range m.sources {
		m.report.Clocks = append(m.report.Clocks, s.jumps()...)
	}
	for a := range m.sources {
		for b := a + 1; b < len(m.sources); b++ {
			if d := m.differences[[2]int{a, b}]; d != nil {
				m.reportOffset(a, b, d)
			}
		}
	}
}

func (m *merger) reportOffset(a, b int, d *difference) {
	there, back := m.way(a, b), m.way(b, a)
	o := Offset{From: m.sources[a].Node, To: m.sources[b].Node, Joined: there.joined + back.joined}
	switch {
	case len(d.pieces) == 0:
		m.report.Clocks = append(m.report.Clocks, fmt.Sprintf("the clocks of %s and %s jump so often that nothing is told by them", events.Safe(o.From), events.Safe(o.To)))
		return
	case len(back.best()) == 0:
		o.OneWay = o.From
	case len(there.best()) == 0:
		o.OneWay = o.To
	}
	p := &d.pieces[len(d.pieces)-1]
	off, err := p.at(p.middle)
	o.OffsetNS, o.ErrNS, o.DriftPPM = int64(off)+d.diff, -1, p.drift*1e6
	if !math.IsInf(err, 1) {
		o.ErrNS = int64(math.Ceil(err))
	}
	m.report.Offsets = append(m.report.Offsets, o)
	for i := 1; i < len(d.pieces); i++ {
		m.reportJump(a, b, d, i)
	}
}

// reportJump says that one of two clocks jumped, if it is not only that their
// drift changed.
func (m *merger) reportJump(a, b int, d *difference, i int) {
	was, e1 := d.pieces[i-1].at(d.pieces[i].from)
	is, e2 := d.pieces[i].at(d.pieces[i].from)
	if math.Abs(is-was) <= e1+e2+float64(time.Millisecond) {
		return
	}
	at := time.Unix(0, d.base+int64(d.pieces[i].from)).UTC()
	m.report.Clocks = append(m.report.Clocks, fmt.Sprintf("the clock of %s jumped by %s against that of %s at about %s",
		events.Safe(m.sources[b].Node), signed(time.Duration(is-was)), events.Safe(m.sources[a].Node), at.Format("15:04:05.000")))
}

func signed(d time.Duration) string {
	if d > 0 {
		return "+" + d.String()
	}
	return d.String()
}

// Lines are the report in sentences, safe for a terminal.
func (r *Report) Lines() []string {
	var lines []string
	for i := range r.Offsets {
		lines = append(lines, r.Offsets[i].line())
	}
	if len(lines) == 0 {
		lines = append(lines, "no packet was seen by more than one of the nodes, so their clocks are taken to agree")
	}
	lines = append(lines, r.Clocks...)
	for _, c := range []struct {
		n    int
		noun string
		rest string
	}{
		{r.NeverArrived, "packet", "left a node and never arrived at the one they went to"},
		{r.Uncovered, "packet", "went where no recording covers"},
		{r.FromElsewhere, "packet", "came from where no recording covers"},
		{r.Ambiguous, "time", "several packets fitted, and none was chosen"},
	} {
		if c.n > 0 {
			lines = append(lines, count(c.n, c.noun)+" "+c.rest)
		}
	}
	return slices.Clip(lines)
}

func (o *Offset) line() string {
	d := time.Duration(o.OffsetNS)
	word := "ahead of"
	if d < 0 {
		d, word = -d, "behind"
	}
	s := fmt.Sprintf("the clock of %s is %s %s that of %s", events.Safe(o.To), rounded(d), word, events.Safe(o.From))
	if o.ErrNS < 0 {
		return s + fmt.Sprintf(" or off by more, as the %s joined all left %s: only the other direction would tell", count(o.Joined, "packet"), events.Safe(o.OneWay))
	}
	return s + fmt.Sprintf(" (± %s, drift %.1f ppm), by %s that went both ways", rounded(time.Duration(o.ErrNS)), o.DriftPPM, count(o.Joined, "packet"))
}

// rounded is a duration in no more digits than it deserves.
func rounded(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Microsecond)
	case d >= time.Millisecond:
		return d.Round(time.Microsecond)
	}
	return d.Round(100 * time.Nanosecond)
}
