// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
	"github.com/stackhop/stackhop/events/record"
)

// offlineSelection is what the flags and words of a command that reads
// recordings select; nil: all that was recorded. Names are those that the
// recordings have.
func (a *app) offlineSelection(c *cli.Context, words []string, sources []*source) (*pcapexpr.Expr, error) {
	s := newSelection(a, c)
	s.expression = strings.Join(words, " ")
	if !s.given() {
		return nil, nil //nolint:nilnil // documented
	}
	names, err := recordedNames(sources)
	if err != nil {
		return nil, err
	}
	sys := *a.sys
	sys.netnsAddrs, sys.netnsNames = names.netnsAddrs, names.netnsNames
	t := &targets{sys: &sys, names: &names.file, namesPath: sources[0].parts[0].path, namespace: s.namespace}
	return s.compile(t)
}

// nameCollector gathers the names that recordings have, all that were ever told.
type nameCollector struct {
	file   events.NamesFile
	known  map[events.AddressName]bool
	spaces map[uint32]string              // by netns
	addrs  map[uint32]map[netip.Addr]bool // of its devices, by netns
}

// recordedNames reads all names of all files.
func recordedNames(sources []*source) (*nameCollector, error) {
	n := &nameCollector{known: map[events.AddressName]bool{}, spaces: map[uint32]string{}, addrs: map[uint32]map[netip.Addr]bool{}}
	for _, s := range sources {
		for _, p := range s.parts {
			f, r, err := openRecording(p.path, nil)
			if err != nil {
				return nil, err
			}
			_ = r.Run(n) // damage is told when the events are read
			if err := f.Close(); err != nil {
				return nil, err
			}
		}
	}
	return n, nil
}

// Event is no name.
func (n *nameCollector) Event(*events.Event) {}

// Tick is no name.
func (n *nameCollector) Tick(uint64) {}

// Name takes a name.
func (n *nameCollector) Name(r *record.Name) {
	switch {
	case r.Namespace != nil:
		n.spaces[r.Namespace.Netns] = string(r.Namespace.Name)
	case r.Device != nil:
		for _, a := range r.Device.Addrs {
			n.address(r.Device.Netns, a)
		}
	case r.Address != nil:
		a := events.AddressName{IP: string(r.Address.IP), Pod: string(r.Address.Pod), Service: string(r.Address.Service), Node: string(r.Address.Node)}
		if _, err := netip.ParseAddr(a.IP); err == nil && !n.known[a] {
			n.known[a] = true
			n.file.Addresses = append(n.file.Addresses, a)
		}
	}
}

func (n *nameCollector) address(netns uint32, a netip.Addr) {
	if a.IsLoopback() || a.IsLinkLocalUnicast() {
		return // they select nothing in particular
	}
	if n.addrs[netns] == nil {
		n.addrs[netns] = map[netip.Addr]bool{}
	}
	n.addrs[netns][a.Unmap()] = true
}

// netnsAddrs lists the addresses of the namespaces with a name, or with an inode.
func (n *nameCollector) netnsAddrs(nameOrInode string) ([]netip.Addr, error) {
	var out []netip.Addr
	found := false
	for netns, name := range n.spaces {
		if name == nameOrInode || strconv.FormatUint(uint64(netns), 10) == nameOrInode {
			found = true
			out = slices.AppendSeq(out, maps.Keys(n.addrs[netns]))
		}
	}
	if !found {
		return nil, errors.New("no such namespace in the recording")
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}

func (n *nameCollector) netnsNames() []string {
	return slices.Sorted(maps.Values(n.spaces))
}
