// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"slices"
	"time"

	"github.com/stackhop/stackhop/events"
)

// pod is one pod, from whatever sources, or what is remembered of a dead one.
type pod struct {
	said [sources]*statement // nil: this source does not know it
	gone time.Time           // when it died; zero: it lives
	view
}

// statement is what one source says of a pod.
type statement struct {
	Pod
	full string // its full name; empty: the source does not know it
}

// view is what all sources together say of a pod.
type view struct {
	uid, full, node   string
	ips               []netip.Addr
	addrs             []netip.Addr // by which it is found: the IPs, if they are its own
	netns             uint32       // by which it is found; 0: none
	containers        []string
	labels            events.Labels
	hostNetwork, done bool
}

// PutPod implements Store.
func (x *Index) PutPod(from Source, p *Pod) {
	s := newStatement(p)
	if s.UID == "" && s.full == "" {
		return
	}
	x.write(func() bool {
		r := x.podOf(from, s)
		if was := r.said[from]; was != nil && samePod(&was.Pod, &s.Pod) {
			return false
		}
		r.said[from] = s
		x.look(r, r.merge())
		return true
	})
}

// DeletePod implements Store. A pod without UID is deleted by NAMESPACE/NAME.
func (x *Index) DeletePod(from Source, uid string) {
	x.write(func() bool {
		r := x.pods[uid]
		for _, p := range x.podNames[uid] {
			if s := p.said[from]; r == nil && s != nil && s.UID == "" {
				r = p
			}
		}
		if r == nil || r.said[from] == nil {
			return false
		}
		r.said[from] = nil
		if r.said == ([sources]*statement{}) {
			x.look(r, view{})
		} else {
			x.look(r, r.merge())
		}
		return true
	})
}

func newStatement(p *Pod) *statement {
	s := &statement{Pod: *p}
	s.IPs, s.Containers = plainAddrs(p.IPs), slices.Clone(p.Containers)
	if p.Name != "" {
		s.full = fullName(p.Namespace, p.Name)
		s.Namespace, s.Name = s.full[:len(p.Namespace)], s.full[len(p.Namespace)+1:]
	}
	return s
}

func samePod(a, b *Pod) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name && a.UID == b.UID && a.Node == b.Node &&
		a.HostNetwork == b.HostNetwork && a.Netns == b.Netns && a.Done == b.Done && a.Labels == b.Labels &&
		slices.Equal(a.IPs, b.IPs) && slices.Equal(a.Containers, b.Containers)
}

// podOf returns the pod that a source speaks of: that of the same UID. If one
// of two sources does not know it, the name must do.
func (x *Index) podOf(from Source, s *statement) *pod {
	if r := x.pods[s.UID]; r != nil {
		return r
	}
	for _, r := range slices.Backward(x.podNames[s.full]) {
		own := r.said[from] == nil || r.said[from].UID == ""
		if own && (s.UID == "" || r.uid == "") {
			return r
		}
	}
	return &pod{}
}

// merge returns what all sources say now. A name once known stays: the source
// that goes on knowing the pod may not know what it is called.
func (r *pod) merge() view {
	v := view{full: r.full, node: r.node}
	for _, s := range slices.Backward(r.said[:]) { // what an earlier one says goes first
		if s == nil {
			continue
		}
		v.uid, v.full, v.node = either(s.UID, v.uid), either(s.full, v.full), either(s.Node, v.node)
		v.ips, v.containers = union(s.IPs, v.ips), union(s.Containers, v.containers)
		v.hostNetwork, v.done = v.hostNetwork || s.HostNetwork, v.done || s.Done
		if s.Netns != 0 {
			v.netns = s.Netns
		}
		if s.Labels != "" {
			v.labels = s.Labels
		}
	}
	if v.hostNetwork || v.done { // they are its node's, or may be another pod's
		v.netns = 0
		return v
	}
	v.addrs = v.ips
	return v
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// union returns what is in one of two lists, which it does not change.
func union[T comparable](a, b []T) []T {
	if len(a) == 0 {
		return b
	}
	for _, e := range b {
		if !slices.Contains(a, e) {
			a = append(slices.Clip(a), e)
		}
	}
	return a
}

// look changes how a pod is found: by what v says; the zero view: not at all.
// What it is not found by any more, it still is as a dead one for a while.
func (x *Index) look(r *pod, v view) {
	was := r.view
	dead := &pod{view: view{full: was.full, node: was.node, labels: was.labels}}
	r.view = v
	if was.uid != v.uid {
		delete(x.pods, was.uid)
		if v.uid != "" {
			x.pods[v.uid] = r
		}
	}
	if was.full != v.full {
		if was.full != "" {
			x.unname(r, was.full)
		}
		if v.full != "" {
			x.podNames[v.full] = append(x.podNames[v.full], r)
		}
	}
	x.lookByAddress(r, was, dead)
	if was.netns != v.netns {
		x.lookByNetns(r, was.netns, dead)
	}
	x.lookByContainer(r, was.containers, dead)
	x.bury(dead)
}

func (x *Index) unname(r *pod, full string) {
	if rest := without(x.podNames[full], r); rest != nil {
		x.podNames[full] = rest
	} else {
		delete(x.podNames, full)
	}
}

func (x *Index) lookByAddress(r *pod, was view, dead *pod) {
	for _, a := range was.addrs {
		if !slices.Contains(r.addrs, a) {
			dead.addrs = append(dead.addrs, a)
			x.change(a, func(e *address) { e.remove(r, dead) })
		}
	}
	for _, a := range r.addrs {
		if !slices.Contains(was.addrs, a) {
			x.at(a).add(r)
		}
	}
	if !r.done || was.done || r.hostNetwork || r.full == "" {
		return
	}
	// It may have ended before it was known that it had begun.
	dead.full, dead.node = r.full, r.node
	for _, a := range r.ips {
		if e := x.at(a); len(e.live) == 0 && e.dead != dead {
			e.dead, dead.addrs = dead, append(dead.addrs, a)
		}
	}
}

func (x *Index) lookByNetns(r *pod, was uint32, dead *pod) {
	if was != 0 {
		dead.netns = was
		o := x.netns[was]
		if o.remove(r, dead); o.empty() {
			delete(x.netns, was)
		}
	}
	if r.netns != 0 {
		o := x.netns[r.netns]
		if o == nil {
			o = &owners{}
			x.netns[r.netns] = o
		}
		o.add(r)
	}
}

func (x *Index) lookByContainer(r *pod, was []string, dead *pod) {
	for _, id := range was {
		if !slices.Contains(r.containers, id) && x.containers[id] == r {
			if dead.full == "" {
				delete(x.containers, id)
				continue
			}
			dead.containers = append(dead.containers, id)
			x.containers[id] = dead
		}
	}
	for _, id := range r.containers {
		x.containers[id] = r
	}
}
