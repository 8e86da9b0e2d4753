// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// shop is a cluster of two nodes with a service of each kind.
func shop(t *testing.T) *Index {
	t.Helper()
	x := newClock().index(Current, Current)
	x.PutNode(&Node{"n1", ips("192.168.0.1", "fd01::1"), nil})
	x.PutNode(&Node{"n2", ips("192.168.0.2"), nil})
	x.PutPod(FromAPI, testPod("shop", "web", "10.0.0.1", "fd00::1"))
	x.PutService(&Service{
		Namespace: "shop", Name: "cart", Type: "LoadBalancer", ClusterIPs: ips("10.96.0.1", "fd96::1"), ExternalIPs: ips("203.0.113.1"),
		Ingress: []Ingress{{ip("198.51.100.1"), false}, {ip("198.51.100.2"), true}}, ExternalLocal: true, Affinity: true,
		Ports: []ServicePort{{"http", tcp, 80, 30080}, {"", tcp, 443, 0}, {"dns", udp, 80, 30080}},
	})
	x.PutSlice(&Slice{
		Namespace: "shop", Name: "cart-4", Service: "cart", Ports: []SlicePort{{"http", tcp, 8080}, {"", tcp, 8443}, {"dns", udp, 5353}},
		Endpoints: []Endpoint{
			{ips("10.0.0.11"), "n1", "cart-a", true, true, false, ""},
			{ips("10.0.0.12"), "n2", "cart-b", true, true, false, ""},
			{ips("10.0.0.13"), "n2", "cart-c", true, true, false, ""},
			{ips("10.0.0.14"), "n1", "cart-d", false, true, true, ""},
			{ips("10.0.0.15"), "n2", "cart-e", false, false, true, ""},
			{ips("10.0.0.16"), "n1", "cart-f", false, false, false, ""},
		},
	})
	// Endpoints on their way from one slice to another are in both.
	x.PutSlice(&Slice{
		Namespace: "shop", Name: "cart-5", Service: "cart", Ports: []SlicePort{{"http", tcp, 8080}},
		Endpoints: []Endpoint{
			{ips("10.0.0.11"), "n1", "cart-a", false, false, false, ""},
			{ips("10.0.0.16"), "n1", "cart-f", false, false, true, ""},
		},
	})
	x.PutSlice(&Slice{
		Namespace: "shop", Name: "cart-6", Service: "cart", Ports: []SlicePort{{"http", tcp, 8080}},
		Endpoints: []Endpoint{{ips("fd00::11"), "n1", "cart-a", true, true, false, ""}},
	})
	x.PutService(&Service{
		Namespace: "shop", Name: "inner", Type: "ClusterIP", ClusterIPs: ips("10.96.0.2"), InternalLocal: true, ExternalIPs: ips("203.0.113.1", "192.168.0.2"),
		Ports: []ServicePort{{"", tcp, 8081, 0}},
	})
	x.PutService(&Service{Namespace: "test", Name: "headless", Type: "ClusterIP", Ports: []ServicePort{{"db", tcp, 5432, 0}}})
	x.PutSlice(&Slice{
		Namespace: "test", Name: "headless-1", Service: "headless", Ports: []SlicePort{{"db", tcp, 5433}},
		Endpoints: []Endpoint{{ips("10.0.0.21"), "n1", "db-0", true, true, false, ""}},
	})
	return x
}

