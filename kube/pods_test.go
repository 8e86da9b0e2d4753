// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// words are names of an address in the order pod, service, node; "?" if stale.
func words(n events.AddressNames) string {
	s := strings.Join(strings.Fields(n.Pod+" "+n.Service+" "+n.Node), " ")
	if n.Stale {
		s += "?"
	}
	return s
}

func (x *Index) words(addr string) string { return words(x.Address(ip(addr), 0)) }

// netnsWords are the names of a namespace.
func (x *Index) netnsWords(inode uint32) string {
	name, node, stale, ok := x.PodOfNetns(inode)
	if !ok {
		return ""
	}
	return words(events.AddressNames{Pod: name, Node: node, Stale: stale})
}

// TestPodLife: what an address and a namespace are called while pods come and go.
// The pods a and b have 10.0.0.1 and netns 7 one after the other.
func TestPodLife(t *testing.T) {
	a, b := testPod("shop", "a", "10.0.0.1"), testPod("shop", "b", "10.0.0.1")
	a.Netns, b.Netns = 7, 7
	a.Containers = []string{"c1", "c2"}
	with := func(p *Pod, f func(*Pod)) *Pod {
		c := *p
		f(&c)
		return &c
	}
	done := func(p *Pod) *Pod { return with(p, func(p *Pod) { p.Done = true }) }
	elsewhere := func(p *Pod) *Pod { return with(p, func(p *Pod) { p.IPs, p.Netns = ips("10.0.0.2"), 8 }) }
	for _, tt := range []struct {
		name               string
		do                 func(x *Index, c *clock)
		addr, netns, owner string // owner of container c1
	}{
		{"lives", func(x *Index, _ *clock) { x.PutPod(FromAPI, a) }, "shop/a n1", "shop/a n1", "shop/a"},
		{"deleted", func(x *Index, _ *clock) { x.PutPod(FromAPI, a); x.DeletePod(FromAPI, a.UID) }, "shop/a n1?", "shop/a n1?", "shop/a"},
		{"deleted 10 minutes ago", func(x *Index, c *clock) {
			x.PutPod(FromAPI, a)
			x.DeletePod(FromAPI, a.UID)
			c.pass(keepDead)
		}, "shop/a n1?", "shop/a n1?", "shop/a"},
		{"forgotten", func(x *Index, c *clock) {
			x.PutPod(FromAPI, a)
			x.DeletePod(FromAPI, a.UID)
			c.pass(keepDead + 1)
		}, "", "", ""},
		{"deleted by one of two", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, a)
			x.PutPod(FromCRI, a)
			x.DeletePod(FromAPI, a.UID)
		}, "shop/a n1", "shop/a n1", "shop/a"},
		{"deleted by one that never knew it", func(x *Index, _ *clock) { x.PutPod(FromAPI, a); x.DeletePod(FromCRI, a.UID) }, "shop/a n1", "shop/a n1", "shop/a"},
		{"reused after death", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, a)
			x.DeletePod(FromAPI, a.UID)
			x.PutPod(FromAPI, b)
		}, "shop/b n1", "shop/b n1", "shop/a"},
		{"reused before death is known", func(x *Index, _ *clock) { x.PutPod(FromAPI, a); x.PutPod(FromAPI, b) }, "shop/b n1", "shop/b n1", "shop/a"},
		{"an update of the last one changes nothing", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, a)
			x.PutPod(FromAPI, b)
			x.PutPod(FromAPI, with(a, func(p *Pod) { p.Containers = []string{"c1"} }))
		}, "shop/b n1", "shop/b n1", "shop/a"},
		{"the last one's death neither", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, a)
			x.PutPod(FromAPI, b)
			x.DeletePod(FromAPI, a.UID)
		}, "shop/b n1", "shop/b n1", "shop/a"},
		{"both dead", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, a)
			x.PutPod(FromAPI, b)
			x.DeletePod(FromAPI, a.UID)
			x.DeletePod(FromAPI, b.UID)
		}, "shop/b n1?", "shop/b n1?", "shop/a"},
		{"the older one lives on", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, a)
			x.PutPod(FromAPI, b)
			x.DeletePod(FromAPI, b.UID)
		}, "shop/a n1", "shop/a n1", "shop/a"},
		{"what the runtime runs wins", func(x *Index, _ *clock) {
			x.SetState(FromCRI, Current)
			x.PutPod(FromCRI, b)
			x.PutPod(FromAPI, a) // late news
		}, "shop/b n1", "shop/b n1", "shop/a"},
		{"but not what a lost one ran", func(x *Index, _ *clock) {
			x.SetState(FromCRI, Stale)
			x.PutPod(FromCRI, b)
			x.PutPod(FromAPI, a)
		}, "shop/a n1", "shop/a n1", "shop/a"},
		{"done", func(x *Index, _ *clock) { x.PutPod(FromAPI, a); x.PutPod(FromAPI, done(a)) }, "shop/a n1?", "shop/a n1?", "shop/a"},
		{"done as soon as known", func(x *Index, _ *clock) { x.PutPod(FromAPI, done(a)) }, "shop/a n1?", "", "shop/a"},
		{"done long ago", func(x *Index, c *clock) {
			x.PutPod(FromAPI, a)
			x.PutPod(FromAPI, done(a))
			c.pass(keepDead + 1)
		}, "", "", "shop/a"},
		{"reused after done", func(x *Index, _ *clock) { x.PutPod(FromAPI, done(a)); x.PutPod(FromAPI, b) }, "shop/b n1", "shop/b n1", "shop/a"},
		{"done after reuse", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, a)
			x.PutPod(FromAPI, b)
			x.PutPod(FromAPI, done(a))
		}, "shop/b n1", "shop/b n1", "shop/a"},
		{"known as done after reuse", func(x *Index, _ *clock) { x.PutPod(FromAPI, b); x.PutPod(FromAPI, done(a)) }, "shop/b n1", "shop/b n1", "shop/a"},
		{"moved", func(x *Index, _ *clock) { x.PutPod(FromAPI, a); x.PutPod(FromAPI, elsewhere(a)) }, "shop/a n1?", "shop/a n1?", "shop/a"},
		{"back again", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, a)
			x.PutPod(FromAPI, elsewhere(a))
			x.PutPod(FromAPI, a)
		}, "shop/a n1", "shop/a n1", "shop/a"},
		{"another container", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, a)
			x.PutPod(FromAPI, with(a, func(p *Pod) { p.Containers = []string{"c3"} }))
		}, "shop/a n1", "shop/a n1", "shop/a"},
		{"in its node's network", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, with(a, func(p *Pod) { p.HostNetwork = true }))
		}, "", "", "shop/a"},
		{"in its node's network, as another source knows", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, with(a, func(p *Pod) { p.HostNetwork = true }))
			x.PutPod(FromCRI, a)
		}, "", "", "shop/a"},
		{"not known what it is called", func(x *Index, _ *clock) { x.PutPod(FromProc, &Pod{UID: a.UID, Netns: 7, Containers: []string{"c1"}}) }, "", "", ""},
		{"known later", func(x *Index, _ *clock) {
			x.PutPod(FromProc, &Pod{UID: a.UID, Netns: 7, Containers: []string{"c1"}})
			x.PutPod(FromAPI, with(a, func(p *Pod) { p.Netns, p.Containers = 0, nil }))
		}, "shop/a n1", "shop/a n1", "shop/a"},
		{"known before", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, with(a, func(p *Pod) { p.Netns, p.Containers = 0, nil }))
			x.PutPod(FromProc, &Pod{UID: a.UID, Netns: 7, Containers: []string{"c1"}})
			x.DeletePod(FromAPI, a.UID)
		}, "shop/a n1?", "shop/a n1", "shop/a"},
		{"the runtime knows the namespace better than /proc", func(x *Index, _ *clock) {
			x.PutPod(FromCRI, a)
			x.PutPod(FromProc, &Pod{UID: a.UID, Netns: 9})
		}, "shop/a n1", "shop/a n1", "shop/a"},
		{"a namespace shared with nobody known", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, a)
			x.PutPod(FromProc, &Pod{UID: "who", Netns: 7})
			x.DeletePod(FromAPI, a.UID)
			x.DeletePod(FromProc, "who")
		}, "shop/a n1?", "", "shop/a"},
		{"a namespace of nobody known, reused", func(x *Index, _ *clock) {
			x.PutPod(FromAPI, a)
			x.DeletePod(FromAPI, a.UID)
			x.PutPod(FromProc, &Pod{UID: "who", Netns: 7})
			x.DeletePod(FromProc, "who")
		}, "shop/a n1?", "", "shop/a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			x := c.index()
			tt.do(x, c)
			owner, _ := x.PodOfContainer("c1")
			if addr, netns := x.words("10.0.0.1"), x.netnsWords(7); addr != tt.addr || netns != tt.netns || owner != tt.owner {
				t.Errorf("10.0.0.1 is %q, netns 7 %q, c1 of %q; want %q, %q, %q", addr, netns, owner, tt.addr, tt.netns, tt.owner)
			}
		})
	}
}

