// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stackhop/stackhop/events"
)

// maxClockError is how wrong the difference of two clocks may be that a merge
// finds out.
const maxClockError = time.Millisecond

// merged compares both nodes' recordings together with the cases. They are of
// one kernel, so their clocks agree.
func (r *recordingsCheck) merged() error {
	all, err := r.mergedBy(0, r.path("n1.hop"), r.path("n2.hop"))
	if err != nil {
		return err
	}
	r.together = all
	var rest []*events.Traversal
	for _, t := range withoutAftermath(all) {
		switch v := caseOf(r.list, t); {
		case slices.Contains(r.lost, address(t.Src)):
			rest = append(rest, t)
		case r.isBeside(t):
		case v == nil:
			r.fault("merged: of no case: %s → %s: %s", address(t.Src), address(t.Dst), t.Summary)
		default:
			v.packet = append(v.packet, t)
			v.compareMerged(t)
		}
	}
	r.lostOnWay(rest)
	var counts []string
	for _, v := range r.list {
		v.rest = append(v.rest, v.missing()...)
		for _, t := range v.packet {
			if t.Flow != v.packet[0].Flow {
				v.rest = append(v.rest, v.at(t)+"its flow is another than the first packet's")
			}
		}
		for _, f := range v.faults() {
			r.fault("merged, case %s: %s", v.c.id, f)
		}
		counts = append(counts, fmt.Sprintf("case %s: %s in %d packets", v.c.id, v.seenText(), len(v.packet)))
	}
	r.fact("merged: %s", strings.Join(counts, "; "))
	return nil
}

// compareMerged compares a packet with what two nodes know together of its leg.
func (v *verified) compareMerged(t *events.Traversal) {
	client, server := t.Src, t.Dst
	want, column := withoutNetwork(v.want.request), &v.request
	if t.Direction != "request" {
		client, server = t.Dst, t.Src
		want, column = withoutNetwork(v.want.reply), &v.reply
	}
	if want.verdict != delivered {
		want.where, want.reason = t.Where, t.Reason // free
	}
	v.compareLeg(t, want, column)
	if _, err := findPod(v.c.from); err == nil {
		v.rest = append(v.rest, v.compareEnds(t, client, server)...)
		return
	}
	// Outside the nodes it has the address that the load balancer gives it.
	if a := address(client); a != v.r.ClientLocal && a != v.r.SawClient {
		v.rest = append(v.rest, v.at(t)+"the client is "+a)
	}
}

// withoutNetwork is what of a leg the nodes know: not what hosts outside of them
// do.
func withoutNetwork(want leg) leg {
	outside := func(s string, seps string) bool {
		words := strings.FieldsFunc(s, func(c rune) bool { return strings.ContainsRune(seps, c) })
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(networks, w) })
	}
	visits := strings.Split(want.visits, " | ")
	if outside(visits[len(visits)-1], ">") {
		want.verdict = string(events.LeftNode)
	}
	visits = slices.DeleteFunc(visits, func(s string) bool { return outside(s, ">") })
	want.visits = strings.Join(visits, " | ")
	links := slices.DeleteFunc(strings.Split(want.link, " → "), func(s string) bool { return outside(s, "[]") })
	want.link = strings.Join(links, " → ")
	want.nat = slices.DeleteFunc(slices.Clone(want.nat), func(s string) bool { return strings.HasPrefix(s, "lb: ") })
	return want
}

// lostOnWay looks at the packets that left n1 and did not come to n2.
func (r *recordingsCheck) lostOnWay(all []*events.Traversal) {
	const want, doubt = "left n1 by eth0, never arrived at n2", "not seen at n2, whose recording is not whole at that time"
	never := 0
	for _, t := range all {
		switch {
		case strings.HasSuffix(t.Summary, want) && t.Verdict == events.Terminated && t.Where == "network" && t.Reason == "never-arrived" && t.Stacks == 2:
			never++
		case !strings.HasSuffix(t.Summary, doubt) || t.Verdict != events.LeftNode:
			r.fault("a lost SYN is %s in %q by %q: %s; want %q", t.Verdict, t.Where, t.Reason, t.Summary, want)
		}
		r.fact("a lost SYN: %s", t.Summary)
	}
	if len(all) != lostSYNs || never == 0 {
		r.fault("merged: %d SYNs of %d lost ones never arrived, want %d", never, len(all), lostSYNs)
	}
}