func TestServiceAddresses(t *testing.T) {
	x := shop(t)
	for _, tt := range []struct {
		addr string
		port uint16
		want string
	}{
		{"10.96.0.1", 80, "shop/cart"},
		{"::ffff:10.96.0.1", 80, "shop/cart"},
		{"10.96.0.1", 9999, "shop/cart"}, // whatever the port: nothing else is there
		{"10.96.0.1", 0, "shop/cart"},
		{"fd96::1", 443, "shop/cart"},
		{"198.51.100.1", 443, "shop/cart"},
		{"198.51.100.2", 443, "shop/cart"},
		{"203.0.113.1", 443, "shop/cart"}, // shared by two
		{"203.0.113.1", 8081, "shop/inner"},
		{"203.0.113.1", 9999, ""},
		{"192.168.0.1", 30080, "shop/cart n1"},
		{"fd01::1", 30080, "shop/cart n1"},
		{"192.168.0.1", 30081, "n1"},
		{"192.168.0.1", 0, "n1"},
		{"192.168.0.2", 8081, "shop/inner n2"}, // a node's address that is an external one, too
		{"192.168.0.2", 22, "n2"},
		{"192.168.0.3", 30080, ""},         // nobody's
		{"10.0.0.11", 8080, ""},            // a real server
		{"10.0.0.1", 30080, "shop/web n1"}, // a pod
		{"fd00::1", 0, "shop/web n1"},
		{"10.0.0.21", 5433, ""},
	} {
		if got := words(x.Address(ip(tt.addr), tt.port)); got != tt.want {
			t.Errorf("%s port %d: %q, want %q", tt.addr, tt.port, got, tt.want)
		}
	}
	x.SetState(FromAPI, Stale)
	if a, b := words(x.Address(ip("192.168.0.1"), 30080)), x.words("10.96.0.2"); a != "shop/cart n1?" || b != "shop/inner?" {
		t.Errorf("with the API server lost: %q, %q", a, b)
	}
	for _, s := range []string{"cart", "inner"} {
		x.DeleteService("shop", s)
	}
	if a, b := words(x.Address(ip("192.168.0.1"), 30080)), x.words("10.96.0.1"); a != "n1?" || b != "" {
		t.Errorf("with the services deleted: %q, %q", a, b)
	}
}

// factWords are a service's facts in a line: here/elsewhere/terminating/not ready.
func factWords(f events.ServiceFacts, ok bool) string {
	if !ok {
		return ""
	}
	s := fmt.Sprintf("%s:%s %s %s %d/%d/%d/%d", f.Name, f.Port, f.Type, f.Policy, f.Here, f.Elsewhere, f.Terminating, f.NotReady)
	if f.Affinity {
		s += " affinity"
	}
	if f.Stale {
		s += " stale"
	}
	return s
}

func TestServiceFacts(t *testing.T) {
	x := shop(t)
	x.PutNode(&Node{Name: "n3"})
	for _, tt := range []struct {
		addr  string
		port  uint16
		proto uint8
		node  string
		want  string
	}{
		{"10.96.0.1", 80, tcp, "n1", "shop/cart:http LoadBalancer Cluster 1/2/3/0 affinity"},
		{"::ffff:10.96.0.1", 80, tcp, "n2", "shop/cart:http LoadBalancer Cluster 2/1/3/0 affinity"},
		{"10.96.0.1", 80, tcp, "n3", "shop/cart:http LoadBalancer Cluster 0/3/3/0 affinity"},
		{"10.96.0.1", 80, tcp, "", ""}, // what is here is not known of a node that is not known
		{"10.96.0.1", 80, tcp, "ip-192-168-0-1", ""},
		{"10.96.0.1", 80, udp, "n1", "shop/cart:dns LoadBalancer Cluster 1/2/2/1 affinity"},
		{"10.96.0.1", 443, tcp, "n1", "shop/cart:443 LoadBalancer Cluster 1/2/2/1 affinity"},
		{"10.96.0.1", 443, udp, "n1", ""},
		{"10.96.0.1", 81, tcp, "n1", ""},
		{"fd96::1", 80, tcp, "n1", "shop/cart:http LoadBalancer Cluster 1/0/0/0 affinity"},
		{"fd96::1", 443, tcp, "n1", "shop/cart:443 LoadBalancer Cluster 0/0/0/0 affinity"},
		{"203.0.113.1", 80, tcp, "n1", "shop/cart:http LoadBalancer Local 1/2/3/0 affinity"},
		{"203.0.113.1", 8081, tcp, "n1", "shop/inner:8081 ClusterIP Cluster 0/0/0/0"},
		{"10.96.0.2", 8081, tcp, "n1", "shop/inner:8081 ClusterIP Local 0/0/0/0"},
		{"198.51.100.1", 80, tcp, "n1", "shop/cart:http LoadBalancer Local 1/2/3/0 affinity"},
		{"198.51.100.2", 80, tcp, "n1", ""}, // the load balancer's own: not for nodes
		{"192.168.0.2", 30080, tcp, "n2", "shop/cart:http LoadBalancer Local 2/1/3/0 affinity"},
		{"192.168.0.2", 30080, udp, "n2", "shop/cart:dns LoadBalancer Local 2/1/2/1 affinity"},
		{"192.168.0.2", 8081, tcp, "n2", "shop/inner:8081 ClusterIP Cluster 0/0/0/0"},
		{"192.168.0.3", 30080, tcp, "n2", ""},
		{"10.0.0.11", 8080, tcp, "n1", ""},
	} {
		for range 2 { // counted, and remembered
			if got := factWords(x.Service(ip(tt.addr), tt.port, tt.proto, tt.node)); got != tt.want {
				t.Errorf("%s port %d of %d from %q: %q, want %q", tt.addr, tt.port, tt.proto, tt.node, got, tt.want)
			}
		}
	}
}

