// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"slices"
	"strings"
)

// ending is how one way of a packet ended.
type ending struct {
	verdict       Verdict
	rank          int
	at            int // index of the hop that decided it
	where, reason string
	kernelReason  string
	location      string
	say           string // the rest of the summary
	note          string
	proof         []int    // indices of the hops that it rests on, beside at
	ask           question // nil: nothing is to be asked
}

// Ranks of endings, best last: the way to tell the main copy of a packet.
const (
	rankConsumed   = iota // freed without a trace of where it went
	rankOtherHost         // a flooded copy that was not meant for its receiver
	rankOpen              // in flight
	rankRaw               // a copy that went to a raw socket
	rankTerminated        // ended on its way
	rankAnswered          // ended with evidence of its own: a socket, IPVS or ICMP
	rankLeft
	rankDelivered
)

// deliveryStation says which stations mean that the packet arrived.
var deliveryStation = [256]bool{
	StationSocketIn: true, StationTimeWait: true, StationErrorIn: true, StationICMPIn: true,
	StationRawIn: true, StationPingIn: true,
}

// movingStation says at which stations a packet is on its way.
var movingStation = [256]bool{
	StationSocketOut: true, StationIPOut: true, StationFragmenting: true, StationNeighbour: true,
	StationTCEgress: true, StationQueue: true, StationTransmit: true, StationVeth: true,
	StationReceive: true, StationTCIngress: true,
	StationBridgeIn: true, StationBridgeForward: true, StationBridgeFlood: true, StationBridgeUp: true, StationBridgeOut: true,
	StationIPIn: true, StationForward: true,
}

func moves(s Station) bool { return movingStation[s] }

// quietStation says which stations are not a function that can drop a packet.
var quietStation = [256]bool{
	StationConntrackFull: true, StationConntrackClash: true,
	StationDrop: true, StationEnd: true, StationVerdict: true, StationICMPSend: true, StationResetSend: true, StationReject: true,
	StationClone: true, StationSegment: true, StationFragment: true, StationMerge: true, StationNone: true,
}

// judge says how a way ended. It has at least one hop.
func (b *builder) judge(hops []hop) ending {
	last := &hops[len(hops)-1]
	if last.netns == netnsElsewhere {
		return ending{verdict: LeftNode, rank: rankLeft, at: len(hops) - 1, where: "device"}
	}
	if d := arrival(hops); d >= 0 {
		return b.judgeArrival(hops, d)
	}
	if b.joined(hops) {
		return b.judgeJoined(hops)
	}
	if last.station == StationDrop {
		if e, ok := b.judgeHalfOpen(hops); ok {
			return e
		}
		return b.judgeDrop(hops)
	}
	if e, ok := b.judgeLeft(hops); ok {
		return e
	}
	if !b.s.cfg.HasFunctions && cameIn(hops) {
		return ending{
			verdict: Incomplete, rank: rankOpen, at: len(hops) - 1, where: "socket", reason: "not-observed",
			say: "last seen coming in, " + b.lastSeen(hops) + "; sockets are not observed",
		}
	}
	if last.flags&FlagEnd != 0 {
		return b.judgeConsumed(hops)
	}
	return ending{
		verdict: InFlight, rank: rankOpen, at: len(hops) - 1,
		where: stationWhere[lastStation(hops)], say: "last seen " + b.lastSeen(hops),
	}
}

// arrival is the index of the hop at which the packet arrived for good, -1 if
// it did not. A socket that unwraps a tunnel sends the packet on its way again.
func arrival(hops []hop) int {
	at := -1
	for i := range hops {
		switch st := hops[i].station; {
		case deliveryStation[st], st == StationListen && at < 0:
			at = i
		case moves(st):
			at = -1
		}
	}
	return at
}