// offsetLine is what a merge says of two clocks.
var offsetLine = regexp.MustCompile(`the clock of (\S+) is (\S+) (ahead of|behind) that of (\S+) \(± (\S+), drift (\S+) ppm\), by (\d+) packets`)

// mergedBy merges two recordings of which the second one's clock is ahead by
// truth.
func (r *recordingsCheck) mergedBy(truth time.Duration, files ...string) ([]*events.Traversal, error) {
	s, all, err := r.replay(files...)
	if err != nil {
		return nil, err
	}
	m := offsetLine.FindStringSubmatch(s.stderr.String())
	if m == nil {
		return nil, fmt.Errorf("the merge says nothing of the clocks: %s", s.stderr.String())
	}
	offset, err := time.ParseDuration(m[2])
	if err != nil {
		return nil, err
	}
	if m[3] == "behind" {
		offset = -offset
	}
	doubt, err := time.ParseDuration(m[5])
	if err != nil {
		return nil, err
	}
	if (offset - truth).Abs() > max(maxClockError, min(doubt, r.maxDoubt)) {
		r.fault("the clocks differ by %v, and by the merge %v ± %v", truth, offset, doubt)
	}
	r.fact("clocks: %s; %v by construction", m[0], truth)
	return all, nil
}

// skewed merges n1 with n2 as it would be had its clock been wrong.
func (r *recordingsCheck) skewed() error {
	want := signatures(r.together, plainly)
	for _, k := range []skew{{-3 * time.Second, 50}, {250 * time.Millisecond, 50}} {
		file := r.path(fmt.Sprintf("n2%+d.hop", k.offset.Milliseconds()))
		span, err := k.rewrite(r.path("n2.hop"), file)
		if err != nil {
			return err
		}
		// In the middle of the recording.
		truth := k.offset + time.Duration(float64(span)/2*k.ppm/1e6)
		all, err := r.mergedBy(truth, r.path("n1.hop"), file)
		if err != nil {
			return err
		}
		for _, f := range missingAndMore(want, signatures(all, plainly)) {
			r.fault("merged with n2 %v off: %s", k.offset, f)
		}
	}
	return nil
}

// plainly is all that is said of a packet, but for times and identifiers.
func plainly(t *events.Traversal) string {
	return fmt.Sprint(t.Node, t.Direction, t.Proto, t.TCPFlags, t.Length, address(t.Src), t.Src.Pod, address(t.Dst), t.Dst.Pod, t.Stacks, t.L3Stacks,
		t.Verdict, t.Where, t.Reason, t.Summary, t.DataLink, visitsText(t.Visits), natTexts(t.Visits), t.Complete, t.Lost)
}

// namelessly is what pseudonyms leave as it was.
func namelessly(t *events.Traversal) string {
	return fmt.Sprint(t.Direction, t.Proto, t.TCPFlags, t.Length, t.Src.Port, t.Dst.Port, t.Stacks, t.L3Stacks,
		t.Verdict, t.Where, t.Reason, len(t.DataLink), len(t.Visits), len(t.NAT), t.Complete, t.Lost)
}

// signatures counts traversals by what one says of them.
func signatures(all []*events.Traversal, say func(*events.Traversal) string) map[string]int {
	out := map[string]int{}
	for _, t := range all {
		out[say(t)]++
	}
	return out
}

// missingAndMore is how two counts differ.
func missingAndMore(want, got map[string]int) (faults []string) {
	for s, n := range want {
		if got[s] < n {
			faults = append(faults, fmt.Sprintf("%d missing: %s", n-got[s], s))
		}
	}
	for s, n := range got {
		if want[s] < n {
			faults = append(faults, fmt.Sprintf("%d more: %s", n-want[s], s))
		}
	}
	slices.Sort(faults)
	return faults
}