// TestPodOfTwoSources: what two sources say of one pod is one pod, and what only
// a lost source says is stale.
func TestPodOfTwoSources(t *testing.T) {
	api := &Pod{Namespace: "shop", Name: "web", UID: "u1", Node: "n1", IPs: ips("10.0.0.1")}
	cri := &Pod{Namespace: "shop", Name: "web", UID: "u1", IPs: ips("10.0.0.1", "fd00::1"), Netns: 7}
	nameless := &Pod{Namespace: "shop", Name: "web", IPs: ips("10.0.0.1", "fd00::1"), Netns: 7}
	for _, tt := range []struct {
		name  string
		do    func(x *Index)
		pods  int // living ones called shop/web
		wants map[string]string
		netns string
	}{
		{"both", func(x *Index) { x.PutPod(FromAPI, api); x.PutPod(FromCRI, cri) }, 1,
			map[string]string{"10.0.0.1": "shop/web n1", "fd00::1": "shop/web n1", "::ffff:10.0.0.1": "shop/web n1"}, "shop/web n1"},
		{"the other way round", func(x *Index) { x.PutPod(FromCRI, cri); x.PutPod(FromAPI, api) }, 1,
			map[string]string{"10.0.0.1": "shop/web n1", "fd00::1": "shop/web n1"}, "shop/web n1"},
		{"one without UID", func(x *Index) { x.PutPod(FromAPI, api); x.PutPod(FromCRI, nameless) }, 1,
			map[string]string{"fd00::1": "shop/web n1"}, "shop/web n1"},
		{"the first one without UID", func(x *Index) { x.PutPod(FromCRI, nameless); x.PutPod(FromAPI, api) }, 1,
			map[string]string{"fd00::1": "shop/web n1"}, "shop/web n1"},
		{"and deleted by name", func(x *Index) {
			x.PutPod(FromCRI, nameless)
			x.PutPod(FromAPI, api)
			x.DeletePod(FromCRI, "shop/web")
		}, 1, map[string]string{"10.0.0.1": "shop/web n1", "fd00::1": "shop/web n1?"}, "shop/web n1?"},
		{"and made again", func(x *Index) {
			x.PutPod(FromCRI, nameless)
			x.PutPod(FromAPI, api)
			x.DeletePod(FromAPI, "u1")
			x.PutPod(FromAPI, &Pod{Namespace: "shop", Name: "web", UID: "u2", Node: "n2"})
		}, 1, map[string]string{"10.0.0.1": "shop/web n2"}, "shop/web n2"},
		{"another UID is another pod", func(x *Index) {
			x.PutPod(FromAPI, api)
			x.PutPod(FromCRI, &Pod{Namespace: "shop", Name: "web", UID: "u2", IPs: ips("fd00::1"), Netns: 7})
		}, 2, map[string]string{"10.0.0.1": "shop/web n1", "fd00::1": "shop/web"}, "shop/web"},
		{"API lost", func(x *Index) {
			x.PutPod(FromAPI, api)
			x.PutPod(FromCRI, cri)
			x.SetState(FromAPI, Stale)
		}, 1, map[string]string{"10.0.0.1": "shop/web n1"}, "shop/web n1"},
		{"both lost", func(x *Index) {
			x.PutPod(FromAPI, api)
			x.PutPod(FromCRI, cri)
			x.SetState(FromAPI, Stale)
			x.SetState(FromCRI, Stale)
		}, 1, map[string]string{"10.0.0.1": "shop/web n1?"}, "shop/web n1?"},
		{"the only one that knows it lost", func(x *Index) {
			x.PutPod(FromCRI, cri)
			x.SetState(FromCRI, Stale)
			x.SetState(FromAPI, Current)
		}, 1, map[string]string{"10.0.0.1": "shop/web?"}, "shop/web?"},
		{"and back", func(x *Index) {
			x.PutPod(FromCRI, cri)
			x.SetState(FromCRI, Stale)
			x.SetState(FromCRI, Current)
		}, 1, map[string]string{"10.0.0.1": "shop/web"}, "shop/web"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newClock().index(Current, Current, Current)
			tt.do(x)
			if n := len(x.podNames["shop/web"]); n != tt.pods {
				t.Errorf("%d pods, want %d", n, tt.pods)
			}
			for addr, want := range tt.wants {
				if got := x.words(addr); got != want {
					t.Errorf("%s is %q, want %q", addr, got, want)
				}
			}
			if got := x.netnsWords(7); got != tt.netns {
				t.Errorf("netns 7 is %q, want %q", got, tt.netns)
			}
		})
	}
}

