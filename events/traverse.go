// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"strconv"
)

const nfprotoBridge = 7

// Directions of a traversal within its flow.
const (
	directionRequest = "request"
	directionReply   = "reply"
)

// traversal gives out one run of a root packet as a traversal.
func (b *builder) traversal(root *packet, r run, index int, evicted bool) {
	e := b.outcome(&r)
	id := b.s.traversalID(root.id, root.steps[0].time)
	if index > 0 {
		id = mix(id + uint64(index)) //nolint:gosec // a small count
	}
	b.spare = b.s.spare()
	t := b.spare.t
	*t = Traversal{
		Visits: t.Visits, Time: b.s.cfg.Wall(r.hops[0].time), ID: hexID(id), Direction: directionRequest,
		Verdict: e.verdict, Where: e.where, Reason: e.reason, KernelReason: e.kernelReason, Location: e.location,
		Causes: []string{}, NAT: []NAT{}, Lost: r.lost,
	}
	t.Visits = b.visits(&r, &e)
	for i := range t.Visits {
		t.Stacks += t.Visits[i].Stacks
		if !t.Visits[i].Bridged {
			t.L3Stacks += t.Visits[i].Stacks
		}
	}
	t.DataLink = dataLink(t.Visits)
	hairpin := b.translations(t, &r)
	b.describe(t, &r, &e)
	b.causes(t, root, &r, index)
	b.flowNotes(t, &r, &e, index)
	b.conclude(t, &r, &e, evicted)
	t.Node = b.node(t.Visits)
	b.service(t, &r)
	if w := b.wrongServerNote(t, &r); w != "" {
		t.Notes = append(t.Notes, w)
	}
	if b.s.cfg.Wires {
		b.wires(t, &r, &e)
	}
	b.s.count(t)
	b.s.links.put(t)
	if hairpin != nil && e.ask == nil {
		e.ask = hairpin
	}
	b.s.holdBack(held{t: t, start: r.hops[0].time, until: root.group.last + b.s.hold, after: b.effect, ask: e.ask, hooks: b.spare.hooks})
}

// outcome judges a run by itself.
func (b *builder) outcome(r *run) ending {
	if r.end != nil {
		return *r.end
	}
	if r.went {
		for i := len(r.hops) - 1; i >= 0; i-- {
			if h := &r.hops[i]; egress(h.station) {
				return b.leftBy(i, h)
			}
		}
		last := len(r.hops) - 1
		return b.leftBy(last, &r.hops[last])
	}
	return b.judge(r.hops)
}

// translations puts NAT into the traversal and its visits. It returns the question
// which rule let a pod reach itself; nil: there is none.
func (b *builder) translations(t *Traversal, r *run) (ask *ruleAsk) {
	nats, at, notes := b.changes(r.hops)
	t.Notes = append(t.Notes, notes...)
	for i, st := range b.stays { // of visits, for the same run
		for k := range nats {
			if at[k] >= st.lo && at[k] < st.hi {
				t.Visits[i].NAT = append(t.Visits[i].NAT, nats[k])
			}
		}
	}
	t.NAT = append(t.NAT, nats...)
	for k := range nats {
		if a := b.hairpinAsk(r.hops, at[k], &nats[k]); a != nil {
			ask = a
		}
	}
	if (t.Verdict == Delivered || t.Verdict == LeftNode) && !r.hops[0].p.reply {
		if note := clientNote(r.hops, nats); note != "" {
			t.Notes = append(t.Notes, note)
		}
	}
	return ask
}

// flowNotes notes what is to be said of a packet by others of its connection.
func (b *builder) flowNotes(t *Traversal, r *run, e *ending, index int) {
	if t.Visits[0].Entered == ViaSocket && index == 0 && !r.came {
		if note := b.s.segments.again(r, e); note != "" {
			t.Notes = append(t.Notes, note)
		}
	}
	if note := b.untranslatedNote(r); note != "" {
		t.Notes = append(t.Notes, note)
	}
}

