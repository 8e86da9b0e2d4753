// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// podPacket is a packet of the client to a server, named as it should be.
func podPacket(from, to runtimePod, kind string) *events.Traversal {
	return &events.Traversal{
		Proto: "udp", Verdict: events.Delivered,
		Src: events.Endpoint{IP: from.IP, Pod: from.full()}, Dst: events.Endpoint{IP: to.IP, Port: 7, Pod: to.full()},
		Visits: []events.Visit{
			{Netns: uint32(from.Netns), Name: from.Name, Kind: events.KindPod, Labels: events.Labels("app=" + from.Name)},
			{Netns: uint32(to.Netns), Name: to.Name, Kind: kind, Labels: events.Labels("app=" + to.Name)},
		},
	}
}

// TestCompareRuntime: what is right passes, and each slip is found.
func TestCompareRuntime(t *testing.T) {
	r := &runtimeCheck{
		web:    runtimePod{Namespace: "shop", Name: "web", UID: "1", IP: "10.88.0.2", Netns: 11},
		client: runtimePod{Namespace: "test", Name: "client", UID: "2", IP: "10.88.0.3", Netns: 12},
		agent:  runtimePod{Namespace: "kube-system", Name: "agent", UID: "3", IP: podGateway, Netns: 1},
		brief:  []runtimePod{{Namespace: "test", Name: "brief-1", UID: "4", IP: "10.88.0.4", Netns: 13}},
	}
	tests := []struct {
		name string
		to   runtimePod
		edit func(*events.Traversal)
		want string // in the one fault; empty: none
	}{
		{"all named", r.web, func(*events.Traversal) {}, ""},
		{"the node's own namespace", r.agent, func(*events.Traversal) {}, ""},
		{"a pod that is gone", r.brief[0], func(*events.Traversal) {}, ""},
		{"sender without a name", r.web, func(p *events.Traversal) { p.Src.Pod = "" }, `src.pod is ""`},
		{"receiver with another's name", r.brief[0], func(p *events.Traversal) { p.Dst.Pod = "shop/web" }, `dst.pod is "shop/web"`},
		{"agent without a name", r.agent, func(p *events.Traversal) { p.Dst.Pod = "" }, `dst.pod is ""`},
		{"another namespace", r.web, func(p *events.Traversal) { p.Visits[1].Netns = 12 }, "is in network namespace 12"},
		{"a namespace without a name", r.web, func(p *events.Traversal) { p.Visits[0].Name = "" }, "its end is called"},
		{"a pod taken for a node", r.web, func(p *events.Traversal) { p.Visits[1].Kind = events.KindNode }, `is a "node"`},
		{"the node taken for a pod", r.agent, func(p *events.Traversal) { p.Visits[1].Kind = events.KindPod }, `in a "pod"`},
		{"no labels", r.web, func(p *events.Traversal) { p.Visits[0].Labels = "" }, `has the labels "", not "app=client"`},
		{"not delivered", r.web, func(p *events.Traversal) { p.Verdict = events.Incomplete }, "not delivered"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kind := events.KindPod
			if tt.to.UID == r.agent.UID {
				kind = events.KindNode
			}
			p := podPacket(r.client, tt.to, kind)
			tt.edit(p)
			other := podPacket(r.client, runtimePod{IP: "192.0.2.1"}, kind) // none of ours
			counts, faults := r.compare([]*events.Traversal{p, other})
			if got := counts[way(r.client.full(), tt.to.full())]; got != 1 || len(counts) != 1 {
				t.Errorf("counted %v", counts)
			}
			if tt.want == "" && len(faults) > 0 || tt.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], tt.want)) {
				t.Errorf("faults %q, want %q", faults, tt.want)
			}
		})
	}
	var ways []string
	for _, e := range r.expected() {
		ways = append(ways, e.way)
	}
	if !slices.Contains(ways, "shop/web → test/brief-1") || len(ways) != 6 {
		t.Errorf("packets are wanted on %q", ways)
	}
}

func TestNetnsOf(t *testing.T) {
	tests := []struct{ name, info, want string }{
		{"a pod's own", `{"pid":7,"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/cni-1"}]}}}`, "/run/netns/cni-1"},
		{"the node's", `{"pid":7,"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"}]}}}`, "/proc/1/ns/net"},
		{"nothing told", ``, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := netnsOf([]byte(tt.info))
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}