// TestDeadAreBounded: the oldest dead go first, and with the last of them all
// that was kept of them.
func TestDeadAreBounded(t *testing.T) {
	c := newClock()
	x := c.index()
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }
	for i := range maxDead + 3 {
		p := &Pod{Namespace: "shop", Name: fmt.Sprint("p", i), UID: fmt.Sprint(i), IPs: []netip.Addr{addr(i)}, Netns: uint32(i + 1), Containers: []string{fmt.Sprint("c", i)}}
		x.PutPod(FromCRI, p)
		x.DeletePod(FromCRI, p.UID)
	}
	for i, want := range []string{"", "", "", "shop/p3?"} {
		if got := words(x.Address(addr(i), 0)); got != want || x.netnsWords(uint32(i+1)) != want {
			t.Errorf("of pod %d: %q, want %q", i, got, want)
		}
	}
	// One that comes and goes at the same address leaves one name there.
	for range 3 * maxDead {
		x.PutPod(FromCRI, testPod("shop", "loop", "10.9.9.9"))
		x.DeletePod(FromCRI, "uid of loop in shop")
	}
	if got := x.words("10.9.9.9"); got != "shop/loop n1?" || len(x.dead) > maxDead {
		t.Errorf("%q, %d dead", got, len(x.dead))
	}
	c.pass(keepDead + time.Second)
	x.PutNode(&Node{Name: "n1"})
	x.DeleteNode("n1")
	x.expectEmpty(t)
}

// expectEmpty checks that nothing is left of what has been deleted.
func (x *Index) expectEmpty(t *testing.T) {
	t.Helper()
	for what, n := range map[string]int{
		"pods": len(x.pods), "names of pods": len(x.podNames), "containers": len(x.containers), "namespaces": len(x.netns),
		"addresses": len(x.addrs), "dead": len(x.dead), "services": len(x.services), "slices": len(x.slices),
		"backends": len(x.backends), "service ports": len(x.virtual), "nodes": len(x.nodes),
	} {
		if n != 0 {
			t.Errorf("%d %s are left", n, what)
		}
	}
}
