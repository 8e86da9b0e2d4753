// SPDX-License-Identifier: Apache-2.0

package events

import (
	"cmp"
	"fmt"
	"slices"
)

// hop is one step on the way of a traversal.
type hop struct {
	*step
	p     *packet
	i     int     // index of the step in p
	netns uint32  // as in the step, or where it must have been if it does not say
	hdr   *Header // the packet's headers at that moment; nil: unknown
}

// gap counts the events lost between the hop and the one before it in the
// life of its packet.
func (h *hop) gap() int {
	if h.i == 0 {
		return int(h.seq)
	}
	return int(h.seq) - int(h.p.steps[h.i-1].seq) - 1
}

// location is the kernel address that dropped the packet there; 0: none did.
func (h *hop) location() uint64 { return h.p.location(h.step) }

// route is one way that a packet took, to one end.
type route struct {
	hops []hop
	end  ending
}

// builder makes traversals out of one group. Its fields hold what was found
// on the way of the root packet at hand.
type builder struct {
	s      *Stitcher
	budget int  // ways that may still be followed
	cut    bool // there were more than that, or more events than are kept
	lost   int  // events missing in the whole lineage
	copies copies
	waits  []wait
	notes  []string
	effect uint64 // a packet that the traversal at hand caused, an open one if there is one; 0: none

	// Kept from group to group, so that nothing is allocated for them.
	room       []hop       // what hops cuts its results off
	headers    []Header    // what hops point to
	metKeys    []uint64    // devices that the group met: namespace and ifindex
	metDevices []metDevice // those devices
	lastMet    int         // the one that was looked up last
	roots      []*packet
	pieces     []run  // what runs returns
	stays      []stay // of the run at hand
	spare      spare  // what the traversal at hand is made in
}

// waysPerPacket bounds the work for a group by its size. Each packet is on
// one or two ways, unless copies of copies are merged again and again.
const waysPerPacket = 8

// maxRoom is how many hops' room is kept from group to group.
const maxRoom = 4096

// group gives out the traversals of a group, one for each of its roots.
func (b *builder) group(g *group, evicted bool) {
	b.room, b.headers, b.metKeys, b.metDevices, b.lastMet = b.room[:0], b.headers[:0], b.metKeys[:0], b.metDevices[:0], 0
	if cap(b.room) > maxRoom {
		b.room, b.headers = nil, nil
	}
	roots := b.roots[:0]
	for _, p := range g.packets {
		if len(p.steps) > 0 && (p.up == nil || len(p.up.steps) == 0) {
			roots = append(roots, p)
		}
	}
	if len(roots) > 1 {
		slices.SortStableFunc(roots, func(a, b *packet) int { return cmp.Compare(a.steps[0].time, b.steps[0].time) })
	}
	for _, p := range g.packets {
		if len(p.steps) > 0 {
			top := p.top()
			b.s.done.put(p.id, b.s.traversalID(top.id, top.steps[0].time))
		}
		b.meet(p)
	}
	b.budget = waysPerPacket * len(g.packets)
	for _, root := range roots {
		b.root(root, evicted)
	}
	b.roots = roots
}

// top is the packet at the head of the lineage, of those that were seen.
func (p *packet) top() *packet {
	for p.up != nil && len(p.up.steps) > 0 {
		p = p.up
	}
	return p
}

// root gives out the traversals of one root packet.
func (b *builder) root(root *packet, evicted bool) {
	b.cut, b.lost, b.copies, b.waits, b.notes = false, 0, copies{}, nil, nil
	for _, p := range root.group.packets {
		p.seen = false
	}
	way := b.follow(root, 0, nil)
	b.notes = append(b.notes, b.copies.notes()...)
	for i, r := range b.runs(way.hops) {
		if len(r.hops) == len(way.hops) && len(root.children()) == 0 && root.merged == nil {
			r.end = &way.end // of nothing else
		}
		b.traversal(root, r, i, evicted)
	}
}

// follow finds the way of a packet from its step with index from on, behind
// prefix, and where it led. Of several copies it takes the one that ended
// best; of the parts of a packet the one that ended worst, as all of them
// must arrive.
func (b *builder) follow(p *packet, from int, prefix []hop) route {
	b.budget--
	p.visiting = true
	defer func() { p.visiting = false }()
	if !p.seen {
		p.seen = true
		b.lost += p.lost()
		b.cut = b.cut || p.overlong
	}
	own := b.own(p, from, prefix)
	var clones, parts []route
	kids := slices.Clone(p.children())
	slices.SortStableFunc(kids, func(a, b *packet) int { return cmp.Compare(a.firstTime(), b.firstTime()) })
	lastFork := 0
	for _, c := range kids {
		if len(c.steps) == 0 || c.visiting || b.exhausted() {
			continue
		}
		fork := p.after(c.steps[0].time)
		if fork < from || (fork == from && from > 0) {
			continue // it forked before this way came along here
		}
		way := b.follow(c, 0, b.hops(p, from, fork, prefix))
		if c.born == StationClone {
			clones = append(clones, way)
			b.findWait(p, fork, c)
		} else {
			parts = append(parts, way)
			lastFork = fork
		}
	}
	if len(parts) > 0 {
		own = b.worst(p, own, parts, lastFork)
	}
	return b.best(own, clones)
}

