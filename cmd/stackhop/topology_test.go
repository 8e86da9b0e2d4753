// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/topology"
)

// someTopology has two nodes, the second one only with a names file.
func someTopology(namesFile []byte) *topology.Topology {
	addrs := []netip.Prefix{netip.MustParsePrefix("172.23.96.23/26")}
	t := &topology.Topology{
		Time: time.Unix(1767366245, 0), Node: "n1",
		Namespaces: []topology.Namespace{
			{Inode: 4026532345, Name: "n1", Kind: events.KindNode, Node: "n1", Devices: []topology.Device{
				{Ifindex: 2, Name: "veth\x1b[31m", Kind: "veth", Up: true, State: "up", MTU: 1500, Peer: &topology.End{Netns: 4026532544, Ifindex: 2, Device: "eth0"}},
			}},
			{Inode: 4026532544, Name: "centos", Kind: events.KindPod, Node: "n1", Pod: "default/centos", Devices: []topology.Device{
				{Ifindex: 2, Name: "eth0", Kind: "veth", Up: true, State: "up", MTU: 1500, Addresses: addrs, Peer: &topology.End{Netns: 4026532345, Ifindex: 2, Device: "veth\x1b[31m"}},
			}},
		},
	}
	if namesFile != nil {
		t.Namespaces = append(t.Namespaces, topology.Namespace{Inode: 4026532999, Name: "n2", Kind: events.KindNode, Node: "n2"})
	}
	t.Sort()
	return t
}

func TestTopology(t *testing.T) {
	for name, args := range map[string][]string{
		"topology text":      {"topology"},
		"topology json":      {"topology", "-o", "json"},
		"topology dot":       {"topology", "-o", "dot"},
		"topology svg":       {"topology", "-o", "svg"},
		"topology only node": {"topology", "--names", "NAMES", "--only-node", "n2"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for i, a := range args {
				if a == "NAMES" {
					args[i] = namesFile(t, someNames)
				}
			}
			status := w.run(args...)
			w.golden(t, status, append([]string{"stackhop"}, args...))
		})
	}
}

// One warning, however much is missing, with the way out.
func TestTopologyMissing(t *testing.T) {
	t.Run("topology missing", func(t *testing.T) {
		w := newWorld(t)
		for i := range 5 {
			w.missing = append(w.missing, fmt.Errorf("pod%d\x1b[31m: %w", i, os.ErrPermission))
		}
		w.golden(t, w.run("topology"), []string{"stackhop", "topology"})
	})
}
