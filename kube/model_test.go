// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// model does what an Index does in the plainest way: it keeps what it is told in
// lists and looks through all of them for each answer.
type model struct {
	now    time.Time
	states [sources]State
	pods   []*modelPod
	claims []claim // by when they were made
	vips   []*Service
	slices []*Slice
	nodes  []*Node
}

type modelPod struct {
	uid, full, node string
	said            [sources]*Pod
}

// claim is a pod's hold on an address. One without a pod is that of a dead one.
type claim struct {
	addr       netip.Addr
	pod        *modelPod
	full, node string
	gone       time.Time
}

func (m *model) putPod(from Source, p *Pod) {
	i := slices.IndexFunc(m.pods, func(r *modelPod) bool { return r.uid == p.UID })
	if i < 0 {
		i = len(m.pods)
		m.pods = append(m.pods, &modelPod{uid: p.UID, full: p.Namespace + "/" + p.Name})
	}
	r := m.pods[i]
	ended := !r.done()
	r.said[from] = p
	ended = ended && r.done() && !r.host()
	node := r.node // by which it was known
	if n := r.said[FromAPI]; n != nil && n.Node != "" {
		r.node = n.Node
	}
	if ended {
		node = r.node
	}
	m.claimAll(r, node)
	if !ended {
		return
	}
	for _, a := range r.ips() {
		if m.holder(a) == nil {
			m.claims = append(m.claims, claim{a, nil, r.full, node, m.now})
		}
	}
}

func (m *model) deletePod(from Source, uid string) {
	for i, r := range m.pods {
		if r.uid != uid {
			continue
		}
		r.said[from] = nil
		m.claimAll(r, r.node)
		if r.said == ([sources]*Pod{}) {
			m.pods = slices.Delete(m.pods, i, i+1)
		}
		return
	}
}

func (r *modelPod) any(f func(*Pod) bool) bool {
	return slices.ContainsFunc(r.said[:], func(p *Pod) bool { return p != nil && f(p) })
}

func (r *modelPod) done() bool { return r.any(func(p *Pod) bool { return p.Done }) }
func (r *modelPod) host() bool { return r.any(func(p *Pod) bool { return p.HostNetwork }) }

func (r *modelPod) ips() (all []netip.Addr) {
	for _, p := range r.said {
		if p != nil {
			all = append(all, p.IPs...)
		}
	}
	return all
}

// claimAll makes a pod's claims what they should be. node is its node by those
// that it has no more.
func (m *model) claimAll(r *modelPod, node string) {
	var want []netip.Addr
	if !r.done() && !r.host() {
		want = r.ips()
	}
	for i := 0; i < len(m.claims); i++ {
		c := &m.claims[i]
		if c.pod != r || slices.Contains(want, c.addr) {
			continue
		}
		dead := claim{c.addr, nil, r.full, node, m.now}
		m.claims = slices.Delete(m.claims, i, i+1)
		i--
		if m.holder(dead.addr) == nil {
			m.claims = append(m.claims, dead)
		}
	}
	for _, a := range want {
		if !slices.ContainsFunc(m.claims, func(c claim) bool { return c.pod == r && c.addr == a }) {
			m.claims = append(m.claims, claim{addr: a, pod: r})
		}
	}
}

// holder is the pod that has an address.
func (m *model) holder(a netip.Addr) *modelPod {
	var found *modelPod
	for _, c := range slices.Backward(m.claims) {
		if c.addr != a || c.pod == nil {
			continue
		}
		if found == nil || (m.states[FromCRI] == Current && c.pod.said[FromCRI] != nil && found.said[FromCRI] == nil) {
			found = c.pod
		}
	}
	return found
}

