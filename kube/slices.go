// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/stackhop/stackhop/events"
)

// backends are the endpoints of one service.
type backends struct {
	slices []*Slice

	mu     sync.Mutex // of what follows, which readers of the index fill
	counts map[countKey]counts
	lists  map[countKey]*events.ServiceEndpoints // without a node
}

// countKey is which endpoints are counted, and as seen from where.
type countKey struct {
	name  string // of the port
	proto uint8
	is4   bool
	node  string
}

type counts struct{ here, elsewhere, terminating, notReady int }

// maxCounts is for how many questions a service's answers are kept.
const maxCounts = 64

// PutSlice implements Store.
func (x *Index) PutSlice(s *Slice) {
	c := cloneSlice(s)
	key := fullName(s.Namespace, s.Name)
	x.write(func() bool {
		if was := x.slices[key]; was != nil {
			if sameSlice(was, c) {
				return false
			}
			x.unlinkSlice(was)
		}
		x.slices[key] = c
		b := x.backendsOf(fullName(c.Namespace, c.Service))
		b.slices, b.counts, b.lists = append(b.slices, c), nil, nil
		return true
	})
}

// DeleteSlice implements Store.
func (x *Index) DeleteSlice(namespace, name string) {
	key := fullName(namespace, name)
	x.write(func() bool {
		s := x.slices[key]
		if s == nil {
			return false
		}
		x.unlinkSlice(s)
		delete(x.slices, key)
		return true
	})
}

func cloneSlice(s *Slice) *Slice {
	c := *s
	c.Ports, c.Endpoints = slices.Clone(s.Ports), slices.Clone(s.Endpoints)
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		e.Addrs = plainAddrs(e.Addrs)
		e.Pod = "" // nobody asks for it, and there are many
	}
	return &c
}

func sameSlice(a, b *Slice) bool {
	return a.Service == b.Service && slices.Equal(a.Ports, b.Ports) && slices.EqualFunc(a.Endpoints, b.Endpoints, func(a, b Endpoint) bool {
		return a.Node == b.Node && a.Zone == b.Zone && a.Ready == b.Ready && a.Serving == b.Serving && a.Terminating == b.Terminating && slices.Equal(a.Addrs, b.Addrs)
	})
}

func (x *Index) unlinkSlice(s *Slice) {
	full := fullName(s.Namespace, s.Service)
	b := x.backends[full]
	b.slices, b.counts, b.lists = without(b.slices, s), nil, nil
	x.dropBackends(full)
}

// backendsOf returns the backends of a service, which may not be known yet.
func (x *Index) backendsOf(full string) *backends {
	b := x.backends[full]
	if b == nil {
		b = &backends{}
		x.backends[full] = b
	}
	return b
}

// dropBackends forgets those that nothing speaks of any more.
func (x *Index) dropBackends(full string) {
	if x.services[full] == nil && len(x.backends[full].slices) == 0 {
		delete(x.backends, full)
	}
}

// servers calls f for each endpoint address that a service port leads to.
func (b *backends) servers(p *ServicePort, f func(ip netip.Addr, port uint16, e *Endpoint)) {
	for _, s := range b.slices {
		for _, sp := range s.Ports {
			if sp.Name != p.Name || sp.Proto != p.Proto {
				continue
			}
			for i := range s.Endpoints {
				for _, ip := range s.Endpoints[i].Addrs {
					f(ip, sp.Port, &s.Endpoints[i])
				}
			}
		}
	}
}

// count counts the endpoints of one family of addresses.
func (b *backends) count(p *ServicePort, is4 bool, node string) counts {
	key := countKey{p.Name, p.Proto, is4, node}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c, ok := b.counts[key]; ok {
		return c
	}
	best := b.best(p, is4)
	var c counts
	for _, e := range best {
		switch {
		case e.rank() == isReady && node != "" && e.Node == node:
			c.here++
		case e.rank() == isReady:
			c.elsewhere++
		case e.rank() == isTerminating:
			c.terminating++
		default:
			c.notReady++
		}
	}
	if b.counts == nil || len(b.counts) >= maxCounts {
		b.counts = map[countKey]counts{}
	}
	b.counts[key] = c
	return c
}

// best are the endpoints of one family of addresses, each by the first of them.
func (b *backends) best(p *ServicePort, is4 bool) map[netip.AddrPort]*Endpoint {
	// One may be in several slices, while it moves from one to the other.
	best := map[netip.AddrPort]*Endpoint{}
	var last *Endpoint
	b.servers(p, func(ip netip.Addr, port uint16, e *Endpoint) {
		at := netip.AddrPortFrom(ip, port)
		if ip.Is4() != is4 || e == last {
			return
		}
		last = e
		if was := best[at]; was == nil || e.rank() > was.rank() {
			best[at] = e
		}
	})
	return best
}

// list lists the endpoints of one family of addresses, the ready ones first.
func (b *backends) list(p *ServicePort, is4 bool) *events.ServiceEndpoints {
	key := countKey{name: p.Name, proto: p.Proto, is4: is4}
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.lists[key]; l != nil {
		return l
	}
	best := b.best(p, is4)
	at := slices.SortedFunc(maps.Keys(best), func(x, y netip.AddrPort) int {
		return cmp.Or(best[y].rank()-best[x].rank(), x.Compare(y))
	})
	n := min(len(at), events.MaxEndpoints)
	l := &events.ServiceEndpoints{LeftOut: len(at) - n}
	for _, a := range at[:n] {
		e := best[a]
		l.List = append(l.List, events.ServiceEndpoint{
			Addr: a, Node: e.Node, Zone: e.Zone, Ready: e.Ready, Serving: e.Serving, Terminating: e.Terminating,
		})
	}
	if b.lists == nil || len(b.lists) >= maxCounts {
		b.lists = map[countKey]*events.ServiceEndpoints{}
	}
	b.lists[key] = l
	return l
}

// What an endpoint is, the better the more.
const (
	isNotReady = iota
	isTerminating
	isReady
)

func (e *Endpoint) rank() int {
	switch {
	case e.Terminating:
		return isTerminating
	case e.Ready:
		return isReady
	}
	return isNotReady
}

// Service tells about the virtual service at an address, as packets find it that
// come to a node. There is none at a load balancer's address in mode Proxy:
// packets to it do not come to nodes as such.
func (x *Index) Service(ip netip.Addr, port uint16, proto uint8, node string) (events.ServiceFacts, bool) {
	ip = plain(ip)
	x.mu.RLock()
	defer x.mu.RUnlock()
	v, ok := x.serviceAt(ip, port, func(v virtualPort) bool { return v.port.Proto == proto && !v.proxy })
	// Which endpoints are here is not known of a node that is not known.
	if !ok || (len(x.nodes) > 0 && x.nodes[node] == nil) {
		return events.ServiceFacts{}, false
	}
	c := v.svc.count(v.port, ip.Is4(), node)
	f := events.ServiceFacts{
		Name: v.svc.full, Port: v.port.text(), Type: v.svc.Type, Policy: "Cluster", Affinity: v.svc.Affinity,
		Here: c.here, Elsewhere: c.elsewhere, Terminating: c.terminating, NotReady: c.notReady,
		Stale: x.states[FromAPI] == Stale, Endpoints: v.svc.list(v.port, ip.Is4()),
	}
	if (v.external && v.svc.ExternalLocal) || (!v.external && v.svc.InternalLocal) {
		f.Policy = "Local"
	}
	return f, true
}
