// SPDX-License-Identifier: Apache-2.0

package events

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// VirtualNames is what Names may also be: they read IPVS's table.
type VirtualNames interface {
	// Virtual tells what IPVS's table said of the real servers of a virtual service
	// when it found none for a packet. Like the other answers this one is given at
	// once: facts that are Pending may be there later.
	Virtual(q *VirtualQuery) (VirtualFacts, bool)
}

// VirtualQuery is a packet for which IPVS found no real server.
type VirtualQuery struct {
	Time    uint64 // ns on the kernel's monotonic clock, of the refusal
	Netns   uint32
	Service netip.AddrPort
	Proto   uint8 // IPPROTO_*
}

// VirtualFacts are what was read before and after a refusal: nobody tells when
// IPVS's table changes.
type VirtualFacts struct {
	// After is what the first reading found that began after it. Before is what was
	// last found before it; if nothing was read shortly before, its At is 0.
	After, Before VirtualState
	// Pending: no reading has begun and ended since, and nothing else is known yet.
	Pending bool
}

// VirtualState are the real servers of a virtual service at one time, counted.
type VirtualState struct {
	At           uint64 // ns on the kernel's monotonic clock; 0: about then
	Absent       bool   // the table had no such service
	Destinations int    // all of them
	Idle         int    // whose weight is 0
	Full         int    // with a weight, and as many connections as their upper threshold allows
}

// VirtualOf asks names about a virtual service, see VirtualNames; names that
// know of none say no.
func VirtualOf(n Names, q *VirtualQuery) (VirtualFacts, bool) {
	if v, ok := n.(VirtualNames); ok {
		return v.Virtual(q)
	}
	return VirtualFacts{}, false
}

// Reasons of packets for which IPVS had no real server.
const (
	reasonNoDestination = "no-destination"
	reasonAllIdle       = "all-weights-zero"
	reasonOverload      = "overload"
)

// refuses is the reason for which IPVS finds no real server in that state; "": it
// should find one, or was not asked for that service.
func (v *VirtualState) refuses() string {
	switch {
	case v.Absent, v.Destinations < 0, v.Idle+v.Full < v.Destinations:
		return ""
	case v.Destinations == 0:
		return reasonNoDestination
	case v.Idle == v.Destinations:
		return reasonAllIdle
	}
	return reasonOverload
}

// same says whether two readings found the same.
func (v *VirtualState) same(o *VirtualState) bool {
	x, y := *v, *o
	x.At, y.At = 0, 0
	return x == y
}

// lateReading is how long (ns) after a refusal a reading, with none before it, says
// nothing of the refusal any more: kube-proxy writes the table about once a second.
const lateReading = uint64(2e9)

// why says what IPVS's table makes of a refusal: the reason, and its words. The
// reason is no-destination also where it cannot be known; the note says why.
func (f *VirtualFacts) why(refused uint64, to string) (reason, say, note string) {
	if f.Before.At != 0 && !f.Before.same(&f.After) {
		note = "IPVS's table changed about then: " + lapse(since(f.Before.At, refused)) + " before it had " + f.Before.words(to) +
			", " + f.After.later(refused) + " " + f.After.words(to)
	}
	reason = f.After.refuses()
	before := ""
	if f.Before.At != 0 {
		before = f.Before.refuses()
	}
	late := f.Before.At == 0 && f.After.At != 0 && f.After.At > refused+lateReading
	if reason == "" || late || before != "" && before != reason { // either may have been the reason
		if note == "" {
			note = "IPVS's table had " + f.After.words(to) + ", " + f.After.later(refused)
		}
		return reasonNoDestination, noneChosen(to), note
	}
	return reason, f.After.refusal(to), note
}

// noneChosen is all that is known where the table does not say why.
func noneChosen(to string) string { return "no destination of " + to + " could be chosen" }

// refusal says why IPVS found no real server in that state.
func (v *VirtualState) refusal(to string) string {
	all := allOf(v.Destinations, "the only destination of "+to+" has", "destinations of "+to+" have")
	switch v.refuses() {
	case reasonAllIdle:
		return all + " weight 0: IPVS begins no new connections to it"
	case reasonOverload:
		all += " as many connections as the upper threshold allows"
		if v.Idle > 0 {
			all += ", or weight 0 (" + strconv.Itoa(v.Idle) + ")"
		}
		return all
	}
	return to + " has no destination on this node"
}

