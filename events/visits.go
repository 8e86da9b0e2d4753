// SPDX-License-Identifier: Apache-2.0

package events

import "slices"

// stay is a maximal run of hops in one namespace, from lo to hi (exclusive).
type stay struct{ lo, hi int }

// stays appends those of some hops to all.
func stays(all []stay, hops []hop) []stay {
	for i := range hops {
		if i == 0 || hops[i].netns != hops[i-1].netns {
			all = append(all, stay{lo: i})
		}
		all[len(all)-1].hi = i + 1
	}
	return all
}

// visits turns a run into visits and counts them. e is how the run ended by
// the evidence, whether complete or not.
func (b *builder) visits(r *run, e *ending) []Visit {
	b.stays = stays(b.stays[:0], r.hops)
	all := b.stays
	visits := slices.Grow(b.spare.t.Visits[:0], len(all))
	start := r.hops[0].time
	hooks := b.hookVisits(r.hops, start)
	for k, st := range all {
		hops := r.hops[st.lo:st.hi]
		v := Visit{
			Netns: hops[0].netns, Entered: ViaDevice, Left: ViaDevice,
			StartNS: since(start, hops[0].time), EndNS: since(start, hops[len(hops)-1].time),
		}
		if k == 0 && !r.came {
			v.Entered = b.entered(hops)
		}
		if k == len(all)-1 && !r.went {
			v.Left = left(e)
		}
		v.Bridged, v.BridgeNF = b.bridged(hops, v.Entered)
		v.Stacks = half(v.Entered) + half(v.Left)
		if v.Entered == ViaKernel {
			v.Stacks = 0.5 // the way out only, however far it came
		}
		v.Devices = b.devices(hops, v.Bridged)
		v.Hooks = hooks[st.lo:st.hi:st.hi]
		e.mark(v.Hooks, st.lo)
		// Behind the devices: whose a namespace is may be known by their addresses only.
		ns := b.s.names.Namespace(v.Netns)
		v.Name, v.Kind, v.Node, v.Pod, v.Labels = b.s.netnsName(v.Netns), ns.Kind, ns.Node, ns.Pod, ns.Labels
		if v.Kind == KindNetwork {
			v.Stacks = 0
		}
		visits = append(visits, v)
	}
	return visits
}

func since(start, t uint64) uint64 {
	if t < start {
		return 0
	}
	return t - start
}

// half is what an end of a visit counts.
func half(via string) float64 {
	if via == ViaSocket || via == ViaDevice {
		return 0.5
	}
	return 0
}

func left(e *ending) string {
	switch e.verdict {
	case Delivered:
		return ViaSocket
	case LeftNode:
		return ViaDevice
	case Terminated:
		return ViaTerminated
	}
	return ViaUnknown
}

// entered says how the first visit began.
func (b *builder) entered(hops []hop) string {
	h := &hops[0]
	if h.i > 0 || h.seq > 0 || h.p.parent != 0 {
		return ViaUnknown
	}
	switch {
	case h.station == StationSocketOut, h.station == StationIPOut, localOut(h):
		if h.p.midStack || (h.hdr != nil && isICMPError(h.hdr) && h.flags&FlagTask == 0) {
			return ViaKernel
		}
		return ViaSocket
	case h.p.midStack && egress(h.station):
		return ViaKernel // a rule of a bridged frame's REJECT answers past IP
	case h.station == StationReceive, h.station == StationTCIngress, h.station == StationIPIn, bridgeStation(h.station):
		return ViaDevice
	case h.flags&FlagTask != 0:
		return ViaSocket // a packet socket sends past IP
	}
	return ViaUnknown
}

// localOut says whether a hop is netfilter's hook for packets made here.
func localOut(h *hop) bool {
	return (h.station == StationNetfilter || h.station == StationTable) && h.b == 3
}

func bridgeStation(s Station) bool {
	switch s {
	case StationBridgeIn, StationBridgeForward, StationBridgeFlood, StationBridgeUp, StationBridgeNF:
		return true
	}
	return false
}

