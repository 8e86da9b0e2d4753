// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"slices"
	"time"
)

// How long names of what is gone are kept, as its packets may still be told, and
// of how many pods.
const (
	keepDead = 10 * time.Minute
	maxDead  = 8192
)

// owners are the pods that have, or say to have, an address or a namespace.
// Numbers are given to the next pod at once, while some source still believes in
// the last one.
type owners struct {
	live []*pod // by when they got it, the newest last
	dead *pod   // the last one that had it
}

// best returns the pod that has it now. With a current container runtime, a pod
// that it runs is believed in more than one that the API server tells of.
func (o *owners) best(runtime bool) *pod {
	var found *pod
	for _, p := range slices.Backward(o.live) {
		if !runtime || p.said[FromCRI] != nil {
			return p
		}
		if found == nil {
			found = p
		}
	}
	if found == nil {
		found = o.dead
	}
	return found
}

func (o *owners) add(p *pod) {
	o.live = append(o.live, p)
	o.dead = nil
}

// remove lets a pod have it no more. dead stands for it from now on, if it was
// the last to have it.
func (o *owners) remove(p, dead *pod) {
	o.live = without(o.live, p)
	if len(o.live) == 0 && dead.full != "" {
		o.dead = dead
	}
}

func (o *owners) empty() bool { return len(o.live) == 0 && o.dead == nil }

// address is all that has one address.
type address struct {
	owners
	nodes    []*Node    // the newest last, as in services
	services []*service // that have it as their virtual address
}

func (a *address) empty() bool {
	return a.owners.empty() && len(a.nodes) == 0 && len(a.services) == 0
}

// at returns what has an address, to add to it.
func (x *Index) at(a netip.Addr) *address {
	e := x.addrs[a]
	if e == nil {
		e = &address{}
		x.addrs[a] = e
	}
	return e
}

// change changes what has an address, which is there.
func (x *Index) change(a netip.Addr, f func(*address)) {
	e := x.addrs[a]
	if f(e); e.empty() {
		delete(x.addrs, a)
	}
}

// bury keeps the names of a dead pod for a while.
func (x *Index) bury(dead *pod) {
	if dead.full == "" || len(dead.addrs)+len(dead.containers) == 0 && dead.netns == 0 {
		return
	}
	dead.gone = x.now()
	x.dead = append(x.dead, dead)
	x.forget()
}

// forget lets go of dead pods that are too old or too many.
func (x *Index) forget() {
	for len(x.dead) > 0 && (len(x.dead) > maxDead || x.expired(x.dead[0])) {
		p := x.dead[0]
		x.dead[0] = nil
		x.dead = x.dead[1:]
		for _, a := range p.addrs {
			if e := x.addrs[a]; e != nil && e.dead == p {
				x.change(a, func(e *address) { e.dead = nil })
			}
		}
		if o := x.netns[p.netns]; o != nil && o.dead == p {
			if o.dead = nil; o.empty() {
				delete(x.netns, p.netns)
			}
		}
		for _, id := range p.containers {
			if x.containers[id] == p {
				delete(x.containers, id)
			}
		}
	}
}

// expired says whether a pod has been dead for too long to be named. It costs no
// look at the clock for the living.
func (x *Index) expired(p *pod) bool {
	return !p.gone.IsZero() && x.now().Sub(p.gone) > keepDead
}

// without is a list without one of its elements, nil when it is empty.
func without[T comparable](list []T, gone T) []T {
	list = slices.DeleteFunc(list, func(e T) bool { return e == gone })
	if len(list) == 0 {
		return nil
	}
	return list
}
