// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
)

// runNetns is where ip-netns and container runtimes keep named namespaces.
const runNetns = "/run/netns"

// netnsInode returns the inode number of the namespace that a file opens.
func netnsInode(path string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	return uint32(st.Ino), nil
}

// findNamespaces lists the network namespaces that have a name or a process,
// by inode, with a file that opens each. Names are preferred: they last longer.
func findNamespaces() map[uint32]string {
	found := map[uint32]string{}
	add := func(path string) {
		inode, err := netnsInode(path)
		if err != nil {
			return // gone meanwhile
		}
		if _, ok := found[inode]; !ok {
			found[inode] = path
		}
	}
	add("/proc/1/ns/net")
	named, _ := os.ReadDir(runNetns)
	for _, e := range named {
		path := filepath.Join(runNetns, e.Name())
		// A name whose namespace is not mounted is an ordinary file.
		var fs unix.Statfs_t
		if unix.Statfs(path, &fs) == nil && fs.Type == unix.NSFS_MAGIC {
			add(path)
		}
	}
	processes, _ := os.ReadDir("/proc")
	for _, e := range processes {
		if _, err := strconv.ParseUint(e.Name(), 10, 32); err == nil {
			add(filepath.Join("/proc", e.Name(), "ns/net"))
		}
	}
	return found
}

// describeNamespace says what is known without Kubernetes: the initial
// namespace is the node, the others are its pods.
func describeNamespace(inode uint32, path string) events.Namespace {
	host, _ := os.Hostname()
	if initial, err := netnsInode("/proc/1/ns/net"); err == nil && initial == inode {
		return events.Namespace{Name: host, Kind: events.KindNode, Node: host}
	}
	ns := events.Namespace{Kind: events.KindPod, Node: host}
	if strings.HasPrefix(path, runNetns+"/") {
		ns.Name = filepath.Base(path)
	}
	return ns
}

// device is an events.Device and what finds its peer.
type device struct {
	events.Device
	// peerID is the number that the device's own namespace gives to that of
	// its peer (IFLA_LINK_NETNSID), -1 if that is the same one.
	peerID int
	// address is its link-layer address, which tells it from another device that
	// has its ifindex in a later namespace with the same inode number.
	address string
	// gone says that it was no longer there when its namespace's devices were
	// last read, or that the namespace was not.
	gone bool
}

// openNetns returns a netlink handle into the namespace that a file opens, or,
// if path is empty, into that of this process.
func openNetns(path string) (*netlink.Handle, error) {
	if path == "" {
		return netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
}

// readDevices lists a namespace's devices by ifindex; nil if they cannot be
// read, because the namespace vanishes or its devices change meanwhile.
func readDevices(path string) map[uint32]device {
	handle, err := openNetns(path)
	if err != nil {
		return nil
	}
	defer handle.Close()
	links, err := handle.LinkList()
	if err != nil {
		return nil
	}
	addrs := map[int][]netip.Addr{}
	if prefixes, err := readAddrs(handle); err == nil {
		for ifindex, list := range prefixes {
			for _, p := range list {
				addrs[ifindex] = append(addrs[ifindex], p.Addr())
			}
		}
	}
	devices := make(map[uint32]device, len(links))
	for _, l := range links {
		devices[uint32(l.Attrs().Index)] = newDevice(l, addrs[l.Attrs().Index])
	}
	return devices
}

func newDevice(l netlink.Link, addrs []netip.Addr) device {
	a := l.Attrs()
	dev := device{Device: events.Device{Name: a.Name, Kind: deviceKind(l), Addrs: addrs}, peerID: a.NetNsID, address: a.HardwareAddr.String()}
	if a.MasterIndex > 0 {
		dev.Master = uint32(a.MasterIndex)
	}
	if dev.Kind == "veth" && a.ParentIndex > 0 {
		dev.PeerIfindex = uint32(a.ParentIndex)
	}
	return dev
}

// readAddrs lists the addresses of a namespace's devices by ifindex.
func readAddrs(handle *netlink.Handle) (map[int][]netip.Prefix, error) {
	list, err := handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	addrs := map[int][]netip.Prefix{}
	for _, a := range list {
		if p, ok := prefixOf(a.IPNet); ok {
			addrs[a.LinkIndex] = append(addrs[a.LinkIndex], p)
		}
	}
	return addrs, nil
}

// prefixOf keeps the part of the address behind the mask.
func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if ip = ip.Unmap(); !ok || size != ip.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(ip, bits), true
}

