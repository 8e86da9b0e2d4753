// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/stackhop/stackhop/events"
)

// Address returns the names of an address: of the pod and node that have it, and
// of the service that is at it, or at this port of it. The zero value: none.
func (x *Index) Address(ip netip.Addr, port uint16) events.AddressNames {
	ip = plain(ip)
	x.mu.RLock()
	defer x.mu.RUnlock()
	e := x.addrs[ip]
	if e == nil {
		return events.AddressNames{}
	}
	var n events.AddressNames
	if s := x.serviceNamed(e, ip, port); s != nil {
		n.Service, n.Stale = s.full, x.states[FromAPI] == Stale
	}
	if p := x.owner(&e.owners); p != nil {
		n.Pod, n.Node = p.full, p.node
		n.Stale = n.Stale || x.stale(p)
	} else if len(e.nodes) > 0 {
		n.Node = e.nodes[len(e.nodes)-1].Name
		n.Stale = n.Stale || x.states[FromAPI] == Stale
	}
	return n
}

// serviceNamed returns the service that an address and port mean. What has an
// address for itself means it at all ports.
func (x *Index) serviceNamed(e *address, ip netip.Addr, port uint16) *service {
	if len(e.services) == 1 && len(e.nodes) == 0 && len(e.live) == 0 {
		return e.services[0]
	}
	if len(e.services) == 0 && len(e.nodes) == 0 {
		return nil
	}
	v, _ := x.serviceAt(ip, port, func(virtualPort) bool { return true })
	return v.svc
}

// serviceAt returns the newest service port at an address and port that is as
// asked for: its own address, or that of a node.
func (x *Index) serviceAt(ip netip.Addr, port uint16, is func(virtualPort) bool) (virtualPort, bool) {
	for _, v := range slices.Backward(x.virtual[netip.AddrPortFrom(ip, port)]) {
		if is(v) {
			return v, true
		}
	}
	if e := x.addrs[ip]; e == nil || len(e.nodes) == 0 {
		return virtualPort{}, false
	}
	for _, v := range slices.Backward(x.virtual[ofNodes(port)]) {
		if is(v) && v.svc.serves(ip) {
			return v, true
		}
	}
	return virtualPort{}, false
}

// text is a port's name, or its number.
func (p *ServicePort) text() string {
	return either(p.Name, strconv.Itoa(int(p.Port)))
}

// owner returns the pod that has something, if it can be named.
func (x *Index) owner(o *owners) *pod {
	if p := o.best(x.states[FromCRI] == Current); p != nil && p.full != "" && !x.expired(p) {
		return p
	}
	return nil
}

// stale says whether a pod's names may be wrong: it is dead, or all who know it
// are lost.
func (x *Index) stale(p *pod) bool {
	if !p.gone.IsZero() {
		return true
	}
	for i, s := range p.said {
		if s != nil && x.states[i] != Stale {
			return false
		}
	}
	return true
}

// PodOfNetns returns the pod, NAMESPACE/NAME, that has a network namespace, and
// its node, which may be unknown. stale: it may not have it any more.
func (x *Index) PodOfNetns(inode uint32) (name, node string, stale, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	o := x.netns[inode]
	if o == nil {
		return "", "", false, false
	}
	p := x.owner(o)
	if p == nil {
		return "", "", false, false
	}
	return p.full, p.node, x.stale(p), true
}

// PodLabels returns the labels of a pod, NAMESPACE/NAME, that has, or had lately, a
// network namespace, or else lives; empty: unknown, or none.
func (x *Index) PodLabels(name string, inode uint32) events.Labels {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if o := x.netns[inode]; o != nil {
		if p := x.owner(o); p != nil && p.full == name {
			return p.labels
		}
	}
	if list := x.podNames[name]; len(list) > 0 {
		return list[len(list)-1].labels
	}
	return ""
}

// PodOfContainer returns the pod, NAMESPACE/NAME, of a container or sandbox.
func (x *Index) PodOfContainer(id string) (name string, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	p := x.containers[id]
	if p == nil || p.full == "" || x.expired(p) {
		return "", false
	}
	return p.full, true
}

// podAt returns the living pod that has an address for itself.
func (x *Index) podAt(ip netip.Addr) (name, node string, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	e := x.addrs[plain(ip)]
	if e == nil || len(e.live) == 0 {
		return "", "", false
	}
	p := x.owner(&e.owners)
	if p == nil {
		return "", "", false
	}
	return p.full, p.node, true
}
