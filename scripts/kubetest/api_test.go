// SPDX-License-Identifier: Apache-2.0

//go:build kube

// Package kubetest runs what speaks to Kubernetes against a real API server,
// with a real etcd behind it, on loopback:
//
//	go test -tags kube -timeout 20m ./scripts/kubetest
package kubetest

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackhop/stackhop/kube"
	"github.com/stackhop/stackhop/kube/api"
	"github.com/stackhop/stackhop/scripts/internal/apitest"
)

func TestAPI(t *testing.T) {
	c := apitest.Start(t, apitest.Config{})
	apitest.CreateNamespace(t, c.Client(t), "shop")
	apitest.CreateNode(t, c.Client(t), "n1", "10.1.0.0/24", "192.0.2.1", "2001:db8::1")
	t.Run("objects", func(t *testing.T) { testObjects(t, c) })
	t.Run("credentials", func(t *testing.T) { testCredentials(t, c) })
	t.Run("slow", func(t *testing.T) { testSlow(t, c) })
	t.Run("cut", func(t *testing.T) { testCut(t, c) })
	t.Run("killed", func(t *testing.T) { testKilled(t, c) })
	t.Run("expired", func(t *testing.T) { testExpired(t, c) })
	t.Run("trace", func(t *testing.T) { testTrace(t, c) })
	t.Run("many", func(t *testing.T) { testMany(t, c) })
	t.Run("trace many", func(t *testing.T) { testTraceMany(t, c) })
}

