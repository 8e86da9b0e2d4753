// SPDX-License-Identifier: Apache-2.0

package events

import "net/netip"

// facts are what hooks say of the state of things around a drop. All of it may
// be unknown: recordings of earlier versions have none of it.
type facts struct {
	device   uint8  // Device* bits of the packet's device
	route    uint32 // Event.Ret of StationRouteError
	rpFilter bool   // the kernel has a reason for what rp_filter drops
	port     string // the bridge's port that it was to leave by; "": unknown
	inPort   bool   // it is the one that it came in by
	stp      uint8  // that port's STP state
}

// routeForwards is a bit of Event.Ret at StationRouteError.
const routeForwards = 1 << 16

// toPort takes in to which port a bridge was about to send.
func (f *facts) toPort(b *builder, h *hop) {
	ifindex := h.val >> 8
	if ifindex == 0 {
		return
	}
	f.port, f.inPort, f.stp = b.deviceName(h.netns, ifindex), ifindex == h.ifindex, uint8(h.val)
}

// stpForwarding is BR_STATE_FORWARDING of linux/if_bridge.h.
const stpForwarding = 3

// stpStates are the BR_STATE_*.
var stpStates = [...]string{"disabled", "listening", "learning", "forwarding", "blocking"}

func stpWords(state uint8) string {
	if int(state) < len(stpStates) {
		return stpStates[state] + " (STP state)"
	}
	return "in an unknown STP state"
}

// A proof is evidence that takes more than comparing a word.
type proof struct {
	words string
	holds func(*evidence) bool
}

var (
	hairpin = &proof{"the port that it was to leave by is the one that it came in by, and forwards", func(ev *evidence) bool {
		return ev.port != "" && ev.inPort && ev.stp == stpForwarding
	}}
	portBlocked = &proof{"the STP state of the port that it was to leave by is not forwarding", func(ev *evidence) bool {
		return ev.port != "" && ev.stp != stpForwarding
	}}
	portOpen = &proof{"the port that it was to leave by forwards, and is not the one that it came in by", func(ev *evidence) bool {
		return ev.port != "" && !ev.inPort && ev.stp == stpForwarding
	}}

	prohibited  = routeErrno("EACCES", 13)
	blackhole   = routeErrno("EINVAL", 22)
	noRoute     = routeErrno("ENETUNREACH", 101)
	unreachable = routeErrno("EHOSTUNREACH", 113)
	// ip_route_input_slow makes EHOSTUNREACH of any error then, and of any route.
	noForwarding = &proof{"the route is an error, and forwarding is off on the device it came in by", func(ev *evidence) bool {
		return ev.route != 0 && ev.route&routeForwards == 0
	}}

	linkDown = &proof{"its device is not up, or has no carrier", func(ev *evidence) bool {
		return ev.device&DeviceKnown != 0 && ev.device&(DeviceNotUp|DeviceNoCarrier) != 0
	}}

	noneDenied = &proof{"neither a table nor conntrack was seen to say drop", func(ev *evidence) bool { return ev.denied == StationNone }}

	rpFilterTold = &proof{"the kernel has a drop reason of its own for rp_filter", func(ev *evidence) bool { return ev.rpFilter }}
	// As ip_route_input_slow has it; it looks at the source first.
	oddSource = &proof{"its source is in 127.0.0.0/8 or 0.0.0.0/8, or multicast, or broadcast", func(ev *evidence) bool {
		return ev.hdr != nil && (odd(ev.hdr.Src) || ev.hdr.Src.IsMulticast() || ev.hdr.Src == netip.AddrFrom4([4]byte{255, 255, 255, 255}))
	}}
	globalSource = &proof{"its source is a unicast address of more than its link", func(ev *evidence) bool {
		return ev.hdr != nil && ev.hdr.Src.IsGlobalUnicast()
	}}
	sourceTaken    = &proof{"routing did not complain of the source", (*evidence).sourceTaken}
	oddDestination = &proof{"its destination is in 127.0.0.0/8 or 0.0.0.0/8, and routing did not complain of the source", func(ev *evidence) bool {
		return ev.hdr != nil && ev.sourceTaken() && odd(ev.hdr.Dst)
	}}
)

// routeErrno is the proof that the route was an error of that number, where the
// namespace forwards.
func routeErrno(name string, errno uint32) *proof {
	return &proof{"the route's error is " + name + ", and forwarding is on", func(ev *evidence) bool { return ev.route == errno|routeForwards }}
}

func (ev *evidence) sourceTaken() bool {
	return ev.seen&(1<<StationMartian|1<<StationRouteError) == 0
}

// maxReasons is beyond the core's drop reasons of any kernel so far.
const maxReasons = 160

// hasReason says whether the kernel has a drop reason.
func (b *builder) hasReason(name string) bool {
	for r := range uint32(maxReasons) {
		if b.s.names.DropReason(r) == name {
			return true
		}
	}
	return false
}

// odd are 127.0.0.0/8 and 0.0.0.0/8.
func odd(a netip.Addr) bool {
	return a.Is4() && (a.As4()[0] == 127 || a.As4()[0] == 0)
}
