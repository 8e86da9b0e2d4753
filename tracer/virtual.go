// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/stackhop/stackhop/events"
)

// IPVS's table is read when a packet found no real server: in one namespace at most
// so often, and for at most a fifth of the time. What was read answers for so long.
// Refusals come by the thousand, and a table may have ten thousand services.
const (
	virtualEvery = 100 * time.Millisecond
	virtualPause = 5 // times what reading took
	virtualHolds = 2 * time.Second
)

// maxVirtual bounds the namespaces whose tables are remembered.
const maxVirtual = 64

// virtualKey is a virtual service in a namespace.
type virtualKey struct {
	vip   netip.AddrPort
	proto uint8
}

// virtualTable is what was read of one namespace's IPVS.
type virtualTable struct {
	at       time.Time // when reading began
	took     time.Duration
	services map[virtualKey]events.VirtualFacts
}

// virtuals are the IPVS tables that were read lately.
type virtuals struct {
	wanted   chan uint32 // namespaces to read
	services func(netns uint32, path string) ([]Service, error)

	mu     sync.Mutex
	tables map[uint32]virtualTable
}

func newVirtuals() *virtuals {
	return &virtuals{wanted: make(chan uint32, maxVirtual), services: servicesOf, tables: map[uint32]virtualTable{}}
}

// want asks for a namespace's table as it is behind the packet, and does not wait
// for it.
func (v *virtuals) want(netns uint32) {
	select {
	case v.wanted <- netns:
	default: // enough is asked for
	}
}

// watch reads what is wanted until ctx is done: what was read a moment ago again
// when its pause is over, since it may have changed before the packet came.
func (v *virtuals) watch(ctx context.Context, path func(netns uint32) string) {
	due := map[uint32]time.Time{}
	for {
		netns, next := soonest(due)
		select {
		case <-ctx.Done():
			return
		case netns := <-v.wanted:
			if _, ok := due[netns]; !ok && len(due) < maxVirtual {
				due[netns] = v.pauseEnds(netns)
			}
		case <-next:
			delete(due, netns)
			if p := path(netns); p != "" {
				v.read(netns, p)
			}
		}
	}
}

// soonest returns what is due first, and what tells that it is; nil: nothing is.
func soonest(due map[uint32]time.Time) (netns uint32, at <-chan time.Time) {
	var first time.Time
	for n, t := range due {
		if first.IsZero() || t.Before(first) {
			netns, first = n, t
		}
	}
	if len(due) == 0 {
		return 0, nil
	}
	return netns, time.After(time.Until(first))
}

// pauseEnds is when a namespace's table may be read next.
func (v *virtuals) pauseEnds(netns uint32) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.tables[netns]
	return t.at.Add(max(virtualEvery, virtualPause*t.took))
}

// read reads one namespace's table. What cannot be read is not known.
func (v *virtuals) read(netns uint32, path string) {
	t := virtualTable{at: time.Now(), services: map[virtualKey]events.VirtualFacts{}}
	services, err := v.services(netns, path)
	if err != nil {
		services = nil
	}
	for i := range services {
		s := &services[i]
		t.services[virtualKey{s.VIP, s.Proto}] = virtualFacts(s.Destinations)
	}
	t.took = time.Since(t.at)
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.tables[netns]; !ok && len(v.tables) >= maxVirtual {
		clear(v.tables)
	}
	v.tables[netns] = t
}

// virtualFacts counts real servers as IPVS's schedulers look at them. Its mark
// for an overloaded one is not told, the counts that set it are.
func virtualFacts(all []Destination) (f events.VirtualFacts) {
	f.Destinations = len(all)
	for i := range all {
		switch d := &all[i]; {
		case d.Weight <= 0:
			f.Idle++
		case d.Upper > 0 && d.Active+d.Inactive >= int(d.Upper):
			f.Full++
		}
	}
	return f
}

// facts answers for a service by a table that was read a moment ago.
func (v *virtuals) facts(netns uint32, vip netip.AddrPort, proto uint8) (events.VirtualFacts, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, ok := v.tables[netns]
	if !ok || time.Since(t.at) > virtualHolds {
		return events.VirtualFacts{}, false
	}
	f, ok := t.services[virtualKey{vip, proto}]
	return f, ok
}

// Virtual implements events.VirtualNames.
func (inv *inventory) Virtual(netns uint32, ip string, port uint16, proto uint8) (events.VirtualFacts, bool) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return events.VirtualFacts{}, false
	}
	return inv.virtuals.facts(netns, netip.AddrPortFrom(addr.Unmap(), port), proto)
}