// What is created is told, whole, and followed.
func testObjects(t *testing.T, c *apitest.Cluster) {
	k := c.Client(t)
	s, _ := source(t, api.Config{Kubeconfig: c.Kubeconfig(t, c.URL(), "", apitest.Token(apitest.AdminToken)), Node: "n1"})
	web := apitest.CreatePod(t, k, "shop", "web", "n1", "10.1.0.5", "fd00:1::5")
	apitest.CreatePod(t, k, "shop", "far", "n2", "10.1.1.5")
	apitest.CreateService(t, k, "shop", "web", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.SessionAffinity = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceAffinityClientIP
		s.Spec.ClusterIP, s.Spec.ExternalIPs = "10.96.7.7", []string{"203.0.113.5"}
		s.Spec.IPFamilyPolicy = apitest.Ptr(corev1.IPFamilyPolicySingleStack)
		s.Spec.InternalTrafficPolicy = apitest.Ptr(corev1.ServiceInternalTrafficPolicyLocal)
		s.Spec.Ports[0].NodePort = 30080
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.9", IPMode: apitest.Ptr(corev1.LoadBalancerIPModeProxy)}}
	})
	apitest.CreateService(t, k, "shop", "headless", func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone })
	slice := apitest.CreateSlice(t, k, apitest.NewSlice("shop", "web", apitest.NewEndpoint("10.1.0.5", "n1", "web")))
	current(t, s)

	wantPod := kube.Pod{
		Namespace: "shop", Name: "web", UID: string(web.UID), Node: "n1", Containers: []string{"c-web"}, Labels: "app=web",
		IPs: []netip.Addr{netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("fd00:1::5")},
	}
	wantService := kube.Service{
		Namespace: "shop", Name: "web", Type: "LoadBalancer",
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.7.7")}, ExternalIPs: []netip.Addr{netip.MustParseAddr("203.0.113.5")},
		Ingress:       []kube.Ingress{{IP: netip.MustParseAddr("203.0.113.9"), Proxy: true}},
		Ports:         []kube.ServicePort{{Name: "http", Proto: 6, Port: 80, NodePort: 30080}},
		ExternalLocal: true, InternalLocal: true, Affinity: true,
	}
	wantSlice := kube.Slice{
		Namespace: "shop", Name: "web-1", Service: "web", Ports: []kube.SlicePort{{Name: "http", Proto: 6, Port: 8080}},
		Endpoints: []kube.Endpoint{{Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.5")}, Node: "n1", Pod: "web", Ready: true, Serving: true}},
	}
	wantNode := kube.Node{
		Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")},
	}
	apitest.Eventually(t, "all is told", func() (ok bool) {
		s.do(func() {
			ok = reflect.DeepEqual(s.pods[wantPod.UID], wantPod) && reflect.DeepEqual(s.services["shop/web"], wantService) &&
				reflect.DeepEqual(s.slices["shop/web-1"], wantSlice) && reflect.DeepEqual(s.nodes["n1"], wantNode)
		})
		return ok
	})
	apitest.Eventually(t, "the other pod and the other service are told", func() (ok bool) {
		far, _ := s.pod("far")
		s.do(func() {
			ok = len(far.IPs) == 1 && far.Containers == nil && far.Labels == "" && s.services["shop/headless"].Type == "ClusterIP" && s.services["shop/headless"].ClusterIPs == nil
		})
		return ok
	})

	slice.Endpoints[0].Conditions.Ready, slice.Endpoints[0].Conditions.Terminating = apitest.Ptr(false), apitest.Ptr(true)
	if _, err := k.DiscoveryV1().EndpointSlices("shop").Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := apitest.TrySetPod(t, k, web, corev1.PodSucceeded, "10.1.0.5"); err != nil {
		t.Fatal(err)
	}
	apitest.Eventually(t, "the changes are told", func() (ok bool) {
		s.do(func() { ok = s.slices["shop/web-1"].Endpoints[0].Terminating && s.pods[wantPod.UID].Done })
		return ok
	})
	apitest.DeletePod(t, k, "shop", "web")
	for _, err := range []error{
		k.CoreV1().Services("shop").Delete(t.Context(), "web", metav1.DeleteOptions{}),
		k.DiscoveryV1().EndpointSlices("shop").Delete(t.Context(), "web-1", metav1.DeleteOptions{}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	apitest.Eventually(t, "what is gone is dropped", func() (ok bool) {
		_, pod := s.pod("web")
		s.do(func() {
			_, service := s.services["shop/web"]
			_, slice := s.slices["shop/web-1"]
			ok = !pod && !service && !slice
		})
		return ok
	})
	if w := s.said(); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
}

// Credentials that do not work: names are absent, and one warning says why.
func testCredentials(t *testing.T, c *apitest.Cluster) {
	otherCA := apitest.Start(t, apitest.Config{}).CA()
	plugin := func(script string) string {
		file := filepath.Join(t.TempDir(), "plugin")
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"exec":{"apiVersion":"client.authentication.k8s.io/v1","command":%q,"interactiveMode":"IfAvailable"}}`, file)
	}
	tests := []struct {
		name, ca, user string
		state          kube.State
		warning        string // empty: none
	}{
		{"wrong token", "", apitest.Token("expired"), kube.Absent, "refuses the credentials (401)"},
		{"none", "", "{}", kube.Absent, "refuses the credentials (401)"},
		{"wrong CA", otherCA, apitest.Token(apitest.AdminToken), kube.Absent, "is not the kubeconfig's"},
		{"plugin", "", plugin(`echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"` + apitest.AdminToken + `"}}'`), kube.Current, ""},
		{"plugin that fails", "", plugin("echo 'token has expired, run: sso login' >&2; exit 3"), kube.Absent, "exit status 3: token has expired, run: sso login"},
		{"plugin that asks", "", plugin("printf 'Password: ' >&2; read answer || exit 4; sleep 1000"), kube.Absent, "exit status 4: Password:"},
		{"plugin that hangs", "", plugin("sleep 1000"), kube.Absent, "it has not ended after"},
		{"plugin with another's token", "", plugin(`echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"x"}}'`), kube.Absent, "(401)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := source(t, api.Config{Kubeconfig: c.Kubeconfig(t, c.URL(), tt.ca, tt.user), Timeout: 5 * time.Second})
			apitest.Eventually(t, "told", func() bool { return s.state() == tt.state && (tt.warning == "" || len(s.said()) > 0) })
			w := s.said()
			if tt.warning == "" && len(w) > 0 || tt.warning != "" && (len(w) != 1 || !strings.Contains(w[0], tt.warning)) {
				t.Errorf("warnings %q, want one with %q", w, tt.warning)
			}
		})
	}
}

