// SPDX-License-Identifier: Apache-2.0

package record

import "github.com/stackhop/stackhop/events"

// VirtualName is an events.VirtualFacts.
type VirtualName struct {
	Netns uint32 `json:"netns"`
	IP    Text   `json:"ip"`
	Port  uint16 `json:"port"`
	Proto uint8  `json:"proto"` // IPPROTO_*
	// Gone says that nothing is known of it any longer.
	Gone         bool   `json:"gone,omitempty"`
	Destinations uint16 `json:"destinations,omitempty"`
	Idle         uint16 `json:"idle,omitempty"`
	Full         uint16 `json:"full,omitempty"`
}

// virtualKey is what is asked about a virtual service.
type virtualKey struct {
	netns uint32
	ip    string
	port  uint16
	proto uint8
}

var (
	_ events.VirtualNames = (*book)(nil)
	_ events.VirtualNames = (*NamesRecorder)(nil)
)

func (v *VirtualName) facts() events.VirtualFacts {
	return events.VirtualFacts{Destinations: int(v.Destinations), Idle: int(v.Idle), Full: int(v.Full)}
}

func (b *book) putVirtual(v *VirtualName) {
	key := virtualKey{v.Netns, string(v.IP), v.Port, v.Proto}
	b.virtuals[key] = v.facts()
	if v.Gone {
		delete(b.virtuals, key)
	}
}

func (b *book) Virtual(netns uint32, ip string, port uint16, proto uint8) (events.VirtualFacts, bool) {
	f, ok := b.virtuals[virtualKey{netns, ip, port, proto}]
	return f, ok
}

// Virtual implements events.VirtualNames, for names that do not, too.
func (r *NamesRecorder) Virtual(netns uint32, ip string, port uint16, proto uint8) (events.VirtualFacts, bool) {
	if r.w.err != nil {
		return events.VirtualOf(r.inner, netns, ip, port, proto)
	}
	if r.first(question{of: askVirtual, n: uint64(netns), m: uint64(port)<<8 | uint64(proto), ip: ip}) {
		n := VirtualName{Netns: netns, IP: Text(ip), Port: port, Proto: proto, Gone: true}
		if f, ok := events.VirtualOf(r.inner, netns, ip, port, proto); ok {
			n.Gone, n.Destinations, n.Idle, n.Full = false, counted(f.Destinations), counted(f.Idle), counted(f.Full)
		}
		if was, known := r.book.Virtual(netns, ip, port, proto); known == n.Gone || was != n.facts() {
			r.say(Name{Virtual: &n})
		}
	}
	return r.book.Virtual(netns, ip, port, proto)
}