// TestServiceChanges: facts follow the slices, in whatever order all is told.
func TestServiceChanges(t *testing.T) {
	x := newClock().index(Current)
	facts := func() string { return factWords(x.Service(ip("10.96.0.9"), 53, udp, "n1")) }
	service := func(port uint16) *Service {
		return &Service{Namespace: "a", Name: "s", Type: "NodePort", ClusterIPs: ips("10.96.0.9"), Ports: []ServicePort{{"", udp, port, 30053}}}
	}
	slice := func(name, service string, ready ...bool) *Slice {
		s := &Slice{Namespace: "a", Name: name, Service: service, Ports: []SlicePort{{"", udp, 53}}}
		for i, r := range ready {
			s.Endpoints = append(s.Endpoints, Endpoint{Addrs: ips(fmt.Sprintf("10.0.%d.%d", len(name), i)), Node: "n1", Ready: r})
		}
		return s
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"slice before service", func() { x.PutSlice(slice("x", "s", true, false)) }, ""},
		{"service", func() { x.PutService(service(53)) }, "a/s:53 NodePort Cluster 1/0/0/1"},
		{"another slice", func() { x.PutSlice(slice("xx", "s", true)) }, "a/s:53 NodePort Cluster 2/0/0/1"},
		{"changed", func() { x.PutSlice(slice("x", "s", true, true)) }, "a/s:53 NodePort Cluster 3/0/0/0"},
		{"the service's port changes", func() { x.PutService(service(54)) }, ""},
		{"and back", func() { x.PutService(service(53)) }, "a/s:53 NodePort Cluster 3/0/0/0"},
		{"another service's slice now", func() { x.PutSlice(slice("xx", "other")) }, "a/s:53 NodePort Cluster 2/0/0/0"},
		{"one in another namespace", func() { x.PutSlice(&Slice{Namespace: "b", Name: "x", Service: "s"}) }, "a/s:53 NodePort Cluster 2/0/0/0"},
		{"service deleted", func() { x.DeleteService("a", "s") }, ""},
		{"and made again", func() { x.PutService(service(53)) }, "a/s:53 NodePort Cluster 2/0/0/0"},
		{"no slice left", func() { x.DeleteSlice("a", "x") }, "a/s:53 NodePort Cluster 0/0/0/0"},
		{"API server lost", func() { x.SetState(FromAPI, Stale) }, "a/s:53 NodePort Cluster 0/0/0/0 stale"},
		{"all deleted", func() { x.DeleteService("a", "s"); x.DeleteSlice("a", "xx"); x.DeleteSlice("b", "x") }, ""},
	} {
		step.do()
		if got := facts(); got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
	x.expectEmpty(t)
}

// TestCountsAreBounded: who asks for ever other nodes is answered, and fills no
// memory.
func TestCountsAreBounded(t *testing.T) {
	x := shop(t)
	for i := range 3 * maxCounts {
		x.PutNode(&Node{Name: fmt.Sprint(i)})
		if got := factWords(x.Service(ip("10.96.0.1"), 80, tcp, fmt.Sprint(i))); got != "shop/cart:http LoadBalancer Cluster 0/3/3/0 affinity" {
			t.Fatalf("node %d: %s", i, got)
		}
	}
	if n := len(x.backends["shop/cart"].counts); n > maxCounts {
		t.Errorf("%d answers are kept", n)
	}
}

// TestServiceReused: an address that a new service has got is the new one's, and
// the old one's again when that is what is left.
func TestServiceReused(t *testing.T) {
	x := newClock().index(Current)
	x.PutNode(&Node{"n1", ips("192.168.0.1"), nil})
	put := func(name string) {
		x.PutService(&Service{Namespace: "a", Name: name, ClusterIPs: ips("10.96.0.1"), Ports: []ServicePort{{"", tcp, 80, 30080}}})
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() { put("old") }, "a/old"},
		{func() { put("new") }, "a/new"},
		{func() { x.DeleteService("a", "old") }, "a/new"},
		{func() { put("old") }, "a/old"},
		{func() { x.DeleteService("a", "old") }, "a/new"},
		{func() { x.DeleteService("a", "new") }, ""},
	} {
		step.do()
		vip, node := words(x.Address(ip("10.96.0.1"), 80)), x.Address(ip("192.168.0.1"), 30080).Service
		if vip != step.want || node != step.want {
			t.Errorf("%q and, by node port, %q; want %q", vip, node, step.want)
		}
	}
}

