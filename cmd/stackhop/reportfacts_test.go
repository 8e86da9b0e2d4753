// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// spaceNames names namespace 11.
type spaceNames struct{ events.Names }

func (spaceNames) Namespace(netns uint32) events.Namespace {
	if netns == 11 {
		return events.Namespace{Name: "n1"}
	}
	return events.Namespace{}
}

// TestFactTables: what was told twice stands there once, as it was last.
func TestFactTables(t *testing.T) {
	vip, pod := netip.MustParseAddrPort("10.96.0.1:80"), netip.MustParseAddrPort("10.0.0.7:8080")
	client := netip.MustParseAddrPort("10.0.0.9:4000")
	f := &record.Facts{
		Services: []record.Service{
			{Netns: 11, Proto: 6, Addr: vip, Scheduler: "rr"},
			{Netns: 11, Proto: 6, Addr: vip, Scheduler: "rr", Destinations: []record.Destination{{Addr: pod, Weight: 1, Active: 2}}},
			{Netns: 12, FWMark: 0x10, Scheduler: "lc"},
		},
		Sysctls: []record.Sysctl{{Netns: 11, Name: "net.ipv4.ip_forward", Value: "0"}, {Netns: 11, Name: "net.ipv4.ip_forward", Value: "1"}},
		Conntrack: []record.CTEntry{{
			Netns: 11, Original: record.Tuple{Proto: 17, Src: client, Dst: vip}, Reply: record.Tuple{Proto: 17, Src: pod, Dst: client}, Timeout: 30,
		}},
	}
	want := [][][]string{
		{{"12", "mark 0x10", "lc", "none"}, {"n1", "tcp 10.96.0.1:80", "rr", "10.0.0.7:8080 (weight 1, 2 active, 0 inactive)"}},
		{{"n1", "udp 10.0.0.9:4000 → 10.96.0.1:80", "10.0.0.7:8080 → 10.0.0.9:4000", "30s"}},
		{{"n1", "net.ipv4.ip_forward", "1"}},
	}
	var got [][][]string
	for _, table := range factTables(f, spaceNames{}) {
		got = append(got, table.Rows)
		if len(table.Head) != len(table.Rows[0]) {
			t.Errorf("%s: %d columns, %d in its head", table.Title, len(table.Rows[0]), len(table.Head))
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if tables := factTables(nil, spaceNames{}); tables != nil {
		t.Errorf("without facts there are %d tables", len(tables))
	}
}
