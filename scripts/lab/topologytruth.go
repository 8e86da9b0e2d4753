// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ipLink is a device as `ip -j -d address` has it.
type ipLink struct {
	Ifindex   int      `json:"ifindex"`
	Name      string   `json:"ifname"`
	Flags     []string `json:"flags"`
	MTU       int      `json:"mtu"`
	State     string   `json:"operstate"`
	Address   string   `json:"address"`
	Master    string   `json:"master"`
	Link      string   `json:"link"`       // the other device, if it is in the same namespace
	LinkIndex int      `json:"link_index"` // in the namespace LinkNetns
	LinkNetns *int     `json:"link_netnsid"`
	LinkName  string   `json:"link_netns"` // the namespace's name, if ip knows it
	Info      struct {
		Kind string `json:"info_kind"`
		Data struct {
			ID    json.RawMessage `json:"id"` // a number for VXLAN
			Port  int             `json:"port"`
			Local string          `json:"local"`
			Link  string          `json:"link"`
		} `json:"info_data"`
	} `json:"linkinfo"`
	Addresses []struct {
		Local  string `json:"local"`
		Peer   string `json:"address"` // then the prefix is the peer's
		Prefix int    `json:"prefixlen"`
	} `json:"addr_info"`
}

// ipRoute is a route as `ip -j -d route` has it.
type ipRoute struct {
	Type     string `json:"type"`
	Dst      string `json:"dst"`
	Protocol string `json:"protocol"`
	Metric   int    `json:"metric"`
	Src      string `json:"prefsrc"`
	ipHop
	Hops []ipHop `json:"nexthops"`
}

type ipHop struct {
	Gateway string   `json:"gateway"`
	Device  string   `json:"dev"`
	Weight  int      `json:"weight"`
	Flags   []string `json:"flags"`
}

func (h *ipHop) text() string {
	return hopText(h.Gateway, h.Device, slices.Contains(h.Flags, "onlink"), h.Weight)
}

// in makes a command of ip or bridge for a namespace.
func in(space string, command ...string) []string {
	if space == hostSpace {
		return command
	}
	return append([]string{command[0], "-n", space}, command[1:]...)
}

