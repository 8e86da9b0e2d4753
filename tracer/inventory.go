// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/btf"

	"github.com/stackhop/stackhop/events"
)

// inventory knows this node: its namespaces, devices and processes. It answers
// from memory and is refreshed in the background when the kernel says that a device
// has changed, or an event shows something unknown. What has vanished is remembered
// for a while, see gone.
type inventory struct {
	kernel   *kernel
	file     *events.NamesFile // nil: none
	reasons  map[uint32]string
	virtuals *virtuals
	rules    *ruleNames // nil: nobody asks for them
	// netfilterDrop is the reason of packets that netfilter dropped; 0: the kernel
	// has none.
	netfilterDrop uint32

	// unknown is called for an event of a namespace or device that is not known, where
	// nothing is looked for any more; nil: everything is.
	unknown func()

	now  atomic.Pointer[snapshot]
	wake chan struct{} // an event showed something unknown
	news chan struct{} // the kernel told of a change
	// unread is since when news was not read, by the monotonic clock; 0: all was.
	unread atomic.Uint64
	read   chan struct{} // now is another one

	// reading is held while namespaces and devices are read anew, and shared by who
	// attaches to one of them. The kernel has one lock for both, rtnl: a list of 2,000
	// devices takes it a hundred times, and attaching has it for a grace period each.
	reading sync.RWMutex

	// Processes are found apart from that: reading all namespaces may take longer than
	// a traversal waits.
	processes atomic.Pointer[map[uint32]process] // by a socket's inode; never changed
	first     atomic.Pointer[map[uint32]process] // of those at the start; nil: not known yet
	looking   sync.WaitGroup                     // for first
	enough    context.CancelFunc                 // ends that
	want      chan struct{}                      // wanted has some

	mu     sync.Mutex
	looks  bool                   // a look has begun and not ended
	next   uint64                 // ns: when the first news came since; 0: none
	sought map[deviceKey]struct{} // what events showed that was not known; ifindex 0: a namespace
	wanted map[uint32]struct{}    // socket inodes to find the processes of
	tried  map[uint32]int         // how often … was looked for in vain
}

// snapshot is replaced as a whole, never changed.
type snapshot struct {
	namespaces map[uint32]events.Namespace
	paths      map[uint32]string // a file that opens the namespace
	devices    map[deviceKey]device

	// Of namespaces and devices, those that have vanished.
	goneNamespaces gone[uint32]
	goneDevices    gone[deviceKey]
}

type deviceKey struct{ netns, ifindex uint32 }

// maxProcesses bounds what is remembered of processes.
const maxProcesses = 1 << 16

// maxTries is how often a socket's process is looked for: one that is just accepted has an
// inode some time before its process has a descriptor.
const maxTries = 3

var (
	_ events.Names        = (*inventory)(nil)
	_ events.VirtualNames = (*inventory)(nil)
	_ events.RuleNames    = (*inventory)(nil)
)

func newInventory(namesFile []byte, k *kernel) (*inventory, error) {
	inv := &inventory{kernel: k, virtuals: newVirtuals(), wake: make(chan struct{}, 1), news: make(chan struct{}, 1), read: make(chan struct{}, 1),
		want: make(chan struct{}, 1), reasons: dropReasons(k.types),
		sought: map[deviceKey]struct{}{}, wanted: map[uint32]struct{}{}, tried: map[uint32]int{}}
	if namesFile != nil {
		var err error
		if inv.file, err = events.ParseNamesFile(namesFile); err != nil {
			return nil, err
		}
	}
	for n, name := range inv.reasons {
		if name == "NETFILTER_DROP" {
			inv.netfilterDrop = n
		}
	}
	inv.now.Store(&snapshot{})
	inv.processes.Store(&map[uint32]process{})
	inv.refresh()
	return inv, nil
}

// dropReasons reads the running kernel's enum; below 5.17 there is none.
func dropReasons(types *btf.Spec) map[uint32]string {
	reasons := map[uint32]string{}
	var enum *btf.Enum
	if err := types.TypeByName("skb_drop_reason", &enum); err != nil {
		return reasons
	}
	for _, v := range enum.Values {
		reasons[uint32(v.Value)] = strings.TrimPrefix(strings.TrimPrefix(v.Name, "SKB_DROP_REASON_"), "SKB_")
	}
	return reasons
}

// findFirst finds the processes of all sockets there are. A server's first packet, seen
// outside any process, would else be told before its process is found: on a busy node
// that takes longer than a traversal waits.
func (inv *inventory) findFirst(ctx context.Context) {
	first := findProcesses(ctx, nil)
	inv.first.Store(&first)
}

// beginFirst does so in the background, until endFirst.
func (inv *inventory) beginFirst() {
	ctx, enough := context.WithCancel(context.Background())
	inv.enough = enough
	inv.looking.Go(func() { inv.findFirst(ctx) })
}

func (inv *inventory) endFirst() {
	if inv.enough != nil {
		inv.enough()
	}
	inv.looking.Wait()
}

