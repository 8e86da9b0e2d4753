// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/topology"
)

// readLinks reads a namespace's devices. What they are to each other is found
// out when all namespaces are read.
func (r *topologyReader) readLinks(ns *topology.Namespace, handle *netlink.Handle) error {
	links, err := again(handle.LinkList)
	if err != nil {
		return fmt.Errorf("read devices: %w", err)
	}
	addrs, err := again(func() (map[int][]netip.Prefix, error) { return readAddrs(handle) })
	if err != nil {
		r.miss("addresses of %s: %w", r.called(ns.Inode), err)
	}
	if room := maxDevices - len(r.devices); len(links) > room {
		r.miss("%d devices of %s: there are more than %d", len(links)-room, r.called(ns.Inode), maxDevices)
		links = links[:room]
	}
	for _, l := range links {
		a := l.Attrs()
		key := deviceKey{ns.Inode, uint32(a.Index)}
		r.devices[key], r.links[key] = newDevice(l, nil), l
		ns.Devices = append(ns.Devices, topology.Device{
			Ifindex: key.ifindex, Name: a.Name, Kind: deviceKind(l), Up: a.RawFlags&unix.IFF_UP != 0,
			State: strings.ReplaceAll(a.OperState.String(), "-", ""), MTU: a.MTU, MAC: a.HardwareAddr.String(),
			Addresses: addrs[a.Index], Tunnel: tunnelOf(l),
		})
	}
	return nil
}

// addDevices says what the devices of a namespace are to others.
func (r *topologyReader) addDevices(ns *topology.Namespace) {
	for i := range ns.Devices {
		d := &ns.Devices[i]
		key := deviceKey{ns.Inode, d.Ifindex}
		dev := r.devices[key]
		d.Master = r.devices[deviceKey{ns.Inode, dev.Master}].Name
		if dev.PeerIfindex != 0 {
			d.Peer = r.end(deviceKey{dev.PeerNetns, dev.PeerIfindex})
		} else if lower := lowerOf(r.links[key]); lower != 0 {
			d.Lower = r.end(deviceKey{r.lowerNetns(key), lower})
		}
	}
}

func (r *topologyReader) end(key deviceKey) *topology.End {
	return &topology.End{Netns: key.netns, Ifindex: key.ifindex, Device: r.devices[key].Name}
}

// lowerOf is the ifindex of the device that another one sends through; 0: none.
func lowerOf(l netlink.Link) uint32 {
	if x, ok := l.(*netlink.Vxlan); ok && x.VtepDevIndex > 0 {
		return uint32(x.VtepDevIndex)
	}
	if a := l.Attrs(); a.ParentIndex > 0 && (a.NetNsID >= 0 || a.ParentIndex != a.Index) {
		return uint32(a.ParentIndex)
	}
	return 0
}

// lowerNetns finds the namespace of the device that another one sends through:
// its own, or that of a node, in which CNI plugins make such pairs; 0: another.
func (r *topologyReader) lowerNetns(own deviceKey) uint32 {
	if r.devices[own].peerID < 0 {
		return own.netns
	}
	var nodes []deviceKey
	for inode, ns := range r.namespaces {
		if ns.Kind == events.KindNode && inode != own.netns && r.paths[inode] != "" {
			nodes = append(nodes, deviceKey{netns: inode})
		}
	}
	if same := peersByID(&r.snapshot, own, nodes); len(same) == 1 {
		return same[0].netns
	}
	return 0
}

// tunnelOf is nil for a device that wraps nothing.
func tunnelOf(l netlink.Link) *topology.Tunnel {
	switch x := l.(type) {
	case *netlink.Vxlan:
		return &topology.Tunnel{ID: uint32(max(x.VxlanId, 0)), Port: uint16(max(x.Port, 0)), Local: addrOf(x.SrcAddr), Remote: addrOf(x.Group)}
	case *netlink.Geneve:
		return &topology.Tunnel{ID: x.ID, Port: x.Dport, Remote: addrOf(x.Remote)}
	case *netlink.Iptun:
		return tunnelBetween(x.Local, x.Remote)
	case *netlink.Ip6tnl:
		return tunnelBetween(x.Local, x.Remote)
	case *netlink.Sittun:
		return tunnelBetween(x.Local, x.Remote)
	case *netlink.Gretun:
		return tunnelBetween(x.Local, x.Remote)
	case *netlink.Gretap:
		return tunnelBetween(x.Local, x.Remote)
	}
	return nil
}

func tunnelBetween(local, remote net.IP) *topology.Tunnel {
	return &topology.Tunnel{Local: addrOf(local), Remote: addrOf(remote)}
}

// addrOf is invalid for an address that is not given.
func addrOf(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if a = a.Unmap(); !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// routeTypes are the types of routes that lead nowhere, or elsewhere.
var routeTypes = map[int]string{
	unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast", unix.RTN_ANYCAST: "anycast", unix.RTN_MULTICAST: "multicast",
	unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw", unix.RTN_NAT: "nat",
}

// newRoute turns a route into the model's; name has the namespace's devices by
// ifindex. Routes of lo are left out, unless they lead nowhere: those of IPv6
// are on lo.
func newRoute(route *netlink.Route, name map[int]string) (topology.Route, bool) {
	out := topology.Route{Type: routeTypes[route.Type], Proto: route.Protocol.String(), Metric: route.Priority, Src: addrOf(route.Src)}
	nowhere := slices.Contains([]int{unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT}, route.Type)
	if name[route.LinkIndex] == "lo" && !nowhere {
		return out, false
	}
	var ok bool
	if out.Dst, ok = prefixOf(route.Dst); !ok {
		return out, false // not of IP
	}
	if nowhere {
		return out, true
	}
	if len(route.MultiPath) == 0 {
		out.Hops = []topology.Hop{newHop(route.Gw, route.Via, route.LinkIndex, route.Flags, name)}
		return out, true
	}
	for _, h := range route.MultiPath {
		hop := newHop(h.Gw, h.Via, h.LinkIndex, h.Flags, name)
		hop.Weight = h.Hops + 1
		out.Hops = append(out.Hops, hop)
	}
	return out, true
}

func newHop(gw net.IP, via netlink.Destination, ifindex, flags int, name map[int]string) topology.Hop {
	if v, ok := via.(*netlink.Via); ok { // a gateway of the other family
		gw = v.Addr
	}
	return topology.Hop{Via: addrOf(gw), Device: name[ifindex], Onlink: flags&unix.RTNH_F_ONLINK != 0}
}
