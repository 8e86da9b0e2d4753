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

// IPVS's table is read when a packet found no real server: at most so often in
// one namespace, and what was read answers for so long. Refusals come by the
// thousand, and a table may have ten thousand services.
const (
	virtualEvery = 500 * time.Millisecond
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
	at       time.Time
	services map[virtualKey]events.VirtualFacts
}

// virtuals are the IPVS tables that were read lately.
type virtuals struct {
	wanted chan uint32 // namespaces to read

	mu     sync.Mutex
	tables map[uint32]virtualTable
}

func newVirtuals() *virtuals {
	return &virtuals{wanted: make(chan uint32, maxVirtual), tables: map[uint32]virtualTable{}}
}

// want asks for a namespace's table, and does not wait for it.
func (v *virtuals) want(netns uint32) {
	if v.fresh(netns) {
		return
	}
	select {
	case v.wanted <- netns:
	default: // enough is asked for
	}
}

// watch reads what is wanted until ctx is done.
func (v *virtuals) watch(ctx context.Context, path func(netns uint32) string) {
	for {
		select {
		case <-ctx.Done():
			return
		case netns := <-v.wanted:
			if v.fresh(netns) {
				continue
			}
			if p := path(netns); p != "" {
				v.read(netns, p)
			}
		}
	}
}

func (v *virtuals) fresh(netns uint32) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Since(v.tables[netns].at) < virtualEvery
}

// read reads one namespace's table. What cannot be read is not known.
func (v *virtuals) read(netns uint32, path string) {
	t := virtualTable{at: time.Now(), services: map[virtualKey]events.VirtualFacts{}}
	services, err := servicesOf(netns, path)
	if err != nil {
		services = nil
	}
	for i := range services {
		s := &services[i]
		t.services[virtualKey{s.VIP, s.Proto}] = virtualFacts(s.Destinations)
	}
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
