// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"slices"
)

// service is a service, and where its packets may go.
type service struct {
	Service
	full string
	*backends
}

// virtualPort is a service that is at an address and port.
type virtualPort struct {
	svc      *service
	port     *ServicePort
	external bool // not its cluster address
	proxy    bool // what comes to nodes has another destination
}

// PutService implements Store.
func (x *Index) PutService(s *Service) {
	n := &service{Service: *s, full: fullName(s.Namespace, s.Name)}
	n.Namespace, n.Name = n.full[:len(s.Namespace)], n.full[len(s.Namespace)+1:]
	n.ClusterIPs, n.ExternalIPs = plainAddrs(s.ClusterIPs), plainAddrs(s.ExternalIPs)
	n.Ingress, n.Ports = slices.Clone(s.Ingress), slices.Clone(s.Ports)
	x.write(func() bool {
		was := x.services[n.full]
		if was != nil {
			if sameService(&was.Service, &n.Service) {
				return false
			}
			x.unlinkService(was)
		}
		n.backends = x.backendsOf(n.full)
		x.services[n.full] = n
		x.linkService(n)
		return true
	})
}

// DeleteService implements Store.
func (x *Index) DeleteService(namespace, name string) {
	x.write(func() bool {
		s := x.services[fullName(namespace, name)]
		if s == nil {
			return false
		}
		x.unlinkService(s)
		delete(x.services, s.full)
		x.dropBackends(s.full)
		return true
	})
}

func sameService(a, b *Service) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name && a.Type == b.Type &&
		a.ExternalLocal == b.ExternalLocal && a.InternalLocal == b.InternalLocal && a.Affinity == b.Affinity &&
		slices.Equal(a.ClusterIPs, b.ClusterIPs) && slices.Equal(a.ExternalIPs, b.ExternalIPs) &&
		slices.Equal(a.Ingress, b.Ingress) && slices.Equal(a.Ports, b.Ports)
}

// virtualAddr is an address of a service.
type virtualAddr struct {
	ip              netip.Addr
	external, proxy bool
}

// virtualAddrs lists a service's addresses, each once.
func (s *service) virtualAddrs() []virtualAddr {
	out := make([]virtualAddr, 0, len(s.ClusterIPs)+len(s.ExternalIPs)+len(s.Ingress))
	add := func(v virtualAddr) {
		same := func(o virtualAddr) bool { return o.ip == v.ip }
		if v.ip.IsValid() && !slices.ContainsFunc(out, same) {
			out = append(out, v)
		}
	}
	for _, a := range s.ClusterIPs {
		add(virtualAddr{ip: a})
	}
	for _, a := range s.ExternalIPs {
		add(virtualAddr{ip: a, external: true})
	}
	for _, i := range s.Ingress {
		add(virtualAddr{ip: plain(i.IP), external: true, proxy: i.Proxy})
	}
	return out
}

func (x *Index) linkService(s *service) {
	addrs := s.virtualAddrs()
	for _, v := range addrs {
		e := x.at(v.ip)
		e.services = append(e.services, s)
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		for _, v := range addrs {
			at := netip.AddrPortFrom(v.ip, p.Port)
			x.virtual[at] = append(x.virtual[at], virtualPort{s, p, v.external, v.proxy})
		}
		if p.NodePort != 0 {
			at := ofNodes(p.NodePort)
			x.virtual[at] = append(x.virtual[at], virtualPort{s, p, true, false})
		}
	}
}

func (x *Index) unlinkService(s *service) {
	addrs := s.virtualAddrs()
	for _, v := range addrs {
		x.change(v.ip, func(e *address) { e.services = without(e.services, s) })
	}
	for _, p := range s.Ports {
		for _, v := range addrs {
			x.unlinkVirtual(s, netip.AddrPortFrom(v.ip, p.Port))
		}
		x.unlinkVirtual(s, ofNodes(p.NodePort))
	}
}

func (x *Index) unlinkVirtual(s *service, at netip.AddrPort) {
	rest := slices.DeleteFunc(x.virtual[at], func(v virtualPort) bool { return v.svc == s })
	if len(rest) > 0 {
		x.virtual[at] = rest
	} else {
		delete(x.virtual, at)
	}
}

// ofNodes is the key of what is at a port of all nodes.
func ofNodes(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, port) }

// serves says whether a service may be at a node's address: node ports are of
// the families that it has.
func (s *service) serves(ip netip.Addr) bool {
	return slices.ContainsFunc(s.ClusterIPs, func(a netip.Addr) bool { return a.Is4() == ip.Is4() })
}

// PutNode implements Store.
func (x *Index) PutNode(n *Node) {
	c := &Node{n.Name, plainAddrs(n.Addrs), slices.Clone(n.PodCIDRs)}
	x.write(func() bool {
		if was := x.nodes[c.Name]; was != nil {
			if slices.Equal(was.Addrs, c.Addrs) && slices.Equal(was.PodCIDRs, c.PodCIDRs) {
				return false
			}
			x.unlinkNode(was)
		}
		x.nodes[c.Name] = c
		for _, a := range c.Addrs {
			e := x.at(a)
			e.nodes = append(e.nodes, c)
		}
		return true
	})
}

// DeleteNode implements Store.
func (x *Index) DeleteNode(name string) {
	x.write(func() bool {
		n := x.nodes[name]
		if n == nil {
			return false
		}
		x.unlinkNode(n)
		delete(x.nodes, name)
		return true
	})
}

func (x *Index) unlinkNode(n *Node) {
	for _, a := range n.Addrs {
		x.change(a, func(e *address) { e.nodes = without(e.nodes, n) })
	}
}
