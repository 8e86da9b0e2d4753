// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
)

// A large cluster.
const (
	manyPods     = 10_000
	manyServices = 2_000
	manyNodes    = 100
	podsHere     = 110 // that the runtime of this node knows
)

func podAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}) }
func podAddr6(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)})
}
func clusterAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}) }

// manyPod is made of strings of its own, as what a source reads is.
func manyPod(i int) *Pod {
	return &Pod{
		Namespace: fmt.Sprint("team-", i%50), Name: fmt.Sprintf("workload-%d-7d9c6b5f4-%05d", i/20, i), UID: fmt.Sprintf("8b13c9a4-7f0e-4b3e-9a51-%012d", i),
		Node: fmt.Sprintf("ip-192-168-0-%d.internal", i%manyNodes), IPs: []netip.Addr{podAddr(i), podAddr6(i)},
	}
}

// fill puts a large cluster into an index.
func fill(x *Index) {
	for i := range manyNodes {
		x.PutNode(&Node{Name: fmt.Sprintf("ip-192-168-0-%d.internal", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 168, 0, byte(i)})}})
	}
	for i := range manyPods {
		x.PutPod(FromAPI, manyPod(i))
	}
	for i := range podsHere {
		p := manyPod(i * manyNodes)
		p.Node, p.Netns = "", uint32(4026532000+i)
		for c := range 4 {
			p.Containers = append(p.Containers, fmt.Sprintf("%060d%04d", i, c))
		}
		x.PutPod(FromCRI, p)
	}
	for i := range manyServices {
		namespace, name := fmt.Sprint("team-", i%50), fmt.Sprint("service-", i)
		x.PutService(&Service{
			Namespace: namespace, Name: name, Type: "NodePort", ClusterIPs: []netip.Addr{clusterAddr(i)},
			Ports: []ServicePort{{"http", tcp, 80, uint16(30000 + i)}, {"https", tcp, 443, 0}},
		})
		s := &Slice{Namespace: namespace, Name: fmt.Sprintf("%s-%05d", name, i), Service: name, Ports: []SlicePort{{"http", tcp, 8080}, {"https", tcp, 8443}}}
		for e := range 5 {
			p := manyPod(i*5 + e)
			s.Endpoints = append(s.Endpoints, Endpoint{Addrs: p.IPs[:1], Node: p.Node, Pod: p.Name, Ready: true, Serving: true})
		}
		x.PutSlice(s)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSize: a large cluster takes little memory, and gives it back.
func TestSize(t *testing.T) {
	const most = 20 << 20
	before := heap()
	x := NewIndex(nil)
	fill(x)
	used := int64(heap()) - int64(before)
	t.Logf("%d pods, %d services with a slice of 5 endpoints each: %.1f MiB", manyPods, manyServices, float64(used)/(1<<20))
	if used > most {
		t.Errorf("%d bytes, more than %d", used, most)
	}
	if got := words(x.Address(podAddr(4200), 0)); got != "team-0/workload-210-7d9c6b5f4-04200 ip-192-168-0-0.internal" {
		t.Error(got)
	}
	if got := factWords(x.Service(clusterAddr(1999), 443, tcp, "ip-192-168-0-95.internal")); got != "team-49/service-1999:https NodePort Cluster 1/4/0/0" {
		t.Error(got)
	}
	// All pods replaced, as by a rollout: what is kept of the dead is bounded, too.
	for i := range manyPods {
		x.DeletePod(FromAPI, manyPod(i).UID)
		p := manyPod(i)
		p.UID += "x"
		x.PutPod(FromAPI, p)
	}
	if used = int64(heap()) - int64(before); used > most+most/4 {
		t.Errorf("%d bytes after a rollout", used)
	}
	runtime.KeepAlive(x)
}

// TestNoAllocation: what is asked for each packet costs no garbage.
func TestNoAllocation(t *testing.T) {
	x := newClock().index(Current, Current)
	fill(x)
	x.DeletePod(FromAPI, manyPod(7777).UID)
	n := NewNames(&ownNames{}, x, nil)
	node := netip.MustParseAddr("192.168.0.7")
	for what, f := range map[string]func(){
		"a pod's address":          func() { x.Address(podAddr(4201), 80) },
		"a dead pod's address":     func() { x.Address(podAddr(7777), 80) },
		"a service's address":      func() { x.Address(clusterAddr(7), 80) },
		"a node port":              func() { x.Address(node, 30007) },
		"an address of nobody":     func() { x.Address(netip.AddrFrom4([4]byte{1, 1, 1, 1}), 80) },
		"a namespace":              func() { x.PodOfNetns(4026532001) },
		"a service's facts":        func() { x.Service(clusterAddr(7), 80, tcp, "n") },
		"an address, by its words": func() { n.Address("10.2.16.105", 80) },
		"a namespace, in words":    func() { n.Namespace(4026532001) },
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: %v allocations", what, got)
		}
	}
}