// A server that takes 30 s for everything: nothing waits for it, and when it
// answers again names come.
func testSlow(t *testing.T, c *apitest.Cluster) {
	p := startProxy(t, c)
	p.set(30*time.Second, false)
	cfg := api.Config{Kubeconfig: c.Kubeconfig(t, p.url(), "", apitest.Token(apitest.AdminToken)), Timeout: 2 * time.Second}
	s, _ := source(t, cfg)
	apitest.Eventually(t, "told", func() bool { return s.state() == kube.Absent && len(s.said()) > 0 })
	p.set(0, false)
	current(t, s)
	if w := s.said(); len(w) != 1 || !strings.Contains(w[0], "it does not answer in time") {
		t.Errorf("warnings: %q", w)
	}
	p.set(30*time.Second, false)
	apitest.Eventually(t, "stale", func() bool { return s.state() == kube.Stale })
}

// A watch that is cut is taken up, and nothing is missed.
func testCut(t *testing.T, c *apitest.Cluster) {
	k, p := c.Client(t), startProxy(t, c)
	s, _ := source(t, api.Config{Kubeconfig: c.Kubeconfig(t, p.url(), "", apitest.Token(apitest.AdminToken))})
	straight, _ := source(t, api.Config{Kubeconfig: c.Kubeconfig(t, c.URL(), "", apitest.Token(apitest.AdminToken))})
	current(t, s)
	current(t, straight)
	for n := range 5 {
		p.set(0, true)
		apitest.CreatePod(t, k, "shop", fmt.Sprintf("cut-%d", n), "n1", fmt.Sprintf("10.1.0.%d", 50+n))
		if n > 0 {
			apitest.DeletePod(t, k, "shop", fmt.Sprintf("cut-%d", n-1))
		}
		p.set(0, false)
		apitest.Eventually(t, "the same as without a cut", func() bool {
			_, told := s.pod(fmt.Sprintf("cut-%d", n))
			return told && s.same(straight) && s.state() == kube.Current
		})
	}
	if w := s.said(); len(w) > 1 {
		t.Errorf("warnings: %q", w)
	}
}

// The server is killed: what it said stays, stale, with one warning; when it is
// back all is right again.
func testKilled(t *testing.T, c *apitest.Cluster) {
	k := c.Client(t)
	s, _ := source(t, api.Config{Kubeconfig: c.Kubeconfig(t, c.URL(), "", apitest.Token(apitest.AdminToken))})
	apitest.CreatePod(t, k, "shop", "before", "n1", "10.1.0.20")
	current(t, s)
	apitest.Eventually(t, "the pod", func() bool { _, ok := s.pod("before"); return ok })
	c.KillAPI()
	began := time.Now()
	apitest.Eventually(t, "stale, and told", func() bool { return s.state() == kube.Stale && len(s.said()) > 0 })
	t.Logf("stale, and told, %v after the kill", time.Since(began).Round(10*time.Millisecond))
	if _, ok := s.pod("before"); !ok {
		t.Error("what was known is gone with the server")
	}
	c.StartAPI(t)
	began = time.Now()
	apitest.DeletePod(t, k, "shop", "before")
	apitest.CreatePod(t, k, "shop", "after", "n1", "10.1.0.20")
	current(t, s)
	t.Logf("current %v after the server was ready again", time.Since(began).Round(10*time.Millisecond))
	fresh, _ := source(t, api.Config{Kubeconfig: c.Kubeconfig(t, c.URL(), "", apitest.Token(apitest.AdminToken))})
	current(t, fresh)
	apitest.Eventually(t, "the same as told to a newcomer", func() bool { _, ok := s.pod("after"); return ok && s.same(fresh) })
	if w := s.said(); len(w) != 1 || !strings.Contains(w[0], "as it last said") {
		t.Errorf("warnings: %q", w)
	}
}

