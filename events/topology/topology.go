// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"net/netip"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Topology is what is on a node at one moment. Its JSON form is a contract:
// fields may be added, never renamed or dropped.
type Topology struct {
	Time       time.Time   `json:"time"`
	Node       string      `json:"node"` // the machine, or the node that was chosen
	Namespaces []Namespace `json:"namespaces"`
	// Missing says what could not be read, and why.
	Missing []string `json:"missing,omitempty"`
}

// Namespace is a network namespace. Kind, Node and Pod are as in
// events.Namespace; where nobody named it, Name is empty.
type Namespace struct {
	Inode    uint32            `json:"netns"`
	Name     string            `json:"name"`
	Kind     string            `json:"kind"`
	Node     string            `json:"node,omitempty"`
	Pod      string            `json:"pod,omitempty"`
	Labels   events.Labels     `json:"labels,omitempty"` // the pod's
	Devices  []Device          `json:"devices"`
	Routes   []Route           `json:"routes"`   // of the main tables, both families, except those of lo
	Services []Service         `json:"services"` // of IPVS
	Sysctls  map[string]string `json:"sysctls"`  // those there are of the few that decide what becomes of packets
}

// Device is a network device.
type Device struct {
	Ifindex   uint32         `json:"ifindex"`
	Name      string         `json:"name"`
	Kind      string         `json:"kind"` // as in events.Device
	Up        bool           `json:"up"`   // it is set up, whatever its state
	State     string         `json:"state"`
	MTU       int            `json:"mtu"`
	MAC       string         `json:"mac,omitempty"`
	Addresses []netip.Prefix `json:"addresses"`
	Master    string         `json:"master,omitempty"` // the device that it is a port of
	Peer      *End           `json:"peer,omitempty"`   // the other end of a veth pair
	Lower     *End           `json:"lower,omitempty"`  // the device that a VLAN, MACVLAN, IPVLAN or tunnel sends through
	Tunnel    *Tunnel        `json:"tunnel,omitempty"`
}

// End is a device as seen from another one. Netns 0 is a namespace that
// nothing is known of: Device is empty then.
type End struct {
	Netns   uint32 `json:"netns"`
	Name    string `json:"name,omitempty"` // of the pod or namespace
	Ifindex uint32 `json:"ifindex"`
	Device  string `json:"device,omitempty"`
}

// Tunnel is how a device wraps packets.
type Tunnel struct {
	ID     uint32     `json:"id,omitempty"` // VXLAN or GENEVE network
	Port   uint16     `json:"port,omitempty"`
	Local  netip.Addr `json:"local,omitzero"`
	Remote netip.Addr `json:"remote,omitzero"` // or a multicast group
}

// Route is one route.
type Route struct {
	Dst    netip.Prefix `json:"dst"`
	Type   string       `json:"type,omitempty"` // blackhole, unreachable, …; empty: unicast
	Proto  string       `json:"proto"`          // who made it: kernel, boot, static, bird, …
	Metric int          `json:"metric,omitempty"`
	Src    netip.Addr   `json:"src,omitzero"` // address that the node sends from
	Hops   []Hop        `json:"hops"`
}

// Hop is where a route leads; a route over several ways has several.
type Hop struct {
	Via    netip.Addr `json:"via,omitzero"`
	Device string     `json:"device,omitempty"`
	Onlink bool       `json:"onlink,omitempty"` // Via is reached through Device, whatever other routes say
	Weight int        `json:"weight,omitempty"` // of several
	Node   string     `json:"node,omitempty"`   // whose address Via is
}

// Service is a virtual service of IPVS.
type Service struct {
	Proto        string        `json:"proto,omitempty"`
	IP           netip.Addr    `json:"ip,omitzero"`
	Port         uint16        `json:"port,omitempty"`
	FWMark       uint32        `json:"fwmark,omitempty"` // then there is no protocol, address or port
	Name         string        `json:"name,omitempty"`   // namespace/name in Kubernetes
	Stale        bool          `json:"stale,omitempty"`  // the name is from a source that is lost, or of what is gone
	Scheduler    string        `json:"scheduler"`
	Persistent   uint32        `json:"persistent,omitempty"` // seconds for which a client keeps its destination
	Destinations []Destination `json:"destinations"`
}

// Destination is a real server of a virtual service.
type Destination struct {
	IP       netip.Addr `json:"ip"`
	Port     uint16     `json:"port"`
	Name     string     `json:"name,omitempty"` // pod, as namespace/name, or node
	Stale    bool       `json:"stale,omitempty"`
	Weight   int        `json:"weight"`
	Active   int        `json:"active"`   // connections
	Inactive int        `json:"inactive"` // connections
	Forward  string     `json:"forward"`  // nat, local, tunnel, route or bypass
}
