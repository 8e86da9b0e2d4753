// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events/topology"
)

// What the lab has none of, as commands, and as those that remove it again.
var (
	topologyExtras = []string{
		"ip -n n1 link add vxlan100 type vxlan id 100 dstport 8472 local 10.0.0.180 dev eth0",
		"ip -n n1 address add 172.23.97.0/32 dev vxlan100",
		"ip -n n1 link set vxlan100 up",
		"ip -n n1 link add bridge-empty type bridge",
		"ip -n n1 link add pair0 type veth peer name pair1",
		"ip -n n1 link add macvlan1 link eth0 netns centos type macvlan mode bridge",
		"ip -n n1 route add blackhole 172.23.200.0/24",
		"ip -n n1 route add unreachable fd00:10:97::/64",
		"ip -n n1 route add 172.23.201.0/24 proto static metric 50 nexthop via 10.0.1.206 dev eth0 weight 2 onlink nexthop via 172.23.96.24 dev cni0",
		"ipvsadm -A -t 10.0.0.180:4444 -s rr -p 10800",
		"ipvsadm -a -t 10.0.0.180:4444 -r 172.23.96.24:4444 -m -w 0",
		"ipvsadm -a -t 10.0.0.180:4444 -r 172.23.96.23:4444 -i -w 7",
		"ipvsadm -A -f 7 -s rr",
		"ipvsadm -a -f 7 -r 172.23.96.163:80 -g -w 1",
	}
	topologyUndo = []string{
		"ip -n n1 link delete vxlan100", "ip -n n1 link delete bridge-empty", "ip -n n1 link delete pair0", "ip -n centos link delete macvlan1",
		"ip -n n1 route delete blackhole 172.23.200.0/24", "ip -n n1 route delete unreachable fd00:10:97::/64", "ip -n n1 route delete 172.23.201.0/24",
		"ipvsadm -D -t 10.0.0.180:4444", "ipvsadm -D -f 7",
	}
)

// topology holds `topology` against what ip, bridge and ipvsadm say.
func (c *checker) topology() (err error) {
	defer func() {
		for _, line := range topologyUndo {
			err = errors.Join(err, c.runIn("n1", line))
		}
	}()
	for _, line := range topologyExtras {
		if err := c.runIn("n1", line); err != nil {
			return err
		}
	}
	out, err := output(c.tool.path, "topology", "--names", c.tool.names, "-o", "json")
	if err != nil {
		return err
	}
	var t topology.Topology
	dec := json.NewDecoder(bytes.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		return fmt.Errorf("read the topology: %w", err)
	}
	if len(t.Missing) > 0 {
		return fmt.Errorf("not all was read: %v", t.Missing)
	}
	got, spaces := toldLines(&t)
	want, err := c.truthLines(spaces)
	if err != nil {
		return err
	}
	slices.Sort(got)
	slices.Sort(want)
	if differ := diff(want, got); len(differ) > 0 {
		return fmt.Errorf("%d differences (gone: it is not in the topology; new: nobody else knows of it):\n      %s",
			len(differ), strings.Join(differ[:min(20, len(differ))], "\n      "))
	}
	for _, kind := range []string{"device", "address", "port", "route", "service", "destination"} {
		n := 0
		for _, line := range got {
			if strings.HasPrefix(line, kind+" ") {
				n++
			}
		}
		if n == 0 {
			return fmt.Errorf("there was no %s to compare", kind)
		}
		c.fact("%d of kind %s in %d namespaces are as ip, bridge and ipvsadm say", n, kind, len(spaces))
	}
	return c.otherForms()
}

// otherForms: each of them can be made, and has the pods in it.
func (c *checker) otherForms() error {
	for _, form := range []string{"text", "dot", "svg"} {
		out, err := output(c.tool.path, "topology", "--names", c.tool.names, "--only-node", "n1", "-o", form)
		if err != nil {
			return err
		}
		text := string(out)
		if !strings.Contains(text, "default/centos") || !strings.Contains(text, vipLocal) || strings.Contains(text, "pod default/nginx1a") {
			return fmt.Errorf("-o %s of n1 alone lacks its pod or service, or has another node's:\n%s", form, text)
		}
	}
	return nil
}

// runIn runs a command line in a namespace; ip finds its own way.
func (c *checker) runIn(netns, line string) error {
	words := strings.Fields(line)
	if words[0] != "ip" {
		words = append([]string{c.me, "exec", netns}, words...)
	}
	if out, err := output(words[0], words[1:]...); err != nil {
		return fmt.Errorf("%s: %w %s", line, err, out)
	}
	return nil
}

// hostSpace stands for the namespace that the lab itself runs in.
const hostSpace = "(host)"

// toldLines are the tool's topology, a line for each thing, and the namespaces
// there are.
func toldLines(t *topology.Topology) (lines, spaces []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	name := map[uint32]string{}
	for i := range t.Namespaces {
		ns := &t.Namespaces[i]
		name[ns.Inode] = ns.Name
		if ns.Name == t.Node {
			name[ns.Inode] = hostSpace
		}
		spaces = append(spaces, name[ns.Inode])
	}
	for i := range t.Namespaces {
		ns := &t.Namespaces[i]
		space := name[ns.Inode]
		kinds := map[string]string{}
		for j := range ns.Devices {
			kinds[ns.Devices[j].Name] = ns.Devices[j].Kind
		}
		for j := range ns.Devices {
			d := &ns.Devices[j]
			other := cmp.Or(d.Peer, d.Lower, &topology.End{})
			tunnel := cmp.Or(d.Tunnel, &topology.Tunnel{})
			add("device %s %d %s kind=%s up=%v state=%s mtu=%d mac=%s master=%s other=%s/%s id=%d port=%d local=%s", space, d.Ifindex, d.Name, d.Kind, d.Up, d.State,
				d.MTU, cmp.Or(d.MAC, "00:00:00:00:00:00"), d.Master, name[other.Netns], other.Device, tunnel.ID, tunnel.Port, valid(tunnel.Local))
			for _, a := range d.Addresses {
				add("address %s %s %s", space, d.Name, a)
			}
			if kinds[d.Master] == "bridge" {
				add("port %s %s of %s", space, d.Name, d.Master)
			}
		}
		for _, r := range ns.Routes {
			var hops []string
			for _, h := range r.Hops {
				hops = append(hops, hopText(valid(h.Via), h.Device, h.Onlink, h.Weight))
			}
			add("route %s %s %s proto=%s metric=%d src=%s %v", space, cmp.Or(r.Type, "unicast"), r.Dst, r.Proto, r.Metric, valid(r.Src), hops)
		}
		for _, s := range ns.Services {
			service := fmt.Sprintf("%s %s", s.Proto, netip.AddrPortFrom(s.IP, s.Port))
			if s.FWMark != 0 {
				service = fmt.Sprintf("fwmark %d", s.FWMark)
			}
			add("service %s %s %s persistent=%d", space, service, s.Scheduler, s.Persistent)
			for _, d := range s.Destinations {
				add("destination %s %s %s %s weight=%d", space, service, netip.AddrPortFrom(d.IP, d.Port), d.Forward, d.Weight)
			}
		}
	}
	return lines, spaces
}

func valid(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func hopText(via, device string, onlink bool, weight int) string {
	return fmt.Sprintf("{%s %s onlink=%v weight=%d}", via, device, onlink, weight)
}
