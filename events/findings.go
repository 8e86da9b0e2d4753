// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"slices"
	"strings"
)

// A Finding is one way for a packet to fail, or to arrive and still be worth a
// warning: what Traversal.Where and Traversal.Reason stand for. It is only ever
// given on its evidence; without it a traversal says the plain facts.
type Finding struct {
	// Where is the part of the kernel, Reason a stable word. Together they are
	// unique; a Reason alone may belong to several places.
	Where  string `json:"where"`
	Reason string `json:"reason"`
	// Title says in a few words what it is.
	Title string `json:"title"`
	// Says are the sentences in which a line tells it. Words in braces stand for
	// what differs from packet to packet.
	Says []string `json:"says"`
	// Evidence is what must have been seen, each entry by itself enough.
	Evidence []string `json:"evidence"`
	// Advice says what to check next.
	Advice string `json:"advice"`
	// Unless says what would disprove it.
	Unless string `json:"unless"`
}

// whereNote is the Where of findings on packets that arrived: they stand in
// Traversal.Notes, which then begins with the first of their Says.
const whereNote = "note"

// Findings returns the table, in the order of a packet's way. The result belongs
// to the caller.
func Findings() []Finding {
	all := slices.Concat(findingsOnTheWay, findingsOfNetfilter, findingsAtTheEnd)
	for i := range all {
		all[i].complete()
	}
	return all
}

// FindingsOf returns the findings of a reason; none for a word that is none.
func FindingsOf(reason string) []Finding {
	return slices.DeleteFunc(Findings(), func(f Finding) bool { return f.Reason != reason })
}

// findingOf returns the row of the table, without what the table of drops knows.
func findingOf(where, reason string) (*Finding, bool) {
	for _, part := range [][]Finding{findingsOnTheWay, findingsOfNetfilter, findingsAtTheEnd} {
		for i := range part {
			if part[i].Where == where && part[i].Reason == reason {
				return &part[i], true
			}
		}
	}
	return nil, false
}

// complete takes in the sentences and the evidence of the rows by which a drop is
// matched, so that the table never says anything else than what is done.
func (f *Finding) complete() {
	f.Says, f.Evidence = slices.Clone(f.Says), slices.Clone(f.Evidence)
	for i := range drops {
		r := &drops[i]
		if r.where != f.Where || r.reason != f.Reason {
			continue
		}
		if !slices.Contains(f.Says, r.say) {
			f.Says = append(f.Says, r.say)
		}
		f.Evidence = append(f.Evidence, r.words())
	}
}

// words are the conditions of a row as a sentence.
func (r *rule) words() string {
	var w []string
	if r.nf {
		w = append(w, "netfilter freed it (NETFILTER_DROP; below 5.17: in nf_hook_slow)")
	}
	if len(r.culprit) > 0 {
		w = append(w, "the last station entered was "+alternatives(r.culprit, Station.String))
	}
	switch r.clash {
	case clashSame:
		w = append(w, "its new conntrack entry clashed with that of another packet of the same connection")
	case clashTaken:
		w = append(w, "its new conntrack entry clashed with another connection's translation")
	}
	if r.queued {
		w = append(w, "it was freed in "+alternatives(queueAnswered, func(s string) string { return s })+", and no table was seen to say drop")
	}
	if r.invalid {
		w = append(w, "conntrack had looked it up and given it no entry")
	}
	if r.seen != StationNone {
		w = append(w, "it met the station "+r.seen.String())
	}
	if len(r.reasons) > 0 {
		w = append(w, reasonWords(r.reasons))
	}
	if len(r.sites) > 0 {
		w = append(w, "it was freed in "+alternatives(r.sites, func(s string) string { return s }))
	}
	if r.more != nil {
		w = append(w, r.more.words)
	}
	if r.reject {
		w = append(w, "it was answered with an ICMP error or an RST")
	}
	if len(r.icmp) > 0 {
		w = append(w, "it was answered with "+alternatives(r.icmp, icmpNumberWords))
	}
	if len(r.itself) > 0 {
		w = append(w, "it is "+alternatives(r.itself, icmpNumberWords))
	}
	return strings.Join(w, ", and ")
}

func reasonWords(reasons []string) string {
	if slices.Equal(reasons, []string{""}) {
		return "the kernel gave no drop reason"
	}
	return "the kernel's drop reason was " + alternatives(reasons, func(s string) string { return s })
}

// icmpNumberWords writes a type and code as the table of drops has them.
func icmpNumberWords(n uint32) string {
	name := "ICMP"
	if n&icmp6 != 0 {
		name = "ICMPv6"
	}
	return fmt.Sprintf("%s %d/%d", name, n>>8&0xff, n&0xff)
}

func alternatives[T any](list []T, word func(T) string) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = word(v)
	}
	if n := len(words) - 1; n > 0 {
		return strings.Join(words[:n], ", ") + " or " + words[n]
	}
	return strings.Join(words, "")
}

// Findings returns what is known of how the packet ended and of its notes, in that
// order; none for one that simply arrived.
func (t *Traversal) Findings() []Finding {
	var found []Finding
	if f, ok := findingOf(t.Where, t.Reason); ok && t.Verdict == Terminated {
		found = append(found, *f)
	}
	for i := range findingsAtTheEnd {
		f := &findingsAtTheEnd[i]
		if f.Where == whereNote && slices.ContainsFunc(t.Notes, func(n string) bool { return strings.HasPrefix(n, noteBeginning(f)) }) {
			found = append(found, *f)
		}
	}
	return found
}

// noteBeginning is what a note of the finding begins with.
func noteBeginning(f *Finding) string {
	beginning, _, _ := strings.Cut(f.Says[0], "{")
	return beginning
}