// beginning returns why the beginning of a run is not known, "" if it is.
func (b *builder) beginning(r *run) string {
	h := &r.hops[0]
	switch {
	case r.another:
		return "its beginning was not seen, another packet was at its address before"
	case r.came:
		return ""
	case h.i > 0 || h.seq > 0:
		return "" // a lost event, and counted as such
	case h.p.parent != 0:
		return "it is a copy or a part of a packet that was not seen"
	}
	switch via := b.entered(r.hops); {
	case via == ViaSocket || via == ViaKernel:
		return ""
	case via == ViaUnknown:
		if b.s.cfg.HasFunctions || !egress(h.station) {
			return "where it was made was not seen"
		}
		return "" // made in this namespace, or it would have been seen coming in
	}
	if b.s.names.Namespace(h.netns).Kind == KindNetwork {
		return ""
	}
	d, ok := b.device(h.netns, h.ifindex)
	if ok && (d.Kind == "bridge" || (d.Kind == "veth" && b.peerObserved(h.netns, d))) {
		return "it was first seen coming in by " + d.Name + ", and not at its sender"
	}
	return ""
}

// peerObserved says whether the other end of a veth pair is in a namespace
// whose packets are seen from their beginning.
func (b *builder) peerObserved(netns uint32, d *Device) bool {
	if d.PeerNetns == 0 {
		return b.s.cfg.OnlyNode == "" || d.Master != 0 || b.s.names.Namespace(netns).Kind != KindNode
	}
	return b.s.observed(d.PeerNetns) && b.s.names.Namespace(d.PeerNetns).Kind != KindNetwork
}

func egress(s Station) bool {
	return s == StationTCEgress || s == StationQueue || s == StationTransmit || s == StationVeth
}

// l3Station says which stations are IP or above it.
var l3Station = [256]bool{
	StationSocketOut: true, StationIPOut: true, StationFragmenting: true, StationNeighbour: true,
	StationIPIn: true, StationLocalDeliver: true, StationForward: true, StationRouteError: true,
	StationTransportIn: true, StationSocketIn: true, StationTimeWait: true, StationListen: true,
	StationICMPIn: true, StationErrorIn: true,
	StationBacklog: true, StationRawIn: true, StationPingIn: true,
}

// bridged says whether a visit's frame never came to IP, and whether
// netfilter was called from the bridge.
func (b *builder) bridged(hops []hop, entered string) (bridged, nf bool) {
	l3, bridge, master := false, false, uint32(0)
	crossed, up, down := false, false, false
	for i := range hops {
		h := &hops[i]
		nf = nf || h.station == StationBridgeNF
		bridge = bridge || bridgeStation(h.station)
		l3 = l3 || l3Station[h.station]
		switch h.station {
		case StationReceive, StationTCIngress:
			if d, ok := b.device(h.netns, h.ifindex); ok {
				master = d.Master
				up = up || d.Kind == "bridge"
			}
		case StationTCEgress, StationQueue, StationTransmit:
			if d, ok := b.device(h.netns, h.ifindex); ok {
				crossed = crossed || (d.Master != 0 && d.Master == master)
				down = down || d.Kind == "bridge"
			}
		}
	}
	if entered != ViaDevice || l3 {
		return false, nf
	}
	if b.s.cfg.HasFunctions {
		// Down through the bridge's own device, but not up to it nor to IP:
		// br_netfilter sends a frame that it translated that way.
		return bridge && !up, nf
	}
	return crossed && !up && !down, nf
}

// way is a device on the data link, and which way the packet went there.
type way struct {
	ifindex uint32
	out     bool
}

