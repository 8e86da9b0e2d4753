// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// cluster are names of a capture with what an API server knows beside them. All
// its names have "acme" in them.
type cluster struct{ events.Names }

func (c cluster) Address(ip string, port uint16) events.AddressNames {
	a := c.Names.Address(ip, port)
	a.Stale = a.Pod != ""
	return a
}

// Service knows all services that have a name, as the nodes n1 and n2 see them.
func (c cluster) Service(ip string, port uint16, proto uint8, node string) (events.ServiceFacts, bool) {
	name := c.Names.Address(ip, port).Service
	if name == "" || proto != protoTCP || (node != "n1" && node != "n2") {
		return events.ServiceFacts{}, false
	}
	return events.ServiceFacts{
		Name: "acme-" + name, Port: "acme-http", Type: "LoadBalancer", Policy: events.PolicyLocal, Affinity: true,
		Here: len(node), Elsewhere: len(name), Terminating: 3, NotReady: int(port), Stale: true,
		Endpoints: &events.ServiceEndpoints{LeftOut: len(name), List: []events.ServiceEndpoint{
			{Addr: netip.MustParseAddrPort(untouched + ":8080"), Node: "acme-node", Zone: "acme-zone", Ready: true, Serving: true},
			{Addr: netip.MustParseAddrPort("172.23.96.163:8080"), Node: "n2", Serving: true, Terminating: true},
		}},
	}, true
}

// untouched is an endpoint's address that no packet has.
const untouched = "203.0.113.77"

// Namespace has labels for all pods.
func (c cluster) Namespace(netns uint32) events.Namespace {
	ns := c.Names.Namespace(netns)
	if ns.Pod != "" {
		ns.Labels = events.NewLabels(map[string]string{"acme.example/team": "acme-web", "app": "acme"})
	}
	return ns
}

func (cluster) PodOfProcess(pid uint32) string {
	return "acme-system/agent-" + strconv.FormatUint(uint64(pid), 10)
}

// TestServices: behind a Redactor a service is found by pseudonyms, with and
// without ports, and described in pseudonyms; its counts stay.
func TestServices(t *testing.T) {
	c := cluster{captures(t, "6.12-case7.jsonl")["6.12-case7.jsonl"].Names}
	const ip = "8.219.164.113"
	want, ok := c.Service(ip, 80, protoTCP, "n1")
	if !ok {
		t.Fatal("the service is not known at all")
	}
	for _, ports := range []bool{false, true} {
		r := New(Key{6})
		r.Ports = ports
		n := r.Names(c)
		addr, port := r.Addr(netip.MustParseAddr(ip)).String(), r.Port(80)
		f, ok := events.ServiceOf(n, addr, port, protoTCP, r.Object("n1"))
		expect := want
		expect.Name, expect.Port, expect.Endpoints = r.Object(want.Name), r.Object(want.Port), &events.ServiceEndpoints{
			LeftOut: want.Endpoints.LeftOut, List: []events.ServiceEndpoint{
				{Addr: r.AddrPort(netip.MustParseAddrPort(untouched + ":8080")), Node: r.Object("acme-node"), Zone: r.Object("acme-zone"), Ready: true, Serving: true},
				{Addr: r.AddrPort(netip.MustParseAddrPort("172.23.96.163:8080")), Node: r.Object("n2"), Serving: true, Terminating: true},
			},
		}
		if !ok || !f.SameFacts(&expect) || strings.Contains(f.Name+f.Port, "acme") {
			t.Errorf("ports %v: %+v, %v; want %+v", ports, f, ok, expect)
		}
		for what, asked := range map[string]struct {
			ip   string
			node string
		}{"another node": {addr, r.Object("n3")}, "an unknown node": {addr, "n1"}, "another address": {"10.1.2.3", r.Object("n1")}, "no address": {"x", r.Object("n1")}} {
			if f, ok := events.ServiceOf(n, asked.ip, port, protoTCP, asked.node); ok {
				t.Errorf("%s: %+v", what, f)
			}
		}
		if got, want := events.PodOfProcess(n, r.PID(541)), r.Object("acme-system/agent-541"); got != want {
			t.Errorf("process 541 is of %q, not %q", got, want)
		}
		if got := events.PodOfProcess(r.Names(c.Names), r.PID(541)); got != "" {
			t.Errorf("names that know no processes say %q", got)
		}
	}
}

