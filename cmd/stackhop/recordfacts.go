// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/tracer"
)

// factsWanted is what a recording asks the node for at its end, because its
// events have shown it. It holds originals, also with --redact.
type factsWanted struct {
	netns map[uint32]struct{}
	flows map[tracer.FlowAt]struct{}
}

func newFactsWanted() factsWanted {
	return factsWanted{netns: map[uint32]struct{}{}, flows: map[tracer.FlowAt]struct{}{}}
}

// note looks at an event.
func (w *factsWanted) note(e *events.Event) {
	if e.Netns == 0 {
		return
	}
	w.netns[e.Netns] = struct{}{}
	if e.Ext == events.ExtConntrack && len(w.flows) < tracer.MaxFacts {
		w.flows[tracer.FlowAt{Netns: e.Netns, Zone: e.CT.Zone, Tuple: e.CT.Original}] = struct{}{}
	}
}

// filter asks for all that was noted.
func (w *factsWanted) filter() tracer.FactsFilter {
	return tracer.FactsFilter{Netns: slices.Sorted(maps.Keys(w.netns)), Flows: slices.Collect(maps.Keys(w.flows))}
}

// recordedFacts are facts in the form of a recording.
func recordedFacts(f *tracer.Facts) *record.Facts {
	out := &record.Facts{}
	for i := range f.Services {
		s := &f.Services[i]
		r := record.Service{Netns: s.Netns, Proto: s.Proto, Addr: s.VIP, FWMark: s.FwMark, Scheduler: s.Scheduler, Flags: s.Flags}
		for _, d := range s.Destinations {
			r.Destinations = append(r.Destinations, record.Destination{
				Addr: d.Addr, Weight: d.Weight, Forward: d.Forward,
				Active: uint32(max(d.Active, 0)), Inactive: uint32(max(d.Inactive, 0)), //nolint:gosec // counts of connections
			})
		}
		out.Services = append(out.Services, r)
	}
	for _, s := range f.Sysctls {
		out.Sysctls = append(out.Sysctls, record.Sysctl{Netns: s.Netns, Name: s.Name, Value: s.Value})
	}
	for _, e := range f.Conntrack {
		out.Conntrack = append(out.Conntrack, record.CTEntry{
			Netns: e.Netns, Original: recordedTuple(&e.Original), Reply: recordedTuple(&e.Reply), Status: e.Status, Timeout: e.Timeout, Zone: e.Zone,
		})
	}
	return out
}

func recordedTuple(t *events.Tuple) record.Tuple {
	return record.Tuple{Proto: t.Proto, Src: netip.AddrPortFrom(t.Src, t.SrcPort), Dst: netip.AddrPortFrom(t.Dst, t.DstPort)}
}