// later says how long after a refusal it was read.
func (v *VirtualState) later(refused uint64) string {
	if v.At == 0 {
		return "about then"
	}
	return lapse(since(refused, v.At)) + " after"
}

// words count the real servers, for a note.
func (v *VirtualState) words(to string) string {
	switch {
	case v.Absent:
		return "no service " + to
	case v.Destinations <= 0:
		return "no destination"
	}
	s := plural(v.Destinations, "destination")
	if v.Idle > 0 {
		s += ", " + strconv.Itoa(v.Idle) + " of weight 0"
	}
	if v.Full > 0 {
		s += ", " + strconv.Itoa(v.Full) + " at the upper threshold"
	}
	return s
}

// virtualAsk is a question about a refusal, and the words that its answer takes
// the place of.
type virtualAsk struct {
	query       VirtualQuery
	to, generic string // in the summary
}

// virtual says why IPVS had no real server for a packet, where its table tells, or
// leaves it to be asked later.
func (b *builder) virtual(e *ending, hops []hop) {
	last := &hops[len(hops)-1]
	if last.hdr == nil || !hasPorts(last.hdr) {
		return
	}
	q := VirtualQuery{Time: last.time, Netns: last.netns, Service: netip.AddrPortFrom(last.hdr.Dst, last.hdr.DstPort), Proto: last.hdr.Proto}
	for i := len(hops) - 1; i >= 0 && hops[i].netns == last.netns; i-- {
		if hops[i].station == StationIPVSLeave {
			q.Time = hops[i].time
			break
		}
	}
	to := dstWords(last.hdr)
	f, ok := VirtualOf(b.s.names, &q)
	switch {
	case f.Pending:
		e.ask = &virtualAsk{q, to, e.say}
	case ok:
		e.reason, e.say, e.note = f.why(q.Time, to)
	}
}

// answer implements question.
func (a *virtualAsk) answer(n Names, t *Traversal) bool {
	f, ok := VirtualOf(n, &a.query)
	if ok && !f.Pending {
		reason, say, note := f.why(a.query.Time, a.to)
		a.tell(t, reason, say, note)
	}
	return !f.Pending
}

// unanswered implements question.
func (a *virtualAsk) unanswered(t *Traversal) {
	a.tell(t, reasonNoDestination, noneChosen(a.to), "IPVS's table was not read in time to say why")
}

// tell puts into a traversal why IPVS refused it.
func (a *virtualAsk) tell(t *Traversal, reason, say, note string) {
	t.Reason, t.Summary = reason, strings.Replace(t.Summary, a.generic, say, 1)
	if note != "" {
		t.Notes = append(t.Notes, note)
	}
}

// allOf speaks of one or of all of several.
func allOf(n int, one, several string) string {
	if n == 1 {
		return one
	}
	return "all " + strconv.Itoa(n) + " " + several
}

// wrongServerNote says that a process of a node took what was sent to the address
// of a service. IPVS was asked, and let it go: it has no virtual service there.
// (Without IPVS it may be meant so, as of a DNS cache on the node.) Of a connection
// it is said once.
func (b *builder) wrongServerNote(t *Traversal, r *run) string {
	h := firstHeader(r.hops)
	if t.Verdict != Delivered || t.Where != "socket" || t.Direction != directionRequest || t.Dst.Service == "" || len(t.NAT) > 0 ||
		h == nil || !hasPorts(h) || h.Proto == protoTCP && h.TCPFlags&(tcpSYN|tcpACK) != tcpSYN {
		return ""
	}
	last := &t.Visits[len(t.Visits)-1]
	if last.Kind != KindNode || last.Left != ViaSocket || !asked(r.hops) {
		return ""
	}
	by := "a process of " + orWords(last.Name, "the node")
	if t.Dst.Process != "" {
		by = t.Dst.Process + " " + strconv.FormatUint(uint64(t.Dst.PID), 10) + " of " + orWords(last.Name, "the node")
	}
	return "wrong server: " + by + " took it; IPVS has no virtual service " + dstWords(h) + " here, an address of " + t.Dst.Service
}

// asked says whether IPVS was asked about a packet where it ended.
func asked(hops []hop) bool {
	here := hops[len(hops)-1].netns
	return slices.ContainsFunc(hops, func(h hop) bool { return h.station == StationIPVSIn && h.netns == here })
}
