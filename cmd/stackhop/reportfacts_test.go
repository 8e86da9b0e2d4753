// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
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

// TestToldServices: each service stands there once, as it was told last, with its
// endpoints, and what there is no room for is counted.
func TestToldServices(t *testing.T) {
	at := netip.MustParseAddrPort
	name := func(ip, on, policy string, ends ...record.EndpointName) *record.ServiceName {
		return &record.ServiceName{
			IP: record.Text(ip), Port: 80, Proto: 6, On: record.Text(on), Name: "a/s", PortName: "http", Type: "ClusterIP", Policy: record.Text(policy),
			Elsewhere: uint16(len(ends)), Endpoints: &record.EndpointNames{List: ends},
		}
	}
	one := record.EndpointName{Addr: at("10.0.0.1:8080"), Node: "n1", Zone: "z", Ready: true, Serving: true}
	two, gone := record.EndpointName{Addr: at("10.0.0.2:8080"), Node: "n2"}, record.EndpointName{Addr: at("10.0.0.9:8080"), Node: "n9"}
	six := record.EndpointName{Addr: at("[2001:db8::1]:8080"), Node: "n1", Ready: true}
	var s toldServices
	s.take(name("10.96.0.1", "n1", "Cluster", gone))
	last := name("10.96.0.1", "n1", "Local", one, two)
	last.Affinity, last.Endpoints.LeftOut = true, 4
	s.take(last)
	s.take(name("2001:db8::96", "n1", "Cluster", six))
	s.take(&record.ServiceName{IP: "10.96.0.1", Port: 80, Proto: 6, On: "n1", Gone: true})
	s.take(&record.ServiceName{IP: "10.96.0.7", Port: 53, Proto: 17, Name: "a/old", PortName: "53", Type: "NodePort", Policy: "Cluster"}) // of version 1.1
	var got [][][]string
	for _, table := range s.tables() {
		got = append(got, table.Rows)
		if len(table.Head) != len(table.Rows[0]) {
			t.Errorf("%s: %d columns, %d in its head", table.Title, len(table.Rows[0]), len(table.Head))
		}
	}
	want := [][][]string{{
		{"a/old port 53", "udp 10.96.0.7 port 53", "NodePort", "", "policy Cluster, no endpoint"},
		{"a/s port http", "tcp 10.96.0.1 port 80", "ClusterIP, session affinity", "n1", "policy Local, 2 endpoints on other nodes, none here"},
		{"a/s port http", "tcp 2001:db8::96 port 80", "ClusterIP", "n1", "policy Cluster, 1 endpoint, none here"},
	}, {
		{"a/s port http", "tcp 10.0.0.1:8080", "n1", "z", "ready"},
		{"a/s port http", "tcp 10.0.0.2:8080", "n2", "", "not ready"},
		{"a/s port http", "tcp [2001:db8::1]:8080", "n1", "", "ready"},
		{"a/s port http", "… and 4 more", "", "", ""},
	}}
	if !reflect.DeepEqual(got, want) || s.leftOut != 0 {
		t.Errorf("got %q, want %q", got, want)
	}
	if none := (&toldServices{}).tables(); none != nil {
		t.Errorf("without services there are %d tables", len(none))
	}
}

// TestToldServicesAreBounded: a file that names ever more services fills no memory.
func TestToldServicesAreBounded(t *testing.T) {
	var s toldServices
	ends := &record.EndpointNames{List: make([]record.EndpointName, events.MaxEndpoints)}
	for i := range maxToldServices + 10 {
		s.take(&record.ServiceName{IP: record.Text(fmt.Sprint(i)), Name: record.Text(fmt.Sprint(i)), Endpoints: ends})
	}
	n := maxToldEndpoints / events.MaxEndpoints
	if len(s.list) != n || s.endpoints != n*events.MaxEndpoints || s.leftOut != maxToldServices+10-n {
		t.Errorf("%d services, %d endpoints, %d left out", len(s.list), s.endpoints, s.leftOut)
	}
	for i := range maxToldServices + 10 {
		s.take(&record.ServiceName{IP: record.Text(fmt.Sprint("x", i))})
	}
	if len(s.list) != maxToldServices {
		t.Errorf("%d services", len(s.list))
	}
}
