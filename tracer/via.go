// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/moby/ipvs"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

// A packet to a virtual service becomes one to a real server only half-way.
// Where the selection asks for the real server, packets to the services in
// front of it must be followed from their first hook on, on probation: what
// never matches is not shown. via.go finds those services.

// viaKey is struct via of bpf/state.h.
type viaKey struct {
	dst    [16]byte
	port   [2]byte // network order
	proto  uint8
	family uint8
}

func newViaKey(service netip.AddrPort, proto uint8) viaKey {
	k := viaKey{proto: proto, family: 6}
	addr := service.Addr().Unmap()
	if addr.Is4() {
		k.family = 4
	}
	copy(k.dst[:], addr.AsSlice())
	binary.BigEndian.PutUint16(k.port[:], service.Port())
	return k
}

// virtualService is one with its real servers.
type virtualService struct {
	proto   uint8
	address netip.AddrPort
	real    []netip.AddrPort
}

// matches says whether packets to the service match before they are translated.
func (s *virtualService) matches(e *pcapexpr.Expr) pcapexpr.Tri {
	return e.MatchTuple(pcapexpr.Tuple{Proto: s.proto, Dst: s.address.Addr(), DstPort: s.address.Port(), KnownDst: true})
}

// leadsTo says whether packets to the service may match only once they are
// translated to one of its real servers.
func leadsTo(e *pcapexpr.Expr, s virtualService) bool {
	before := s.matches(e)
	for _, r := range s.real {
		after := e.MatchTuple(pcapexpr.Tuple{Proto: s.proto, Dst: r.Addr(), DstPort: r.Port(), KnownDst: true})
		if after > before {
			return true
		}
	}
	return false
}

// updateVia brings sh_via up to date with the services of all namespaces.
func (t *Tracer) updateVia() error {
	t.update.Lock()
	defer t.update.Unlock()
	return t.findVia()
}

// findVia is updateVia for whoever holds t.update.
func (t *Tracer) findVia() error {
	if t.cfg.Select == nil || t.frozen() {
		return nil
	}
	if !t.kernel.has("ip_vs_schedule") {
		return nil // asking would load the module
	}
	wanted := map[viaKey]bool{}
	for _, path := range t.names.now.Load().paths {
		services, err := virtualServices(path, t.cfg.Select)
		if err != nil {
			continue // the namespace has vanished, or has no IPVS
		}
		for _, s := range services {
			if leadsTo(t.cfg.Select, s) {
				wanted[newViaKey(s.address, s.proto)] = true
			}
		}
	}
	return t.setVia(wanted)
}

func (t *Tracer) setVia(wanted map[viaKey]bool) error {
	m := t.state.coll.Maps[bpf.MapVia]
	for k := range wanted {
		if !t.via[k] {
			if err := m.Put(k, uint32(1)); err != nil {
				return fmt.Errorf("follow packets to a virtual service: %w", err)
			}
		}
	}
	for k := range t.via {
		if !wanted[k] {
			if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("stop following packets to a virtual service: %w", err)
			}
		}
	}
	t.via = wanted
	return t.state.set("via_used", b2u(len(wanted) > 0))
}

// virtualServices lists the IPVS services of a namespace.
func virtualServices(path string, e *pcapexpr.Expr) ([]virtualService, error) {
	h, err := ipvs.New(path)
	if err != nil {
		return nil, fmt.Errorf("IPVS of %s: %w", path, err)
	}
	defer h.Close()
	services, err := h.GetServices()
	if err != nil {
		return nil, fmt.Errorf("IPVS of %s: %w", path, err)
	}
	var out []virtualService
	for _, s := range services {
		addr, ok := netip.AddrFromSlice(s.Address)
		if !ok {
			continue // a service by firewall mark has no address
		}
		v := virtualService{proto: uint8(s.Protocol), address: netip.AddrPortFrom(addr.Unmap(), s.Port)}
		if v.matches(e) == pcapexpr.Yes {
			continue
		}
		destinations, err := h.GetDestinations(s)
		if err != nil {
			continue // removed meanwhile
		}
		for _, d := range destinations {
			if addr, ok := netip.AddrFromSlice(d.Address); ok {
				v.real = append(v.real, netip.AddrPortFrom(addr.Unmap(), d.Port))
			}
		}
		out = append(out, v)
	}
	return out, nil
}
