// SPDX-License-Identifier: Apache-2.0

package pcapng

// maxOpen bounds the packets whose headers are remembered at once. The oldest
// is forgotten, and what is seen of it later counted in Stats.NoHeaders.
const maxOpen = 1 << 16

// view is what a source's packets are like at the moment.
type view struct {
	open map[uint64]*told
	age  []uint64 // the packets in open and some that have ended, as a ring
	next int
}

func newView() *view { return &view{open: map[uint64]*told{}} }

// see takes in what an event tells, and returns the packet's headers as they
// are now; nil: not known.
func (v *view) see(x *sight) *told {
	t := v.open[x.packet]
	if x.told != nil {
		if t == nil {
			v.remember(x.packet)
		}
		t = x.told
		if from := v.open[x.parent]; x.parent != 0 && len(t.bytes) == 0 && from != nil && sameBytes(from, t) {
			t = &told{t.header, from.bytes, from.made}
		}
		v.open[x.packet] = t
	}
	if x.ends {
		delete(v.open, x.packet)
	}
	return t
}

// sameBytes says whether a copy of a packet still has the packet's headers.
func sameBytes(from, t *told) bool {
	a, b := &from.header, &t.header
	return a.Tuple == b.Tuple && a.Length == b.Length && a.IPID == b.IPID && a.Seq == b.Seq && a.Ack == b.Ack && a.TCPFlags == b.TCPFlags
}

func (v *view) remember(packet uint64) {
	if len(v.age) < maxOpen {
		v.age = append(v.age, packet)
		return
	}
	delete(v.open, v.age[v.next])
	v.age[v.next] = packet
	v.next = (v.next + 1) % maxOpen
}
