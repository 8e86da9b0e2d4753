// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackhop/stackhop/kube"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// book is a store that remembers.
type book struct {
	mu     sync.Mutex
	things map[string]string // by kind and key
	puts   int
	states []kube.State
	said   []string
}

func (b *book) set(key, value string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.things == nil {
		b.things = map[string]string{}
	}
	b.puts++
	if value == "" {
		delete(b.things, key)
	} else {
		b.things[key] = value
	}
}

func (b *book) PutPod(_ kube.Source, p *kube.Pod)   { b.set("pod/"+p.UID, fmt.Sprintf("%+v", *p)) }
func (b *book) DeletePod(_ kube.Source, uid string) { b.set("pod/"+uid, "") }
func (b *book) PutService(s *kube.Service) {
	b.set("svc/"+s.Namespace+"/"+s.Name, fmt.Sprintf("%+v", *s))
}
func (b *book) DeleteService(namespace, name string) { b.set("svc/"+namespace+"/"+name, "") }
func (b *book) PutSlice(s *kube.Slice) {
	b.set("slice/"+s.Namespace+"/"+s.Name, fmt.Sprintf("%+v", *s))
}
func (b *book) DeleteSlice(namespace, name string) { b.set("slice/"+namespace+"/"+name, "") }
func (b *book) PutNode(n *kube.Node)               { b.set("node/"+n.Name, fmt.Sprintf("%+v", *n)) }
func (b *book) DeleteNode(name string)             { b.set("node/"+name, "") }
func (b *book) SetState(_ kube.Source, s kube.State) {
	b.mu.Lock()
	b.states = append(b.states, s)
	b.mu.Unlock()
}
func (b *book) warn(s string)         { b.mu.Lock(); b.said = append(b.said, s); b.mu.Unlock() }
func (b *book) get(key string) string { b.mu.Lock(); defer b.mu.Unlock(); return b.things[key] }
func (b *book) warnings() []string    { b.mu.Lock(); defer b.mu.Unlock(); return slices.Clone(b.said) }
func (b *book) passed() []kube.State  { b.mu.Lock(); defer b.mu.Unlock(); return slices.Clone(b.states) }
func (b *book) written() int          { b.mu.Lock(); defer b.mu.Unlock(); return b.puts }
func (b *book) state() (s kube.State) {
	if all := b.passed(); len(all) > 0 {
		s = all[len(all)-1]
	}
	return s
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", patience, what)
		}
	}
}

// fake is an API server. Its lists have one object a page, and all requests
// pass through intercept, which may answer them itself.
type fake struct {
	*httptest.Server

	mu        sync.Mutex
	objects   map[string][]string // JSON by resource
	version   int
	streams   map[string][]chan string
	asked     []string // path and query
	intercept func(w http.ResponseWriter, r *http.Request) (done bool)
}

func newFake(t *testing.T, tls bool) *fake {
	f := &fake{objects: map[string][]string{}, version: 10, streams: map[string][]chan string{}}
	if tls {
		f.Server = httptest.NewTLSServer(f)
	} else {
		f.Server = httptest.NewServer(f)
	}
	f.Config.ErrorLog = nil
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	return f
}

func (f *fake) when(intercept func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intercept = intercept
}

// requests that were made whose path and query have part.
func (f *fake) requests(part string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.asked {
		if strings.Contains(a, part) {
			n++
		}
	}
	return n
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.URL.String())
	intercept := f.intercept
	f.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Has("watch") {
		f.stream(w, r)
		return
	}
	resource := filepath.Base(r.URL.Path)
	f.mu.Lock()
	defer f.mu.Unlock()
	var at int
	fmt.Sscan(r.URL.Query().Get("continue"), &at)
	items, more := f.objects[resource], ""
	if at+1 < len(items) {
		more = fmt.Sprint(at + 1)
	}
	kinds := map[string]string{"pods": "PodList", "services": "ServiceList", "endpointslices": "EndpointSliceList", "nodes": "NodeList"}
	group := "v1"
	if resource == "endpointslices" {
		group = "discovery.k8s.io/v1"
	}
	fmt.Fprintf(w, `{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"%d","continue":%q},"items":[%s]}`,
		kinds[resource], group, f.version, more, strings.Join(items[min(at, len(items)):min(at+1, len(items))], ","))
}

func (f *fake) stream(w http.ResponseWriter, r *http.Request) {
	resource := filepath.Base(r.URL.Path)
	events := make(chan string, 100)
	f.mu.Lock()
	f.streams[resource] = append(f.streams[resource], events)
	f.mu.Unlock()
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e, open := <-events:
			if !open {
				return
			}
			fmt.Fprintln(w, e)
			w.(http.Flusher).Flush()
		}
	}
}

// watches that are served now: one that was only asked for cannot be cut yet.
func (f *fake) watches() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, all := range f.streams {
		n += len(all)
	}
	return n
}

// send sends an event on the resource's newest watch, and waits for there to be one.
func (f *fake) send(t *testing.T, resource, kind, object string) {
	t.Helper()
	eventually(t, "watch of "+resource, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.streams[resource]) > 0 })
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.streams[resource]
	all[len(all)-1] <- fmt.Sprintf(`{"type":%q,"object":%s}`, kind, object)
}

// cut ends all watches.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, all := range f.streams {
		for _, s := range all {
			close(s)
		}
	}
	clear(f.streams)
}

// status answers with one, as the API server does.
func status(w http.ResponseWriter, code int, reason string) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"message":"no","code":%d}`, reason, code)
	return true
}

// kubeconfig writes one for a server; user is the JSON of its user.
func kubeconfig(t *testing.T, server, cluster, user string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
		"clusters":[{"name":"k","cluster":{"server":%q%s}}],"users":[{"name":"u","user":%s}],
		"contexts":[{"name":"c","context":{"cluster":"k","user":"u","namespace":"shop"}},{"name":"other","context":{"cluster":"k","user":"u"}}]}`,
		server, cluster, user)
	if !json.Valid([]byte(text)) {
		t.Fatalf("not JSON: %s", text)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// start runs a source against a kubeconfig until the test, or stop, ends it.
func start(t *testing.T, cfg Config) (b *book, stop func()) {
	t.Helper()
	b = &book{}
	cfg.Warn = b.warn
	if cfg.Timeout == 0 {
		cfg.Timeout = patience
	}
	s, err := New(cfg, b)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return b, stop
}
