// SPDX-License-Identifier: Apache-2.0

package events

// upStation says at which stations a packet has gone up, to a socket of its
// namespace. What comes down from there is another packet.
var upStation = [256]bool{
	StationLocalDeliver: true, StationTransportIn: true, StationSocketIn: true, StationTimeWait: true, StationBacklog: true,
	StationRawIn: true, StationPingIn: true, StationICMPIn: true, StationErrorIn: true,
}

// turnStation says where a packet that has gone up may go on all the same: IPVS
// sends it out from there, and a tunnel's socket gives what it unwrapped to a
// device.
var turnStation = [256]bool{
	StationIPVSIn: true, StationIPVSSchedule: true, StationIPVSConn: true, StationIPVSXmit: true, StationIPVSOut: true,
	StationReceive: true, StationTCIngress: true, StationIPIn: true,
}

// downStation says what comes from a socket, or is on its way out.
var downStation = [256]bool{
	StationSocketOut: true, StationIPOut: true, StationNeighbour: true, StationBridgeOut: true,
	StationQueue: true, StationTCEgress: true, StationTransmit: true, StationVeth: true,
}

// reused says at which hops another packet begins in the life of one. The
// kernel leaves a hook's program out while the same program is interrupted on
// that CPU. If that happens both where a packet is freed and where the next one
// at its address is made, the two have one life; what they do tells them apart.
func (b *builder) reused(hops []hop) (at []int) {
	up, moved := false, false
	for i := range hops {
		h := &hops[i]
		if h.netns == netnsElsewhere {
			up, moved = false, false // nobody looked
		}
		switch {
		case moved && b.fromWire(h), up && downStation[h.station]:
			at = append(at, i)
			up, moved = false, false
		case turnStation[h.station]:
			up = false
		case upStation[h.station]:
			up = true
		}
		moved = moved || (moves(h.station) && h.station != StationReceive && h.station != StationTCIngress)
	}
	return at
}

// fromWire says whether a hop takes from a driver what was on no other device
// before: hardware's drivers, and TUN's, make a new buffer for each packet.
func (b *builder) fromWire(h *hop) bool {
	if h.station != StationReceive {
		return false
	}
	d, ok := b.device(h.netns, h.ifindex)
	return ok && d.Name != "lo" && (d.Kind == "" || d.Kind == "tun")
}
