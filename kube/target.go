// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

// Member is one end that a target stands for: an address, and a port or any.
type Member = pcapexpr.Member

// Kinds of target.
const (
	kindPod       = "pod"
	kindService   = "svc"
	kindNode      = "node"
	kindNamespace = "namespace"
)

// members is a list of ends that is being made.
type members []Member

func (m *members) add(ip netip.Addr, port uint16) {
	*m = append(*m, Member{Net: netip.PrefixFrom(ip, ip.BitLen()), Port: port})
}

// done returns the list in order, each end once, without what another one
// covers.
func (m members) done() []Member {
	slices.SortFunc(m, func(a, b Member) int {
		if c := a.Net.Addr().Compare(b.Net.Addr()); c != 0 {
			return c
		}
		return int(a.Port) - int(b.Port)
	})
	out := m[:0]
	for _, e := range m {
		if n := len(out); n > 0 && out[n-1].Net == e.Net && (out[n-1].Port == e.Port || out[n-1].Port == 0) {
			continue // any port comes first
		}
		out = append(out, e)
	}
	return out
}

// Target returns the ends that a pod, svc or node stands for now, and of a
// service those at one of its ports, if port is not 0. A pod in its node's
// network stands for its node's addresses. A service stands for its own
// addresses, its node ports, and its endpoints, ready or not.
//
// Errors wrap ErrNotFound, ErrNoAddress, ErrNoPort or ErrNobodyAsked. Their text
// is for users, and is made when it is asked for.
func (x *Index) Target(kind, namespace, name string, port uint16) ([]Member, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	full := fullName(namespace, name)
	switch kind {
	case kindPod:
		if pods := x.podNames[full]; len(pods) > 0 {
			return podMembers(pods, port)
		}
	case kindService:
		if s := x.services[full]; s != nil {
			return x.serviceMembers(s, port)
		}
	case kindNode:
		if n := x.nodes[name]; n != nil {
			return nodeMembers(n, port)
		}
	default:
		return nil, fmt.Errorf("%q is no kind of target: there are pod, svc and node", kind)
	}
	return nil, x.missing(kind, namespace, name)
}

// InNamespace returns the ends that all pods and services of a namespace stand
// for, but for pods in their node's network: a node's address is not theirs.
// Errors are as of Target.
func (x *Index) InNamespace(namespace string) ([]Member, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var all members
	known := false
	for full, pods := range x.podNames {
		if !in(full, namespace) {
			continue
		}
		known = true
		for _, p := range pods {
			for _, a := range p.addrs {
				all.add(a, 0)
			}
		}
	}
	for _, s := range x.services {
		if s.Namespace == namespace {
			known = true
			x.addService(&all, s, 0)
		}
	}
	switch {
	case !known:
		return nil, x.missing(kindNamespace, namespace, "")
	case len(all) == 0:
		return nil, fmt.Errorf("namespace %s: %w", events.Safe(namespace), ErrNoAddress)
	}
	return all.done(), nil
}

// in says whether a full name is of a namespace.
func in(full, namespace string) bool {
	rest, ok := strings.CutPrefix(full, namespace)
	return ok && strings.HasPrefix(rest, "/")
}

func podMembers(pods []*pod, port uint16) ([]Member, error) {
	var all members
	ended := true
	for _, p := range pods {
		if p.done {
			continue
		}
		ended = false
		for _, a := range p.ips {
			all.add(a, port)
		}
	}
	name := events.Safe(pods[0].full)
	switch {
	case ended:
		return nil, fmt.Errorf("pod %s has ended: %w", name, ErrNoAddress)
	case len(all) == 0:
		return nil, fmt.Errorf("pod %s: %w yet", name, ErrNoAddress)
	}
	return all.done(), nil
}

func nodeMembers(n *Node, port uint16) ([]Member, error) {
	var all members
	for _, a := range n.Addrs {
		all.add(a, port)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("node %s: %w", events.Safe(n.Name), ErrNoAddress)
	}
	return all.done(), nil
}

func (x *Index) serviceMembers(s *service, port uint16) ([]Member, error) {
	name := events.Safe(s.full)
	if port != 0 && !slices.ContainsFunc(s.Ports, func(p ServicePort) bool { return p.Port == port }) {
		return nil, fmt.Errorf("service %s: %w %d: %s", name, ErrNoPort, port, s.portsText())
	}
	var all members
	x.addService(&all, s, port)
	switch {
	case len(all) == 0 && s.Type == "ExternalName":
		return nil, fmt.Errorf("service %s is of type ExternalName: %w", name, ErrNoAddress)
	case len(all) == 0:
		return nil, fmt.Errorf("service %s: %w, neither of its own nor of an endpoint", name, ErrNoAddress)
	}
	return all.done(), nil
}

// addService adds what a service stands for at one of its ports; 0: at all.
func (x *Index) addService(all *members, s *service, port uint16) {
	addrs := s.virtualAddrs()
	for i := range s.Ports {
		p := &s.Ports[i]
		if port != 0 && p.Port != port {
			continue
		}
		for _, v := range addrs {
			all.add(v.ip, p.Port)
		}
		if p.NodePort != 0 {
			x.addNodePort(all, s, p.NodePort)
		}
		s.servers(p, func(ip netip.Addr, port uint16, _ *Endpoint) { all.add(ip, port) })
	}
	if len(s.Ports) > 0 {
		return
	}
	for _, sl := range s.backends.slices { // a headless one may do without ports
		for _, e := range sl.Endpoints {
			for _, ip := range e.Addrs {
				all.add(ip, 0)
			}
		}
	}
}

func (x *Index) addNodePort(all *members, s *service, port uint16) {
	for _, n := range x.nodes {
		for _, a := range n.Addrs {
			if s.serves(a) {
				all.add(a, port)
			}
		}
	}
}
