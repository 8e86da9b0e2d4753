// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

// TestEndpointWords: where an endpoint is and how, in the words of the field.
func TestEndpointWords(t *testing.T) {
	at := netip.MustParseAddrPort("172.23.96.163:80")
	for want, e := range map[string]ServiceEndpoint{
		"172.23.96.163:80 on n2 ready":                       {Addr: at, Node: "n2", Ready: true, Serving: true},
		"172.23.96.163:80 on n2 in b ready":                  {Addr: at, Node: "n2", Zone: "b", Ready: true, Serving: true},
		"172.23.96.163:80 terminating, still serving":        {Addr: at, Serving: true, Terminating: true},
		"172.23.96.163:80 terminating":                       {Addr: at, Terminating: true},
		"172.23.96.163:80 not ready":                         {Addr: at},
		"172.23.96.163:80 serving, not ready":                {Addr: at, Serving: true},
		"172.23.96.163 on n2 not ready":                      {Addr: netip.AddrPortFrom(at.Addr(), 0), Node: "n2"},
		"[2001:db8::1]:53 on n2\\x1b in \\u202e terminating": {Addr: netip.MustParseAddrPort("[2001:db8::1]:53"), Node: "n2\x1b", Zone: "\u202e", Terminating: true},
	} {
		if got := e.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestEndpointLists: what a traversal shows of them is short, and counts the rest.
func TestEndpointLists(t *testing.T) {
	all := endpoints()
	if got := all.String(); strings.Count(got, " on n") != shownEndpoints || !strings.HasSuffix(got, "; 3 more") {
		t.Error(got)
	}
	b, err := json.Marshal(&ServiceFacts{Endpoints: all})
	var back ServiceFacts
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if e := back.Endpoints; err != nil || len(e.List) != shownEndpoints || e.LeftOut != 3 || e.List[1] != all.List[1] {
		t.Errorf("%s, %v", b, err)
	}
	var none *ServiceEndpoints
	if got := none.String() + " " + (&ServiceEndpoints{}).String(); got != "none none" {
		t.Error(got)
	}
	if b, _ := json.Marshal(&ServiceEndpoints{}); string(b) != `{"list":[],"left_out":0}` {
		t.Errorf("%s", b)
	}
}

// TestSameFacts: equal lists are equal, whoever holds them.
func TestSameFacts(t *testing.T) {
	a, b := ServiceFacts{Name: "a", Endpoints: endpoints()}, ServiceFacts{Name: "a", Endpoints: endpoints()}
	if !a.SameFacts(&b) {
		t.Error("equal lists are not the same")
	}
	for what, change := range map[string]func(){
		"another name":      func() { b.Name = "b" },
		"another condition": func() { b.Endpoints.List[2].Serving = false },
		"another count":     func() { b.Endpoints.LeftOut++ },
		"none":              func() { b.Endpoints = nil },
	} {
		b = ServiceFacts{Name: "a", Endpoints: endpoints()}
		if change(); a.SameFacts(&b) || b.SameFacts(&a) {
			t.Errorf("%s: the same", what)
		}
	}
}

// TestJoinService: a node whose recording has no endpoints gets the other's.
func TestJoinService(t *testing.T) {
	with, without := &ServiceFacts{Name: "a/s", Port: "http", Here: 1, Endpoints: endpoints()}, &ServiceFacts{Name: "a/s", Port: "http", Here: 2}
	other := &ServiceFacts{Name: "a/other", Port: "http"}
	for what, tt := range map[string]struct {
		a, b *ServiceFacts
		here int
		has  bool
	}{
		"first alone": {with, nil, 1, true}, "second alone": {nil, with, 1, true}, "both": {with, without, 1, true},
		"from the second": {without, with, 2, true}, "of another service": {other, with, 0, false},
	} {
		if got := joinService(tt.a, tt.b); got.Here != tt.here || (got.Endpoints != nil) != tt.has {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if without.Endpoints != nil {
		t.Error("a part was changed")
	}
}
