// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

func veth(peer uint32) device {
	return device{Device: events.Device{Name: "veth", Kind: "veth", PeerIfindex: peer}, peerID: -1}
}

func TestLinkPeers(t *testing.T) {
	tests := []struct {
		name    string
		devices map[deviceKey]device
		want    map[deviceKey]uint32 // the peer's namespace
	}{
		{"a pair", map[deviceKey]device{{1, 5}: veth(2), {9, 2}: veth(5)}, map[deviceKey]uint32{{1, 5}: 9, {9, 2}: 1}},
		{"both in one namespace", map[deviceKey]device{{1, 5}: veth(6), {1, 6}: veth(5)}, map[deviceKey]uint32{{1, 5}: 1, {1, 6}: 1}},
		{"the other end is not known", map[deviceKey]device{{1, 5}: veth(2)}, map[deviceKey]uint32{{1, 5}: 0}},
		{"the other end names somebody else", map[deviceKey]device{{1, 5}: veth(2), {9, 2}: veth(7)}, map[deviceKey]uint32{{1, 5}: 0, {9, 2}: 0}},
		{"its own number", map[deviceKey]device{{1, 2}: veth(2), {9, 2}: veth(2)}, map[deviceKey]uint32{{1, 2}: 9, {9, 2}: 1}},
		{"alone with its own number", map[deviceKey]device{{1, 2}: veth(2)}, map[deviceKey]uint32{{1, 2}: 0}},
		{"not a veth", map[deviceKey]device{{1, 5}: {Device: events.Device{Name: "eth0"}}, {9, 2}: veth(5)}, map[deviceKey]uint32{{1, 5}: 0, {9, 2}: 0}},
		// Pods often have the same numbers; without a namespace to ask none is chosen.
		{"two that fit", map[deviceKey]device{{1, 5}: veth(2), {8, 2}: veth(5), {9, 2}: veth(5)}, map[deviceKey]uint32{{1, 5}: 0, {8, 2}: 1, {9, 2}: 1}},
		{"nothing", map[deviceKey]device{}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			linkPeers(&snapshot{devices: tt.devices})
			for key, want := range tt.want {
				if got := tt.devices[key].PeerNetns; got != want {
					t.Errorf("%v: peer in %d, want %d", key, got, want)
				}
			}
		})
	}
}

// Two pods whose devices have the same numbers are told apart by the number that
// their node gives to their namespaces.
func TestNativePeersOfTwins(t *testing.T) {
	c := newCluster(t, 2)
	k, err := readKernel()
	if err != nil {
		t.Fatal(err)
	}
	inv, err := newInventory(c.names(), k)
	if err != nil {
		t.Fatal(err)
	}
	s, found := inv.now.Load(), 0
	for key, dev := range s.devices {
		for _, p := range c.pods {
			if key.netns == p.inode && dev.Name == "eth0" {
				found++
				if peer, ok := s.devices[deviceKey{dev.PeerNetns, dev.PeerIfindex}]; !ok || peer.Name != p.host {
					t.Errorf("%s eth0: the other end is %q in %d, want %s", p.name, peer.Name, dev.PeerNetns, p.host)
				}
				if !slices.Contains(dev.Addrs, p.addr) {
					t.Errorf("%s eth0: addresses %v, want %s", p.name, dev.Addrs, p.addr)
				}
			}
		}
	}
	if found != 2 {
		t.Errorf("found %d of 2 pods", found)
	}
	if ns := inv.Namespace(c.pods[0].inode); ns.Kind != events.KindPod || ns.Node != c.node {
		t.Errorf("pod a is %+v", ns)
	}
}

