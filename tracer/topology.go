// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/topology"
)

// Bounds of a topology. What is beyond them is left out, and named as missing.
const (
	maxNamespaces = 4096
	maxDevices    = 1 << 16 // of all namespaces together
	maxRoutes     = 1 << 14 // of one namespace
)

// topologySysctls are the settings that a topology shows.
var topologySysctls = []string{
	"net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/ipv6/conf/all/forwarding",
	"net/bridge/bridge-nf-call-ip*tables", "net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max",
	"net/ipv4/vs/conntrack", "net/ipv4/vs/conn_reuse_mode", "net/ipv4/vs/expire_nodest_conn", "net/ipv4/vs/expire_quiescent_template",
}

// ReadTopology reads what is on this node, without attaching anything. Names
// come from a names file, nil for none, and from /run/netns. Without privileges
// there is only the namespace of this process. What could not be read is named
// in missing, also in the topology itself; lack of privileges is
// os.ErrPermission. err tells of a names file that is wrong.
func ReadTopology(namesFile []byte) (t *topology.Topology, missing []error, err error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, nil, fmt.Errorf("read topology: %w", err)
	}
	r := &topologyReader{
		out:      &topology.Topology{Time: time.Now(), Node: host},
		snapshot: snapshot{namespaces: map[uint32]events.Namespace{}, devices: map[deviceKey]device{}},
		links:    map[deviceKey]netlink.Link{},
	}
	var file *events.NamesFile
	if namesFile != nil {
		if file, err = events.ParseNamesFile(namesFile); err != nil {
			return nil, nil, err
		}
	}
	if err := r.read(file); err != nil {
		return nil, nil, fmt.Errorf("read topology: %w", err)
	}
	r.out.SetNames(topologyNames{r, file})
	for _, err := range r.missing {
		r.out.Missing = append(r.out.Missing, err.Error())
	}
	return r.out, r.missing, nil
}

// topologyReader reads one topology.
type topologyReader struct {
	snapshot
	own     uint32 // the namespace of this process
	ipvs    bool   // there is IPVS; asking would load its module
	links   map[deviceKey]netlink.Link
	out     *topology.Topology
	missing []error
}

func (r *topologyReader) miss(format string, args ...any) {
	r.missing = append(r.missing, fmt.Errorf(format, args...))
}

func (r *topologyReader) read(file *events.NamesFile) error {
	// Not of /proc/self: that is the first thread, which stays in another
	// namespace for good if inNamespace has run on it.
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close()
	if err := r.find(file, own); err != nil {
		return err
	}
	families, err := netlink.GenlFamilyList()
	if err != nil {
		r.miss("IPVS: list the families of generic netlink: %w", err)
	}
	r.ipvs = slices.ContainsFunc(families, func(f *netlink.GenlFamily) bool { return f.Name == "IPVS" })
	inodes := slices.Sorted(maps.Keys(r.paths))
	if more := len(inodes) - maxNamespaces; more > 0 {
		r.miss("%d namespaces: there are more than %d", more, maxNamespaces)
		inodes = inodes[:maxNamespaces]
	}
	for _, inode := range inodes {
		ns := topology.Namespace{Inode: inode}
		switch err := r.readNamespace(&ns); {
		case errors.Is(err, os.ErrNotExist): // it has ended since it was found
			continue
		case err != nil:
			r.miss("%s: %w", r.called(inode), err)
		}
		r.out.Namespaces = append(r.out.Namespaces, ns)
	}
	linkPeers(&r.snapshot)
	for i := range r.out.Namespaces {
		r.addDevices(&r.out.Namespaces[i])
	}
	return nil
}

// find finds the namespaces and what they are called.
func (r *topologyReader) find(file *events.NamesFile, own *os.File) (err error) {
	r.paths = findNamespaces()
	ownPath := fmt.Sprintf("/proc/self/fd/%d", own.Fd())
	if r.own, err = netnsInode(ownPath); err != nil {
		return err
	}
	if _, err := netnsInode("/proc/1/ns/net"); err != nil {
		r.miss("namespaces of other processes, of which this one's is taken for the node's: %w", err)
		r.namespaces[r.own] = events.Namespace{Name: r.out.Node, Kind: events.KindNode, Node: r.out.Node}
	}
	for inode, path := range r.paths {
		if _, known := r.namespaces[inode]; !known {
			r.namespaces[inode] = describeNamespace(inode, path)
		}
	}
	if _, known := r.namespaces[r.own]; !known {
		r.namespaces[r.own] = describeNamespace(r.own, ownPath)
	}
	r.paths[r.own] = ownPath
	if file != nil {
		named, _ := file.Resolve(findNetns) // pods of the file may have ended
		maps.Copy(r.namespaces, named)
	}
	return nil
}