// judgeArrival judges a packet that reached a socket: it may still be refused.
func (b *builder) judgeArrival(hops []hop, at int) ending {
	e := ending{verdict: Delivered, rank: rankDelivered, at: at, where: "socket"}
	echoReply := hops[at].hdr != nil && isEchoReply(hops[at].hdr)
	switch hops[at].station {
	case StationICMPIn:
		e.where = "icmp"
		if echoReply {
			e.rank = rankLeft // it is for a socket, which gets a copy
		}
	case StationRawIn:
		if !echoReply {
			e.rank = rankRaw // whoever listens to everything is not the receiver
		}
	}
	e.say = b.arrivalWords(hops, at)
	for i := at; i < len(hops); i++ {
		switch hops[i].station {
		case StationListen:
			if l, ok := b.judgeListen(hops, i); ok {
				return l
			}
		case StationResetSend:
			if hops[at].hdr == nil || hops[at].hdr.Proto != protoTCP {
				continue
			}
			return ending{
				verdict: Terminated, rank: rankAnswered, at: i, where: "socket", reason: "reset",
				say: "the socket at " + dstWords(hops[i].hdr) + " answered with RST",
			}
		case StationDrop:
			return b.judgeSocketDrop(hops, at, i, e)
		}
	}
	if b.endUntold(hops, at) {
		e.verdict, e.rank = Incomplete, rankAnswered
		e.say = "how it was freed was not seen, it may have been dropped there" + lastSeparator + e.say
	}
	return e
}

// judgeListen tells a SYN that was taken from one that found the accept queue
// full: the kernel frees both in the same way, but answers the first only.
func (b *builder) judgeListen(hops []hop, at int) (ending, bool) {
	p := hops[at].p
	for _, f := range p.effects() {
		if f.time >= hops[at].time {
			return ending{}, false
		}
	}
	if b.s.flows.repliedSince(p.flow, hops[at].time) {
		return ending{}, false
	}
	doubt := ""
	switch {
	case b.s.missed >= hops[at].time:
		doubt = "events were lost, perhaps of the answer"
	case b.s.unfollowed >= hops[at].time:
		doubt = "some packets were not followed, perhaps the answer"
	}
	if doubt != "" {
		return ending{
			verdict: Incomplete, rank: rankAnswered, at: at, where: "socket",
			say: doubt + lastSeparator + b.arrivalWords(hops, at),
		}, true
	}
	if !p.ended {
		return ending{verdict: InFlight, rank: rankOpen, at: at, where: "socket", say: "last seen " + b.lastSeen(hops)}, true
	}
	return ending{
		verdict: Terminated, rank: rankAnswered, at: at, where: "socket", reason: "listen-overflow",
		say: "the listening socket at " + dstWords(hops[at].hdr) + " did not answer: its accept queue is full",
	}, true
}

// judgeHalfOpen judges what a connection took that had not been accepted yet: the kernel
// frees it as dropped, with no reason, by what found the request (tcp_check_req). What
// finds no socket has a reason, or is looked at by the function that answers with RST.
func (b *builder) judgeHalfOpen(hops []hop) (ending, bool) {
	n := len(hops) - 1
	h := hops[n].hdr
	if h == nil || h.Proto != protoTCP || b.s.dropReason(hops[n].val) != "" || lastStation(hops) != StationTransportIn ||
		!matchAny([]string{"tcp_v4_rcv", "tcp_v6_rcv"}, b.s.names.Symbol(hops[n].location())) {
		return ending{}, false
	}
	at := n
	for hops[at].station != StationTransportIn {
		if hops[at].station == StationResetSend {
			return ending{}, false
		}
		at--
	}
	e := ending{verdict: Delivered, rank: rankDelivered, at: at, where: "socket"}
	switch {
	case h.TCPFlags&tcpRST != 0:
		e.say = b.arrivalWords(hops, at) + ": it ended a connection that was being opened"
	case h.TCPFlags&(tcpSYN|tcpACK) == tcpSYN && b.s.flows.repliedSince(hops[at].p.flow, hops[at].time):
		e.say = b.arrivalWords(hops, at) + ": a connection that was being opened answered it again"
	case h.TCPFlags&(tcpSYN|tcpACK) == tcpACK && !takesSequence(h.TCPFlags, h.Length):
		// Accepted later (TCP_DEFER_ACCEPT), or there is no room: both are freed alike.
		e.verdict, e.rank, e.reason = Incomplete, rankAnswered, "not-observed"
		e.say = "a connection that is being opened waits for data (TCP_DEFER_ACCEPT), or its accept queue is full; last seen " + b.lastSeen(hops)
	default:
		return ending{}, false
	}
	return e, true
}

