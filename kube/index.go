// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Index holds what the sources know, and answers what a namespace or an address
// is called and what a name stands for. It is for any number of goroutines, and
// asks nobody.
type Index struct {
	now func() time.Time

	mu       sync.RWMutex
	states   [sources]State
	told     chan struct{} // closed, and made anew, when a state changes
	watchers map[chan struct{}]struct{}

	pods       map[string]*pod   // living ones by UID
	podNames   map[string][]*pod // living ones by NAMESPACE/NAME, the newest last
	containers map[string]*pod
	netns      map[uint32]*owners
	addrs      map[netip.Addr]*address
	dead       []*pod // in the order in which they died

	services map[string]*service // by NAMESPACE/NAME
	slices   map[string]*Slice   // by NAMESPACE/NAME of their own
	backends map[string]*backends
	virtual  map[netip.AddrPort][]virtualPort // the newest last; without an address: of nodes
	nodes    map[string]*Node
}

var _ Store = (*Index)(nil)

// NewIndex returns an index that knows nothing. now is the clock by which names
// of the dead are forgotten; nil: time.Now.
func NewIndex(now func() time.Time) *Index {
	if now == nil {
		now = time.Now
	}
	return &Index{
		now: now, told: make(chan struct{}), watchers: map[chan struct{}]struct{}{},
		pods: map[string]*pod{}, podNames: map[string][]*pod{}, containers: map[string]*pod{},
		netns: map[uint32]*owners{}, addrs: map[netip.Addr]*address{},
		services: map[string]*service{}, slices: map[string]*Slice{}, backends: map[string]*backends{},
		virtual: map[netip.AddrPort][]virtualPort{}, nodes: map[string]*Node{},
	}
}

// State is how a source is: Absent, until it says something else.
func (x *Index) State(from Source) State {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.states[from]
}

// SetState implements Store.
func (x *Index) SetState(from Source, s State) {
	x.write(func() bool {
		if x.states[from] == s {
			return false
		}
		x.states[from] = s
		close(x.told)
		x.told = make(chan struct{})
		return true
	})
}

// Settled waits until none of the sources (none given: of all) is Loading, or
// ctx ends. Sources that have not begun are not waited for.
func (x *Index) Settled(ctx context.Context, from ...Source) {
	if len(from) == 0 {
		from = []Source{FromAPI, FromCRI, FromProc}
	}
	for {
		x.mu.RLock()
		told := x.told
		loading := slices.ContainsFunc(from, func(s Source) bool { return x.states[s] == Loading })
		x.mu.RUnlock()
		if !loading {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-told:
		}
	}
}

// Watch returns a channel that has something in it when anything has changed
// since it was last read, until stop is called.
func (x *Index) Watch() (changes <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.watchers[ch] = struct{}{}
	return ch, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.watchers, ch)
	}
}

// write changes the index, and tells who watches if it says that it did.
func (x *Index) write(change func() bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.forget()
	if !change() {
		return
	}
	for ch := range x.watchers {
		select {
		case ch <- struct{}{}:
		default: // it has not seen the last change yet
		}
	}
}

// plain is an address as the index keeps it.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// plainAddrs is a copy of a list, without what is no address and without
// repetitions.
func plainAddrs(list []netip.Addr) []netip.Addr {
	if len(list) == 0 {
		return nil
	}
	out := make([]netip.Addr, 0, len(list))
	for _, a := range list {
		if a = plain(a); a.IsValid() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// fullName is how pods and services are called in all answers.
func fullName(namespace, name string) string { return namespace + "/" + name }
