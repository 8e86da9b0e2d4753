// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/kube"
)

// fakeCluster is an index that nobody fills but the test.
type fakeCluster struct {
	*kube.Index
	namespace string
	looked    atomic.Int32
	closed    atomic.Int32
	// changes tells of changes in place of the index; nil: the index does.
	changes chan struct{}
}

func (f *fakeCluster) Names(inner events.Names) events.Names {
	return kube.NewNames(inner, f.Index, nil)
}
func (f *fakeCluster) Watch() (<-chan struct{}, func()) {
	if f.changes == nil {
		return f.Index.Watch()
	}
	return f.changes, func() {}
}

// followed tells of a change and waits until it was followed.
func (f *fakeCluster) followed() {
	f.changes <- struct{}{}
	f.changes <- struct{}{} // taken when the one before is done with
}
func (f *fakeCluster) Settled(context.Context) {}
func (f *fakeCluster) Namespace() string       { return f.namespace }
func (f *fakeCluster) Look()                   { f.looked.Add(1) }
func (f *fakeCluster) Close()                  { f.closed.Add(1) }

func podAt(namespace, name, ip string) *kube.Pod {
	return &kube.Pod{Namespace: namespace, Name: name, UID: namespace + "-" + name, Node: "n1", IPs: []netip.Addr{netip.MustParseAddr(ip)}}
}

// newFakeCluster has the ends of the scripted capture.
func newFakeCluster() *fakeCluster {
	f := &fakeCluster{Index: kube.NewIndex(nil)}
	f.SetState(kube.FromAPI, kube.Current)
	f.PutPod(kube.FromAPI, podAt("shop", "web", "172.23.96.23"))
	f.PutPod(kube.FromAPI, podAt("test", "web", "172.23.96.77"))
	f.PutService(&kube.Service{
		Namespace: "shop", Name: "cart", Type: "LoadBalancer", ClusterIPs: []netip.Addr{netip.MustParseAddr("192.168.13.23")},
		Ingress: []kube.Ingress{{IP: netip.MustParseAddr("8.219.164.114")}}, ExternalLocal: true,
		Ports: []kube.ServicePort{{Name: "http", Proto: 6, Port: 80}},
	})
	f.PutService(&kube.Service{
		Namespace: "shop", Name: "untouched", Type: "ClusterIP", ClusterIPs: []netip.Addr{netip.MustParseAddr("192.168.13.99")},
		Ports: []kube.ServicePort{{Name: "http", Proto: 6, Port: 80}},
	})
	f.PutSlice(&kube.Slice{
		Namespace: "shop", Name: "untouched-1", Service: "untouched", Ports: []kube.SlicePort{{Name: "http", Proto: 6, Port: 8080}},
		Endpoints: []kube.Endpoint{{Addrs: []netip.Addr{netip.MustParseAddr("172.23.96.199")}, Node: "n2", Pod: "untouched-a", Ready: true, Serving: true}},
	})
	f.PutSlice(&kube.Slice{
		Namespace: "shop", Name: "cart-1", Service: "cart", Ports: []kube.SlicePort{{Name: "http", Proto: 6, Port: 8080}},
		Endpoints: []kube.Endpoint{{Addrs: []netip.Addr{netip.MustParseAddr("172.23.96.163")}, Node: "n2", Pod: "cart-a", Ready: true, Serving: true}},
	})
	return f
}

func (w *world) withCluster(f *fakeCluster) *world {
	w.sys.newCluster = func(clusterOptions) (cluster, error) { return f, nil }
	return w
}

// TestClusterTargets: names select what they stand for, and a wrong one teaches.
func TestClusterTargets(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string // members of all sets
		err  string // part of the message
	}{
		{"pod and service", []string{"--from", "pod/shop/web", "--to", "svc/shop/cart:80"},
			"172.23.96.23/32:0 | 172.23.96.163/32:8080 192.168.13.23/32:80 8.219.164.114/32:80", ""},
		{"several of one flag", []string{"--with", "pod/shop/web,pod/test/web"}, "172.23.96.23/32:0 172.23.96.77/32:0", ""},
		{"namespace completes", []string{"-n", "test", "--with", "pod/web"}, "172.23.96.77/32:0", ""},
		{"the context's namespace", []string{"--with", "pod/web"}, "172.23.96.23/32:0", ""},
		{"namespace alone", []string{"-n", "test"}, "172.23.96.77/32:0", ""},
		{"in no namespace of that name", []string{"--with", "pod/prod/web"}, "", "shop/web"},
		{"near", []string{"--with", "svc/shop/crat:80"}, "", "cart"},
		{"no such port", []string{"--with", "svc/shop/cart:81"}, "", "80"},
		{"contradiction", []string{"--no-kube", "--kubeconfig", "x", "--with", "pod/shop/web"}, "", "--no-kube leaves Kubernetes alone"},
		{"left alone", []string{"--no-kube", "--with", "pod/shop/web"}, "", "no names are known"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeCluster()
			f.namespace = "shop"
			w := newWorld(t).withCluster(f)
			status := w.run(append([]string{"trace", "--for", "1s"}, tt.args...)...)
			if tt.err != "" {
				if status != exitError || !strings.Contains(w.stderr.String(), tt.err) || w.tr.closed != 0 {
					t.Errorf("status %d, without %q: %s", status, tt.err, w.stderr.String())
				}
			} else if got := setsText(w.config.Select.Sets()); status != exitDone || got != tt.want {
				t.Errorf("status %d, sets %q, want %q\n%s", status, got, tt.want, w.stderr.String())
			}
			if opened := !slices.Contains(tt.args, "--no-kube"); (f.closed.Load() == 1) != opened {
				t.Errorf("closed %d times", f.closed.Load())
			}
		})
	}
}