func TestNotice(t *testing.T) {
	inv := &inventory{wake: make(chan struct{}, 1), want: make(chan struct{}, 1), wanted: map[uint32]struct{}{}, tried: map[uint32]int{7: maxTries},
		sought: map[deviceKey]struct{}{}}
	inv.now.Store(&snapshot{namespaces: map[uint32]events.Namespace{1: {}}, devices: map[deviceKey]device{{1, 2}: {}}})
	inv.processes.Store(&map[uint32]process{5: {}})
	inv.first.Store(&map[uint32]process{8: {}})
	tests := []struct {
		name       string
		e          events.Event
		wake, want bool
	}{
		{"all known", events.Event{Netns: 1, Ifindex: 2, Socket: events.Socket{Inode: 5}}, false, false},
		{"no numbers", events.Event{}, false, false},
		{"namespace", events.Event{Netns: 3}, true, false},
		{"device", events.Event{Netns: 1, Ifindex: 3}, true, false},
		{"process from the start", events.Event{Netns: 1, Socket: events.Socket{Inode: 8}}, false, true},
		{"process", events.Event{Netns: 1, Socket: events.Socket{Inode: 6}}, false, true},
		{"process that was not found", events.Event{Netns: 1, Socket: events.Socket{Inode: 7}}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inv.notice(&tt.e)
			if got := len(inv.wake) > 0; got != tt.wake {
				t.Errorf("looks at namespaces: %t, want %t", got, tt.wake)
			}
			if got := len(inv.want) > 0; got != tt.want {
				t.Errorf("looks for processes: %t, want %t", got, tt.want)
			}
			drain(inv.wake)
			drain(inv.want)
		})
	}
	if _, _, ok := inv.Process(8); !ok {
		t.Error("the process from the start is not told until it is found anew")
	}
	_, six := inv.wanted[6]
	if _, eight := inv.wanted[8]; !six || !eight || len(inv.wanted) != 2 {
		t.Errorf("sockets to look for: %v", inv.wanted)
	}
}

// What a look that had begun already has found is not looked for again.
func TestSeeks(t *testing.T) {
	inv := &inventory{wake: make(chan struct{}, 1), sought: map[deviceKey]struct{}{}}
	inv.now.Store(&snapshot{namespaces: map[uint32]events.Namespace{1: {}}, devices: map[deviceKey]device{{1, 2}: {}}})
	tests := []struct {
		name   string
		sought []deviceKey
		want   bool
	}{
		{"nothing", nil, false},
		{"all known by now", []deviceKey{{1, 0}, {1, 2}}, false},
		{"a device is not", []deviceKey{{1, 2}, {1, 3}}, true},
		{"a namespace is not", []deviceKey{{1, 0}, {2, 0}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, place := range tt.sought {
				inv.seek(place)
			}
			if got := len(inv.wake) > 0; got != (len(tt.sought) > 0) {
				t.Errorf("wakes who looks: %t", got)
			}
			drain(inv.wake)
			if got := inv.seeks(); got != tt.want {
				t.Errorf("seeks: %t, want %t", got, tt.want)
			}
			if inv.seeks() {
				t.Error("seeks the same again")
			}
		})
	}
	// What does not fit may be unknown.
	for i := range uint32(maxSought) {
		known := deviceKey{1, 100 + i}
		inv.now.Load().devices[known] = device{}
		inv.seek(known)
	}
	if inv.seek(deviceKey{3, 0}); len(inv.sought) > maxSought || !inv.seeks() {
		t.Errorf("%d are remembered, and no more is looked for", len(inv.sought))
	}
}

// TestUntil: what ends after news that was not read yet is not to be named yet.
func TestUntil(t *testing.T) {
	const ms = uint64(time.Millisecond)
	inv := &inventory{news: make(chan struct{}, 1)}
	inv.now.Store(&snapshot{})
	if got := inv.until(1000 * ms); got != 1000*ms {
		t.Errorf("without news: %d", got)
	}
	inv.changed()
	since := inv.unread.Load()
	for _, tt := range []struct{ now, want uint64 }{
		{since - ms, since - ms}, {since, since}, {since + 100*ms, since},
		{since + 1000*ms, since + 1000*ms - maxUnread}, {1, 1},
	} {
		if got := inv.until(tt.now); got != tt.want {
			t.Errorf("%d ns after the news: known %d ns after them, want %d", int64(tt.now-since), int64(got-since), int64(tt.want-since))
		}
	}
	if inv.look(); inv.unread.Load() != 0 || len(inv.news) > 0 {
		t.Error("read, and waited for")
	}
	inv.looks = true // as while one reads
	inv.changed()
	if inv.next == 0 || len(inv.news) != 1 {
		t.Error("news that came meanwhile is forgotten")
	}
}

