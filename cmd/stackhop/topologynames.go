// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/topology"
)

// nameTopology adds what Kubernetes calls things.
func nameTopology(t *topology.Topology, file *events.NamesFile, cl cluster) {
	found := &foundNames{file: file, spaces: map[uint32]*topology.Namespace{}}
	for i := range t.Namespaces {
		found.spaces[t.Namespaces[i].Inode] = &t.Namespaces[i]
	}
	names := cl.Names(found)
	// Where the container runtime says nothing, a pod is known by its address.
	for _, ns := range found.spaces {
		for i := range ns.Devices {
			names.Device(ns.Inode, ns.Devices[i].Ifindex)
		}
	}
	t.SetNames(names)
}

// foundNames are the names that a topology has already.
type foundNames struct {
	file   *events.NamesFile // nil: none
	spaces map[uint32]*topology.Namespace
}

func (f *foundNames) Namespace(netns uint32) events.Namespace {
	ns := f.spaces[netns]
	if ns == nil {
		return events.Namespace{}
	}
	return events.Namespace{Name: ns.Name, Kind: ns.Kind, Node: ns.Node, Pod: ns.Pod}
}

func (f *foundNames) Device(netns, ifindex uint32) (events.Device, bool) {
	ns := f.spaces[netns]
	if ns == nil {
		return events.Device{}, false
	}
	for i := range ns.Devices {
		if d := &ns.Devices[i]; d.Ifindex == ifindex {
			var addrs []netip.Addr
			for _, p := range d.Addresses {
				addrs = append(addrs, p.Addr())
			}
			return events.Device{Name: d.Name, Kind: d.Kind, Addrs: addrs}, true
		}
	}
	return events.Device{}, false
}

func (f *foundNames) Address(ip string, _ uint16) events.AddressNames {
	if f.file == nil {
		return events.AddressNames{}
	}
	return f.file.Address(ip)
}

func (f *foundNames) Process(uint32) (string, uint32, bool) { return "", 0, false }
func (f *foundNames) Symbol(uint64) string                  { return "" }
func (f *foundNames) DropReason(uint32) string              { return "" }