func (m *model) address(a netip.Addr, port uint16) string {
	var pod, node string
	stale := false
	if r := m.holder(a); r != nil {
		pod, node = r.full, r.node
		stale = true
		for i, p := range r.said {
			stale = stale && (p == nil || m.states[i] == Stale)
		}
	} else if i := last(m.claims, func(c claim) bool { return c.addr == a }); i >= 0 && m.now.Sub(m.claims[i].gone) <= keepDead {
		pod, node, stale = m.claims[i].full, m.claims[i].node, true
	}
	ofNode := last(m.nodes, func(n *Node) bool { return slices.Contains(n.Addrs, a) })
	if pod == "" && ofNode >= 0 {
		node, stale = m.nodes[ofNode].Name, m.states[FromAPI] == Stale
	}
	service := m.service(a, port, m.holder(a) != nil || ofNode >= 0, ofNode >= 0)
	stale = stale || (service != "" && m.states[FromAPI] == Stale)
	s := strings.Join(strings.Fields(pod+" "+service+" "+node), " ")
	if stale {
		s += "?"
	}
	return s
}

// service names the service at an address; shared: something else is there, too.
func (m *model) service(a netip.Addr, port uint16, shared, node bool) string {
	at := func(s *Service) bool {
		return slices.Contains(s.ClusterIPs, a) || slices.Contains(s.ExternalIPs, a) ||
			slices.ContainsFunc(s.Ingress, func(i Ingress) bool { return i.IP == a })
	}
	var all []*Service
	for _, s := range m.vips {
		if at(s) {
			all = append(all, s)
		}
	}
	if len(all) == 1 && !shared {
		return all[0].Namespace + "/" + all[0].Name
	}
	i := last(all, func(s *Service) bool {
		return slices.ContainsFunc(s.Ports, func(p ServicePort) bool { return p.Port == port })
	})
	if i < 0 {
		all = m.vips
		i = last(all, func(s *Service) bool {
			return node && slices.ContainsFunc(s.Ports, func(p ServicePort) bool { return p.NodePort == port && port != 0 }) &&
				slices.ContainsFunc(s.ClusterIPs, func(c netip.Addr) bool { return c.Is4() == a.Is4() })
		})
	}
	if i < 0 {
		return ""
	}
	return all[i].Namespace + "/" + all[i].Name
}

// target is what a pod or service stands for, in words, in any order.
func (m *model) target(kind, full string) (all []string) {
	if kind == kindPod {
		for _, r := range m.pods {
			if r.full == full && !r.done() {
				for _, a := range r.ips() {
					all = append(all, a.String())
				}
			}
		}
		return all
	}
	for _, s := range m.vips {
		if s.Namespace+"/"+s.Name == full {
			all = append(all, m.ends(s)...)
		}
	}
	return all
}

func (m *model) ends(s *Service) (all []string) {
	at := func(a netip.Addr, port uint16) { all = append(all, fmt.Sprintf("%s port %d", a, port)) }
	for _, p := range s.Ports {
		for _, a := range slices.Concat(s.ClusterIPs, s.ExternalIPs) {
			at(a, p.Port)
		}
		for _, i := range s.Ingress {
			at(i.IP, p.Port)
		}
		for _, n := range m.nodes {
			for _, a := range n.Addrs {
				if p.NodePort != 0 && slices.ContainsFunc(s.ClusterIPs, func(c netip.Addr) bool { return c.Is4() == a.Is4() }) {
					at(a, p.NodePort)
				}
			}
		}
	}
	for _, sl := range m.slices {
		for _, e := range sl.Endpoints {
			if sl.Service == s.Name && len(s.Ports) == 0 {
				all = append(all, e.Addrs[0].String())
			}
			for _, sp := range sl.Ports {
				if sl.Service == s.Name && slices.ContainsFunc(s.Ports, func(p ServicePort) bool { return p.Name == sp.Name }) {
					at(e.Addrs[0], sp.Port)
				}
			}
		}
	}
	return all
}

// last is the index of the last element that is as asked for; -1: none.
func last[T any](list []T, is func(T) bool) int {
	for i := len(list) - 1; i >= 0; i-- {
		if is(list[i]) {
			return i
		}
	}
	return -1
}

// replace puts an element at the end of a list, in place of its like.
func replace[T any](list []T, e T, same func(a, b T) bool) []T {
	list = slices.DeleteFunc(list, func(o T) bool { return same(o, e) })
	return append(list, e)
}
