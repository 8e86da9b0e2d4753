// SPDX-License-Identifier: Apache-2.0

package events

import "slices"

// joined says whether the end of a packet was only that of its own buffer: its
// data lives on in another one.
func (b *builder) joined(hops []hop) bool {
	last := &hops[len(hops)-1]
	switch last.station {
	case StationEnd:
		return lastStation(hops) == StationBacklog && b.s.hookName(last.hook) == "kfree_skb_partial"
	case StationDrop:
		site := b.s.names.Symbol(last.location())
		return b.s.dropReason(last.val) == "" && (site == "skb_release_data" || (cameIn(hops) && matchAny([]string{"kfree_skb_list*"}, site)))
	}
	return false
}

// endUntold says whether of a packet that arrived only the freeing itself was seen, not the
// hook that tells whether it was taken or dropped. Where a program is interrupted in a
// process the kernel leaves the same one out in between (bpf_prog_inc_misses_counter), of
// tracepoints from 6.1 on. TCP frees without telling what it has taken.
func (b *builder) endUntold(hops []hop, at int) bool {
	last := &hops[len(hops)-1]
	if last.station != StationEnd || last.p != hops[at].p || hops[at].hdr == nil {
		return false
	}
	switch hops[at].hdr.Proto {
	case protoUDP, protoICMP, protoICMPv6:
		return slices.Contains([]string{"__kfree_skb", "kfree_skbmem"}, b.s.hookName(last.hook))
	}
	return false
}

// judgeJoined judges a packet whose data lives on in another buffer: that of an
// earlier segment in the backlog of the same socket, or one that GRO made, of
// which is not known which one it is.
func (b *builder) judgeJoined(hops []hop) ending {
	n := len(hops) - 1
	for i := n; i >= 0; i-- {
		if hops[i].station == StationBacklog {
			return ending{
				verdict: Delivered, rank: rankDelivered, at: i, where: "socket", say: b.arrivalWords(hops, i),
				note: "joined to an earlier segment in the backlog of its socket",
			}
		}
	}
	return ending{
		verdict: Incomplete, rank: rankConsumed, at: n, where: "gro", reason: "merged",
		say: "merged into another packet by GRO, not followed further; last seen " + b.lastSeen(hops),
	}
}

// judgeConsumed judges a packet that was freed without complaint, but was
// neither delivered nor sent away.
func (b *builder) judgeConsumed(hops []hop) ending {
	n := len(hops) - 1
	where := stationWhere[lastStation(hops)]
	if where == "ipvs" && n > 0 && hops[n-1].station == StationICMPSend {
		return ending{
			verdict: Terminated, rank: rankAnswered, at: n, where: "ipvs", reason: "relayed",
			say: "IPVS tells it to the client of its virtual service",
		}
	}
	e := ending{
		verdict: Incomplete, rank: rankConsumed, at: n, where: where, reason: "consumed",
		say: "freed without a drop or a delivery; last seen " + b.lastSeen(hops),
	}
	if h := hops[n].hdr; h != nil && h.Fragment && (e.where == "ip" || e.where == "netfilter") {
		e.reason, e.say = "reassembly", "taken to be joined with the other fragments; last seen "+b.lastSeen(hops)
	}
	if last := lastStation(hops); last == StationTransportIn || last == StationBacklog {
		e.rank = rankAnswered // its socket's hook was left out; copies that were not meant for it are not its way
	}
	if hops[n].station == StationMerge {
		e.where, e.reason = "gro", "merged"
		e.say = "merged into a packet whose way is not known"
	}
	return e
}