// judgeSocketDrop judges a packet that was freed as dropped behind a socket.
func (b *builder) judgeSocketDrop(hops []hop, at, drop int, arrived ending) ending {
	kernel := b.s.dropReason(hops[drop].val)
	isTCP := hops[at].hdr != nil && hops[at].hdr.Proto == protoTCP
	errorTold := hops[at].station == StationErrorIn || hops[at].station == StationTimeWait ||
		// Up to 6.1 icmpv6_rcv frees so whatever it has handled.
		(hops[at].station == StationICMPIn && kernel == "" && b.s.names.Symbol(hops[drop].location()) == "icmpv6_rcv")
	if (isTCP || errorTold) && !matchAny(socketDrops, kernel) {
		// A socket that is closed need not have read that the other end closed.
		unreadFIN := kernel == "QUEUE_PURGE" && isTCP && hops[at].hdr.TCPFlags&(tcpFIN|tcpPSH) == tcpFIN
		if !slices.Contains(quietDrops, kernel) && !unreadFIN {
			arrived.note = "the socket discarded it: " + kernel
		}
		return arrived
	}
	queued := hops[at].station == StationSocketIn
	if queued && closedUnread(kernel, b.s.names.Symbol(hops[drop].location())) {
		arrived.note = "closed unread: the socket at " + dstWords(hops[at].hdr) + " was closed before anybody read it"
		return arrived
	}
	e := b.judgeDrop(hops[:drop+1])
	if kernel == "" && queued {
		e.where, e.reason = "socket", "rcvbuf-full"
		e.say = "the receive buffer of " + dstWords(hops[at].hdr) + " is full, or UDP has no memory left"
	}
	e.rank = rankAnswered
	return e
}

// judgeDrop finds the row of the table for a way that ends with a drop.
func (b *builder) judgeDrop(hops []hop) ending {
	n := len(hops) - 1
	ev := b.evidence(hops)
	e := ending{verdict: Terminated, rank: rankTerminated, at: n, kernelReason: ev.kernel, location: ev.site, proof: ev.proof}
	if b.driverFree(hops, &ev) {
		if l, ok := b.judgeLeft(hops[:n]); ok {
			return l
		}
	}
	if doubt := b.mayHaveArrived(hops, &ev); doubt != "" {
		e.verdict, e.rank, e.where, e.reason = Incomplete, rankOpen, "socket", "not-observed"
		if b.s.cfg.HasFunctions {
			e.rank = rankAnswered // copies that were not meant for this socket are not its way
		}
		e.say = "last seen coming in, " + b.lastSeen(hops) + "; " + doubt
		return e
	}
	e.where, e.reason, e.say = "ip", "dropped", "dropped at {site}"
	if w := stationWhere[ev.culprit]; w != "" {
		e.where = w
	}
	if ev.kernel != "" {
		e.reason, e.say = kebab(ev.kernel), "dropped at {site} ({kernel})"
	}
	for i := range drops {
		if r := &drops[i]; ev.fits(r) {
			e.where, e.reason, e.say = r.where, r.reason, r.say
			break
		}
	}
	e.say = ev.fill(b, e.say)
	switch {
	case e.reason == reasonNoDestination:
		b.virtual(&e, hops)
	case e.where == "netfilter":
		if a := b.ruleAsk(hops, &ev); a != nil {
			e.ask = a
		}
	}
	switch {
	case e.reason == reasonOtherHost:
		e.rank = rankOtherHost
	case e.where == "socket" || e.where == "icmp" || e.where == "ipvs":
		e.rank = rankAnswered
	}
	return e
}

// mayHaveArrived says why a packet that was freed as dropped may have come to its socket,
// where TCP frees so what it has used, and closing what nobody read; "": it cannot have.
func (b *builder) mayHaveArrived(hops []hop, ev *evidence) string {
	h, last := hops[len(hops)-1].hdr, lastStation(hops)
	purged := ev.kernel == "QUEUE_PURGE" || ev.kernel == "" && matchAny(purgeSites, ev.site)
	switch {
	case matchAny(socketDrops, ev.kernel):
	case !b.s.cfg.HasFunctions:
		// Up to 6.1 icmpv6_rcv frees so whatever it has handled.
		if cameIn(hops) && (purged || matchAny([]string{"tcp_*"}, ev.site) || ev.kernel == "" && ev.site == "icmpv6_rcv") {
			return "sockets are not observed"
		}
	case h == nil || h.Proto != protoTCP || (last != StationTransportIn && last != StationBacklog):
	case purged || matchAny(insideTCPSocket, ev.site):
		return "that a socket took it was not seen" // the kernel left that hook out
	}
	return ""
}

