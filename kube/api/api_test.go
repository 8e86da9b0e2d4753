// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/stackhop/stackhop/kube"
)

func pod(name string, version int, ip string) string {
	return fmt.Sprintf(`{"kind":"Pod","apiVersion":"v1","metadata":{"namespace":"shop","name":%q,"uid":"u-%s","resourceVersion":"%d"},"status":{"podIP":%q}}`,
		name, name, version, ip)
}

// Two pages are listed, changes are followed, and a change of what is not kept is not told.
func TestFollow(t *testing.T) {
	f := newFake(t, false)
	f.objects["pods"] = []string{pod("a", 1, "10.0.0.1"), pod("b", 2, "10.0.0.2")}
	f.objects["services"] = []string{`{"metadata":{"namespace":"shop","name":"web"},"spec":{"type":"ClusterIP","clusterIP":"10.96.0.1"}}`}
	f.objects["endpointslices"] = []string{`{"metadata":{"namespace":"shop","name":"web-1","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4"}`}
	f.objects["nodes"] = []string{`{"metadata":{"name":"n1"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}}`}
	b, _ := start(t, Config{Kubeconfig: kubeconfig(t, f.URL, "", "{}")})
	eventually(t, "current", func() bool { return b.state() == kube.Current })
	for _, key := range []string{"pod/u-a", "pod/u-b", "svc/shop/web", "slice/shop/web-1", "node/n1"} {
		if b.get(key) == "" {
			t.Errorf("%s is not there", key)
		}
	}
	if n := f.requests("/api/v1/pods?limit=500&continue=1") + f.requests("/api/v1/pods?continue=1&limit=500"); n != 1 {
		t.Errorf("the second page was asked for %d times", n)
	}

	before := b.written()
	f.send(t, "pods", "MODIFIED", strings.Replace(pod("a", 11, "10.0.0.1"), `"status":{`, `"status":{"message":"busy",`, 1))
	f.send(t, "pods", "ADDED", pod("c", 12, "10.0.0.3"))
	eventually(t, "pod c", func() bool { return strings.Contains(b.get("pod/u-c"), "10.0.0.3") })
	if n := b.written() - before; n != 1 {
		t.Errorf("told %d times, want 1: the other change is of what is not kept", n)
	}
	f.send(t, "pods", "MODIFIED", pod("a", 13, "10.0.0.9"))
	f.send(t, "pods", "DELETED", pod("b", 14, "10.0.0.2"))
	eventually(t, "a moved and b gone", func() bool { return strings.Contains(b.get("pod/u-a"), "10.0.0.9") && b.get("pod/u-b") == "" })
	f.send(t, "pods", "BOOKMARK", `{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"20"}}`)

	f.cut()
	eventually(t, "the watch taken up where the bookmark was", func() bool { return f.requests("pods?allowWatchBookmarks=true&resourceVersion=20") > 0 })
	if n := f.requests("/api/v1/pods?limit"); n != 1 {
		t.Errorf("%d lists, want 1: a watch that is cut is taken up", n)
	}
	if w := b.warnings(); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
	if got := b.passed(); !slices.Equal(got, []kube.State{kube.Loading, kube.Current}) {
		t.Errorf("states: %v", got)
	}
}

// A version that the server no longer has: everything is listed again, and what
// went away in the meantime is dropped.
func TestExpired(t *testing.T) {
	for name, gone := range map[string]func(f *fake){
		"at the watch": func(f *fake) {
			f.when(func(w http.ResponseWriter, r *http.Request) bool {
				return r.URL.Query().Get("resourceVersion") == "10" && status(w, http.StatusGone, "Expired")
			})
			f.cut()
		},
		"in the watch": func(f *fake) {
			f.send(t, "pods", "ERROR", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			f.objects["pods"] = []string{pod("a", 1, "10.0.0.1"), pod("b", 2, "10.0.0.2")}
			b, _ := start(t, Config{Kubeconfig: kubeconfig(t, f.URL, "", "{}")})
			eventually(t, "current", func() bool { return b.state() == kube.Current && f.watches() == 4 })
			f.mu.Lock()
			f.objects["pods"], f.version = []string{pod("b", 2, "10.0.0.2"), pod("c", 15, "10.0.0.3")}, 20
			f.mu.Unlock()
			gone(f)
			eventually(t, "a gone, c there", func() bool { return b.get("pod/u-a") == "" && b.get("pod/u-c") != "" })
			if w := b.warnings(); len(w) > 0 {
				t.Errorf("warnings: %q", w)
			}
		})
	}
}