// outputJSON runs a command of ip or bridge that writes JSON.
func outputJSON(into any, command []string) error {
	out, err := output(command[0], command[1:]...)
	if err != nil {
		return err
	}
	if len(strings.TrimSpace(string(out))) == 0 {
		return nil // some write nothing rather than an empty list
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return nil
}

// truth is what other programs say of the namespaces.
type truth struct {
	c     *checker
	links map[string][]ipLink
	ids   map[string]map[int]string // of a namespace: the names of others by the number that it gives them
	lines []string
}

func (t *truth) add(format string, args ...any) {
	t.lines = append(t.lines, fmt.Sprintf(format, args...))
}

// truthLines is toldLines as ip, bridge and ipvsadm have it.
func (c *checker) truthLines(spaces []string) ([]string, error) {
	t := &truth{c: c, links: map[string][]ipLink{}, ids: map[string]map[int]string{}}
	for _, space := range spaces {
		var links []ipLink
		if err := outputJSON(&links, in(space, "ip", "-j", "-d", "address")); err != nil {
			return nil, err
		}
		var named []struct {
			Name string `json:"name"`
			ID   *int   `json:"id"`
		}
		if err := outputJSON(&named, in(space, "ip", "-j", "netns", "list")); err != nil {
			return nil, err
		}
		t.links[space], t.ids[space] = links, map[int]string{}
		for _, n := range named {
			if n.ID != nil {
				t.ids[space][*n.ID] = n.Name
			}
		}
	}
	for _, space := range spaces {
		for i := range t.links[space] {
			t.link(space, &t.links[space][i])
		}
		for _, part := range []func(string) error{t.ports, t.routes, t.services} {
			if err := part(space); err != nil {
				return nil, err
			}
		}
	}
	return t.lines, nil
}

func (t *truth) link(space string, l *ipLink) {
	kind := l.Info.Kind
	if slices.Contains(l.Flags, "LOOPBACK") {
		kind = "loopback"
	}
	var id int
	var port int
	var local string
	if kind == "vxlan" {
		id, _ = strconv.Atoi(string(l.Info.Data.ID)) // what is none differs from what the tool says
		port, local = l.Info.Data.Port, l.Info.Data.Local
	}
	t.add("device %s %d %s kind=%s up=%v state=%s mtu=%d mac=%s master=%s other=%s id=%d port=%d local=%s", space, l.Ifindex, l.Name, kind, slices.Contains(l.Flags, "UP"),
		strings.ToLower(l.State), l.MTU, l.Address, l.Master, t.other(space, l), id, port, local)
	for _, a := range l.Addresses {
		bits := a.Prefix
		if a.Peer != "" {
			bits = netip.MustParseAddr(a.Local).BitLen()
		}
		t.add("address %s %s %s/%d", space, l.Name, a.Local, bits)
	}
}

// other is the device at the other end, or below.
func (t *truth) other(space string, l *ipLink) string {
	if name := cmp.Or(l.Link, l.Info.Data.Link); name != "" {
		return space + "/" + name
	}
	where := space
	switch {
	case l.LinkName != "":
		where = l.LinkName
	case l.LinkNetns != nil:
		where = t.ids[space][*l.LinkNetns]
	}
	for _, o := range t.links[where] {
		if l.LinkIndex != 0 && o.Ifindex == l.LinkIndex {
			return where + "/" + o.Name
		}
	}
	return "/"
}

func (t *truth) ports(space string) error {
	var ports []struct {
		Name   string `json:"ifname"`
		Master string `json:"master"`
	}
	if err := outputJSON(&ports, in(space, "bridge", "-j", "link")); err != nil {
		return err
	}
	for _, p := range ports {
		t.add("port %s %s of %s", space, p.Name, p.Master)
	}
	return nil
}

func (t *truth) routes(space string) error {
	for _, family := range []string{"-4", "-6"} {
		var routes []ipRoute
		if err := outputJSON(&routes, in(space, "ip", family, "-j", "-d", "route")); err != nil {
			return err
		}
		for _, r := range routes {
			var hops []string
			for i := range r.Hops {
				hops = append(hops, r.Hops[i].text())
			}
			switch {
			case r.Type == "unicast" && r.Device == "lo":
				continue
			case r.Type == "unicast" && hops == nil:
				hops = []string{r.text()}
			}
			t.add("route %s %s %s proto=%s metric=%d src=%s %v", space, r.Type, fullPrefix(r.Dst, family), r.Protocol, r.Metric, r.Src, hops)
		}
	}
	return nil
}

// fullPrefix writes a destination out in full.
func fullPrefix(dst, family string) string {
	switch {
	case dst == "default" && family == "-4":
		return "0.0.0.0/0"
	case dst == "default":
		return "::/0"
	case strings.Contains(dst, "/"):
		return dst
	case family == "-4":
		return dst + "/32"
	}
	return dst + "/128"
}

// services reads what `ipvsadm -Sn` writes to restore a table by.
func (t *truth) services(space string) error {
	command := []string{"ipvsadm", "-Sn"}
	if space != hostSpace {
		command = append([]string{t.c.me, "exec", space}, command...)
	}
	out, err := output(command[0], command[1:]...)
	if err != nil {
		return err
	}
	for text := range strings.Lines(string(out)) {
		words := strings.Fields(text)
		flag := map[string]string{}
		for i := 1; i < len(words); i++ {
			if value := words[min(i+1, len(words)-1)]; !strings.HasPrefix(value, "-") {
				flag[words[i]] = value
				i++
			} else {
				flag[words[i]] = ""
			}
		}
		service := "fwmark " + flag["-f"]
		for name, proto := range map[string]string{"-t": "tcp", "-u": "udp", "--sctp-service": "sctp"} {
			if addr, ok := flag[name]; ok {
				service = proto + " " + addr
			}
		}
		switch words[0] {
		case "-A":
			t.add("service %s %s %s persistent=%s", space, service, flag["-s"], cmp.Or(flag["-p"], "0"))
		case "-a":
			way := ""
			for name, word := range map[string]string{"-m": "nat", "-g": "route", "-i": "tunnel"} {
				if _, ok := flag[name]; ok {
					way = word
				}
			}
			t.add("destination %s %s %s %s weight=%s", space, service, flag["-r"], way, flag["-w"])
		default:
			return fmt.Errorf("ipvsadm -Sn: a line is not known: %s", text)
		}
	}
	return nil
}
