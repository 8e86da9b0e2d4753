// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"strconv"
)

// The reference cluster, as data. Everything that the lab builds (devices,
// addresses, routes, IPVS services, ip sets, rules, names) is derived from
// these tables, so that no two of them can disagree.

const (
	podCIDR = "172.23.96.0/24"

	// gateway is the cloud router's address as every host sees it. Hosts have a
	// /32 and reach it on-link, as clouds do.
	gateway  = "10.0.255.253"
	gateway6 = "fd00:10:0::fffd"

	lbAddr    = "10.0.255.100"
	lbAddr6   = "fd00:10:0::100"
	outsideIP = "203.0.113.7"
	outside6  = "fd00:203:113::7"

	outsideCIDR = "203.0.113.0/24"
	vipLocal    = "8.219.164.113"
	vipCluster  = "8.219.164.114"
	vipNginx    = "192.168.13.24"
	vipNginx1   = "192.168.13.23"
	vipDNS      = "192.168.0.10"
	vipITPLocal = "192.168.13.27"
	vipEmpty    = "192.168.13.28"
	vipSticky   = "192.168.13.29"
	vip6Nginx1  = "fd00:10:96:ff::13"

	portLocal   = 32580
	portCluster = 30875
)

// A node is one network namespace with its own IPVS, conntrack and rules.
type node struct {
	name       string
	ip, ip6    string
	cni, cni6  string // cni0's address, with the node's pod CIDR as its prefix
	cidr, net6 string
}

// A pod is one network namespace behind cni0 of its node.
type pod struct {
	name, node string
	ip, ip6    string
}

var nodes = []node{
	{"n1", "10.0.0.180", "fd00:10:0::180", "172.23.96.1/26", "fd00:10:96:1::1/64", "172.23.96.0/26", "fd00:10:96:1::/64"},
	{"n2", "10.0.1.206", "fd00:10:0::206", "172.23.96.129/26", "fd00:10:96:2::1/64", "172.23.96.128/26", "fd00:10:96:2::/64"},
	{"n3", "10.0.1.216", "fd00:10:0::216", "172.23.96.65/26", "fd00:10:96:3::1/64", "172.23.96.64/26", "fd00:10:96:3::/64"},
}

var pods = []pod{
	{"centos", "n1", "172.23.96.23", "fd00:10:96:1::23"},
	{"nginx", "n1", "172.23.96.24", "fd00:10:96:1::24"},
	{"nginx1a", "n2", "172.23.96.163", "fd00:10:96:2::163"},
	{"nginx1b", "n2", "172.23.96.164", "fd00:10:96:2::164"},
	{"dns", "n2", "172.23.96.165", "fd00:10:96:2::165"},
	{"nginx1c", "n3", "172.23.96.82", "fd00:10:96:3::82"},
}

// networks are the namespaces that are not stacks of the cluster: the cloud's
// router, its load balancer, and a client on the Internet.
var networks = []string{"vpc", "lb", "outside"}

// A service is one virtual address and port with its backends.
type service struct {
	name     string // namespace/name
	vip      string
	proto    string
	port     uint16
	backends []string // pods; their port is the service's
	nodePort uint16   // 0: none

	// external: reached through a load balancer address. local: external traffic
	// policy Local, that is: only backends on the node itself, client not masqueraded.
	external, local bool

	// internalLocal is internal traffic policy Local; sticky is session affinity by
	// the client's address.
	internalLocal, sticky bool
}

var services = []service{
	{name: "default/nginx", vip: vipNginx, proto: "tcp", port: 80, backends: []string{"nginx"}},
	{name: "default/nginx1", vip: vipNginx1, proto: "tcp", port: 80, backends: []string{"nginx1a"}},
	{name: "kube-system/kube-dns", vip: vipDNS, proto: "udp", port: 53, backends: []string{"dns"}},
	{name: "default/nginx1-local", vip: vipLocal, proto: "tcp", port: 80,
		backends: []string{"nginx1a", "nginx1b", "nginx1c"}, nodePort: portLocal, external: true, local: true},
	{name: "default/nginx1-cluster", vip: vipCluster, proto: "tcp", port: 80,
		backends: []string{"nginx1a"}, nodePort: portCluster, external: true},
	{name: "default/nginx1", vip: vip6Nginx1, proto: "tcp", port: 80, backends: []string{"nginx1a"}},
}

// proxyServices are those that only a real kube-proxy has: what its modes do with
// them differs.
var proxyServices = []service{
	{name: "default/itp-local", vip: vipITPLocal, proto: "tcp", port: 80, backends: []string{"nginx1a"}, internalLocal: true},
	{name: "default/empty", vip: vipEmpty, proto: "tcp", port: 80},
	{name: "default/sticky", vip: vipSticky, proto: "tcp", port: 80, backends: []string{"nginx1a", "nginx1c"}, sticky: true},
}

func findNode(name string) (node, error) {
	for _, n := range nodes {
		if n.name == name {
			return n, nil
		}
	}
	return node{}, fmt.Errorf("no node %q in the lab: it has n1, n2 and n3", name)
}

func findPod(name string) (pod, error) {
	for _, p := range pods {
		if p.name == name {
			return p, nil
		}
	}
	return pod{}, fmt.Errorf("no pod %q in the lab", name)
}

// is6 tells the family of an address of the tables above.
func is6(ip string) bool { return netip.MustParseAddr(ip).Is6() }

// cniIP is cni0's IPv4 address without its prefix length.
func (n node) cniIP() string { return prefixIP(n.cni) }

func prefixIP(prefix string) string { return netip.MustParsePrefix(prefix).Addr().String() }

// A virtual is one IPVS virtual service on one node with its real servers.
type virtual struct {
	addr  netip.AddrPort
	proto string
	reals []netip.AddrPort
}

// virtuals are the IPVS services that kube-proxy keeps on a node: each service's
// virtual address and, for node ports, each address of the node itself. A
// service of policy Local has only the node's own backends: none at all on n1,
// which is what case 7 is about.
func virtuals(n node) ([]virtual, error) {
	var all []virtual
	for _, s := range services {
		reals, err := realServers(n, s)
		if err != nil {
			return nil, err
		}
		addrs := []string{hostPort(s.vip, s.port)}
		if s.nodePort != 0 {
			addrs = append(addrs, hostPort(n.ip, s.nodePort), hostPort(n.cniIP(), s.nodePort))
		}
		for _, a := range addrs {
			addr, err := netip.ParseAddrPort(a)
			if err != nil {
				return nil, fmt.Errorf("service %s: %w", s.name, err)
			}
			all = append(all, virtual{addr, s.proto, reals})
		}
	}
	return all, nil
}

func realServers(n node, s service) ([]netip.AddrPort, error) {
	var reals []netip.AddrPort
	for _, name := range s.backends {
		p, err := findPod(name)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", s.name, err)
		}
		if s.local && p.node != n.name {
			continue
		}
		ip := p.ip
		if is6(s.vip) {
			ip = p.ip6
		}
		reals = append(reals, netip.AddrPortFrom(netip.MustParseAddr(ip), s.port))
	}
	return reals, nil
}

// hostPort joins an address and a port.
func hostPort(ip string, port uint16) string {
	if is6(ip) {
		return "[" + ip + "]:" + strconv.Itoa(int(port))
	}
	return ip + ":" + strconv.Itoa(int(port))
}