// describe fills in what the packet was, and whose.
func (b *builder) describe(t *Traversal, r *run, e *ending) {
	flow := uint64(0)
	for i := range r.hops {
		h := &r.hops[i]
		if h.p.flow != 0 {
			flow = h.p.flow
		}
		if h.p.reply {
			t.Direction = directionReply
		}
		// The connection of two nodes that carries others is not the packet's.
		if ct := h.entry(); ct != nil && ct.Info&CTOther == 0 && (h.hdr == nil || !h.hdr.Outer()) {
			t.Conntrack = conntrackSummary(ct)
		}
	}
	h := firstHeader(r.hops)
	if h == nil {
		t.Flow = hexID(flow)
		return
	}
	if flow == 0 {
		flow = flowID(h)
	}
	t.Flow = hexID(flow)
	t.take(h)
	b.name(&t.Src)
	b.name(&t.Dst)
	first := &r.hops[0]
	if t.Visits[0].Entered == ViaSocket {
		if ns := b.s.names.Namespace(first.netns); t.Src.Pod == "" && ns.Kind == KindPod {
			t.Src.Pod = ns.Pod
		}
		if p, ok := b.sender(first); ok {
			t.Src.Process, t.Src.PID = p.comm, p.pid
			b.hostPod(&t.Src, first.netns)
		}
	}
	if e.verdict == Delivered || deliveryStation[r.hops[e.at].station] {
		if p, ok := b.receiver(r.hops, e.at); ok {
			t.Dst.Process, t.Dst.PID = p.comm, p.pid
			b.hostPod(&t.Dst, r.hops[e.at].netns)
		}
	}
}

// take fills in what a header says.
func (t *Traversal) take(h *Header) {
	t.Proto, t.Length = ProtoName(h.Proto), h.Length
	t.Src, t.Dst = Endpoint{IP: h.Src.String()}, Endpoint{IP: h.Dst.String()}
	if hasPorts(h) {
		t.Src.Port, t.Dst.Port = h.SrcPort, h.DstPort
	}
	switch h.Proto {
	case protoTCP:
		t.TCPFlags = flagWords(h.TCPFlags)
	case protoICMP, protoICMPv6:
		t.ICMP = icmpPair(h.ICMPType, h.ICMPCode)
		if isICMPError(h) {
			t.Direction = directionReply
		}
	}
}

func (b *builder) name(e *Endpoint) {
	n := b.s.names.Address(e.IP, e.Port)
	e.Pod, e.Service, e.Node = n.Pod, n.Service, n.Node
	e.Stale = n.Stale && e.named()
}

// named says whether an address is called anything.
func (e *Endpoint) named() bool { return e.Pod+e.Service+e.Node != "" }

// hostPod fills in the pod of an end whose socket is in its node's own
// namespace, by its process.
func (b *builder) hostPod(e *Endpoint, netns uint32) {
	if e.Pod == "" && b.s.names.Namespace(netns).Kind == KindNode {
		e.Pod = PodOfProcess(b.s.names, e.PID)
	}
}

// sender is the process that sent what begins with a hop.
func (b *builder) sender(h *hop) (process, bool) {
	if p, ok := b.socketProcess(h); ok {
		return p, true
	}
	// A packet that answers another one without a socket is nobody's.
	if h.hdr == nil || h.p.cause != 0 {
		return process{}, false
	}
	s, ok := b.s.flows.process(h.netns, plainTupleOf(&h.hdr.Tuple))
	return process{commWords(s.Comm), s.PID}, ok
}

// receiver is the process that an arrival is for. An ICMP error is for the
// sender of the packet that it complains of.
func (b *builder) receiver(hops []hop, at int) (process, bool) {
	h := &hops[at]
	if h.station == StationTimeWait {
		return process{}, false
	}
	if h.station == StationSocketIn || h.station == StationBacklog || h.station == StationRawIn {
		if p, ok := b.socketProcess(h); ok {
			return p, true
		}
	}
	if h.hdr == nil {
		return process{}, false
	}
	tuple := h.hdr.Tuple.Reverse()
	if h.hdr.HasInner && !h.hdr.Outer() {
		tuple = h.hdr.Inner
	}
	s, ok := b.s.flows.process(h.netns, plainTupleOf(&tuple))
	return process{commWords(s.Comm), s.PID}, ok
}

// socketProcess is the process that owns the socket of an event.
func (b *builder) socketProcess(h *hop) (process, bool) {
	if h.aux < 0 || !socketStation(h.station) {
		return process{}, false
	}
	s := &h.p.sockets[h.aux]
	if h.flags&FlagTask != 0 && s.PID != 0 {
		return process{commWords(s.Comm), s.PID}, true
	}
	if s.Inode != 0 {
		if comm, pid, ok := b.s.names.Process(s.Inode); ok {
			return process{comm, pid}, true
		}
	}
	return process{}, false
}

// causes links the traversal with what caused it and what it caused.
func (b *builder) causes(t *Traversal, root *packet, r *run, index int) {
	if root.cause != 0 && index == 0 {
		if c := b.s.open[root.cause]; c != nil && len(c.steps) > 0 {
			top := c.top()
			t.CausedBy = hexID(b.s.traversalID(top.id, top.steps[0].time))
			t.CausedByText = openText(top)
		} else if id := b.s.done.id(root.cause); id != 0 {
			t.CausedBy = hexID(id)
		}
	}
	b.effect = 0
	var last *packet
	for i := range r.hops {
		p := r.hops[i].p
		if p == last {
			continue
		}
		last = p
		for _, e := range p.effects() {
			if e.time >= r.hops[0].time && (!r.went || e.time <= r.hops[len(r.hops)-1].time) {
				if b.s.open[b.effect] == nil { // an effect that has ended is not waited for
					b.effect = e.packet
				}
				t.Causes = append(t.Causes, hexID(e.id))
				t.CausesText = append(t.CausesText, openText(b.s.open[e.packet]))
			}
		}
	}
}

