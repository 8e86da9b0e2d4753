// SPDX-License-Identifier: Apache-2.0

package events

import (
	"slices"
	"strconv"
)

// VirtualNames is what Names may also be: they have read IPVS's table.
type VirtualNames interface {
	// Virtual tells what IPVS's table of a namespace says of the real servers of
	// a virtual service, if it was read near that moment. Of packets that found
	// no real server the table is read at once.
	Virtual(netns uint32, ip string, port uint16, proto uint8) (VirtualFacts, bool)
}

// VirtualFacts are the real servers of a virtual service, counted.
type VirtualFacts struct {
	Destinations int // all of them
	Idle         int // whose weight is 0
	Full         int // with a weight, and as many connections as their upper threshold allows
}

// VirtualOf asks names about a virtual service, see VirtualNames; names that
// know of none say no.
func VirtualOf(n Names, netns uint32, ip string, port uint16, proto uint8) (VirtualFacts, bool) {
	if v, ok := n.(VirtualNames); ok {
		return v.Virtual(netns, ip, port, proto)
	}
	return VirtualFacts{}, false
}

// reasonNoDestination is the reason of packets for which IPVS had no real server.
const reasonNoDestination = "no-destination"

// virtual says why IPVS had no real server for a packet, where its table tells.
func (b *builder) virtual(e *ending, h *hop) {
	if e.reason != reasonNoDestination || h.hdr == nil || !hasPorts(h.hdr) {
		return
	}
	f, ok := VirtualOf(b.s.names, h.netns, h.hdr.Dst.String(), h.hdr.DstPort, h.hdr.Proto)
	if !ok || f.Destinations <= 0 || f.Idle+f.Full < f.Destinations {
		return
	}
	to := dstWords(h.hdr)
	if f.Idle == f.Destinations {
		e.reason = "all-weights-zero"
		e.say = allOf(f.Destinations, "the only destination of "+to+" has", "destinations of "+to+" have") + " weight 0: IPVS begins no new connections to it"
		return
	}
	e.reason = "overload"
	e.say = allOf(f.Destinations, "the only destination of "+to+" has", "destinations of "+to+" have") + " as many connections as the upper threshold allows"
	if f.Idle > 0 {
		e.say += ", or weight 0 (" + strconv.Itoa(f.Idle) + ")"
	}
}

// allOf speaks of one or of all of several.
func allOf(n int, one, several string) string {
	if n == 1 {
		return one
	}
	return "all " + strconv.Itoa(n) + " " + several
}

// wrongServerNote says that a process of a node took what was sent to the address
// of a service. IPVS was asked, and let it go: it has no virtual service there.
// (Without IPVS it may be meant so, as of a DNS cache on the node.) Of a connection
// it is said once.
func (b *builder) wrongServerNote(t *Traversal, r *run) string {
	h := firstHeader(r.hops)
	if t.Verdict != Delivered || t.Where != "socket" || t.Direction != directionRequest || t.Dst.Service == "" || len(t.NAT) > 0 ||
		h == nil || !hasPorts(h) || h.Proto == protoTCP && h.TCPFlags&(tcpSYN|tcpACK) != tcpSYN {
		return ""
	}
	last := &t.Visits[len(t.Visits)-1]
	if last.Kind != KindNode || last.Left != ViaSocket || !asked(r.hops) {
		return ""
	}
	by := "a process of " + orWords(last.Name, "the node")
	if t.Dst.Process != "" {
		by = t.Dst.Process + " " + strconv.FormatUint(uint64(t.Dst.PID), 10) + " of " + orWords(last.Name, "the node")
	}
	return "wrong server: " + by + " took it; IPVS has no virtual service " + dstWords(h) + " here, an address of " + t.Dst.Service
}

// asked says whether IPVS was asked about a packet where it ended.
func asked(hops []hop) bool {
	here := hops[len(hops)-1].netns
	return slices.ContainsFunc(hops, func(h hop) bool { return h.station == StationIPVSIn && h.netns == here })
}
