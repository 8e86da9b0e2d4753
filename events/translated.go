// SPDX-License-Identifier: Apache-2.0

package events

// translated is a connection whose destination was changed on its way.
type translated struct {
	netns  uint32 // where its client is
	client plainEnd
	asked  plainEnd // whom the client sent to
	real   plainEnd // who got it; as asked: nobody else, as far as is known
}

// translations remembers them by flow.
type translations struct{ flows recent[uint64, translated] }

func (t *translations) init(n int) { t.flows.init(n) }

// see takes in a header of a packet, which its record has already.
func (t *translations) see(p *packet) {
	first, h := p.firstTold(), p.told()
	if p.flow == 0 || p.reply || first == nil {
		return
	}
	if first.proto != h.proto || !h.hasPorts() {
		return
	}
	changed := first.to() != h.to()
	if known := t.flows.get(p.flow); known == nil && !changed {
		return
	}
	now := translated{p.steps[0].netns, first.from(), first.to(), h.to()}
	known, _ := t.flows.put(p.flow)
	switch {
	case changed:
		*known = now
	case p.steps[0].seq == 0 && now.netns == known.netns && now.client == known.client && now.asked == known.real && p.cause == 0:
		// The client talks to the server directly, too: nothing is missing then. (A copy
		// that is kept while a neighbour is asked for begins behind the translation.)
		*known = translated{}
	}
}

// untranslatedNote says of a packet that came to a client from somebody whom it
// had not sent to, and of the RST with which it answers that.
func (b *builder) untranslatedNote(r *run) string {
	last := &r.hops[len(r.hops)-1]
	t := b.s.translations.flows.get(last.p.flow)
	first := firstHeader(r.hops)
	if t == nil || t.asked == t.real || first == nil || last.hdr == nil || !hasPorts(first) || !hasPorts(last.hdr) {
		return ""
	}
	src, dst := plainEndOf(last.hdr.Src, last.hdr.SrcPort), plainEndOf(last.hdr.Dst, last.hdr.DstPort)
	if src == t.real && dst == t.client && cameToSocket(r.hops, t.netns) {
		return "reply not translated back: it comes from " + src.String() + ", but the client had sent to " + t.asked.String()
	}
	src, dst = plainEndOf(first.Src, first.SrcPort), plainEndOf(first.Dst, first.DstPort)
	if src == t.client && dst == t.real && r.hops[0].netns == t.netns && r.hops[0].p.cause != 0 {
		return "reply not translated back: this refuses what came from " + dst.String() + ", as the client had sent to " + t.asked.String()
	}
	return ""
}

// cameToSocket says whether a packet came as far as the transport layer of a
// namespace, which looks for its socket by what its addresses are there.
func cameToSocket(hops []hop, netns uint32) bool {
	for i := len(hops) - 1; i >= 0 && hops[i].netns == netns; i-- {
		if st := hops[i].station; st == StationTransportIn || deliveryStation[st] {
			return true
		}
	}
	return false
}
