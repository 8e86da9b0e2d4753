// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

const (
	tcp = 6
	udp = 17
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func ips(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, ip(s))
	}
	return out
}

// testPod is a pod on node n1 with a UID that tells whose it is.
func testPod(namespace, name string, addrs ...string) *Pod {
	return &Pod{Namespace: namespace, Name: name, UID: "uid of " + name + " in " + namespace, Node: "n1", IPs: ips(addrs...)}
}

// clock is a clock that only the test moves.
type clock struct{ t time.Time }

func newClock() *clock                { return &clock{time.Unix(1_700_000_000, 0)} }
func (c *clock) now() time.Time       { return c.t }
func (c *clock) pass(d time.Duration) { c.t = c.t.Add(d) }
func (c *clock) index(of ...State) *Index {
	x := NewIndex(c.now)
	for from, s := range of {
		x.SetState(Source(from), s)
	}
	return x
}

func TestState(t *testing.T) {
	x := NewIndex(nil)
	if s := x.State(FromCRI); s != Absent {
		t.Errorf("a new index: state %d", s)
	}
	x.SetState(FromCRI, Loading)
	x.SetState(FromAPI, Current)
	if a, b, c := x.State(FromAPI), x.State(FromCRI), x.State(FromProc); a != Current || b != Loading || c != Absent {
		t.Errorf("states %d %d %d", a, b, c)
	}
}

// TestSettled: it ends when the last one that was waited for is no longer
// loading, whatever it is then, and not before.
func TestSettled(t *testing.T) {
	for _, tt := range []struct {
		name string
		from []Source
		say  func(x *Index)
		want bool
	}{
		{"both told", []Source{FromAPI, FromCRI}, func(x *Index) { x.SetState(FromAPI, Current); x.SetState(FromCRI, Stale) }, true},
		{"one is left", []Source{FromAPI, FromCRI}, func(x *Index) { x.SetState(FromAPI, Absent) }, false},
		{"another one is left", []Source{FromAPI}, func(x *Index) { x.SetState(FromAPI, Absent) }, true},
		{"all", nil, func(x *Index) { x.SetState(FromAPI, Current) }, false},
		{"nobody has begun", []Source{FromProc}, func(*Index) {}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := NewIndex(nil)
				x.SetState(FromAPI, Loading)
				x.SetState(FromCRI, Loading)
				ctx, cancel := context.WithCancel(t.Context())
				settled := false
				go func() {
					x.Settled(ctx, tt.from...)
					settled = ctx.Err() == nil
				}()
				synctest.Wait()
				if tt.name != "nobody has begun" && settled {
					t.Error("settled while they were loading")
				}
				tt.say(x)
				synctest.Wait()
				if settled != tt.want {
					t.Errorf("settled: %v, want %v", settled, tt.want)
				}
				cancel()
				synctest.Wait() // a goroutine that is left would fail the test
			})
		})
	}
}

// TestWatch: who watches is told of each kind of change, once for many, and not
// of what changes nothing.
func TestWatch(t *testing.T) {
	x := NewIndex(nil)
	changes, stop := x.Watch()
	other, stopOther := x.Watch()
	told := func(ch <-chan struct{}) (n int) {
		for {
			select {
			case <-ch:
				n++
			default:
				return n
			}
		}
	}
	service := &Service{Namespace: "shop", Name: "cart", ClusterIPs: ips("10.96.0.1"), Ports: []ServicePort{{"http", tcp, 80, 0}}}
	slice := &Slice{Namespace: "shop", Name: "cart-1", Service: "cart", Endpoints: []Endpoint{{Addrs: ips("10.0.0.9"), Ready: true}}}
	node := &Node{"n1", ips("192.168.0.1"), nil}
	for _, tt := range []struct {
		name string
		do   func()
		want int
	}{
		{"put pod", func() { x.PutPod(FromAPI, testPod("shop", "web", "10.0.0.1")) }, 1},
		{"the same again", func() { x.PutPod(FromAPI, testPod("shop", "web", "10.0.0.1")) }, 0},
		{"the same by another source", func() { x.PutPod(FromCRI, testPod("shop", "web", "10.0.0.1")) }, 1},
		{"two pods", func() { x.PutPod(FromAPI, testPod("shop", "a")); x.PutPod(FromAPI, testPod("shop", "b")) }, 1},
		{"a pod without any name", func() { x.PutPod(FromAPI, &Pod{IPs: ips("10.0.0.7")}) }, 0},
		{"delete pod", func() { x.DeletePod(FromAPI, "uid of a in shop") }, 1},
		{"delete it again", func() { x.DeletePod(FromAPI, "uid of a in shop") }, 0},
		{"delete one that the source never told", func() { x.DeletePod(FromCRI, "uid of b in shop") }, 0},
		{"put service", func() { x.PutService(service) }, 1},
		{"the same service", func() { x.PutService(service) }, 0},
		{"put slice", func() { x.PutSlice(slice) }, 1},
		{"the same slice", func() { x.PutSlice(slice) }, 0},
		{"put node", func() { x.PutNode(node) }, 1},
		{"the same node", func() { x.PutNode(node) }, 0},
		{"state", func() { x.SetState(FromAPI, Stale) }, 1},
		{"the same state", func() { x.SetState(FromAPI, Stale) }, 0},
		{"delete all", func() { x.DeleteService("shop", "cart"); x.DeleteSlice("shop", "cart-1"); x.DeleteNode("n1") }, 1},
		{"delete nothing", func() { x.DeleteService("shop", "cart"); x.DeleteSlice("shop", "cart-1"); x.DeleteNode("n1") }, 0},
	} {
		tt.do()
		if n := told(changes); n != tt.want {
			t.Errorf("%s: told %d times, want %d", tt.name, n, tt.want)
		}
	}
	if n := told(other); n != 1 {
		t.Errorf("one that did not look was told %d times, want 1", n)
	}
	stop()
	x.SetState(FromAPI, Current)
	if a, b := told(changes), told(other); a != 0 || b != 1 {
		t.Errorf("after stop of the first: told %d and %d times", a, b)
	}
	stopOther()
	if len(x.watchers) != 0 {
		t.Errorf("%d watchers are left", len(x.watchers))
	}
}