// TestServiceFacts: what is a word of Kubernetes stays, what could be anything
// becomes a pseudonym.
func TestServiceFacts(t *testing.T) {
	r := New(Key{7})
	r.Ports = true
	for _, tt := range []struct{ was, is events.ServiceFacts }{
		{events.ServiceFacts{Name: "a/b", Port: "http", Type: "ClusterIP", Policy: "Cluster", Here: 1}, events.ServiceFacts{Name: r.Object("a/b"), Port: r.Object("http"), Type: "ClusterIP", Policy: "Cluster", Here: 1}},
		{events.ServiceFacts{Port: "8080", Type: "NodePort", Policy: "Local"}, events.ServiceFacts{Port: fmt.Sprint(r.Port(8080)), Type: "NodePort", Policy: "Local"}},
		{events.ServiceFacts{Port: "99999", Type: "acme", Policy: "acme"}, events.ServiceFacts{Port: r.Object("99999"), Type: r.Object("acme"), Policy: r.Object("acme")}},
		{events.ServiceFacts{}, events.ServiceFacts{}},
	} {
		if got := r.ServiceFacts(tt.was); got != tt.is {
			t.Errorf("%+v, want %+v", got, tt.is)
		}
	}
}

// TestServiceNames: names of a recording that are of services and processes.
func TestServiceNames(t *testing.T) {
	r := New(Key{8})
	for what, n := range map[string]record.Name{
		"service": {At: 3, Service: &record.ServiceName{IP: "10.1.2.3", Port: 80, Proto: 6, On: "acme-1", Name: "acme/web", PortName: "acme-http", Type: "NodePort", Policy: "Local", Here: 7, Stale: true,
			Endpoints: &record.EndpointNames{List: []record.EndpointName{{Addr: netip.MustParseAddrPort("10.1.2.3:80"), Node: "acme-1", Zone: "acme-zone"}}, LeftOut: 3}}},
		"pod":  {At: 3, Namespace: &record.NamespaceName{Netns: 541, Pod: "acme/agent", Labels: "acme=web,app=acme"}},
		"task": {At: 3, Task: &record.TaskName{PID: 541, Pod: "acme/agent"}},
	} {
		before, _ := json.Marshal(n)
		got, ok := r.Name(n)
		after, _ := json.Marshal(got)
		if !ok || got.At != 3 || strings.Contains(string(after), "acme") || strings.Contains(string(after), "10.1.2.3") || strings.Contains(string(after), ":541") {
			t.Errorf("%s: %s, %v", what, after, ok)
		}
		if again, _ := json.Marshal(n); string(again) != string(before) {
			t.Errorf("%s: the original became %s", what, again)
		}
	}
	if got, ok := r.Name(record.Name{Service: &record.ServiceName{IP: "acme", Name: "acme/web"}}); ok || got.Service != nil {
		t.Errorf("a service without an address: %+v, %v", got, ok)
	}
	stale, _ := r.Name(record.Name{Address: &record.AddressName{IP: "10.1.2.3", Pod: "acme/web", Stale: true}})
	if !stale.Address.Stale {
		t.Error("a stale name is current afterwards")
	}
}

// TestOriginalsKept: however many words were made since, one that Object gives can
// be undone.
func TestOriginalsKept(t *testing.T) {
	r := New(Key{9})
	for i := range maxCached + 10 {
		name := fmt.Sprint("pod-", i)
		ns := fmt.Sprint("ns-", i%3)
		r.Object(ns + "/" + name)
		if w := r.Object(ns); r.originalObject(w) != ns {
			t.Fatalf("after %d names %s stands for %q, not %s", i, w, r.originalObject(w), ns)
		}
	}
}
