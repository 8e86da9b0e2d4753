// SPDX-License-Identifier: Apache-2.0

package events

import "net/netip"

// translated is a connection whose destination was changed on its way.
type translated struct {
	netns  uint32 // where its client is
	client netip.AddrPort
	asked  netip.AddrPort // whom the client sent to
	real   netip.AddrPort // who got it
}

// translations remembers them by flow.
type translations struct {
	flows map[uint64]translated
	age   ageRing[uint64]
}

func (t *translations) init(n int) {
	t.flows = make(map[uint64]translated)
	t.age.limit = n
}

// see takes in a header of a packet, which its record has already.
func (t *translations) see(p *packet) {
	if p.flow == 0 || p.reply {
		return
	}
	first, h := &p.headers[0], p.header()
	if first.Proto != h.Proto || !hasPorts(h) {
		return
	}
	now := translated{
		p.steps[0].netns, netip.AddrPortFrom(first.Src, first.SrcPort),
		netip.AddrPortFrom(first.Dst, first.DstPort), netip.AddrPortFrom(h.Dst, h.DstPort),
	}
	known, ok := t.flows[p.flow]
	switch {
	case now.asked != now.real:
		if !ok {
			if old, full := t.age.add(p.flow); full {
				delete(t.flows, old)
			}
		}
		t.flows[p.flow] = now
	case ok && now.client == known.client && now.asked == known.real && p.cause == 0:
		// The client talks to the server directly, too: nothing is missing then.
		delete(t.flows, p.flow)
	}
}

// untranslatedNote says of a packet that came to a client from somebody whom it
// had not sent to, and of the RST with which it answers that.
func (b *builder) untranslatedNote(r *run) string {
	last := &r.hops[len(r.hops)-1]
	t, ok := b.s.translations.flows[last.p.flow]
	first := firstHeader(r.hops)
	if !ok || first == nil || last.hdr == nil || !hasPorts(first) || !hasPorts(last.hdr) {
		return ""
	}
	src, dst := netip.AddrPortFrom(last.hdr.Src, last.hdr.SrcPort), netip.AddrPortFrom(last.hdr.Dst, last.hdr.DstPort)
	if src == t.real && dst == t.client && cameToSocket(r.hops, t.netns) {
		return "reply not translated back: it comes from " + src.String() + ", but the client had sent to " + t.asked.String()
	}
	src, dst = netip.AddrPortFrom(first.Src, first.SrcPort), netip.AddrPortFrom(first.Dst, first.DstPort)
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
