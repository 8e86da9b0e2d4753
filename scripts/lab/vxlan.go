// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Flannel's backends: either the network between the nodes knows where the pods
// are (alloc, and in effect host-gw), or the nodes put the pods' packets into
// packets of their own.
const (
	backendRoutes = "host-gw"
	backendVXLAN  = "vxlan"
)

// What Flannel's VXLAN backend uses (flannel, pkg/backend/vxlan).
const (
	vxlanVNI  = 1
	vxlanPort = 8472
	vxlanDev  = "flannel.1"
	vxlanDev6 = "flannel-v6.1"
	vxlanMTU  = 1450 // of 1500, less than 50 bytes of outer headers
	vxlanMTU6 = 1430
)

// A vtep is a node's end of a tunnel.
type vtep struct {
	dev, local string
	addr       string // the subnet's own address: pods are reached by way of it
	cidr       string
	mac        net.HardwareAddr
	mtu        int
}

// vteps are the ends of a node, one for each family.
func (n node) vteps() []vtep {
	end := func(dev, local, cidr string, mtu int) vtep {
		addr := netip.MustParsePrefix(cidr).Masked().Addr()
		low := netip.MustParseAddr(local).As16()
		return vtep{dev, local, addr.String(), cidr, append(net.HardwareAddr{0x02, byte(addr.BitLen())}, low[12:]...), mtu}
	}
	return []vtep{end(vxlanDev, n.ip, n.cidr, vxlanMTU), end(vxlanDev6, n.ip6, n.net6, vxlanMTU6)}
}

// buildVXLAN makes on a node what Flannel does: a device that learns nothing, as
// it is told where each subnet is.
func buildVXLAN(h *host, n node) {
	for i, v := range n.vteps() {
		h.vxlan(v)
		h.addr(v.dev, v.addr)
		h.up(v.dev)
		for _, other := range nodes {
			if other.name == n.name {
				continue
			}
			o := other.vteps()[i]
			h.neighbours(v.dev,
				netlink.Neigh{IP: net.ParseIP(o.addr), HardwareAddr: o.mac, Type: unix.RTN_UNICAST},
				netlink.Neigh{IP: net.ParseIP(o.local), HardwareAddr: o.mac, Family: unix.AF_BRIDGE, Flags: unix.NTF_SELF})
			h.route(hop{to: o.cidr, dev: v.dev, via: o.addr})
		}
	}
}

// vxlan makes one end of a tunnel that sends by eth0.
func (o *host) vxlan(v vtep) {
	o.do("make "+v.dev, func() error {
		eth0, err := o.h.LinkByName("eth0")
		if err != nil {
			return err
		}
		return o.h.LinkAdd(&netlink.Vxlan{
			LinkAttrs: netlink.LinkAttrs{Name: v.dev, MTU: v.mtu, HardwareAddr: v.mac},
			VxlanId:   vxlanVNI, VtepDevIndex: eth0.Attrs().Index, SrcAddr: net.ParseIP(v.local), Port: vxlanPort,
		})
	})
}

// neighbours tells a device link addresses that stay.
func (o *host) neighbours(dev string, list ...netlink.Neigh) {
	for _, n := range list {
		o.do(fmt.Sprintf("add neighbour %s to %s", n.IP, dev), func() error {
			l, err := o.h.LinkByName(dev)
			if err != nil {
				return err
			}
			n.LinkIndex, n.State = l.Attrs().Index, netlink.NUD_PERMANENT
			return o.h.NeighSet(&n)
		})
	}
}

// mtu sets the MTU of a device.
func (o *host) mtu(dev string, n int) {
	o.do("set the MTU of "+dev, func() error {
		l, err := o.h.LinkByName(dev)
		if err != nil {
			return err
		}
		return o.h.LinkSetMTU(l, n)
	})
}

// overVXLAN says which backend the cluster that is up was built with.
func overVXLAN() (bool, error) {
	h := openHost(nodes[0].name)
	defer h.close()
	found := false
	h.do("list the devices", func() error {
		links, err := h.h.LinkList()
		for _, l := range links {
			found = found || l.Attrs().Name == vxlanDev
		}
		return err
	})
	return found, h.err
}

// flannelRules are Flannel's part of a node's rules: where the network routes
// the pods' addresses, nothing that is for one of them is translated.
func flannelRules(n node, backend string) string {
	rules := []string{
		"-s " + podCIDR + " -d " + podCIDR + " -j RETURN",
		"-s " + podCIDR + " ! -d 224.0.0.0/4 -j MASQUERADE --random-fully",
	}
	if backend == backendVXLAN {
		// flannel, pkg/trafficmngr/iptables: masqRules.
		rules = []string{
			"-m mark --mark 0x4000/0x4000 -j RETURN",
			"-s " + n.cidr + " -d " + podCIDR + " -j RETURN",
			"-s " + podCIDR + " -d " + n.cidr + " -j RETURN",
			"! -s " + podCIDR + " -d " + n.cidr + " -j RETURN",
			"-s " + podCIDR + " ! -d 224.0.0.0/4 -j MASQUERADE --random-fully",
			"! -s " + podCIDR + " -d " + podCIDR + " -j MASQUERADE --random-fully",
		}
	}
	var b strings.Builder
	for _, r := range rules {
		match, target, _ := strings.Cut(r, " -j ")
		fmt.Fprintf(&b, "-A FLANNEL-POSTRTG %s -m comment --comment \"flanneld masq\" -j %s\n", match, target)
	}
	return b.String()
}
