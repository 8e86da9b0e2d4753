// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"net/netip"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// tabled are names that have read IPVS's table of one namespace.
type tabled struct{ events.Names }

func (tabled) Virtual(q *events.VirtualQuery) (events.VirtualFacts, bool) {
	return threeOf, *q == events.VirtualQuery{Time: 77, Netns: 4026531840, Service: netip.MustParseAddrPort("8.219.164.113:80"), Proto: protoTCP}
}

var threeOf = events.VirtualFacts{After: events.VirtualState{At: 99, Destinations: 3, Idle: 2, Full: 1}, Before: events.VirtualState{At: 55, Destinations: 2}}

// TestVirtual: behind a Redactor a virtual service is found by pseudonyms, and its
// counts stay; in a recording it has pseudonyms.
func TestVirtual(t *testing.T) {
	for _, ports := range []bool{false, true} {
		r := New(Key{9})
		r.Ports = ports
		addr := r.Addr(netip.MustParseAddr("8.219.164.113"))
		n := r.Names(tabled{captures(t, "6.12-case7.jsonl")["6.12-case7.jsonl"].Names})
		q := events.VirtualQuery{Time: 77, Netns: r.Netns(4026531840), Service: netip.AddrPortFrom(addr, r.Port(80)), Proto: protoTCP}
		if f, ok := events.VirtualOf(n, &q); !ok || f != threeOf {
			t.Errorf("ports %v: %+v, %v", ports, f, ok)
		}
		q.Service = netip.MustParseAddrPort("8.219.164.113:80")
		if f, ok := events.VirtualOf(n, &q); ok {
			t.Errorf("by its own address: %+v", f)
		}
		was := record.VirtualName{Netns: 4026531840, IP: "8.219.164.113", Port: 80, Proto: protoTCP, Time: 77, VirtualCounts: record.VirtualCounts{Destinations: 3, Idle: 2}}
		got, ok := r.Name(record.Name{Virtual: &was})
		want := was
		want.Netns, want.IP, want.Port = r.Netns(4026531840), record.Text(addr.String()), r.Port(80)
		if !ok || *got.Virtual != want || was.IP != "8.219.164.113" {
			t.Errorf("ports %v: %+v, want %+v; the original is %+v", ports, got.Virtual, want, was)
		}
		if got, ok := r.Name(record.Name{Virtual: &record.VirtualName{IP: "acme"}}); ok || got.Virtual != nil {
			t.Errorf("without an address: %+v, %v", got, ok)
		}
	}
}