// The server no longer has the version that a watch was at.
func testExpired(t *testing.T, c *apitest.Cluster) {
	k, p := c.Client(t), startProxy(t, c)
	apitest.CreatePod(t, k, "shop", "unseen", "n1", "10.1.0.30")
	s, _ := source(t, api.Config{Kubeconfig: c.Kubeconfig(t, p.url(), "", apitest.Token(apitest.AdminToken))})
	current(t, s)
	p.set(0, true)
	apitest.Eventually(t, "stale", func() bool { return s.state() == kube.Stale })
	apitest.DeletePod(t, k, "shop", "unseen")
	apitest.CreatePod(t, k, "shop", "new", "n1", "10.1.0.30")
	// Its memory of changes goes with the process, etcd's with the compaction.
	c.KillAPI()
	c.Compact(t)
	c.StartAPI(t)
	p.set(0, false)
	apitest.Eventually(t, "what was missed", func() bool {
		_, unseen := s.pod("unseen")
		_, new := s.pod("new")
		return !unseen && new && s.state() == kube.Current
	})
	if w := s.said(); len(w) > 1 {
		t.Errorf("warnings: %q", w)
	}
}

// sieve is a store that keeps nothing, to see what the source itself keeps.
type sieve struct{ *store }

func (sieve) PutPod(kube.Source, *kube.Pod) {}
func (sieve) PutService(*kube.Service)      {}
func (sieve) PutSlice(*kube.Slice)          {}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A large cluster is cheap, and whole.
func testMany(t *testing.T, c *apitest.Cluster) {
	const pods, services, limit = 10_000, 2_000, 40 << 20
	began := time.Now()
	apitest.Populate(t, c.Client(t), "many", pods, services)
	t.Logf("%d pods and %d services were created in %v", pods, services, time.Since(began).Round(time.Second))

	cfg := api.Config{Kubeconfig: c.Kubeconfig(t, c.URL(), "", apitest.Token(apitest.AdminToken)), Node: "node-1"}
	before := heap()
	light := newStore()
	var peak atomic.Uint64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for light.state() != kube.Current && !t.Failed() {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapAlloc))
			time.Sleep(5 * time.Millisecond)
		}
	}()
	began = time.Now()
	stop := sourceInto(t, cfg, sieve{light}, light.warn)
	current(t, light)
	t.Logf("known after %v", time.Since(began).Round(time.Millisecond))
	<-done
	after := heap()
	kept, top := int64(after)-int64(before), int64(peak.Load())-int64(before)
	t.Logf("heap: %.1f MiB kept, %.1f MiB at most while listing, garbage included", float64(kept)/(1<<20), float64(top)/(1<<20))
	if kept > limit || top > limit {
		t.Errorf("that is more than %d MiB", limit>>20)
	}
	stop()

	s, _ := source(t, cfg)
	current(t, s)
	s.do(func() {
		n, addrs := 0, map[netip.Addr]bool{}
		for _, p := range s.pods {
			if p.Namespace == "many" {
				n++
				addrs[p.IPs[0]] = true
			}
		}
		if n != pods || len(addrs) != pods || len(s.services) < services || len(s.slices) < services {
			t.Errorf("%d pods with %d addresses, %d services, %d slices", n, len(addrs), len(s.services), len(s.slices))
		}
	})
	if w := slices.Concat(s.said(), light.said()); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
}

// One kind is forbidden: the others are known, and the warning says what to allow.
func TestForbidden(t *testing.T) {
	c := apitest.Start(t, apitest.Config{Authorization: "RBAC"})
	k := c.Client(t)
	user := rbacv1.Subject{Kind: rbacv1.UserKind, Name: "user"}
	allow(t, k, user, "", "pods", "nodes")
	allow(t, k, user, "discovery.k8s.io", "endpointslices")
	apitest.CreateNode(t, k, "n1", "10.1.0.0/24", "192.0.2.1")
	s, _ := source(t, api.Config{Kubeconfig: c.Kubeconfig(t, c.URL(), "", apitest.Token(apitest.UserToken))})
	apitest.Eventually(t, "current, and told", func() bool { return s.state() == kube.Current && len(s.said()) > 0 })
	w := s.said()
	if len(w) != 1 || !strings.Contains(w[0], "list and watch services (403)") || !strings.Contains(w[0], "allow get, list and watch on services") {
		t.Errorf("warnings: %q", w)
	}
	apitest.Eventually(t, "the node is told", func() (ok bool) { s.do(func() { _, ok = s.nodes["n1"] }); return ok })
	allow(t, k, user, "", "services")
	apitest.Eventually(t, "services are told once they are allowed", func() (ok bool) {
		s.do(func() { _, ok = s.services["default/kubernetes"] })
		return ok
	})
}