// driverFree says whether a drop is only a driver's way to free what it sent:
// it comes behind the hand-over to the driver and has no reason.
func (b *builder) driverFree(hops []hop, ev *evidence) bool {
	return len(hops) > 1 && ev.kernel == "" && ev.culprit == StationTransmit && !matchAny(driverDrops, ev.site)
}

// judgeLeft says whether the packet left the node by its last device.
func (b *builder) judgeLeft(hops []hop) (ending, bool) {
	for i := len(hops) - 1; i >= 0; i-- {
		h := &hops[i]
		if quietStation[h.station] && h.station != StationMerge {
			continue
		}
		if (h.station != StationTransmit && h.station != StationVeth) || !b.s.leaves(h.netns, h.ifindex) {
			return ending{}, false
		}
		return b.leftBy(i, h), true
	}
	return ending{}, false
}

func (b *builder) leftBy(at int, h *hop) ending {
	return ending{
		verdict: LeftNode, rank: rankLeft, at: at, where: "device",
		say: "left the node by " + b.deviceName(h.netns, h.ifindex),
	}
}

// leaves says whether what a device transmits goes where nothing is observed.
func (s *Stitcher) leaves(netns, ifindex uint32) bool {
	d, ok := s.names.Device(netns, ifindex)
	if !ok {
		return false
	}
	switch d.Kind {
	case "veth":
		if d.PeerNetns == 0 {
			return s.cfg.OnlyNode != "" && d.Master == 0 && s.names.Namespace(netns).Kind == KindNode
		}
		return !s.observed(d.PeerNetns)
	case "bridge", "dummy", "loopback", "ifb", "bond", "team", "vlan", "macvlan", "ipvlan", "vrf":
		return false
	case "vxlan", "geneve":
		return false // what carries it is the same skb, and leaves by another device
	}
	return d.Name != "lo"
}

// cameIn says whether the last thing the packet did was to come in.
func cameIn(hops []hop) bool {
	for i := len(hops) - 1; i >= 0; i-- {
		switch hops[i].station {
		case StationReceive, StationTCIngress:
			return true
		case StationDrop, StationEnd, StationClone:
		default:
			return false
		}
	}
	return false
}

// lastStation is the last one that says where the packet was.
func lastStation(hops []hop) Station {
	for i := len(hops) - 1; i >= 0; i-- {
		if !quietStation[hops[i].station] {
			return hops[i].station
		}
	}
	return StationNone
}

// waiting says what a packet waits for that was last seen at a station.
var waiting = map[Station]string{
	StationNeighbour:   "waiting for a neighbour's link address",
	StationQueue:       "in the queue of a device",
	StationTransmit:    "handed to a driver",
	StationVeth:        "crossing a veth pair",
	StationTransportIn: "looking for its socket",
	StationBacklog:     "waiting in the backlog of its socket",
	StationListen:      "at a listening socket",
	StationMerge:       "merged into another packet",
}

// lastSeen says where a way was last seen.
func (b *builder) lastSeen(hops []hop) string {
	i := len(hops) - 1
	for i > 0 && quietStation[hops[i].station] {
		i--
	}
	h := &hops[i]
	var sb strings.Builder
	if w := waiting[h.station]; w != "" {
		sb.WriteString(w + ", ")
	}
	fmt.Fprintf(&sb, "at %s on %s", b.s.hookName(h.hook), b.s.netnsName(h.netns))
	if h.ifindex != 0 {
		sb.WriteString(" (" + b.deviceName(h.netns, h.ifindex) + ")")
	}
	return sb.String()
}

// arrivalWords completes the summary of a delivery.
func (b *builder) arrivalWords(hops []hop, at int) string {
	h := &hops[at]
	name := b.s.ownerName(h.netns)
	if sock, ok := b.receiver(hops, at); ok {
		name += " (" + processWords(sock) + ")"
	}
	words := "delivered to " + name
	switch h.station {
	case StationRawIn:
		words += ", to a raw socket"
	case StationTimeWait:
		words += ", to a connection in TIME_WAIT"
	case StationErrorIn, StationICMPIn:
		switch {
		case h.hdr == nil:
		case h.station == StationICMPIn && isEchoRequest(h.hdr):
			words += ", answered by its kernel"
		case h.hdr.HasInner || icmpNames[icmpKey(h.hdr)] != "":
			words += ": " + icmpWords(h.hdr)
		}
	}
	return words
}