// drain takes what was told.
func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// TestFindWanted: a socket that nobody has is looked for again, but not for ever.
func TestFindWanted(t *testing.T) {
	inv := &inventory{want: make(chan struct{}, 1), wanted: map[uint32]struct{}{}, tried: map[uint32]int{}}
	inv.processes.Store(&map[uint32]process{})
	inv.wantProcess(1) // no socket has that
	times := 0
	for ; len(inv.want) > 0; times++ {
		drain(inv.want)
		inv.findWanted()
	}
	if times != maxTries || len(inv.wanted) > 0 {
		t.Errorf("looked for %d times, and still for %v", times, inv.wanted)
	}
	if inv.wantProcess(1); len(inv.want) > 0 {
		t.Error("looked for once more")
	}
}

func TestFindNetns(t *testing.T) {
	self, err := netnsInode("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := findNetns(events.NetnsName{PID: uint32(os.Getpid())}); err != nil || got != self {
		t.Errorf("by process: %d, %v; want %d", got, err, self)
	}
	for _, name := range []string{"", "..", "../../etc/passwd", "a/b", "nul\x00", "there-is-no-such"} {
		if got, err := findNetns(events.NetnsName{Name: name}); err == nil && name != ".." {
			t.Errorf("%q is namespace %d", name, got)
		}
	}
}

func TestDropReasons(t *testing.T) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if errors.Is(types.TypeByName("skb_drop_reason", &enum), btf.ErrNotFound) {
		t.Skip("this kernel is older than 5.17: its BTF has no drop reasons")
	}
	reasons := dropReasons(types)
	found := false
	for _, name := range reasons {
		found = found || name == "NO_SOCKET"
	}
	if !found {
		t.Errorf("NO_SOCKET is not among %d reasons", len(reasons))
	}
}

func TestParseCPUs(t *testing.T) {
	tests := []struct {
		list string
		want []uint32
	}{
		{"0", []uint32{0}}, {"0-3", []uint32{0, 1, 2, 3}}, {"0-1,4,6-7", []uint32{0, 1, 4, 6, 7}},
		{"", nil}, {"a", nil}, {"3-1", nil}, {"0-", nil}, {"-1", nil}, {"0,,1", nil}, {"0-99999999", nil},
	}
	for _, tt := range tests {
		got, err := parseCPUs(tt.list)
		if (err == nil) != (tt.want != nil) || err == nil && !slices.Equal(got, tt.want) {
			t.Errorf("%q: %v, %v; want %v", tt.list, got, err, tt.want)
		}
	}
}

func TestLeadsTo(t *testing.T) {
	service := virtualService{proto: 6, address: netip.MustParseAddrPort("10.0.0.1:80"), real: []netip.AddrPort{netip.MustParseAddrPort("172.16.0.2:8080")}}
	tests := []struct {
		expr string
		want bool
	}{
		{"host 172.16.0.2", true}, {"port 8080", true}, {"host 10.0.0.1", false},
		{"host 192.0.2.1", false}, {"udp port 8080", false}, {"tcp port 80", false},
	}
	for _, tt := range tests {
		e, err := pcapexpr.Parse(tt.expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := leadsTo(e, service); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.expr, got, tt.want)
		}
	}
}

// A service is in front of a set's members for as long as these are its real servers.
func TestLeadsToSet(t *testing.T) {
	service := virtualService{proto: 6, address: netip.MustParseAddrPort("10.0.0.1:80"), real: []netip.AddrPort{netip.MustParseAddrPort("172.16.0.2:8080")}}
	set := pcapexpr.NewSet("pod/shop/web")
	for _, tt := range []struct {
		member string
		want   bool
	}{
		{"172.16.0.2:0", true}, {"172.16.0.3:0", false}, {"172.16.0.2:8080", true}, {"172.16.0.2:80", false}, {"10.0.0.1:80", false},
	} {
		m := netip.MustParseAddrPort(tt.member)
		set.Replace(ends(m.Port(), m.Addr()))
		if got := leadsTo(pcapexpr.DstIn(set), service); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.member, got, tt.want)
		}
	}
}

