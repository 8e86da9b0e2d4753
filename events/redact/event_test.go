// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// TestEventNumbers: packet numbers lose the bits of the kernel's address, and go
// on meaning the same wherever they stand.
func TestEventNumbers(t *testing.T) {
	r := New(Key{1})
	const cpu, count, skb = 3 << 56, 77 << 28, 0x1234567
	e := events.Event{Packet: cpu | count | skb, Other: cpu | count | skb, Flow: cpu | (count + 1<<28) | skb}
	r.Event(&e)
	if e.Packet == cpu|count|skb || e.Packet>>28 != (cpu|count)>>28 || e.Other != e.Packet {
		t.Errorf("packet %#x, other %#x", e.Packet, e.Other)
	}
	if e.Flow&0xfffffff != e.Packet&0xfffffff {
		t.Errorf("flow %#x of packet %#x: one address became two", e.Flow, e.Packet)
	}
	seen := map[uint64]bool{}
	for i := range uint64(1000) {
		seen[r.PacketID(i)] = true
	}
	if len(seen) != 1000 {
		t.Errorf("1000 packets became %d", len(seen))
	}
}

func TestEventLink(t *testing.T) {
	r := New(Key{1})
	was := events.Link{Dst: [6]byte{2, 1}, Src: [6]byte{2, 2}, Proto: 0x0800, VLAN: 0x1005, TTL: 63, Hash: 99}
	e := events.Event{Link: was}
	r.Event(&e)
	if e.Link.Dst == was.Dst || e.Link.Src == was.Src || e.Link.Hash == was.Hash || e.Link.Hash == 0 {
		t.Errorf("%+v became %+v", was, e.Link)
	}
	e.Link.Dst, e.Link.Src, e.Link.Hash = was.Dst, was.Src, was.Hash
	if e.Link != was {
		t.Errorf("%+v became %+v", was, e.Link)
	}
	elsewhere := events.Event{Hook: events.Elsewhere, Packet: 1 << 28, Seq: 3}
	e = elsewhere
	if r.Event(&e); !reflect.DeepEqual(e, elsewhere) {
		t.Errorf("an event elsewhere became %+v", e)
	}
}

// TestEventWithoutParts: what an earlier event left in parts that this one does
// not carry is cleared.
func TestEventWithoutParts(t *testing.T) {
	a := netip.MustParseAddr("172.23.96.23")
	tuple := events.Tuple{Src: a, Dst: a, SrcPort: 1, DstPort: 2, Proto: protoTCP}
	full := func(ext events.Ext) events.Event {
		return events.Event{
			Ext: ext, Header: events.Header{Tuple: tuple, Inner: tuple}, CT: events.Conntrack{Original: tuple, Reply: tuple},
			Bytes: packetOf(&events.Header{Tuple: tuple}),
		}
	}
	r := New(Key{1})
	none, header, ct := full(events.ExtNone), full(events.ExtHeader), full(events.ExtConntrack)
	for _, e := range []*events.Event{&none, &header, &ct} {
		r.Event(e)
	}
	if !reflect.DeepEqual(none, events.Event{}) {
		t.Errorf("left: %+v", none)
	}
	if header.CT != (events.Conntrack{}) || header.Header.Inner != (events.Tuple{}) || len(header.Bytes) != 40 {
		t.Errorf("left with a header: %+v", header)
	}
	if ct.Header != (events.Header{}) || ct.Bytes != nil || ct.CT.Reply != r.Tuple(tuple) {
		t.Errorf("left with conntrack: %+v", ct)
	}
}