// conclude decides whether the evidence holds, and writes the summary.
func (b *builder) conclude(t *Traversal, r *run, e *ending, evicted bool) {
	t.Notes = append(t.Notes, b.notes...)
	if w := b.waitNote(r); w != "" {
		t.Notes = append(t.Notes, w)
	}
	if w := b.evictionNote(r.hops, e); w != "" {
		t.Notes = append(t.Notes, w)
	}
	if e.note != "" {
		t.Notes = append(t.Notes, e.note)
	}
	missing := ""
	switch begin := b.beginning(r); {
	case r.lost > 0:
		missing = count(r.lost, "event", "events") + " lost " + r.gap
	case begin != "":
		missing = begin
	case firstHeader(r.hops) == nil:
		missing = "its addresses were not seen"
	case b.cut:
		missing = "it has more copies or events than are followed"
	case evicted:
		missing = "given out early, as too many packets were open"
	case b.endMissed(r, e):
		missing = "events were lost, of this packet perhaps the last"
	}
	words := e.say
	if e.verdict == Terminated {
		words = endingWords(e.verdict, e.where, e.say)
	}
	switch {
	case missing != "":
		t.Verdict = Incomplete
		t.Summary = incompletePrefix + missing + lastSeparator + words
	case e.verdict == Incomplete:
		t.Summary = incompletePrefix + words
	case e.verdict == InFlight:
		t.Summary = b.stacks(t) + soFar + "in flight: " + words
	default:
		t.Summary = b.stacks(t) + ", " + words
		t.Complete = true
	}
	if !b.s.cfg.HasFunctions {
		t.NotObserved = []string{"ip", "netfilter", "conntrack", "ipvs", "sockets"}
	}
	for i := range t.Visits {
		if t.Visits[i].Entered == ViaUnknown || t.Visits[i].Left == ViaUnknown {
			t.Complete = false
		}
	}
}

// stacks is the count in words. Without the functions of the kernel only the
// crossings of devices are proven.
func (b *builder) stacks(t *Traversal) string {
	return countWords(t.Stacks, b.s.cfg.HasFunctions)
}

func countWords(stacks float64, functions bool) string {
	switch {
	case functions:
		return stackWords(stacks)
	case stacks == 0:
		return "no count of stacks"
	}
	return "at least " + stackWords(stacks)
}

// node is the name of the node that a traversal is about.
func (b *builder) node(visits []Visit) string {
	if b.s.cfg.OnlyNode != "" {
		return b.s.cfg.OnlyNode
	}
	for i := range visits {
		if v := &visits[i]; v.Kind != KindNetwork && v.Node != "" {
			return v.Node
		}
	}
	return b.s.cfg.Node
}

// count adds a traversal to the statistics.
func (s *Stitcher) count(t *Traversal) {
	s.stats.Traversals++
	s.stats.Lost += uint64(max(t.Lost, 0)) //nolint:gosec // not negative
	switch t.Verdict {
	case Delivered:
		s.stats.Delivered++
	case LeftNode:
		s.stats.LeftNode++
	case Terminated:
		s.stats.Terminated++
	case InFlight:
		s.stats.InFlight++
	case Incomplete:
		s.stats.Incomplete++
	}
}

// ctStates are the words for enum ip_conntrack_info.
var ctStates = [...]string{"established", "related", "new", "established+reply", "related+reply"}

func conntrackSummary(c *Conntrack) *CTSummary {
	var state string
	if int(c.Info) < len(ctStates) {
		state = ctStates[c.Info]
	} else {
		state = "info " + strconv.Itoa(int(c.Info))
	}
	ports := func(t Tuple) bool { return t.Proto == protoTCP || t.Proto == protoUDP || t.Proto == protoSCTP }
	return &CTSummary{
		Original: tupleWords(c.Original, ports(c.Original)),
		Reply:    tupleWords(c.Reply, ports(c.Reply)),
		State:    state,
	}
}

func icmpPair(typ, code uint8) string { return fmt.Sprintf("%d/%d", typ, code) }

func hexID(id uint64) string {
	var b [16]byte
	for i := range b {
		b[i] = "0123456789abcdef"[id>>(60-4*i)&0xf]
	}
	return string(b[:])
}
