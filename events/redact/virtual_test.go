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

func (tabled) Virtual(netns uint32, ip string, port uint16, proto uint8) (events.VirtualFacts, bool) {
	return events.VirtualFacts{Destinations: 3, Idle: 2, Full: 1}, netns == 4026531840 && ip == "8.219.164.113" && port == 80 && proto == protoTCP
}

// TestVirtual: behind a Redactor a virtual service is found by pseudonyms, and its
// counts stay; in a recording it has pseudonyms.
func TestVirtual(t *testing.T) {
	for _, ports := range []bool{false, true} {
		r := New(Key{9})
		r.Ports = ports
		addr := r.Addr(netip.MustParseAddr("8.219.164.113")).String()
		n := r.Names(tabled{captures(t, "6.12-case7.jsonl")["6.12-case7.jsonl"].Names})
		f, ok := events.VirtualOf(n, r.Netns(4026531840), addr, r.Port(80), protoTCP)
		if !ok || f != (events.VirtualFacts{Destinations: 3, Idle: 2, Full: 1}) {
			t.Errorf("ports %v: %+v, %v", ports, f, ok)
		}
		if f, ok := events.VirtualOf(n, r.Netns(4026531840), "x", r.Port(80), protoTCP); ok {
			t.Errorf("no address: %+v", f)
		}
		was := record.VirtualName{Netns: 4026531840, IP: "8.219.164.113", Port: 80, Proto: protoTCP, Destinations: 3, Idle: 2}
		got, ok := r.Name(record.Name{Virtual: &was})
		want := was
		want.Netns, want.IP, want.Port = r.Netns(4026531840), record.Text(addr), r.Port(80)
		if !ok || *got.Virtual != want || was.IP != "8.219.164.113" {
			t.Errorf("ports %v: %+v, want %+v; the original is %+v", ports, got.Virtual, want, was)
		}
		if got, ok := r.Name(record.Name{Virtual: &record.VirtualName{IP: "acme"}}); ok || got.Virtual != nil {
			t.Errorf("without an address: %+v, %v", got, ok)
		}
	}
}
