// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/internal/cpubound"
)

// addEntry puts a translated connection into a namespace's conntrack table.
func (c *cluster) addEntry(name string, proto uint8, client, vip, backend netip.AddrPort) {
	c.t.Helper()
	entry := &netlink.ConntrackFlow{
		FamilyType: unix.AF_INET, TimeOut: 600,
		Forward: netlink.IPTuple{Protocol: proto, SrcIP: client.Addr().AsSlice(), SrcPort: client.Port(), DstIP: vip.Addr().AsSlice(), DstPort: vip.Port()},
		Reverse: netlink.IPTuple{Protocol: proto, SrcIP: backend.Addr().AsSlice(), SrcPort: backend.Port(), DstIP: client.Addr().AsSlice(), DstPort: client.Port()},
	}
	if proto == unix.IPPROTO_TCP {
		entry.ProtoInfo = &netlink.ProtoInfoTCP{State: 3}
	}
	c.within(name, func() error { return netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, entry) })
}

func TestNativeFactsConntrack(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	client, vip, backend := netip.MustParseAddrPort("10.1.1.1:4000"), netip.MustParseAddrPort("10.9.9.9:80"), netip.MustParseAddrPort("10.1.2.2:8080")
	c.addEntry(a.name, unix.IPPROTO_TCP, client, vip, backend)
	c.addEntry(a.name, unix.IPPROTO_UDP, client, vip, backend)
	original := events.Tuple{Src: client.Addr(), Dst: vip.Addr(), SrcPort: client.Port(), DstPort: vip.Port(), Proto: unix.IPPROTO_TCP}
	reply := events.Tuple{Src: backend.Addr(), Dst: client.Addr(), SrcPort: backend.Port(), DstPort: client.Port(), Proto: unix.IPPROTO_TCP}
	other := original
	other.SrcPort++
	six := events.Tuple{Src: sixA, Dst: sixB, SrcPort: 1, DstPort: 2, Proto: unix.IPPROTO_UDP}
	echo := events.Tuple{Src: client.Addr(), Dst: vip.Addr(), SrcPort: 7, DstPort: 7, Proto: unix.IPPROTO_ICMP}

	tr := startRun(t, Config{All: true, RingBytes: 1 << 16}, func(*events.Event) {}).tracer
	tests := []struct {
		name  string
		flows []FlowAt
		want  int
	}{
		{"by the original direction", []FlowAt{{Netns: a.inode, Tuple: original}}, 1},
		{"by the reply", []FlowAt{{Netns: a.inode, Tuple: reply}}, 1},
		{"by both, once", []FlowAt{{Netns: a.inode, Tuple: reply}, {Netns: a.inode, Tuple: original}}, 1},
		{"among others", []FlowAt{{Netns: a.inode, Tuple: other}, {Netns: a.inode, Tuple: six}, {Netns: a.inode, Tuple: echo}, {Netns: a.inode, Tuple: original}}, 1},
		{"in another zone", []FlowAt{{Netns: a.inode, Zone: 5, Tuple: original}}, 0},
		{"in another namespace", []FlowAt{{Netns: b.inode, Tuple: original}}, 0},
		{"none", nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := tr.Facts(FactsFilter{Flows: tt.flows})
			if len(f.Conntrack) != tt.want || len(f.Missing) > 0 || f.Unasked > 0 {
				t.Fatalf("%+v, want %d entries", f, tt.want)
			}
			for _, e := range f.Conntrack {
				if e.Netns != a.inode || e.Original != original || e.Reply != reply || e.Zone != 0 || e.Timeout == 0 || e.Timeout > 600 || e.Status&events.CTConfirmed == 0 {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}

func TestNativeFactsBound(t *testing.T) {
	c := newCluster(t, 1)
	tr := startRun(t, Config{All: true, RingBytes: 1 << 16}, func(*events.Event) {}).tracer
	var flows []FlowAt
	for i := range MaxFacts + 3 {
		flows = append(flows, FlowAt{Netns: c.pods[0].inode, Tuple: events.Tuple{Src: fourA, Dst: fourB, SrcPort: uint16(i), DstPort: 9, Proto: 17}})
	}
	start := time.Now()
	f := tr.Facts(FactsFilter{Flows: flows})
	if f.Unasked != 3 || len(f.Missing) > 0 || len(f.Conntrack) > 0 {
		t.Errorf("%d of %d flows not asked, missing %q", f.Unasked, len(flows), f.Missing)
	}
	t.Logf("%d flows looked up in %v", MaxFacts, time.Since(start))
}

// Each namespace has settings of its own.
func TestNativeFactsSysctls(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	const forward = "net.ipv4.ip_forward"
	c.within(a.name, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	c.within(b.name, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0) })
	tr := startRun(t, Config{All: true, RingBytes: 1 << 16}, func(*events.Event) {}).tracer
	gone := uint32(1)
	f := tr.Facts(FactsFilter{Netns: []uint32{a.inode, b.inode, gone}})
	got := map[uint32]map[string]string{}
	for _, s := range f.Sysctls {
		if got[s.Netns] == nil {
			got[s.Netns] = map[string]string{}
		}
		got[s.Netns][s.Name] = s.Value
	}
	if got[a.inode][forward] != "1" || got[b.inode][forward] != "0" || len(got) != 2 {
		t.Errorf("%v", got)
	}
	if _, ok := got[a.inode]["net.ipv6.conf.all.forwarding"]; !ok {
		t.Errorf("no forwarding of IPv6: %v", got[a.inode])
	}
	if len(f.Missing) != 1 || !strings.Contains(f.Missing[0], fmt.Sprintf("namespace %d", gone)) {
		t.Errorf("missing %q", f.Missing)
	}
}

func TestNativeClock(t *testing.T) {
	needRoot(t)
	tr := startRun(t, Config{All: true, RingBytes: 1 << 16}, func(*events.Event) {}).tracer
	pair, now := tr.Clock(), tr.Now()
	if got := tr.Wall(pair.Mono); got.UnixNano() != pair.Real {
		t.Errorf("the pair's moment is %v on the wall, not %d", got, pair.Real)
	}
	// The wall clock may be slewed meanwhile, but not by a tenth.
	passed, wall := int64(now.Mono-pair.Mono), now.Real-pair.Real
	if passed <= 0 || wall < passed-passed/10 || wall > passed+passed/10 {
		t.Errorf("%d ns passed, %d ns by the wall clock", passed, wall)
	}
	if d := time.Since(time.Unix(0, now.Real)); d < 0 || d > patience {
		t.Errorf("now is %v ago", d)
	}
}

func TestBootID(t *testing.T) {
	id, err := BootID()
	if err != nil || len(id) != 36 || strings.Count(id, "-") != 4 {
		t.Errorf("%q, %v", id, err)
	}
}

func TestNewService(t *testing.T) {
	backends := []*ipvs.Destination{
		{Address: net.ParseIP("10.0.0.1"), Port: 8080, Weight: 3, ActiveConnections: 5, InactiveConnections: 7},
		{Address: net.ParseIP("2001:db8::1"), Port: 81, ConnectionFlags: ipvs.ConnFwdDirectRoute | 0x100},
		{Address: nil}, // none that can be told
	}
	destinations := []Destination{
		{Addr: netip.MustParseAddrPort("10.0.0.1:8080"), Weight: 3, Active: 5, Inactive: 7, Forward: "nat"},
		{Addr: netip.MustParseAddrPort("[2001:db8::1]:81"), Forward: "route"},
	}
	tests := []struct {
		name string
		from ipvs.Service
		want Service
	}{
		{"by address", ipvs.Service{Address: net.ParseIP("10.9.9.9"), Protocol: 6, Port: 80, SchedName: "rr", Flags: 2},
			Service{Netns: 7, Proto: 6, VIP: netip.MustParseAddrPort("10.9.9.9:80"), Scheduler: "rr", Flags: 2, Destinations: destinations}},
		{"by mark", ipvs.Service{Address: net.IPv4zero, FWMark: 9, SchedName: "wrr"},
			Service{Netns: 7, FwMark: 9, Scheduler: "wrr", Destinations: destinations}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := newService(7, &tt.from, backends); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// FuzzParseEntry: whatever a kernel says, an entry or an error comes of it.
func FuzzParseEntry(f *testing.F) {
	tuple := events.Tuple{Src: fourA, Dst: fourB, SrcPort: 1, DstPort: 2, Proto: 6}
	seed := slices.Concat([]byte{2, 0, 0, 0}, tupleAttr(tuple, 0).Serialize(), []byte{8, 0, 3, 0, 0, 0, 1, 0x8e})
	if e, err := parseEntry(seed); err != nil || e.Original != tuple || e.Status != 0x18e {
		f.Fatalf("%+v, %v", e, err)
	}
	f.Add(seed)
	f.Add(seed[:len(seed)-3])
	f.Fuzz(func(t *testing.T, msg []byte) {
		defer cpubound.Run(t)()
		parseEntry(msg)
	})
}
