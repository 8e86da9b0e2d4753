// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A host is a netlink handle into one network namespace. Its methods keep the
// first error, so that building reads as a list of what is there.
type host struct {
	name string
	ns   netns.NsHandle
	h    *netlink.Handle
	err  error
}

func openHost(name string) *host {
	ns, err := netns.GetFromPath(netnsPath(name))
	if err != nil {
		return &host{name: name, err: fmt.Errorf("network namespace %s: %w", name, err)}
	}
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		ns.Close()
		return &host{name: name, err: fmt.Errorf("netlink in %s: %w", name, err)}
	}
	return &host{name: name, ns: ns, h: h}
}

func (o *host) close() {
	if o.h != nil {
		o.h.Close()
		o.ns.Close()
	}
}

// do runs one step unless an earlier one failed.
func (o *host) do(what string, step func() error) {
	if o.err != nil {
		return
	}
	if err := step(); err != nil {
		o.err = fmt.Errorf("%s: %s: %w", o.name, what, err)
	}
}

// up sets a device up.
func (o *host) up(dev string) {
	o.do("set "+dev+" up", func() error {
		l, err := o.h.LinkByName(dev)
		if err != nil {
			return err
		}
		return o.h.LinkSetUp(l)
	})
}

// veth makes a pair of devices: dev here, peerDev in peer. Both are up afterwards.
func (o *host) veth(dev string, peer *host, peerDev string) {
	if o.err == nil && peer.err != nil {
		o.err = peer.err
	}
	o.do("make "+dev, func() error {
		return o.h.LinkAdd(&netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: dev, TxQLen: 1000},
			PeerName:      peerDev,
			PeerNamespace: netlink.NsFd(peer.ns),
		})
	})
	o.up(dev)
	peer.up(peerDev)
}

// bridge makes cni0 as the bridge plugin does.
func (o *host) bridge(dev string) {
	o.do("make "+dev, func() error {
		return o.h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: dev, TxQLen: 1000}})
	})
	o.up(dev)
}

// port puts dev under the bridge, with hairpin on so that a pod can reach itself
// through a service.
func (o *host) port(dev, bridge string) {
	o.do("put "+dev+" under "+bridge, func() error {
		b, err := o.h.LinkByName(bridge)
		if err != nil {
			return err
		}
		l, err := o.h.LinkByName(dev)
		if err != nil {
			return err
		}
		if err := o.h.LinkSetMaster(l, b); err != nil {
			return err
		}
		return o.h.LinkSetHairpin(l, true)
	})
}

// dummy makes a device that only holds addresses. It stays down.
func (o *host) dummy(dev string) {
	o.do("make "+dev, func() error {
		return o.h.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: dev}})
	})
}

// addr gives dev addresses with their prefix length (none: a host address).
// Without duplicate address detection: nothing is to wait for a second.
func (o *host) addr(dev string, addrs ...string) {
	for _, a := range addrs {
		o.do("add "+a+" to "+dev, func() error {
			l, err := o.h.LinkByName(dev)
			if err != nil {
				return err
			}
			n, err := ipNet(a)
			if err != nil {
				return err
			}
			addr := &netlink.Addr{IPNet: n}
			if n.IP.To4() == nil {
				addr.Flags = unix.IFA_F_NODAD
			}
			return o.h.AddrAdd(l, addr)
		})
	}
}

// A hop is one route: to a network ("" is everything of the gateway's family),
// through a device, by a gateway that is on-link there ("" for none).
type hop struct {
	to, dev, via string
	table        int
}

// route adds routes.
func (o *host) route(hops ...hop) { o.routes("add", (*netlink.Handle).RouteAdd, hops) }

// unroute removes routes.
func (o *host) unroute(hops ...hop) { o.routes("remove", (*netlink.Handle).RouteDel, hops) }

func (o *host) routes(what string, do func(*netlink.Handle, *netlink.Route) error, hops []hop) {
	for _, r := range hops {
		o.do(fmt.Sprintf("%s route %+v", what, r), func() error {
			l, err := o.h.LinkByName(r.dev)
			if err != nil {
				return err
			}
			route := &netlink.Route{LinkIndex: l.Attrs().Index, Table: r.table}
			if r.via == "" {
				route.Scope = netlink.SCOPE_LINK
			} else {
				route.Gw = net.ParseIP(r.via)
				route.Flags = int(netlink.FLAG_ONLINK)
			}
			if r.to != "" {
				if route.Dst, err = ipNet(r.to); err != nil {
					return err
				}
			}
			return do(o.h, route)
		})
	}
}

// ruleFrom looks up what comes in by dev in another table first.
func (o *host) ruleFrom(dev string, table int) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		o.do("add rule for "+dev, func() error {
			r := netlink.NewRule()
			r.IifName, r.Table, r.Family, r.Priority = dev, table, family, 100
			return o.h.RuleAdd(r)
		})
	}
}

// ipNet parses an address with or without a prefix length. Unlike ParseCIDR's,
// its result keeps the address's host part.
func ipNet(s string) (*net.IPNet, error) {
	ip, n, err := net.ParseCIDR(s)
	if err == nil {
		n.IP = ip
		return n, nil
	}
	ip = net.ParseIP(s)
	if ip == nil {
		return nil, err
	}
	if v4 := ip.To4(); v4 != nil {
		return &net.IPNet{IP: v4, Mask: net.CIDRMask(32, 32)}, nil
	}
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(128, 128)}, nil
}

// rtoMin makes TCP wait longer than its 200 ms before it sends data again, by all routes
// of the main table that there are now; 0: no longer. RTAX_RTO_MIN counts only where it is
// locked (tcp_rto_min).
func (o *host) rtoMin(wait time.Duration) {
	o.do("let TCP wait", func() error {
		routes, err := o.h.RouteList(nil, unix.AF_UNSPEC)
		if err != nil {
			return err
		}
		for _, r := range routes {
			r.RtoMin, r.RtoMinLock = int(wait.Milliseconds()), wait > 0
			if err := o.h.RouteReplace(&r); err != nil {
				return fmt.Errorf("route %v: %w", r, err)
			}
		}
		return nil
	})
}
