// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kubetest

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stackhop/stackhop/kube"
	"github.com/stackhop/stackhop/kube/api"
	"github.com/stackhop/stackhop/scripts/internal/apitest"
)

// store is a kube.Store that remembers what a source told.
type store struct {
	mu       sync.Mutex
	pods     map[string]kube.Pod // by UID
	services map[string]kube.Service
	slices   map[string]kube.Slice
	nodes    map[string]kube.Node
	states   []kube.State
	warnings []string
}

var _ kube.Store = (*store)(nil)

func newStore() *store {
	return &store{
		pods: map[string]kube.Pod{}, services: map[string]kube.Service{},
		slices: map[string]kube.Slice{}, nodes: map[string]kube.Node{},
	}
}

func (s *store) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *store) PutPod(_ kube.Source, p *kube.Pod)   { s.do(func() { s.pods[p.UID] = *p }) }
func (s *store) DeletePod(_ kube.Source, uid string) { s.do(func() { delete(s.pods, uid) }) }
func (s *store) PutService(v *kube.Service)          { s.do(func() { s.services[v.Namespace+"/"+v.Name] = *v }) }
func (s *store) DeleteService(namespace, name string) {
	s.do(func() { delete(s.services, namespace+"/"+name) })
}
func (s *store) PutSlice(v *kube.Slice) { s.do(func() { s.slices[v.Namespace+"/"+v.Name] = *v }) }
func (s *store) DeleteSlice(namespace, name string) {
	s.do(func() { delete(s.slices, namespace+"/"+name) })
}
func (s *store) PutNode(n *kube.Node)   { s.do(func() { s.nodes[n.Name] = *n }) }
func (s *store) DeleteNode(name string) { s.do(func() { delete(s.nodes, name) }) }
func (s *store) SetState(_ kube.Source, state kube.State) {
	s.do(func() { s.states = append(s.states, state) })
}
func (s *store) warn(w string) { s.do(func() { s.warnings = append(s.warnings, w) }) }

// state is the last one.
func (s *store) state() (last kube.State) {
	s.do(func() {
		if n := len(s.states); n > 0 {
			last = s.states[n-1]
		}
	})
	return last
}

func (s *store) said() (w []string) {
	s.do(func() { w = slices.Clone(s.warnings) })
	return w
}

// pod finds one by name.
func (s *store) pod(name string) (found kube.Pod, ok bool) {
	s.do(func() {
		for _, p := range s.pods {
			if p.Name == name {
				found, ok = p, true
			}
		}
	})
	return found, ok
}

// same says whether both were told the same.
func (s *store) same(other *store) (same bool) {
	s.do(func() {
		other.do(func() {
			same = reflect.DeepEqual(s.pods, other.pods) && reflect.DeepEqual(s.services, other.services) &&
				reflect.DeepEqual(s.slices, other.slices) && reflect.DeepEqual(s.nodes, other.nodes)
		})
	})
	return same
}

// source runs a source against a kubeconfig until the test, or stop, ends it.
// It fails the test if it waits for anybody to begin or to end.
func source(t *testing.T, cfg api.Config) (s *store, stop func()) {
	t.Helper()
	s = newStore()
	return s, sourceInto(t, cfg, s, s.warn)
}

// sourceInto is source with a store of the test's own.
func sourceInto(t *testing.T, cfg api.Config, into kube.Store, warn func(string)) (stop func()) {
	t.Helper()
	cfg.Warn = warn
	began := time.Now()
	src, err := api.New(cfg, into)
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("New took %v: it must not wait for anybody", d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { src.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		began := time.Now()
		wg.Wait()
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("Run took %v to return", d)
		}
	})
	t.Cleanup(stop)
	return stop
}

// current waits until the source says so.
func current(t *testing.T, s *store) {
	t.Helper()
	apitest.Eventually(t, "the source is current", func() bool { return s.state() == kube.Current })
}
