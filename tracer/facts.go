// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"net/netip"

	"github.com/stackhop/stackhop/events"
)

// ClockPair is one moment on two clocks, in ns.
type ClockPair struct {
	Mono uint64 // the kernel's monotonic clock, that of Event.Time
	Real int64  // since 1970
}

// MaxFacts bounds the flows that Facts looks for at one time.
const MaxFacts = 4096

// FactsFilter says what Facts is to tell of.
type FactsFilter struct {
	Netns []uint32 // namespaces, by inode number
	Flows []FlowAt // beyond MaxFacts they are left out, and counted
}

// FlowAt is a connection as it looks in one namespace, in either direction.
type FlowAt struct {
	Netns uint32
	Zone  uint16 // of conntrack; 0: the usual one
	Tuple events.Tuple
}

// Facts is how namespaces are set up, beside what events tell: what a reader of
// a recording would ask the node for, were it still there.
type Facts struct {
	Services  []Service
	Sysctls   []Sysctl
	Conntrack []CTEntry
	Unasked   int      // flows beyond MaxFacts
	Missing   []string // what could not be read, and why
}

// Service is a virtual service of IPVS.
type Service struct {
	Netns        uint32
	Proto        uint8          // IPPROTO_*; 0 for a service by firewall mark
	VIP          netip.AddrPort // invalid for a service by firewall mark
	FwMark       uint32         // 0: none
	Scheduler    string
	Flags        uint32 // IP_VS_SVC_F_* of linux/ip_vs.h
	Timeout      uint32 // seconds for which a persistent service keeps a client's destination
	Destinations []Destination
}

// Destination is a real server of a virtual service.
type Destination struct {
	Addr             netip.AddrPort
	Weight           int
	Active, Inactive int    // connections
	Upper            uint32 // connections from which on it gets no new ones; 0: no limit
	Forward          string // nat, local, tunnel, route or bypass
}

// Sysctl is a setting of a namespace.
type Sysctl struct {
	Netns       uint32
	Name, Value string // such as net.ipv4.ip_forward
}

// CTEntry is an entry of a namespace's conntrack table.
type CTEntry struct {
	Netns           uint32
	Original, Reply events.Tuple
	Zone            uint16
	Status          uint32 // IPS_* bits of nf_conntrack_common.h
	Timeout         uint32 // seconds left; 0: unknown
}