// called is what messages call a namespace.
func (r *topologyReader) called(inode uint32) string {
	ns := r.namespaces[inode]
	return events.Safe(cmp.Or(ns.Pod, ns.Name, fmt.Sprintf("namespace %d", inode)))
}

// readNamespace reads all but the devices' names for each other. Its error says
// that nothing could be read; parts that could not are missed.
func (r *topologyReader) readNamespace(ns *topology.Namespace) error {
	path := r.paths[ns.Inode]
	if ns.Inode == r.own {
		path = "" // where a process is it needs no privilege to enter
	}
	handle, err := openNetns(path)
	if err != nil {
		return err
	}
	defer handle.Close()
	if err := r.readLinks(ns, handle); err != nil {
		return err
	}
	if err := readRoutes(ns, handle); err != nil {
		r.miss("routes of %s: %w", r.called(ns.Inode), err)
	}
	var errs []error
	settings := func() { ns.Sysctls, errs = sysctlsHere(topologySysctls) }
	if path == "" {
		settings()
	} else if err := inNamespace(path, settings); err != nil {
		errs = append(errs, err)
	}
	for _, err := range errs {
		r.miss("settings of %s: %w", r.called(ns.Inode), err)
	}
	if r.ipvs {
		r.readIPVS(ns, path)
	}
	return nil
}

// readIPVS adds the virtual services of a namespace.
func (r *topologyReader) readIPVS(ns *topology.Namespace, path string) {
	services, err := servicesOf(ns.Inode, path)
	if err != nil {
		r.miss("IPVS of %s: %w", r.called(ns.Inode), err)
	}
	for _, s := range services {
		out := topology.Service{IP: s.VIP.Addr(), Port: s.VIP.Port(), FWMark: s.FwMark, Scheduler: s.Scheduler}
		if s.FwMark == 0 {
			out.Proto = events.ProtoName(s.Proto)
		}
		if s.Flags&serviceIsPersistent != 0 {
			out.Persistent = s.Timeout
		}
		for _, d := range s.Destinations {
			out.Destinations = append(out.Destinations, topology.Destination{
				IP: d.Addr.Addr(), Port: d.Addr.Port(), Weight: d.Weight, Active: d.Active, Inactive: d.Inactive, Forward: d.Forward,
			})
		}
		ns.Services = append(ns.Services, out)
	}
}

// serviceIsPersistent is IP_VS_SVC_F_PERSISTENT of linux/ip_vs.h.
const serviceIsPersistent = 1

// readRoutes adds the routes of the main tables, except those of lo.
func readRoutes(ns *topology.Namespace, handle *netlink.Handle) error {
	name := map[int]string{}
	for i := range ns.Devices {
		name[int(ns.Devices[i].Ifindex)] = ns.Devices[i].Name
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := again(func() (list []topology.Route, err error) {
			over := false
			err = handle.RouteListFilteredIter(family, &netlink.Route{}, 0, func(route netlink.Route) bool {
				if len(ns.Routes)+len(list) >= maxRoutes {
					over = true
					return false
				}
				if r, ok := newRoute(&route, name); ok {
					list = append(list, r)
				}
				return true
			})
			if err == nil && over {
				err = fmt.Errorf("there are more than %d", maxRoutes)
			}
			return list, err
		})
		ns.Routes = append(ns.Routes, list...)
		if err != nil {
			return err
		}
	}
	return nil
}

// again reads once more what changed while it was read, up to a limit.
func again[T any](read func() (T, error)) (out T, err error) {
	for range 5 {
		if out, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return out, err
}

// topologyNames are the names that need nothing but this machine.
type topologyNames struct {
	r    *topologyReader
	file *events.NamesFile // nil: none
}

func (n topologyNames) Namespace(netns uint32) events.Namespace { return n.r.namespaces[netns] }

func (n topologyNames) Address(ip string, _ uint16) events.AddressNames {
	if n.file == nil {
		return events.AddressNames{}
	}
	return n.file.Address(ip)
}