// watchProcesses finds the processes of sockets until ctx is done.
func (inv *inventory) watchProcesses(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-inv.want:
		}
		inv.findWanted() // also at the end: the last traversals want the names
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAgain):
		}
	}
}

// refresh reads namespaces and devices anew.
func (inv *inventory) refresh() {
	old := inv.now.Load()
	s := &snapshot{
		namespaces: map[uint32]events.Namespace{},
		devices:    map[deviceKey]device{},
	}
	s.paths = findNamespaces()
	unread := map[uint32]bool{}
	for inode, path := range s.paths {
		s.namespaces[inode] = describeNamespace(inode, path)
		devices := readDevices(path)
		unread[inode] = devices == nil
		for ifindex, dev := range devices {
			s.devices[deviceKey{inode, ifindex}] = dev
		}
	}
	linkPeers(s)
	if inv.file != nil {
		named, _ := inv.file.Resolve(findNetns)
		for inode, ns := range named {
			s.namespaces[inode] = ns
		}
	}
	s.remember(old, unread)
	inv.now.Store(s)
}

// remember takes over from an older snapshot what has vanished since, but for devices
// of namespaces that could not be read: those may be there.
func (s *snapshot) remember(old *snapshot, unread map[uint32]bool) {
	now := time.Now()
	var namespaces []uint32
	for inode := range old.namespaces {
		if _, ok := s.namespaces[inode]; !ok {
			namespaces = append(namespaces, inode)
		}
	}
	s.goneNamespaces = old.goneNamespaces.next(namespaces, now)
	for inode := range s.goneNamespaces {
		s.namespaces[inode] = old.namespaces[inode]
	}
	var devices []deviceKey
	for key, dev := range old.devices {
		if _, ok := s.devices[key]; ok {
			continue
		}
		if unread[key.netns] {
			s.devices[key] = dev
			continue
		}
		devices = append(devices, key)
	}
	s.goneDevices = old.goneDevices.next(devices, now)
	for key := range s.goneDevices {
		dev := old.devices[key]
		dev.gone = true
		s.devices[key] = dev
	}
}

// findWanted looks for the processes of sockets that events named.
func (inv *inventory) findWanted() {
	inv.mu.Lock()
	wanted := inv.wanted
	inv.wanted = map[uint32]struct{}{}
	inv.mu.Unlock()
	if len(wanted) == 0 {
		return
	}
	found, old := findProcesses(context.Background(), wanted), *inv.processes.Load()
	processes := make(map[uint32]process, len(old)+len(found))
	if len(old)+len(found) <= maxProcesses {
		maps.Copy(processes, old)
	}
	inv.mu.Lock()
	if len(inv.tried) > maxProcesses {
		inv.tried = map[uint32]int{}
	}
	for inode := range wanted {
		if p, ok := found[inode]; ok {
			processes[inode] = p
			continue
		}
		if inv.tried[inode]++; inv.tried[inode] < maxTries {
			inv.wanted[inode] = struct{}{}
			tell(inv.want)
		}
	}
	inv.mu.Unlock()
	inv.processes.Store(&processes)
}

// Device implements events.Names.
func (inv *inventory) Device(netns, ifindex uint32) (events.Device, bool) {
	d, ok := inv.now.Load().devices[deviceKey{netns, ifindex}]
	return d.Device, ok
}

// Namespace implements events.Names.
func (inv *inventory) Namespace(netns uint32) events.Namespace {
	return inv.now.Load().namespaces[netns]
}

// Address implements events.Names.
func (inv *inventory) Address(ip string, _ uint16) events.AddressNames {
	if inv.file == nil {
		return events.AddressNames{}
	}
	return inv.file.Address(ip)
}

// Process implements events.Names.
func (inv *inventory) Process(inode uint32) (comm string, pid uint32, ok bool) {
	p, ok := (*inv.processes.Load())[inode]
	if first := inv.first.Load(); !ok && first != nil {
		p, ok = (*first)[inode]
	}
	return p.comm, p.pid, ok
}

// Symbol implements events.Names.
func (inv *inventory) Symbol(addr uint64) string { return inv.kernel.symbolAt(addr) }

// DropReason implements events.Names.
func (inv *inventory) DropReason(reason uint32) string { return inv.reasons[reason] }

// Rule implements events.RuleNames.
func (inv *inventory) Rule(q *events.RuleQuery) (events.RuleFacts, bool) {
	if inv.rules == nil {
		return events.RuleFacts{}, false
	}
	return inv.rules.Rule(q)
}

// findNetns resolves an entry of the names file to an inode.
func findNetns(n events.NetnsName) (uint32, error) {
	if n.PID != 0 {
		return netnsInode(fmt.Sprintf("/proc/%d/ns/net", n.PID))
	}
	if n.Name == "" || strings.ContainsAny(n.Name, "/\x00") {
		return 0, fmt.Errorf("name %q: %w", n.Name, os.ErrInvalid)
	}
	return netnsInode(runNetns + "/" + n.Name)
}
