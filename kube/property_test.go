// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// player does the same things to an index and to a model of it.
type player struct {
	*rand.Rand
	x *Index
	m *model
	c *clock
	// what was done, for the message
	did []string
}

// few are so few addresses that everything is at the same ones.
var few = ips("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2")

func (p *player) some(most int) (out []netip.Addr) {
	for range p.IntN(most + 1) {
		if a := few[p.IntN(len(few))]; !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func (p *player) note(format string, args ...any) {
	p.did = append(p.did, fmt.Sprintf(format, args...))
}

// pod makes a pod up. Its UID says what it is called, and what source it is of
// says what it may know.
func (p *player) pod(from Source) *Pod {
	n := p.IntN(6)
	o := &Pod{Namespace: "a", Name: fmt.Sprint("p", n/2), UID: fmt.Sprint("u", n), IPs: p.some(2), HostNetwork: p.IntN(8) == 0, Done: p.IntN(6) == 0}
	if from == FromAPI {
		o.Node = fmt.Sprint("n", p.IntN(2))
	}
	return o
}

func (p *player) service() *Service {
	s := &Service{Namespace: "a", Name: fmt.Sprint("s", p.IntN(4)), ClusterIPs: p.some(2), ExternalIPs: p.some(1)}
	for range p.IntN(2) {
		s.Ingress = append(s.Ingress, Ingress{few[p.IntN(len(few))], p.IntN(2) == 0})
	}
	for i := range p.IntN(3) {
		s.Ports = append(s.Ports, ServicePort{fmt.Sprint("x", i), tcp, uint16(1 + p.IntN(4)), uint16(p.IntN(5))})
	}
	return s
}

func (p *player) slice() *Slice {
	s := &Slice{Namespace: "a", Name: fmt.Sprint("e", p.IntN(4)), Service: fmt.Sprint("s", p.IntN(4))}
	for i := range p.IntN(3) {
		s.Ports = append(s.Ports, SlicePort{fmt.Sprint("x", i), tcp, uint16(8001 + p.IntN(4))})
	}
	for _, a := range p.some(3) {
		s.Endpoints = append(s.Endpoints, Endpoint{Addrs: []netip.Addr{a}, Ready: p.IntN(2) == 0})
	}
	return s
}

// step does one thing, made up, to both.
func (p *player) step() {
	from := Source(p.IntN(2))
	switch p.IntN(12) {
	case 0, 1, 2, 3:
		o := p.pod(from)
		p.note("put pod %d %+v", from, *o)
		p.x.PutPod(from, o)
		p.m.putPod(from, o)
	case 4, 5:
		uid := fmt.Sprint("u", p.IntN(6))
		p.note("delete pod %d %s", from, uid)
		p.x.DeletePod(from, uid)
		p.m.deletePod(from, uid)
	case 6:
		s := p.service()
		p.note("put service %+v", *s)
		same := func(a, b *Service) bool { return a.Name == b.Name }
		if i := last(p.m.vips, func(o *Service) bool { return same(o, s) }); i < 0 || !reflect.DeepEqual(p.m.vips[i], s) {
			p.m.vips = replace(p.m.vips, s, same)
		}
		p.x.PutService(s)
	case 7:
		name := fmt.Sprint("s", p.IntN(4))
		p.note("delete service %s", name)
		p.m.vips = slices.DeleteFunc(p.m.vips, func(s *Service) bool { return s.Name == name })
		p.x.DeleteService("a", name)
	case 8:
		s := p.slice()
		p.note("put slice %+v", *s)
		p.m.slices = replace(p.m.slices, s, func(a, b *Slice) bool { return a.Name == b.Name })
		p.x.PutSlice(s)
	case 9:
		p.nodeOrSlice()
	case 10:
		s := State(p.IntN(4))
		p.note("state of %d: %d", from, s)
		p.m.states[from] = s
		p.x.SetState(from, s)
	case 11:
		d := time.Duration(p.Int64N(int64(keepDead)))
		p.note("%v pass", d)
		p.c.pass(d)
		p.m.now = p.c.t
	}
}

func (p *player) nodeOrSlice() {
	name := fmt.Sprint("n", p.IntN(3))
	switch p.IntN(3) {
	case 0:
		p.note("delete node %s", name)
		p.m.nodes = slices.DeleteFunc(p.m.nodes, func(n *Node) bool { return n.Name == name })
		p.x.DeleteNode(name)
	case 1:
		n := &Node{Name: name, Addrs: p.some(2)}
		p.note("put node %+v", *n)
		same := func(a, b *Node) bool { return a.Name == b.Name }
		if i := last(p.m.nodes, func(o *Node) bool { return same(o, n) }); i < 0 || !slices.Equal(p.m.nodes[i].Addrs, n.Addrs) {
			p.m.nodes = replace(p.m.nodes, n, same)
		}
		p.x.PutNode(n)
	case 2:
		slice := fmt.Sprint("e", p.IntN(4))
		p.note("delete slice %s", slice)
		p.m.slices = slices.DeleteFunc(p.m.slices, func(s *Slice) bool { return s.Name == slice })
		p.x.DeleteSlice("a", slice)
	}
}

// differs compares all answers; empty: they are the same.
func (p *player) differs() string {
	for _, a := range few {
		for port := range uint16(5) {
			if got, want := words(p.x.Address(a, port)), p.m.address(a, port); got != want {
				return fmt.Sprintf("%s port %d is %q, by the model %q", a, port, got, want)
			}
		}
	}
	for i := range 4 {
		for _, kind := range []string{kindPod, kindService} {
			name := fmt.Sprint(kind[:1], i)
			list, err := p.x.Target(kind, "a", name, 0)
			want := p.m.target(kind, "a/"+name)
			slices.Sort(want)
			got := strings.Split(memberWords(list), ", ")
			slices.Sort(got)
			if want = slices.Compact(want); len(want) == 0 {
				want = []string{""}
			}
			if !slices.Equal(got, want) || (err == nil) != (want[0] != "") {
				return fmt.Sprintf("%s %s stands for %q, by the model %q (%v)", kind, name, got, want, err)
			}
		}
	}
	return ""
}

// TestModel: whatever comes and goes, in whatever order, is named as by looking
// through all of it, and when all has gone nothing is left.
func TestModel(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	for seed := range uint64(rounds) {
		c := newClock()
		p := &player{Rand: rand.New(rand.NewPCG(seed, 4)), x: c.index(), m: &model{now: c.t}, c: c}
		for range 200 {
			p.step()
			if d := p.differs(); d != "" {
				t.Fatalf("seed %d: %s\nafter\n  %s", seed, d, strings.Join(p.did, "\n  "))
			}
		}
		p.x.deleteAll()
		c.pass(keepDead + 1)
		p.x.SetState(FromProc, Loading)
		p.x.expectEmpty(t)
	}
}

// deleteAll deletes what TestModel puts.
func (x *Index) deleteAll() {
	for i := range 6 {
		for from := range sources {
			x.DeletePod(from, fmt.Sprint("u", i))
		}
		x.DeleteService("a", fmt.Sprint("s", i))
		x.DeleteSlice("a", fmt.Sprint("e", i))
		x.DeleteNode(fmt.Sprint("n", i))
	}
}