// What goes wrong is told once, with what to do, and ends in the right state.
func TestTrouble(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	tests := []struct {
		name    string
		answer  func(w http.ResponseWriter, r *http.Request) bool
		state   kube.State
		warning string
	}{
		{"wrong token", func(w http.ResponseWriter, _ *http.Request) bool { return status(w, 401, "Unauthorized") },
			kube.Absent, "refuses the credentials (401)"},
		{"one kind forbidden", func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "services") && status(w, 403, "Forbidden")
		}, kube.Current, "forbids to list and watch services (403): allow get, list and watch on services"},
		{"no such kind", func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "endpointslices") && status(w, 404, "NotFound")
		}, kube.Current, "has no endpointslices (404)"},
		{"broken", func(w http.ResponseWriter, _ *http.Request) bool { return status(w, 500, "InternalError") },
			kube.Absent, "does not answer as it should"},
		{"too busy", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "30")
			return status(w, 429, "TooManyRequests")
		}, kube.Absent, "does not answer as it should"},
		{"silent", func(_ http.ResponseWriter, r *http.Request) bool {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
			return true
		}, kube.Absent, "it does not answer in time"},
		{"not an API server", func(w http.ResponseWriter, _ *http.Request) bool {
			fmt.Fprint(w, "<html>log in\x1b[2J</html>")
			return true
		}, kube.Absent, "does not answer as it should"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, false)
			f.when(tt.answer)
			b, _ := start(t, Config{Kubeconfig: kubeconfig(t, f.URL, "", "{}"), Timeout: 200 * time.Millisecond})
			eventually(t, "warning and state", func() bool { return len(b.warnings()) > 0 && b.state() == tt.state })
			eventually(t, "tried again", func() bool { return f.requests("/services?limit") > 1 || f.requests("/endpointslices?limit") > 1 })
			w := b.warnings()
			if len(w) != 1 || !strings.Contains(w[0], tt.warning) || !strings.Contains(w[0], "missing") {
				t.Errorf("warnings %q, want one with %q", w, tt.warning)
			}
			if strings.ContainsAny(w[0], "\n\x1b") {
				t.Errorf("the warning has control characters: %q", w[0])
			}
			f.when(nil)
			eventually(t, "recovered", func() bool { return b.state() == kube.Current })
		})
	}
}

func TestWrongCA(t *testing.T) {
	f := newFake(t, true)
	b, _ := start(t, Config{Kubeconfig: kubeconfig(t, f.URL, "", "{}")})
	eventually(t, "warning", func() bool { return len(b.warnings()) > 0 && b.state() == kube.Absent })
	if w := b.warnings(); len(w) != 1 || !strings.Contains(w[0], "is not the kubeconfig's (") || !strings.Contains(w[0], "certificate-authority") {
		t.Errorf("warnings: %q", w)
	}
}

// A server that goes away makes names stale, and one that comes back current.
func TestAway(t *testing.T) {
	f := newFake(t, false)
	b, _ := start(t, Config{Kubeconfig: kubeconfig(t, f.URL, "", "{}")})
	eventually(t, "current", func() bool { return b.state() == kube.Current && f.watches() == 4 })
	f.when(func(w http.ResponseWriter, _ *http.Request) bool { return status(w, 503, "ServiceUnavailable") })
	f.cut()
	eventually(t, "stale, and told", func() bool { return b.state() == kube.Stale && len(b.warnings()) > 0 })
	f.when(nil)
	eventually(t, "current again", func() bool { return b.state() == kube.Current })
	if w := b.warnings(); len(w) != 1 || !strings.Contains(w[0], "as it last said") {
		t.Errorf("warnings: %q", w)
	}
}

// Run leaves nothing behind, whatever it was waiting for.
func TestStop(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"watching": nil,
		"asking":   func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true },
		"waiting":  func(w http.ResponseWriter, _ *http.Request) bool { return status(w, 500, "InternalError") },
	} {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			f := newFake(t, true)
			f.when(answer)
			_, stop := start(t, Config{Kubeconfig: kubeconfig(t, f.URL, `,"insecure-skip-tls-verify":true`, "{}")})
			eventually(t, "asked", func() bool { return f.requests("") >= 4 })
			began := time.Now()
			stop()
			if d := time.Since(began); d > time.Second {
				t.Errorf("it took %v to stop", d)
			}
			f.CloseClientConnections()
			f.Close()
			eventually(t, "no goroutine left", func() bool { return runtime.NumGoroutine() <= before })
		})
	}
}

func TestConfig(t *testing.T) {
	good := kubeconfig(t, "http://127.0.0.1:1", "", "{}")
	missing := filepath.Join(t.TempDir(), "missing")
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("apiVersion: [\x1b"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name           string
		cfg            Config
		env            string
		namespace, err string
	}{
		{"nothing", Config{}, "", "", ErrNone.Error()},
		{"file", Config{Kubeconfig: good}, "", "shop", ""},
		{"environment", Config{}, good, "shop", ""},
		{"context", Config{Kubeconfig: good, Context: "other"}, "", "", ""},
		{"missing file", Config{Kubeconfig: missing}, "", "", "missing"},
		{"missing in the environment", Config{}, missing, "", "$KUBECONFIG is"},
		{"missing context", Config{Kubeconfig: good, Context: "nosuch"}, "", "", `"nosuch"`},
		{"broken file", Config{Kubeconfig: broken}, "", "", "read kubeconfig"},
		{"missing CA", Config{Kubeconfig: kubeconfig(t, "https://127.0.0.1:1", `,"certificate-authority":"/nosuch/ca.crt"`, "{}")}, "", "", "/nosuch/ca.crt"},
		{"bad plugin", Config{Kubeconfig: kubeconfig(t, "https://127.0.0.1:1", "", `{"exec":{"apiVersion":"v9","command":"x","interactiveMode":"Never"}}`)}, "", "", `"v9"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home := clientcmd.RecommendedHomeFile
			clientcmd.RecommendedHomeFile = filepath.Join(t.TempDir(), "config")
			defer func() { clientcmd.RecommendedHomeFile = home }()
			t.Setenv("KUBECONFIG", tt.env)
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			s, err := New(tt.cfg, &book{})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				if errors.Is(err, ErrNone) != (tt.err == ErrNone.Error()) {
					t.Fatalf("error %v: ErrNone is for where nothing is configured", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Namespace() != tt.namespace {
				t.Errorf("namespace %q, want %q", s.Namespace(), tt.namespace)
			}
		})
	}
}