func TestConfig(t *testing.T) {
	e := expression(t, "tcp")
	tests := []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"nothing", Config{}, false},
		{"all", Config{All: true}, true},
		{"selection", Config{Select: e}, true},
		{"both", Config{Select: e, All: true}, false},
		{"hook set", Config{All: true, Hooks: "some"}, false},
		{"ring of 5000", Config{All: true, RingBytes: 5000}, false},
		{"ring too small", Config{All: true, RingBytes: 2048}, false},
		{"whole packets", Config{All: true, Record: true, SnapLen: MaxSnapLen}, true},
		{"longer than packets", Config{All: true, Record: true, SnapLen: MaxSnapLen + 1}, false},
		{"fewer bytes than none", Config{All: true, Record: true, SnapLen: -1}, false},
		{"bytes without recording", Config{All: true, SnapLen: 100}, false},
		{"packets too long for the ring", Config{All: true, Record: true, SnapLen: 1500, RingBytes: 16384}, false},
		{"negative packets", Config{All: true, MaxPackets: -1}, false},
		{"too many packets", Config{All: true, MaxPackets: 1 << 23}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.validate()
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrConfig) {
				t.Errorf("error %v", err)
			}
			if err == nil && (tt.cfg.RingBytes == 0 || tt.cfg.MaxPackets == 0 || tt.cfg.Poll == 0 || tt.cfg.Warn == nil) {
				t.Errorf("no defaults: %+v", tt.cfg)
			}
		})
	}
}

// TestNativeFirstProcesses: who listened before the start is known before any packet.
func TestNativeFirstProcesses(t *testing.T) {
	needRoot(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	inv := startRun(t, Config{All: true, RingBytes: 1 << 16}, func(*events.Event) {}).tracer.names
	inv.looking.Wait()
	if comm, pid, ok := inv.Process(uint32(st.Ino)); !ok || pid != uint32(os.Getpid()) || comm == "" {
		t.Errorf("%q %d, %t", comm, pid, ok)
	}
}

// TestFindProcessesEnds: closing a tracer does not wait for a look through all of /proc.
func TestFindProcessesEnds(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	end()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	sockets := func(ctx context.Context) (n int) {
		eachSocket(ctx, "/proc/self/fd", func(uint32) bool { n++; return true })
		return n
	}
	if before, after := sockets(t.Context()), sockets(ctx); before == 0 || after != 0 {
		t.Errorf("%d sockets, %d after the end", before, after)
	}
	if found := findProcesses(ctx, nil); len(found) != 0 {
		t.Errorf("%d sockets were looked for after the end", len(found))
	}
}

// TestNativeTicks: what is told waits for names while devices change, not for long, and
// not otherwise; time never goes back.
func TestNativeTicks(t *testing.T) {
	r := startRun(t, Config{All: true, RingBytes: 1 << 16}, func(*events.Event) {})
	behind := func(is bool) func() bool {
		return func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			n := len(r.ticks)
			return n > 0 && r.ticks[n-1][1] < r.ticks[n-1][0] == is
		}
	}
	eventually(t, "names are known", behind(false))
	changing := make(chan struct{})
	var changes sync.WaitGroup
	changes.Go(func() {
		for {
			select {
			case <-changing:
				return
			default:
				r.tracer.names.changed()
			}
		}
	})
	eventually(t, "names are waited for", behind(true))
	close(changing)
	changes.Wait()
	eventually(t, "names are known again", behind(false))
	last := [2]uint64{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, tick := range r.ticks {
		if tick[0] < last[0] || tick[1] < last[1] || tick[1] > tick[0] || tick[0]-tick[1] > maxUnread {
			t.Errorf("%d ns, known up to %d behind %d ns, known up to %d", tick[0], tick[1], last[0], last[1])
		}
		last = tick
	}
}
