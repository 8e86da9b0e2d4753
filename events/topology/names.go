// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// Names gives names; events.Names does.
type Names interface {
	Namespace(netns uint32) events.Namespace
	Address(ip string, port uint16) events.AddressNames
}

var _ Names = events.Names(nil)

// SetNames fills in what n knows. What it does not know stays as it is, so that
// several may be asked, the best one last.
func (t *Topology) SetNames(n Names) {
	names := make(map[uint32]string, len(t.Namespaces))
	for i := range t.Namespaces {
		ns := &t.Namespaces[i]
		got := n.Namespace(ns.Inode)
		ns.Name, ns.Kind = cmp.Or(got.Name, ns.Name), cmp.Or(got.Kind, ns.Kind)
		ns.Node, ns.Pod = cmp.Or(got.Node, ns.Node), cmp.Or(got.Pod, ns.Pod)
		ns.Labels = cmp.Or(got.Labels, ns.Labels)
		names[ns.Inode] = cmp.Or(ns.Pod, ns.Name)
		for j := range ns.Services {
			ns.Services[j].setNames(n)
		}
		for j := range ns.Routes {
			for k := range ns.Routes[j].Hops {
				if hop := &ns.Routes[j].Hops[k]; hop.Via.IsValid() {
					hop.Node = cmp.Or(n.Address(hop.Via.String(), 0).Node, hop.Node)
				}
			}
		}
	}
	for i := range t.Namespaces {
		for j := range t.Namespaces[i].Devices {
			d := &t.Namespaces[i].Devices[j]
			for _, end := range []*End{d.Peer, d.Lower} {
				if end != nil {
					end.Name = names[end.Netns]
				}
			}
		}
	}
	t.Sort()
}

func (s *Service) setNames(n Names) {
	if s.IP.IsValid() {
		if got := n.Address(s.IP.String(), s.Port); got.Service != "" {
			s.Name, s.Stale = got.Service, got.Stale
		}
	}
	for i := range s.Destinations {
		d := &s.Destinations[i]
		got := n.Address(d.IP.String(), d.Port)
		if name := cmp.Or(got.Pod, got.Node); name != "" {
			d.Name, d.Stale = name, got.Stale
		}
	}
}

// Only leaves one node: its own namespaces and those of its pods.
func (t *Topology) Only(node string) {
	t.Node = node
	t.Namespaces = slices.DeleteFunc(t.Namespaces, func(ns Namespace) bool { return ns.Node != node })
}

// Sort puts everything in the order in which it is shown, and makes lists
// that are not there empty ones.
func (t *Topology) Sort() {
	t.Namespaces = orEmpty(t.Namespaces)
	slices.SortFunc(t.Namespaces, func(a, b Namespace) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), cmp.Compare(a.Node, b.Node), kindRank(&a)-kindRank(&b),
			cmp.Compare(a.label(), b.label()), cmp.Compare(a.Inode, b.Inode))
	})
	for i := range t.Namespaces {
		t.Namespaces[i].sort()
	}
}

// rank puts what belongs to no node behind the nodes.
func rank(n *Namespace) int {
	if n.Node == "" {
		return 1
	}
	return 0
}

// kindRank puts a node before its pods, and those before what has no name.
func kindRank(n *Namespace) int {
	switch {
	case n.Kind == events.KindNode:
		return 0
	case n.Name == "" && n.Pod == "":
		return 2
	}
	return 1
}

func (n *Namespace) sort() {
	n.Devices, n.Routes, n.Services = orEmpty(n.Devices), orEmpty(n.Routes), orEmpty(n.Services)
	if n.Sysctls == nil {
		n.Sysctls = map[string]string{}
	}
	slices.SortFunc(n.Devices, func(a, b Device) int { return cmp.Compare(a.Ifindex, b.Ifindex) })
	for i := range n.Devices {
		n.Devices[i].Addresses = orEmpty(n.Devices[i].Addresses)
	}
	slices.SortStableFunc(n.Routes, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Dst.Addr().BitLen(), b.Dst.Addr().BitLen()), a.Dst.Addr().Compare(b.Dst.Addr()),
			cmp.Compare(a.Dst.Bits(), b.Dst.Bits()), cmp.Compare(a.Metric, b.Metric))
	})
	for i := range n.Routes {
		n.Routes[i].Hops = orEmpty(n.Routes[i].Hops)
	}
	slices.SortStableFunc(n.Services, func(a, b Service) int {
		return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.FWMark, b.FWMark))
	})
	for i := range n.Services {
		s := &n.Services[i]
		s.Destinations = orEmpty(s.Destinations)
		slices.SortStableFunc(s.Destinations, func(a, b Destination) int {
			return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.Port, b.Port))
		})
	}
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// label is what a namespace is called: "pod default/web", "node n1".
func (n *Namespace) label() string {
	name := cmp.Or(n.Pod, n.Name)
	if name == "" {
		return fmt.Sprintf("netns %d", n.Inode)
	}
	return strings.TrimSpace(events.Safe(n.Kind) + " " + events.Safe(name))
}

// label is what an end is called in a namespace: "default/web eth0", or "eth0"
// in its own.
func (e *End) label(netns uint32) string {
	switch {
	case e.Netns == 0:
		return fmt.Sprintf("another namespace (ifindex %d)", e.Ifindex)
	case e.Netns == netns:
		return events.Safe(e.Device)
	case e.Name == "":
		return fmt.Sprintf("netns %d %s", e.Netns, events.Safe(e.Device))
	}
	return events.Safe(e.Name) + " " + events.Safe(e.Device)
}
