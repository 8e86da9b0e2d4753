// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// A kindWant is what must be seen of all packets of an oddity that look alike.
type kindWant struct {
	kind    string // as kindOf writes it; a "*" at its end stands for any rest
	because string // the kind of the packet that caused it; "": none
	hook    string // one that it must have passed
	leg
}

// kindOf is what packets are told apart by: "reply tcp RA", "request icmp 8/0".
func kindOf(t *events.Traversal) string {
	return strings.Join(strings.Fields(t.Direction+" "+t.Proto+" "+t.TCPFlags+" "+t.ICMP), " ")
}

func (w *kindWant) fits(t *events.Traversal) bool {
	prefix, any := strings.CutSuffix(w.kind, "*")
	if any {
		return strings.HasPrefix(kindOf(t), prefix)
	}
	return kindOf(t) == w.kind
}

// oddities compares what the tool says of the oddities with their table.
func (c *checker) oddities() error {
	dir, err := os.MkdirTemp("", "lab-oddities-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "results")
	s, all, err := c.tool.around([]string{everything}, c.me, "oddities", "-o", file)
	if err != nil {
		return err
	}
	results, err := readOddResults(file)
	if err != nil {
		return err
	}
	var faults []string
	summary := strings.Join(s.summary(), "\n")
	compared, excused, taken := 0, 0, map[string]bool{}
	for i, r := range results {
		packets := packetsOf(&oddities[i], r, all)
		for _, t := range packets {
			taken[t.Flow] = true
		}
		if strings.Contains(summary, leftOut) && oddities[i].bulk() {
			// On preemptible kernels that happens; the tool says of which packets
			// it does not know all. Of thousands in a row some may be among them.
			n := len(packets)
			packets = slices.DeleteFunc(packets, func(t *events.Traversal) bool { return t.Verdict == events.Incomplete })
			excused += n - len(packets)
		}
		compared += len(packets)
		for _, f := range oddities[i].compare(r, packets) {
			faults = append(faults, oddities[i].name+": "+f)
		}
	}
	for _, t := range all {
		if !taken[t.Flow] && t.Proto != "icmp6" { // neighbours' discovery of each other
			faults = append(faults, fmt.Sprintf("of no oddity: %s %s → %s: %s", kindOf(t), address(t.Src), address(t.Dst), t.Summary))
		}
	}
	c.fact("%d oddities, %d packets compared, %d left out by the kernel", len(results), compared, excused)
	if excused > compared/20 {
		faults = append(faults, fmt.Sprintf("the kernel left out hooks of %d packets, with %d to compare", excused, compared))
	}
	for _, line := range s.summary() {
		if strings.Contains(line, "LOST") {
			faults = append(faults, line)
		}
	}
	return faultsError(faults)
}

// bulk says whether an oddity is a connection with much data.
func (o *oddity) bulk() bool {
	return slices.ContainsFunc(o.want, func(w kindWant) bool { return strings.HasSuffix(w.kind, "*") })
}

// readOddResults reads what `lab oddities` says, one line for each of the table.
func readOddResults(path string) ([]oddResult, error) {
	results, err := readLines[oddResult](path)
	if err != nil {
		return nil, err
	}
	for i, r := range results {
		if i >= len(oddities) || oddities[i].name != r.Name {
			return nil, fmt.Errorf("result %d is of %q", i, r.Name)
		}
	}
	if len(results) != len(oddities) {
		return nil, fmt.Errorf("%d results of %d oddities", len(results), len(oddities))
	}
	return results, nil
}

// readLines reads a file with a JSON object a line, as this program's own verbs leave
// it for a check.
func readLines[T any](path string) (all []T, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		var one T
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// packetsOf finds an oddity's packets: those of the flow that begins with its
// addresses.
func packetsOf(o *oddity, r oddResult, all []*events.Traversal) (packets []*events.Traversal) {
	flows := map[string]bool{}
	for _, t := range all {
		src, dst, proto := address(t.Src), address(t.Dst), o.network
		if proto == "ping" || proto == "raw" {
			src, dst, proto = t.Src.IP, t.Dst.IP, "icmp"
		}
		flows[t.Flow] = flows[t.Flow] || t.Direction == "request" && t.Proto == proto && src == r.Local && dst == o.dial
	}
	for _, t := range all {
		if flows[t.Flow] {
			packets = append(packets, t)
		}
	}
	return packets
}

// compare says what differs from the table.
func (o *oddity) compare(r oddResult, packets []*events.Traversal) (faults []string) {
	if r.Fault != "" {
		faults = append(faults, "for its client: "+r.Fault)
		for _, t := range packets {
			faults = append(faults, "then seen: "+kindOf(t)+": "+t.Summary)
		}
		return faults
	}
	seen := make([]bool, len(o.want))
	for _, t := range packets {
		// Of several of a kind, the one that went this way.
		i := slices.IndexFunc(o.want, func(w kindWant) bool { return w.fits(t) && w.visits == visitsText(t.Visits) })
		if i < 0 {
			i = slices.IndexFunc(o.want, func(w kindWant) bool { return w.fits(t) })
		}
		if i < 0 {
			faults = append(faults, "not expected: "+kindOf(t)+": "+t.Summary)
			continue
		}
		seen[i] = true
		faults = append(faults, o.comparePacket(&o.want[i], r, t, packets)...)
	}
	for i, w := range o.want {
		if !seen[i] {
			faults = append(faults, "no "+w.kind+" was seen")
		}
	}
	return faults
}

func (o *oddity) comparePacket(w *kindWant, r oddResult, t *events.Traversal, packets []*events.Traversal) []string {
	v := &verified{r: result{ClientLocal: r.Local}}
	if n := len(t.NAT); n > 0 {
		// Which port a masquerade chose is not known to anybody else.
		v.r.SawClient, _, _ = strings.Cut(t.NAT[n-1].To, "→")
	}
	want := w.leg
	// The counts are those of the visits, which a test of the table holds.
	want.stacks, want.l3 = countStacks(want.visits)
	if want.verdict == "" {
		want.verdict = delivered
	}
	if want.reason == anyReason {
		want.where, want.reason = t.Where, t.Reason
	}
	if t.Verdict == events.Incomplete {
		return []string{v.at(t) + t.Summary}
	}
	v.compareLeg(t, want, &v.request)
	if w.hook != "" && !passed(t, w.hook) {
		v.rest = append(v.rest, v.at(t)+"it did not pass "+w.hook)
	}
	cause := slices.IndexFunc(packets, func(p *events.Traversal) bool { return p.ID == t.CausedBy })
	switch {
	case w.because == "" && t.CausedBy != "":
		v.rest = append(v.rest, v.at(t)+"caused by "+t.CausedByText+", want nothing")
	case w.because != "" && (cause < 0 || kindOf(packets[cause]) != w.because || !slices.Contains(packets[cause].Causes, t.ID)):
		v.rest = append(v.rest, fmt.Sprintf("%scaused by %q (%s), want %s", v.at(t), t.CausedBy, t.CausedByText, w.because))
	}
	// As for the cases: who opened a connection, and who sent a datagram.
	if (t.TCPFlags == "S" || t.Proto == "udp" && t.Direction == "request") && t.Src.PID != uint32(r.PID) {
		v.rest = append(v.rest, fmt.Sprintf("%sthe client's process is %q %d, want lab %d", v.at(t), t.Src.Process, t.Src.PID, r.PID))
	}
	return v.faults()
}

// anyReason is for ends of which older kernels say less than newer ones.
const anyReason = "*"

func passed(t *events.Traversal, hook string) bool {
	return slices.ContainsFunc(t.Visits, func(v events.Visit) bool {
		return slices.ContainsFunc(v.Hooks, func(h events.HookVisit) bool { return h.Hook == hook })
	})
}

// countStacks counts by the rules: half a visit that was not left or that began
// in mid-stack, none for what is not of the cluster.
func countStacks(visits string) (stacks, l3 float64) {
	for _, v := range strings.Split(visits, " | ") {
		n := 1.0
		if strings.Contains(v, "terminated") || strings.Contains(v, "kernel>") {
			n = 0.5
		}
		if slices.ContainsFunc(networks, func(name string) bool { return strings.Contains(v, name) }) {
			n = 0
		}
		stacks += n
		if !strings.Contains(v, "bridged") {
			l3 += n
		}
	}
	return stacks, l3
}
