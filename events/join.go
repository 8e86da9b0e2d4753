// SPDX-License-Identifier: Apache-2.0

package events

import (
	"slices"
	"strings"
	"time"
)

const (
	incompletePrefix = "incomplete: "
	lastSeparator    = "; last: "
	soFar            = " so far, "
)

// Join makes one traversal of what several nodes saw of one packet: parts in
// the order of its way, at least one, each with its Time on the clock of the
// first in at. It ends as the last part does. The parts stay as they are.
func Join(parts []*Traversal, at []time.Time) *Traversal {
	first, last := parts[0], parts[len(parts)-1]
	j := *first
	j.Verdict, j.Where, j.Reason, j.KernelReason, j.Location = last.Verdict, last.Where, last.Reason, last.KernelReason, last.Location
	j.Stacks, j.L3Stacks, j.Lost, j.Complete = 0, 0, 0, true
	j.Visits, j.Packets, j.Out = nil, nil, last.Out
	j.NAT, j.Causes = []NAT{}, []string{}
	j.CausesText, j.Notes, j.NotObserved = nil, nil, nil
	for k, p := range parts {
		j.add(p, uint64(max(at[k].Sub(first.Time), 0))) //nolint:gosec // not negative
	}
	j.LostInRun = lostInRuns(parts)
	j.Src.supplement(&last.Src)
	j.Dst.supplement(&last.Dst)
	j.DataLink = dataLink(j.Visits)
	j.conclude(parts)
	return &j
}

// add takes in a part that began so many ns behind the first one.
func (t *Traversal) add(p *Traversal, later uint64) {
	t.Stacks += p.Stacks
	t.L3Stacks += p.L3Stacks
	t.Lost += p.Lost
	t.Complete = t.Complete && p.Complete
	for _, v := range p.Visits {
		v.StartNS += later
		v.EndNS += later
		if v.Node == "" && v.Kind != KindNetwork {
			v.Node = p.Node
		}
		v.NAT = laterNAT(v.NAT, later)
		v.Hooks = slices.Clone(v.Hooks)
		for i := range v.Hooks {
			v.Hooks[i].NS += later
		}
		t.Visits = append(t.Visits, v)
	}
	t.NAT = append(t.NAT, laterNAT(p.NAT, later)...)
	if t.Conntrack == nil {
		t.Conntrack = p.Conntrack
	}
	if t.CausedBy == "" {
		t.CausedBy, t.CausedByText = p.CausedBy, p.CausedByText
	}
	t.Causes = append(t.Causes, p.Causes...)
	t.CausesText = append(t.CausesText, p.CausesText...)
	t.Service = joinService(t.Service, p.Service)
	if t.Rule == nil {
		t.Rule = p.Rule // it ended where the last part is
	}
	t.Notes = union(t.Notes, p.Notes)
	t.NotObserved = union(t.NotObserved, p.NotObserved)
	t.Parts = append(t.Parts, Part{p.Node, p.ID, p.Packets})
}

// joinService is what the nodes together know of a service: what the first one
// says, which sends the packet on, and its endpoints from whoever has them.
func joinService(a, b *ServiceFacts) *ServiceFacts {
	switch {
	case a == nil:
		return b
	case b == nil || a.Endpoints != nil || b.Endpoints == nil || a.Name != b.Name || a.Port != b.Port:
		return a
	}
	c := *a
	c.Endpoints = b.Endpoints
	return &c
}

func laterNAT(nats []NAT, later uint64) []NAT {
	nats = slices.Clone(nats)
	for i := range nats {
		nats[i].NS += later
	}
	return nats
}

// lostInRuns adds up what the runs had lost, by stage; nil: none. A node's run is one,
// and what it had lost by its last part has that of those before in it.
func lostInRuns(parts []*Traversal) (sum map[string]uint64) {
	counted := map[[2]string]uint64{} // by node and stage
	for _, p := range parts {
		for stage, n := range p.LostInRun {
			if sum == nil {
				sum = map[string]uint64{}
			}
			key := [2]string{p.Node, stage}
			more := n - min(n, counted[key])
			sum[stage] += more
			counted[key] += more
		}
	}
	return sum
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// supplement fills in what only the other end's node knows of an endpoint.
func (e *Endpoint) supplement(o *Endpoint) {
	if e.Process == "" {
		e.Process, e.PID = o.Process, o.PID
	}
	if e.IP != o.IP {
		return
	}
	if e.Stale && !o.Stale && o.named() {
		e.Pod, e.Service, e.Node, e.Stale = "", "", "", false // the other node knows better
	}
	for _, f := range [][2]*string{{&e.Pod, &o.Pod}, {&e.Service, &o.Service}, {&e.Node, &o.Node}} {
		if *f[0] == "" && *f[1] != "" {
			*f[0], e.Stale = *f[1], e.Stale || o.Stale
		}
	}
}

// conclude writes the summary: that of the last part, unless an earlier one
// has a gap.
func (t *Traversal) conclude(parts []*Traversal) {
	words := parts[len(parts)-1].endWords()
	t.Summary = parts[0].Summary
	for _, p := range parts {
		if p.Verdict == Incomplete {
			t.Verdict, t.Complete, t.Summary = Incomplete, false, p.Summary
			break
		}
	}
	t.SetEnd(words)
}

// endWords are the words of the summary that say how it ended, without the
// count before them.
func (t *Traversal) endWords() string {
	if rest, ok := strings.CutPrefix(t.Summary, incompletePrefix); ok {
		if _, last, ok := strings.Cut(rest, lastSeparator); ok {
			return last
		}
		return rest
	}
	s := strings.TrimPrefix(t.Summary, t.countWords())
	return strings.TrimPrefix(strings.TrimPrefix(s, soFar), ", ")
}

func (t *Traversal) countWords() string { return countWords(t.Stacks, len(t.NotObserved) == 0) }

// SetEnd writes the summary anew, with other words for how it ended: behind the
// count of stacks, or behind what it lacks.
func (t *Traversal) SetEnd(words string) {
	switch {
	case t.Verdict == Incomplete:
		missing, ok := strings.CutPrefix(t.Summary, incompletePrefix)
		missing, _, more := strings.Cut(missing, lastSeparator)
		if !ok || !more {
			t.Summary = incompletePrefix + words
			return
		}
		t.Summary = incompletePrefix + missing + lastSeparator + words
	case t.Verdict == InFlight:
		t.Summary = t.countWords() + soFar + words
	default:
		t.Summary = t.countWords() + ", " + words
	}
}