// deviceKind is empty for a physical device.
func deviceKind(l netlink.Link) string {
	if l.Attrs().RawFlags&unix.IFF_LOOPBACK != 0 {
		return "loopback"
	}
	if kind := l.Type(); kind != "device" {
		return kind
	}
	return ""
}

// linkPeers finds the namespaces of veth peers: two devices that name each
// other's ifindex. Where several do, the pair stays unknown.
func linkPeers(s *snapshot) {
	type pair struct{ own, peer uint32 }
	by := map[pair][]deviceKey{}
	for key, dev := range s.devices {
		if dev.PeerIfindex != 0 {
			p := pair{key.ifindex, dev.PeerIfindex}
			by[p] = append(by[p], key)
		}
	}
	for key, dev := range s.devices {
		if dev.PeerIfindex == 0 {
			continue
		}
		var others []deviceKey
		for _, other := range by[pair{dev.PeerIfindex, key.ifindex}] {
			if other != key {
				others = append(others, other)
			}
		}
		if len(others) > 1 {
			others = peersByID(s, key, others)
		}
		if len(others) == 1 {
			dev.PeerNetns = others[0].netns
			s.devices[key] = dev
		}
	}
}

// peersByID keeps those of others that lie in the namespace which the device
// says its peer is in.
func peersByID(s *snapshot, own deviceKey, others []deviceKey) []deviceKey {
	id := s.devices[own].peerID
	handle, err := openNetns(s.paths[own.netns])
	if err != nil {
		return nil
	}
	defer handle.Close()
	var same []deviceKey
	for _, other := range others {
		peer, err := netns.GetFromPath(s.paths[other.netns])
		if err != nil {
			continue
		}
		if got, err := handle.GetNetNsIdByFd(int(peer)); err == nil && got == id {
			same = append(same, other)
		}
		peer.Close()
	}
	return same
}

// process is who owns a socket.
type process struct {
	comm string
	pid  uint32
}

// findProcesses looks through all processes for the owners of sockets; nil: of all
// sockets, up to maxProcesses. Of several processes that have one it is the one with the
// lowest number: the server itself rather than those that it has started. It looks until
// ctx is done.
func findProcesses(ctx context.Context, inodes map[uint32]struct{}) map[uint32]process {
	found := map[uint32]process{}
	for _, pid := range processNumbers() {
		dir := filepath.Join("/proc", strconv.FormatUint(uint64(pid), 10))
		comm := sync.OnceValues(func() (string, error) {
			text, err := os.ReadFile(dir + "/comm")
			return strings.TrimSuffix(string(text), "\n"), err
		})
		eachSocket(ctx, dir+"/fd", func(inode uint32) (more bool) {
			_, wanted := inodes[inode]
			if _, known := found[inode]; known || !wanted && inodes != nil {
				return true
			}
			name, err := comm()
			if err != nil {
				return false // it has ended meanwhile
			}
			found[inode] = process{comm: name, pid: pid}
			return !foundAll(found, inodes)
		})
		if foundAll(found, inodes) || ctx.Err() != nil {
			break
		}
	}
	return found
}

func foundAll(found map[uint32]process, inodes map[uint32]struct{}) bool {
	return inodes != nil && len(found) == len(inodes) || len(found) >= maxProcesses
}

// processNumbers are those of all processes, ascending.
func processNumbers() (pids []uint32) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.ParseUint(e.Name(), 10, 32); err == nil {
			pids = append(pids, uint32(pid))
		}
	}
	slices.Sort(pids)
	return pids
}

// descriptorsAtOnce is how many of a process are listed at a time: it may have a million.
const descriptorsAtOnce = 1024

// eachSocket gives the inodes of a process's sockets to f while that wants more, until ctx
// is done.
func eachSocket(ctx context.Context, dir string, f func(inode uint32) (more bool)) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	for {
		names, _ := d.Readdirnames(descriptorsAtOnce)
		if len(names) == 0 || ctx.Err() != nil {
			return
		}
		for _, name := range names {
			target, err := os.Readlink(filepath.Join(dir, name))
			if err != nil || !strings.HasPrefix(target, "socket:[") {
				continue
			}
			n, err := strconv.ParseUint(strings.TrimSuffix(target[len("socket:["):], "]"), 10, 32)
			if err == nil && !f(uint32(n)) {
				return
			}
		}
	}
}