// TestServiceEndpoints: the endpoints of a service are those of its slices that
// have its port, protocol and family, each once, the ready ones first.
func TestServiceEndpoints(t *testing.T) {
	x := shop(t)
	x.PutSlice(&Slice{
		Namespace: "shop", Name: "cart-7", Service: "cart", Ports: []SlicePort{{"http", tcp, 8080}},
		Endpoints: []Endpoint{{ips("10.0.0.9", "10.0.0.10"), "n3", "cart-g", true, true, false, "zone-a"}}, // one, with two addresses
	})
	for _, tt := range []struct {
		addr  string
		port  uint16
		proto uint8
		want  string
	}{
		{"10.96.0.1", 80, tcp, "10.0.0.9:8080 on n3 in zone-a ready; 10.0.0.11:8080 on n1 ready; 10.0.0.12:8080 on n2 ready; 10.0.0.13:8080 on n2 ready; " +
			"10.0.0.14:8080 on n1 terminating, still serving; 10.0.0.15:8080 on n2 terminating; 10.0.0.16:8080 on n1 terminating"},
		{"192.168.0.2", 30080, udp, "10.0.0.11:5353 on n1 ready; 10.0.0.12:5353 on n2 ready; 10.0.0.13:5353 on n2 ready; " +
			"10.0.0.14:5353 on n1 terminating, still serving; 10.0.0.15:5353 on n2 terminating; 10.0.0.16:5353 on n1 not ready"},
		{"fd96::1", 80, tcp, "[fd00::11]:8080 on n1 ready"},
		{"fd96::1", 443, tcp, "none"},
		{"10.96.0.2", 8081, tcp, "none"},
	} {
		f, ok := x.Service(ip(tt.addr), tt.port, tt.proto, "n1")
		again, _ := x.Service(ip(tt.addr), tt.port, tt.proto, "n2")
		if got := f.Endpoints.String(); !ok || f.Endpoints == nil || got != tt.want || again.Endpoints != f.Endpoints {
			t.Errorf("%s port %d of %d: %s, want %s; the same for n2: %t", tt.addr, tt.port, tt.proto, got, tt.want, again.Endpoints == f.Endpoints)
		}
		if n := f.Here + f.Elsewhere + f.Terminating + f.NotReady; n != len(f.Endpoints.List) {
			t.Errorf("%s port %d: %d are counted, %d listed", tt.addr, tt.port, n, len(f.Endpoints.List))
		}
	}
	f, _ := x.Service(ip("10.96.0.1"), 80, tcp, "n1")
	x.DeleteSlice("shop", "cart-4")
	if now, _ := x.Service(ip("10.96.0.1"), 80, tcp, "n1"); now.Endpoints.Equal(f.Endpoints) || len(f.Endpoints.List) != 7 {
		t.Errorf("what was told is %s now, and what is told %s", f.Endpoints, now.Endpoints)
	}
}

// TestServiceEndpointsAreBounded: of many endpoints the ready ones are listed.
func TestServiceEndpointsAreBounded(t *testing.T) {
	x := shop(t)
	for i := range 3 {
		s := &Slice{Namespace: "shop", Name: fmt.Sprint("inner-", i), Service: "inner", Ports: []SlicePort{{"", tcp, 80}}}
		for j := range 500 {
			s.Endpoints = append(s.Endpoints, Endpoint{Addrs: ips(fmt.Sprintf("10.%d.%d.%d", i, j/250, j%250)), Ready: i == 2})
		}
		x.PutSlice(s)
	}
	f, _ := x.Service(ip("10.96.0.2"), 8081, tcp, "n1")
	e := f.Endpoints
	if len(e.List) != events.MaxEndpoints || e.LeftOut != 500 || !e.List[499].Ready || e.List[500].Ready {
		t.Errorf("%d, %d left out: %s", len(e.List), e.LeftOut, e)
	}
}