// exhausted says whether no more ways may be followed, and remembers that one
// was given up for it.
func (b *builder) exhausted() bool {
	b.cut = b.cut || b.budget <= 0
	return b.budget <= 0
}

// own is the way of the socket buffer itself, without what forked off it.
func (b *builder) own(p *packet, from int, prefix []hop) route {
	hops := b.hops(p, from, len(p.steps), prefix)
	if m := p.merged; m != nil && len(m.steps) > 0 && !m.visiting && !b.exhausted() {
		at := m.after(p.steps[len(p.steps)-1].time)
		if at < len(m.steps) {
			return b.follow(m, at, hops)
		}
	}
	return b.finish(hops)
}

func (b *builder) finish(hops []hop) route {
	b.resolve(hops)
	return route{hops, b.judge(hops)}
}

// badness orders the ends of a packet's parts: a part that was dropped says
// more of why the packet did not arrive than one that still waits for it.
var badness = map[Verdict]int{Terminated: 3, Incomplete: 2, InFlight: 1}

// worst joins the parts of a packet to one outcome. A packet that goes on by
// itself behind the last fork is one of its parts.
func (b *builder) worst(p *packet, own route, parts []route, lastFork int) route {
	for i := lastFork; i < len(p.steps); i++ {
		if moves(p.steps[i].station) {
			parts = append(parts, own)
			break
		}
	}
	word := "segments"
	for _, c := range p.children() {
		if c.born == StationFragment {
			word = "fragments"
		}
	}
	worst, arrived := parts[0], 0
	for _, w := range parts {
		if word == "fragments" && w.end.verdict == Delivered {
			// A socket gets only what was joined from all fragments. The
			// others end without a trace where they are joined.
			b.note(fmt.Sprintf("sent as %d fragments", len(parts)))
			return w
		}
		if w.end.verdict == Delivered || w.end.verdict == LeftNode {
			arrived++
		}
		if b, than := badness[w.end.verdict], badness[worst.end.verdict]; b > than || (b == than && w.end.rank < worst.end.rank) {
			worst = w
		}
	}
	note := fmt.Sprintf("sent as %d %s", len(parts), word)
	if arrived < len(parts) {
		note += fmt.Sprintf(", %d of them arrived", arrived)
	}
	b.note(note)
	return worst
}

// note keeps a note, once: a packet may be joined and cut again at each node.
func (b *builder) note(text string) {
	if !slices.Contains(b.notes, text) {
		b.notes = append(b.notes, text)
	}
}

// hops appends the packet's steps from, to (exclusive) to a copy of prefix. The
// result lasts until the next group.
func (b *builder) hops(p *packet, from, to int, prefix []hop) []hop {
	n := len(prefix) + max(to-from, 0)
	if cap(b.room)-len(b.room) < n {
		b.room = make([]hop, 0, max(2*cap(b.room), n)) // slices of the old one keep it
	}
	start := len(b.room)
	b.room = append(b.room, prefix...)
	for i := from; i < to; i++ {
		b.room = append(b.room, hop{step: &p.steps[i], p: p, i: i})
	}
	return b.room[start:len(b.room):len(b.room)]
}

// after is the index of the first step later than time.
func (p *packet) after(time uint64) int {
	i := 0
	for i < len(p.steps) && p.steps[i].time <= time {
		i++
	}
	return i
}

func (p *packet) firstTime() uint64 {
	if len(p.steps) == 0 {
		return 0
	}
	return p.steps[0].time
}

// resolve fills in what a hop takes over from the ones before it.
func (b *builder) resolve(hops []hop) {
	netns := uint32(0)
	var hdr *Header
	for i := range hops {
		h := &hops[i]
		// The freeing of a buffer is no proof that it came to a namespace.
		if h.step.netns != 0 && (h.station != StationEnd || netns == 0) {
			netns = h.step.netns
		}
		// There may be no IP header to read at some moments of a packet's way.
		if is := h.p.toldAt(h.i); is != nil && is.srcBits != 0 {
			// A tunnel's packet is cut at the inner headers, and each part then gets
			// the outer ones again (skb_udp_tunnel_segment).
			if h.station != StationSegment || hdr == nil || !hdr.Outer() {
				hdr = b.open(h.p, is)
			}
		}
		h.netns, h.hdr = netns, hdr
	}
	// The beginning may not have known its namespace yet.
	for i := len(hops) - 2; i >= 0; i-- {
		if hops[i].netns == 0 {
			hops[i].netns = hops[i+1].netns
		}
	}
}

