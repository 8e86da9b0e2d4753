// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// Names adds what an index knows to a run's own names, which come first. Like
// these it is for one goroutine.
type Names struct {
	events.Names // the run's own: devices, processes, symbols, drop reasons
	x            *Index
	podOfPID     func(uint32) string
	// seen has the pods whose addresses were seen at devices of namespaces:
	// without a container runtime that tells whose a namespace is.
	seen map[uint32]sighting
	// called is what Kubernetes calls the nodes that the run's own names call
	// otherwise, as a rule by their host name.
	called map[string]string
}

var (
	_ events.Names        = (*Names)(nil)
	_ events.ServiceNames = (*Names)(nil)
	_ events.VirtualNames = (*Names)(nil)
	_ events.RuleNames    = (*Names)(nil)
)

// sighting is a pod's address at a device of a namespace.
type sighting struct {
	ifindex   uint32
	addr      netip.Addr
	pod, node string
}

// Bounds on what is looked at: namespaces, and addresses of one device.
const (
	maxSeen        = 16384
	maxDeviceAddrs = 8
)

// NewNames adds what x knows to inner. podOfPID finds the pod, NAMESPACE/NAME, of
// a process in the node's network; nil: nobody can.
func NewNames(inner events.Names, x *Index, podOfPID func(uint32) string) *Names {
	return &Names{Names: inner, x: x, podOfPID: podOfPID, seen: map[uint32]sighting{}, called: map[string]string{}}
}

// Device implements events.Names.
func (n *Names) Device(netns, ifindex uint32) (events.Device, bool) {
	d, ok := n.Names.Device(netns, ifindex)
	if ok && len(d.Addrs) > 0 {
		n.see(netns, ifindex, d.Addrs)
	}
	return d, ok
}

// see learns whose namespace it is that has a device with these addresses. What
// was learned holds until the device has others: the address may be another pod's
// by now, elsewhere, while packets of the first one are still told.
func (n *Names) see(netns, ifindex uint32, addrs []netip.Addr) {
	addrs = addrs[:min(len(addrs), maxDeviceAddrs)]
	was, known := n.seen[netns]
	if known && slices.Contains(addrs, was.addr) {
		return
	}
	ns := n.Names.Namespace(netns)
	if ns.Kind == events.KindNode {
		n.seeNode(ns.Node, addrs)
	}
	if ns.Kind != "" && ns.Kind != events.KindPod {
		return
	}
	for _, a := range addrs {
		if pod, node, ok := n.x.podAt(a); ok {
			if len(n.seen) >= maxSeen {
				clear(n.seen)
			}
			n.seen[netns] = sighting{ifindex, a, pod, node}
			return
		}
	}
	if known && was.ifindex == ifindex {
		delete(n.seen, netns)
	}
}

// seeNode learns what a node is called from the addresses of its devices.
func (n *Names) seeNode(own string, addrs []netip.Addr) {
	for _, a := range addrs {
		is := n.x.Address(a, 0)
		if is.Node == "" || is.Pod != "" || is.Service != "" {
			continue
		}
		if len(n.called) >= maxSeen {
			clear(n.called)
		}
		n.called[own] = is.Node
		return
	}
}

// Namespace implements events.Names.
func (n *Names) Namespace(netns uint32) events.Namespace {
	s := n.Names.Namespace(netns)
	if s.Pod != "" && s.Labels == "" {
		s.Labels = n.x.PodLabels(s.Pod, netns)
	}
	if s.Pod != "" || (s.Kind != "" && s.Kind != events.KindPod) {
		return s
	}
	pod, node, stale, ok := n.x.PodOfNetns(netns)
	if seen, known := n.seen[netns]; known && (!ok || stale) {
		pod, node, ok = seen.pod, seen.node, true
	}
	if !ok {
		return s
	}
	s.Pod, s.Kind, s.Node, s.Labels = pod, events.KindPod, either(s.Node, node), n.x.PodLabels(pod, netns)
	if s.Name == "" || madeUp(s.Name) {
		_, s.Name, _ = strings.Cut(pod, "/")
	}
	return s
}

// madeUp says whether a namespace's name is one that CNI plugins and runtimes
// give: a UUID, or "cni-" and a UUID.
func madeUp(name string) bool {
	name = strings.TrimPrefix(name, "cni-")
	if len(name) != 36 {
		return false
	}
	for i, c := range []byte(name) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')
		if (c == '-') != dash || (!dash && !hex) {
			return false
		}
	}
	return true
}

// Address implements events.Names.
func (n *Names) Address(ip string, port uint16) events.AddressNames {
	if a := n.Names.Address(ip, port); a.Pod != "" || a.Service != "" || a.Node != "" {
		return a
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return events.AddressNames{}
	}
	return n.x.Address(addr, port)
}

// Rule implements events.RuleNames: only the run's own names know of rules.
func (n *Names) Rule(q *events.RuleQuery) (events.RuleFacts, bool) { return events.RuleOf(n.Names, q) }

// Service implements events.ServiceNames.
func (n *Names) Service(ip string, port uint16, proto uint8, node string) (events.ServiceFacts, bool) {
	if own, ok := n.Names.(events.ServiceNames); ok {
		if f, ok := own.Service(ip, port, proto, node); ok {
			return f, true
		}
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return events.ServiceFacts{}, false
	}
	return n.x.Service(addr, port, proto, either(n.called[node], node))
}

// Virtual implements events.VirtualNames, by the run's own names.
func (n *Names) Virtual(q *events.VirtualQuery) (events.VirtualFacts, bool) {
	return events.VirtualOf(n.Names, q)
}

// PodOfProcess returns the pod, NAMESPACE/NAME, of a process in the node's
// network; empty: unknown, or none.
func (n *Names) PodOfProcess(pid uint32) string {
	if n.podOfPID == nil {
		return ""
	}
	return n.podOfPID(pid)
}