// devices names the devices of a visit in the order in which they were met.
// A device that a packet comes in by and goes out by again is named twice.
func (b *builder) devices(hops []hop, bridged bool) []string {
	ways := make([]way, 0, 8)
	add := func(ifindex uint32, out bool) {
		if n := len(ways); ifindex == 0 || (n > 0 && ways[n-1].ifindex == ifindex && (ways[n-1].out || !out)) {
			return
		}
		ways = append(ways, way{ifindex, out})
	}
	for i := range hops {
		h := &hops[i]
		switch h.station {
		case StationReceive, StationTCIngress:
			add(h.ifindex, false)
		case StationTCEgress, StationQueue, StationTransmit, StationVeth, StationBridgeOut:
			add(h.ifindex, true)
		case StationBridgeUp:
			add(h.ifindex, false)
			if d, ok := b.device(h.netns, h.ifindex); ok {
				add(d.Master, false)
			}
		}
	}
	for i := 0; len(ways) == 0 && i < len(hops); i++ {
		add(hops[i].ifindex, false) // nothing better is known
	}
	names := make([]string, 0, len(ways)+1)
	netns := hops[0].netns
	for i, w := range ways {
		names = append(names, b.deviceName(netns, w.ifindex))
		d, ok := b.device(netns, w.ifindex)
		if i == 0 && bridged && ok && d.Master != 0 && (len(ways) == 1 || ways[1].ifindex != d.Master) {
			names = append(names, "("+b.deviceName(netns, d.Master)+")")
		}
	}
	return names
}

// dataLink joins the devices of all visits. The devices of a node stand for
// themselves while there is only one node.
func dataLink(visits []Visit) []string {
	var nodes []string
	for i := range visits {
		if v := &visits[i]; v.Kind == KindNode && !slices.Contains(nodes, v.Name) {
			nodes = append(nodes, v.Name)
		}
	}
	n := 0
	for i := range visits {
		n += max(1, len(visits[i].Devices))
	}
	link := make([]string, 0, n)
	for i := range visits {
		v := &visits[i]
		if v.Kind == KindNetwork {
			link = append(link, "["+v.Name+"]")
			continue
		}
		prefix := v.Name + " "
		if v.Kind == KindNode && len(nodes) == 1 {
			prefix = ""
		}
		for _, d := range v.Devices {
			link = append(link, prefix+d)
		}
	}
	return link
}

// hookVisits lists the events of a run.
func (b *builder) hookVisits(hops []hop, start uint64) []HookVisit {
	list := slices.Grow(b.spare.hooks[:0], len(hops))[:len(hops)]
	b.spare.hooks = list
	for i := range hops {
		h, v := &hops[i], &list[i]
		*v = HookVisit{Hook: b.s.hookName(h.hook), NS: since(start, h.time), Detail: b.detail(h), Station: h.station}
		switch {
		case h.ifindex == 0:
		case i > 0 && h.ifindex == hops[i-1].ifindex && h.netns == hops[i-1].netns:
			v.Device = list[i-1].Device
		default:
			v.Device = b.deviceName(h.netns, h.ifindex)
		}
		if v.Detail == "" && i > 0 && h.hdr != nil && hops[i-1].hdr != nil && h.hdr != hops[i-1].hdr && h.hdr.Tuple != hops[i-1].hdr.Tuple {
			v.Detail = tupleWords(h.hdr.Tuple, hasPorts(h.hdr))
		}
	}
	return list
}

// mark marks what the ending rests on among the hooks of a visit, the first of
// which is hop lo.
func (e *ending) mark(hooks []HookVisit, lo int) {
	for i := range hooks {
		hooks[i].Evidence = lo+i == e.at || slices.Contains(e.proof, lo+i)
	}
}

// detail says what an event adds to its hook.
func (b *builder) detail(h *hop) string {
	switch h.station {
	case StationNetfilter, StationTable, StationIPVSIn:
		switch h.a {
		case 0: // not said
			return ""
		case nfprotoBridge:
			if int(h.b) < len(bridgeChainNames) {
				return bridgeChainNames[h.b]
			}
			return "bridge " + hookWords(int(h.b))
		}
		return hookWords(int(h.b))
	case StationVerdict:
		return verdictWords(int32(h.val)) //nolint:gosec // the bits of Ret
	case StationIPVSConn:
		if h.aux >= 0 && h.p.rare.backends[h.aux].IsValid() {
			return h.p.rare.backends[h.aux].String()
		}
	case StationICMPSend:
		return icmpPair(h.a, h.b)
	case StationDrop:
		d := b.s.dropReason(h.val)
		if site := b.s.names.Symbol(h.location()); site != "" {
			if d != "" {
				d += " "
			}
			d += "at " + site
		}
		return d
	case StationSocketOut, StationIPOut, StationSocketIn, StationBacklog, StationRawIn:
		if p, ok := b.socketProcess(h); ok {
			return processWords(p)
		}
	}
	return ""
}