// open makes room for a header that is kept of a packet. It lasts until the next group.
func (b *builder) open(p *packet, h *plainHeader) *Header {
	b.headers = append(b.headers, p.header(h)) // what points into the old slice keeps it
	return &b.headers[len(b.headers)-1]
}

// run is a piece of a way that the tool observes: all of it, or its part on
// the one node that is asked for.
type run struct {
	hops []hop
	lost int    // events missing on it, or on copies of it
	gap  string // where the first of them is missing
	came bool   // it came from where nothing is observed
	went bool   // it went there
	// another: what it begins with was seen as a packet that had been at its
	// address before.
	another bool
	end     *ending // if it is known: of a packet that is seen as a whole
}

// runs splits a way where it leaves and re-enters what is observed, and where it
// is another packet's.
func (b *builder) runs(hops []hop) []run {
	runs := b.pieces[:0]
	reused := b.reused(hops)
	onWay := 0
	for i := range hops {
		onWay += hops[i].gap()
	}
	for i := 0; i < len(hops); {
		if !b.s.observed(hops[i].netns) {
			i++
			continue
		}
		j := i
		another := slices.Contains(reused, i)
		for j < len(hops) && b.s.observed(hops[j].netns) && (j == i || !slices.Contains(reused, j)) {
			j++
		}
		r := run{
			hops: hops[i:j], another: another, came: i > 0 && !another,
			went: j < len(hops) && !slices.Contains(reused, j), lost: max(b.lost-onWay, 0),
		}
		if r.lost > 0 {
			r.gap = "on a copy of it"
		}
		for k := i; k < min(j+1, len(hops)); k++ {
			if n := hops[k].gap(); n > 0 {
				r.lost += n
				r.gap = b.gapWords(hops, k)
				// The first gap is named; the others are counted.
				for k++; k < min(j+1, len(hops)); k++ {
					r.lost += hops[k].gap()
				}
			}
		}
		runs = append(runs, r)
		i = j
	}
	b.pieces = runs
	return runs
}

// endMissed says whether what a way ended with, or one of the parts that the packet was
// cut into, may be among the events that Missed tells of; or, of a way that would not
// have been chosen if another copy had come further, the end of that copy.
func (b *builder) endMissed(r *run, e *ending) bool {
	if b.s.missed == 0 || r.went {
		return false
	}
	p := r.hops[len(r.hops)-1].p
	if b.s.mayGoOn(p) {
		return true
	}
	chosen := e.rank == rankTerminated || e.rank == rankRaw || e.rank == rankAnswered
	for _, q := range p.group.packets {
		part := q.born == StationSegment || q.born == StationFragment
		copied := chosen && q != p && (q.born != StationClone || len(q.steps) > 1) // a tap keeps its copy where it got it
		if (part || copied) && b.s.mayGoOn(q) {
			return true
		}
		// Where one part was seen, nothing at all may be known of another.
		if part && len(q.steps) > 0 && q.steps[0].time <= b.s.missed {
			return true
		}
	}
	return false
}

// mayGoOn says whether events of a packet behind its last one may have been lost.
func (s *Stitcher) mayGoOn(p *packet) bool {
	return !p.ended && len(p.steps) > 0 && p.steps[len(p.steps)-1].time <= s.missed
}

func (b *builder) gapWords(hops []hop, k int) string {
	at := b.s.hookName(hops[k].hook) + " on " + b.s.netnsName(hops[k].netns)
	if k == 0 {
		return "before " + at
	}
	return "between " + b.s.hookName(hops[k-1].hook) + " on " + b.s.netnsName(hops[k-1].netns) + " and " + at
}

// Observes says whether events in a namespace are to be shown: with
// Config.OnlyNode those of that node and its pods.
func (s *Stitcher) Observes(netns uint32) bool { return s.observed(netns) }

// observed says whether events in a namespace are to be shown.
func (s *Stitcher) observed(netns uint32) bool {
	switch {
	case netns == netnsElsewhere:
		return false
	case s.cfg.OnlyNode == "":
		return true
	}
	ns := s.names.Namespace(netns)
	return ns.Node == s.cfg.OnlyNode || (ns.Kind == KindNode && ns.Name == s.cfg.OnlyNode)
}
