// SPDX-License-Identifier: Apache-2.0

package events

// netnsElsewhere stands for all namespaces that a recording leaves out.
const netnsElsewhere = ^uint32(0)

// elsewhere fills in what the model needs of an event of which only Packet and
// Seq were recorded. Its time is the one heard of last: events are recorded in
// the order in which they came.
func (s *Stitcher) elsewhere(e *Event) *Event {
	s.away = Event{Time: s.now, Packet: e.Packet, Seq: e.Seq, Flags: e.Flags & FlagEnd, Netns: netnsElsewhere}
	return &s.away
}

// wires says how a traversal came to the node and left it, and which buffers
// it was in.
func (b *builder) wires(t *Traversal, r *run, e *ending) {
	if v := &t.Visits[0]; v.Entered == ViaDevice && v.Kind != KindNetwork && b.beginning(r) == "" {
		t.In = b.wireIn(r.hops)
	}
	if e.verdict == LeftNode {
		t.Out = b.wireOut(r.hops, e.at)
	}
	for i := range r.hops {
		if id := r.hops[i].p.id; i == 0 || id != r.hops[i-1].p.id {
			t.Packets = append(t.Packets, id)
		}
	}
}

// wireIn is a packet as it came in by the device of its first hop: before
// netfilter or a tunnel could change it.
func (b *builder) wireIn(hops []hop) *WireEnd {
	first := &hops[0]
	w := &WireEnd{Time: first.time, Device: b.s.deviceName(first.netns, first.ifindex)}
	ttl, found := uint8(0), false
	for i := range hops {
		h := &hops[i]
		if h.netns != first.netns || h.ifindex != first.ifindex || (h.station != StationReceive && h.station != StationTCIngress && h.station != StationIPIn) {
			break
		}
		if h.station != StationIPIn && ttl == 0 {
			ttl = h.a
		}
		if h.station == StationTCIngress {
			w.Hash = h.val
		}
		if h.hdr != nil && !found {
			w.Header, found = *h.hdr, true
		}
	}
	if !found {
		return nil
	}
	if ttl != 0 {
		w.Header.TTL = ttl
	}
	return w
}

// wireOut is a packet as the hop at handed it to the wire.
func (b *builder) wireOut(hops []hop, at int) *WireEnd {
	h := &hops[at]
	if h.hdr == nil {
		return nil
	}
	w := &WireEnd{Time: h.time, Device: b.s.deviceName(h.netns, h.ifindex), Header: *h.hdr}
	ttl := uint8(0)
back:
	for i := at; i >= 0 && hops[i].netns == h.netns && hops[i].ifindex == h.ifindex && w.Hash == 0; i-- {
		switch hops[i].station {
		case StationTCEgress:
			w.Hash = hops[i].val
			ttl = hops[i].a
		case StationTransmit:
			ttl = max(ttl, hops[i].a)
		case StationReceive, StationTCIngress:
			break back // a U-turn: what lies before it came in by the device
		}
	}
	// The segments of a packet go one by one, but all are this packet.
	if i := at; h.p.born == StationSegment {
		for i > 0 && hops[i].p == h.p {
			i--
		}
		if whole := hops[i].hdr; whole != nil && whole.Tuple == h.hdr.Tuple && whole.GSOSize != 0 {
			w.Header = *whole
		}
	}
	if ttl != 0 {
		w.Header.TTL = ttl
	}
	return w
}
