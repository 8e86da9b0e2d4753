// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// describe says what is known of a device: its name with that of its
// namespace, and in words where it is and what it is connected to.
func describe(s *Source, netns, ifindex uint32) *iface {
	i := &iface{name: devicePath(s, netns, ifindex), filter: events.SafeSentence(s.Filter), os: system(s)}
	names := s.Config.Names
	if names == nil {
		i.description = "netns " + strconv.FormatUint(uint64(netns), 10)
		return i
	}
	ns := names.Namespace(netns)
	parts := []string{"netns " + strconv.FormatUint(uint64(netns), 10)}
	add := func(word, name string) {
		if name != "" {
			parts = append(parts, strings.TrimPrefix(word+" ", " ")+events.Safe(name))
		}
	}
	add("pod", ns.Pod)
	if ns.Node != ns.Name {
		add("node", ns.Node)
	}
	if d, ok := names.Device(netns, ifindex); ok {
		add("", d.Kind)
		if d.Master != 0 {
			parts = append(parts, "port of "+devicePath(s, netns, d.Master))
		}
		if d.PeerIfindex != 0 {
			parts = append(parts, "peer "+devicePath(s, d.PeerNetns, d.PeerIfindex))
		}
		const shownAddrs = 4
		for _, a := range d.Addrs[:min(len(d.Addrs), shownAddrs)] {
			parts = append(parts, a.String())
		}
	}
	i.description = strings.Join(parts, ", ")
	return i
}

// devicePath is NAMESPACE/DEVICE.
func devicePath(s *Source, netns, ifindex uint32) string {
	space := "netns:" + strconv.FormatUint(uint64(netns), 10)
	dev := "if" + strconv.FormatUint(uint64(ifindex), 10)
	if names := s.Config.Names; names != nil {
		switch ns := names.Namespace(netns); {
		case ns.Name != "":
			space = events.Safe(ns.Name)
		case ns.Pod != "":
			space = events.Safe(ns.Pod)
		}
		if d, ok := names.Device(netns, ifindex); ok && d.Name != "" {
			dev = events.Safe(d.Name)
		}
	}
	return space + "/" + dev
}