func setsText(sets []*pcapexpr.Set) string {
	var all []string
	for _, s := range sets {
		var members []string
		for _, m := range s.Members() {
			members = append(members, m.Net.String()+":"+strconv.Itoa(int(m.Port)))
		}
		slices.Sort(members)
		all = append(all, strings.Join(members, " "))
	}
	return strings.Join(all, " | ")
}

// TestClusterNames: what Kubernetes knows is said beside what the run's own names
// say, which come first.
func TestClusterNames(t *testing.T) {
	f := newFakeCluster()
	w := newWorld(t).withCluster(f).must(t, "trace", "--all", "--for", "1s", "-o", "json")
	for _, want := range []string{
		`"service":"shop/cart"`, `"pod":"default/centos"`,
		`"service":{"name":"shop/cart","port":"http","type":"LoadBalancer","policy":"Local","here":0,"elsewhere":1,`,
	} {
		if !strings.Contains(w.stdout.String(), want) {
			t.Errorf("nowhere %q:\n%s", want, w.stdout.String())
		}
	}
	if f.looked.Load() == 0 {
		t.Error("nobody asked for the names of namespaces")
	}
}

// TestClusterFollows: a pod that restarts has another address, which is followed
// from then on; one that is gone stands for nothing, and that is said once.
func TestClusterFollows(t *testing.T) {
	f := newFakeCluster()
	w := newWorld(t).withCluster(f)
	seen := make(chan string, 16)
	w.tr.updateSets = func() { seen <- setsText(w.config.Select.Sets()) }
	steps := []struct {
		do   func()
		want string
	}{
		{func() { f.DeletePod(kube.FromAPI, "shop-web") }, ""},
		{func() { f.PutPod(kube.FromAPI, podAt("shop", "web", "172.23.96.99")) }, "172.23.96.99/32:0"},
		{func() { f.PutPod(kube.FromAPI, podAt("shop", "other", "172.23.96.23")) }, "-"},
		{func() { f.SetState(kube.FromAPI, kube.Stale) }, "-"}, // as it last said
		{func() { f.PutPod(kube.FromAPI, podAt("shop", "third", "172.23.96.78")) }, "-"},
		{func() { f.SetState(kube.FromAPI, kube.Current) }, "-"},
		{func() { f.DeletePod(kube.FromAPI, "shop-web") }, ""},
	}
	w.tr.afterTick = func(n int) {
		if n != 1 {
			return
		}
		for i, s := range steps {
			s.do()
			if s.want == "-" {
				continue // nothing changes
			}
			select {
			case got := <-seen:
				if got != s.want {
					t.Errorf("step %d: %q, want %q", i, got, s.want)
				}
			case <-time.After(10 * time.Second):
				t.Errorf("step %d: nothing was followed", i)
			}
		}
	}
	w.must(t, "trace", "--with", "pod/shop/web", "--for", "1s")
	if n := strings.Count(w.stderr.String(), "pod/shop/web is gone"); n != 2 {
		t.Errorf("said %d times, want twice:\n%s", n, w.stderr.String())
	}
}

// TestClusterRecorded: a recording has the endpoints of services that its packets
// were sent to, and the labels of pods that they visited; of others nothing.
func TestClusterRecorded(t *testing.T) {
	f := newFakeCluster()
	centos := podAt("default", "centos", "172.23.96.23")
	centos.Labels = "app=centos"
	f.PutPod(kube.FromCRI, centos)
	other := podAt("default", "other", "172.23.96.200")
	other.Labels = "app=other"
	f.PutPod(kube.FromCRI, other)
	path := filepath.Join(t.TempDir(), "x.hop")
	newWorld(t).withCluster(f).must(t, "record", "-w", path, "--all", "--for", "1s")
	var got told
	sources, err := openSources([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	file, r, err := openRecording(sources[0].parts[0].path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := r.Run(&got); err != nil {
		t.Fatal(err)
	}
	want := []string{"default/centos app=centos", "shop/cart 172.23.96.163:8080 n2 true true false"}
	slices.Sort(got)
	if got := slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("told are %q, want %q", got, want)
	}
	for _, out := range []string{
		newWorld(t).must(t, "replay", path, "-o", "json").stdout.String(),
		newWorld(t).withCluster(f).must(t, "topology", "-o", "json").stdout.String(),
	} {
		if !strings.Contains(out, "\"app\"") || strings.Contains(out, "untouched") || strings.Contains(out, "172.23.96.199") {
			t.Errorf("without labels, or with what is not there:\n%s", out)
		}
	}
}

// told are the endpoints of services and labels of pods that a recording has.
type told []string

func (*told) Event(*events.Event) {}
func (*told) Tick(uint64)         {}
func (c *told) Name(n *record.Name) {
	if s := n.Service; s != nil && s.Endpoints != nil {
		for _, e := range s.Endpoints.List {
			*c = append(*c, strings.TrimSpace(fmt.Sprintln(s.Name, e.Addr, e.Node, e.Ready, e.Serving, e.Terminating)))
		}
	}
	if ns := n.Namespace; ns != nil && ns.Labels != "" {
		*c = append(*c, fmt.Sprint(ns.Pod, " ", string(ns.Labels)))
	}
}