// TestConcurrent: sources write while many ask and wait; the race detector looks
// on. Each answer is one that was right at some time.
func TestConcurrent(t *testing.T) {
	x := NewIndex(nil)
	x.SetState(FromAPI, Current)
	const writers, readers, rounds = 4, 4, 300
	ctx, cancel := context.WithCancel(t.Context())
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				name := fmt.Sprintf("p%d-%d", w, i)
				p := testPod("a", name)
				p.IPs, p.Netns = []netip.Addr{podAddr(w)}, uint32(w+1)
				x.PutPod(Source(w%2), p)
				x.PutService(&Service{Namespace: "a", Name: fmt.Sprint("s", w), ClusterIPs: []netip.Addr{clusterAddr(w)}, Ports: []ServicePort{{"", tcp, 80, uint16(i)}}})
				x.PutSlice(&Slice{Namespace: "a", Name: fmt.Sprint("e", w), Service: fmt.Sprint("s", w), Ports: []SlicePort{{"", tcp, 80}},
					Endpoints: []Endpoint{{Addrs: []netip.Addr{podAddr(w)}, Ready: i%2 == 0}}})
				x.PutNode(&Node{"n1", []netip.Addr{clusterAddr(1000 + i)}, nil})
				x.SetState(FromCRI, State(i%4))
				x.DeletePod(Source(w%2), p.UID)
			}
		})
	}
	for range readers {
		reading.Go(func() {
			changes, stop := x.Watch()
			defer stop()
			for ctx.Err() == nil {
				for w := range writers {
					readAll(t, x, w)
				}
				x.Settled(ctx, FromCRI)
				select {
				case <-changes:
				case <-ctx.Done():
				}
			}
		})
	}
	writing.Wait()
	x.SetState(FromCRI, Current)
	cancel()
	reading.Wait()
	for w := range writers {
		want := fmt.Sprintf("a/p%d-%d n1?", w, rounds-1)
		if got := words(x.Address(podAddr(w), 0)); got != want || x.netnsWords(uint32(w+1)) != want {
			t.Errorf("at the end %q, want %q", got, want)
		}
	}
}

func readAll(t *testing.T, x *Index, w int) {
	t.Helper()
	prefix := fmt.Sprintf("a/p%d-", w)
	if got := x.Address(podAddr(w), 80); got.Pod != "" && got.Pod[:len(prefix)] != prefix {
		t.Errorf("%s is %q", podAddr(w), got.Pod)
	}
	if name, _, _, ok := x.PodOfNetns(uint32(w + 1)); ok && name[:len(prefix)] != prefix {
		t.Errorf("netns %d is %q", w+1, name)
	}
	if f, ok := x.Service(clusterAddr(w), 80, tcp, "n1"); ok && f.Here+f.Elsewhere+f.NotReady > 1 {
		t.Errorf("one endpoint is counted as %+v", f)
	}
	if _, err := x.Target("svc", "a", fmt.Sprint("s", w), 80); err != nil && !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := x.Target("pod", "a", "p", 0); !errors.Is(err, ErrNotFound) || err.Error() == "" {
		t.Error(err)
	}
	if _, err := x.InNamespace("a"); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoAddress) {
		t.Error(err)
	}
}

func BenchmarkAddress(b *testing.B) {
	x := NewIndex(nil)
	fill(x)
	for _, bb := range []struct {
		name string
		addr netip.Addr
		port uint16
	}{
		{"pod", podAddr(4201), 80},
		{"service", clusterAddr(7), 80},
		{"nodeport", netip.MustParseAddr("192.168.0.7"), 30007},
		{"nobody", netip.MustParseAddr("1.1.1.1"), 80},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.Address(bb.addr, bb.port)
			}
		})
	}
}

func BenchmarkService(b *testing.B) {
	x := NewIndex(nil)
	fill(x)
	b.ReportAllocs()
	for b.Loop() {
		x.Service(clusterAddr(7), 80, tcp, "n1")
	}
}

// BenchmarkPutPod changes pods of a large cluster.
func BenchmarkPutPod(b *testing.B) {
	x := NewIndex(nil)
	fill(x)
	pods := [2][]*Pod{}
	for i := range manyPods {
		p := manyPod(i)
		q := *p
		q.IPs = p.IPs[:1]
		pods[0], pods[1] = append(pods[0], p), append(pods[1], &q)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.PutPod(FromAPI, pods[(i/manyPods+1)%2][i%manyPods])
	}
}

func BenchmarkTarget(b *testing.B) {
	x := NewIndex(nil)
	x.SetState(FromAPI, Current)
	fill(x)
	for _, bb := range []struct{ name, kind, namespace, target string }{
		{"pod", "pod", "team-1", "workload-210-7d9c6b5f4-04201"},
		{"service", "svc", "team-1", "service-1"},
		{"missing", "pod", "team-1", "workload"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				_, _ = x.Target(bb.kind, bb.namespace, bb.target, 0)
			}
		})
	}
	b.Run("near", func(b *testing.B) {
		for b.Loop() {
			_, err := x.Target("pod", "team-1", "workload-211-7d9c6b5f4-04201", 0)
			_ = err.Error()
		}
	})
	b.Run("namespace", func(b *testing.B) {
		for b.Loop() {
			_, _ = x.InNamespace("team-1")
		}
	})
}
