// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/topology"
)

func ipNet(t *testing.T, text string) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNewRoute(t *testing.T) {
	names := map[int]string{1: "lo", 2: "eth0", 3: "eth1"}
	v4, v6 := ipNet(t, "10.1.0.0/16"), ipNet(t, "fd00::/64")
	tests := []struct {
		name  string
		route netlink.Route
		want  string // the destination, type and hops; empty: left out
	}{
		{"plain", netlink.Route{Dst: v4, LinkIndex: 2, Gw: net.IPv4(10, 0, 0, 1).To4(), Type: unix.RTN_UNICAST}, "10.1.0.0/16  10.0.0.1/eth0"},
		{"link", netlink.Route{Dst: v6, LinkIndex: 3, Type: unix.RTN_UNICAST}, "fd00::/64  /eth1"},
		{"several", netlink.Route{Dst: v4, Type: unix.RTN_UNICAST, MultiPath: []*netlink.NexthopInfo{{LinkIndex: 2, Gw: net.IPv4(10, 0, 0, 1).To4()}, {LinkIndex: 3}}}, "10.1.0.0/16  10.0.0.1/eth0 /eth1"},
		{"gateway of the other family", netlink.Route{Dst: v4, LinkIndex: 2, Type: unix.RTN_UNICAST, Via: &netlink.Via{AddrFamily: unix.AF_INET6, Addr: net.ParseIP("fe80::1")}}, "10.1.0.0/16  fe80::1/eth0"},
		{"leads nowhere", netlink.Route{Dst: v6, LinkIndex: 1, Type: unix.RTN_UNREACHABLE}, "fd00::/64 unreachable"},
		{"of lo", netlink.Route{Dst: v6, LinkIndex: 1, Type: unix.RTN_UNICAST}, ""},
		{"without destination", netlink.Route{LinkIndex: 2, Type: unix.RTN_UNICAST}, ""},
		{"mask that is none", netlink.Route{Dst: &net.IPNet{IP: v4.IP, Mask: v6.Mask}, LinkIndex: 2}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, ok := newRoute(&tt.route, names)
			words := []string{r.Dst.String() + " " + r.Type}
			for _, h := range r.Hops {
				via := ""
				if h.Via.IsValid() {
					via = h.Via.String()
				}
				words = append(words, via+"/"+h.Device)
			}
			if got := strings.Join(words, " "); ok != (tt.want != "") || ok && got != tt.want {
				t.Errorf("%q, %v; want %q", got, ok, tt.want)
			}
		})
	}
}

func TestTunnelOf(t *testing.T) {
	a, b := net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")
	for name, tt := range map[string]struct {
		link  netlink.Link
		want  string
		lower uint32
	}{
		"vxlan":       {&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Index: 9, NetNsID: -1}, VxlanId: 7, Port: 8472, SrcAddr: a, VtepDevIndex: 2}, "7 8472 192.0.2.1 invalid IP", 2},
		"vxlan group": {&netlink.Vxlan{VxlanId: 7, Group: net.IPv4(239, 1, 1, 1)}, "7 0 invalid IP 239.1.1.1", 0},
		"geneve":      {&netlink.Geneve{ID: 5, Dport: 6081, Remote: b}, "5 6081 invalid IP 2001:db8::1", 0},
		"ipip":        {&netlink.Iptun{Local: net.IPv4zero, Remote: a}, "0 0 invalid IP 192.0.2.1", 0},
		"vlan":        {&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Index: 9, ParentIndex: 3, NetNsID: -1}}, "", 3},
		"bridge":      {&netlink.Bridge{}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if tun := tunnelOf(tt.link); tun != nil {
				got = fmt.Sprint(tun.ID, tun.Port, tun.Local, tun.Remote)
			}
			if lower := lowerOf(tt.link); got != tt.want || lower != tt.lower {
				t.Errorf("%q over %d, want %q over %d", got, lower, tt.want, tt.lower)
			}
		})
	}
}

func deviceOf(t *testing.T, ns *topology.Namespace, name string) topology.Device {
	t.Helper()
	i := slices.IndexFunc(ns.Devices, func(d topology.Device) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("%s has no %s: %+v", ns.Name, name, ns.Devices)
	}
	return ns.Devices[i]
}

// TestNativeTopology: a bridge with two pods, read from this kernel.
func TestNativeTopology(t *testing.T) {
	c := newCluster(t, 2)
	top, missing, err := ReadTopology(c.names())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range missing {
		if strings.Contains(err.Error(), c.prefix) {
			t.Error(err)
		}
	}
	if len(missing) != len(top.Missing) {
		t.Errorf("%d errors, but %q", len(missing), top.Missing)
	}
	top.Only(c.node)
	if len(top.Namespaces) != 3 || top.Namespaces[0].Kind != events.KindNode {
		t.Fatalf("want a node and two pods: %+v", top.Namespaces)
	}
	node := top.Namespaces[0]
	for i, ns := range top.Namespaces[1:] {
		p := c.pods[slices.IndexFunc(c.pods, func(p *pod) bool { return p.inode == ns.Inode })]
		eth := deviceOf(t, &ns, "eth0")
		host := deviceOf(t, &node, p.host)
		if eth.Addresses[0].Addr() != p.addr || eth.MAC != p.mac.String() || !eth.Up || eth.Kind != "veth" {
			t.Errorf("pod %d: %+v, want %+v", i, eth, p)
		}
		if host.Master != "cni0" || !reflect.DeepEqual(host.Peer, &topology.End{Netns: ns.Inode, Name: "default/" + p.name, Ifindex: eth.Ifindex, Device: "eth0"}) ||
			eth.Peer == nil || eth.Peer.Netns != node.Inode || eth.Peer.Device != host.Name {
			t.Errorf("pod %d: the pair is %+v and %+v", i, host, eth)
		}
		if deviceOf(t, &ns, "lo").Kind != "loopback" {
			t.Errorf("pod %d: lo is %+v", i, deviceOf(t, &ns, "lo"))
		}
		if !slices.ContainsFunc(ns.Routes, func(r topology.Route) bool { return r.Hops[0].Device == "eth0" && r.Dst.Contains(p.addr) }) {
			t.Errorf("pod %d has no route to its network: %+v", i, ns.Routes)
		}
	}
	if deviceOf(t, &node, "cni0").Kind != "bridge" || node.Sysctls["net.ipv4.ip_forward"] == "" {
		t.Errorf("the node is %+v", node)
	}
}

// TestNativeTopologyUnprivileged: what this process may read is there, the rest
// is named, with what is the matter.
func TestNativeTopologyUnprivileged(t *testing.T) {
	c := newCluster(t, 1)
	var top *topology.Topology
	var missing []error
	// Credentials are a thread's; this one ends with what runs on it.
	err := onThread(func() (err error) {
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			return errno
		}
		top, missing, err = ReadTopology(nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(errors.Join(missing...), os.ErrPermission) {
		t.Errorf("missing: %v", missing)
	}
	if !slices.ContainsFunc(missing, func(err error) bool { return strings.Contains(err.Error(), c.pods[0].name) }) {
		t.Errorf("the pod %s is not among what is missing: %v", c.pods[0].name, missing)
	}
	own, err := netnsInode("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(top.Namespaces, func(ns topology.Namespace) bool { return ns.Inode == own })
	if i < 0 || len(top.Namespaces[i].Devices) == 0 || len(top.Namespaces[i].Sysctls) == 0 {
		t.Errorf("its own namespace is not there: %+v", top.Namespaces)
	}
}
