// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stackhop/stackhop/kube"
)

// recorder is a Store that keeps what it was told of pods and the runtime's
// state. Any other call panics.
type recorder struct {
	kube.Store
	mu    sync.Mutex
	pods  map[string]kube.Pod
	told  []string // "put UID", "delete UID"
	state []kube.State
	warns []string
	woken chan struct{} // closed at each change
}

func newRecorder() *recorder {
	return &recorder{pods: map[string]kube.Pod{}, woken: make(chan struct{})}
}

func (r *recorder) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.woken)
	r.woken = make(chan struct{})
}

func (r *recorder) PutPod(from kube.Source, p *kube.Pod) {
	if from != kube.FromCRI {
		panic(from)
	}
	copied := *p
	copied.IPs, copied.Containers = append(copied.IPs[:0:0], p.IPs...), append(copied.Containers[:0:0], p.Containers...)
	r.change(func() {
		r.pods[p.UID] = copied
		r.told = append(r.told, "put "+p.UID)
	})
}

func (r *recorder) DeletePod(_ kube.Source, uid string) {
	r.change(func() {
		delete(r.pods, uid)
		r.told = append(r.told, "delete "+uid)
	})
}

func (r *recorder) SetState(_ kube.Source, s kube.State) {
	r.change(func() { r.state = append(r.state, s) })
}

func (r *recorder) warn(text string) {
	r.change(func() { r.warns = append(r.warns, text) })
}

// patience is for machines that do much else.
const patience = 2 * time.Minute

// until waits for a condition of the recorder, which it holds locked.
func (r *recorder) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		r.mu.Lock()
		ok, woken := is(), r.woken
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-woken:
		case <-timeout:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("not seen: %s; but states %v, warnings %q, last %q", what, r.state, r.warns, r.told[max(0, len(r.told)-10):])
		}
	}
}

func (r *recorder) untilState(t *testing.T, want kube.State) {
	t.Helper()
	r.until(t, fmt.Sprintf("state %d", want), func() bool { return r.state[len(r.state)-1] == want })
}

func (r *recorder) untilPod(t *testing.T, uid string, known bool) {
	t.Helper()
	r.until(t, fmt.Sprintf("pod %s known: %t", uid, known), func() bool { _, ok := r.pods[uid]; return ok == known })
}

func (r *recorder) wantWarnings(t *testing.T, parts ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	ok := len(r.warns) == len(parts)
	for i := range min(len(r.warns), len(parts)) {
		ok = ok && strings.Contains(r.warns[i], parts[i])
	}
	if !ok {
		t.Errorf("warnings %q, want %q", r.warns, parts)
	}
}

// untilTrue waits for what nobody signals.
func untilTrue(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// quick does not wait for what a test does not want to see; hour is never.
const hour = time.Hour

var quick = timing{
	poll: 10 * time.Millisecond, slow: hour, gap: 5 * time.Millisecond, burst: 100 * time.Millisecond,
	call: 10 * time.Second, listing: 10 * time.Second, retryMin: 5 * time.Millisecond, retryMax: 20 * time.Millisecond,
}

// start runs a Source of the runtime under root. Namespaces under
// root/run/netns and root/var/run/netns are cni-N, with inode 100,000+N. stop
// fails the test if something outlives Run.
func start(t *testing.T, root string, tm timing) (r *recorder, s *Source, stop func()) {
	t.Helper()
	r = newRecorder()
	s = New(Config{Root: root, Warn: r.warn, NetnsInode: func(path string) (uint32, error) {
		var n uint32
		if _, err := fmt.Sscanf(path, filepath.Join(root, "var/run/netns/cni-%d"), &n); err != nil {
			return 0, errors.New("no namespace")
		}
		return 100_000 + n, nil
	}}, r)
	s.timing = tm
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	stop = sync.OnceFunc(func() {
		began := time.Now()
		cancel()
		wg.Wait()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("Run ended %v after its context", took)
		}
		checkLeaks(t)
	})
	t.Cleanup(stop)
	return r, s, stop
}

// checkLeaks looks for goroutines of a Source, and for those of grpc's client,
// which cuts off a dial that hangs only just after its Close has returned. No
// test of this package is parallel.
func checkLeaks(t *testing.T) {
	t.Helper()
	for _, g := range goroutines("cri.(*Source)", "cri.follow", "cri.(*watch)") {
		t.Errorf("outlives Run: %s", g)
	}
	untilTrue(t, "the end of grpc's goroutines", func() bool {
		return len(goroutines("grpc.(*ClientConn)", "grpc.(*addrConn)", "transport.(*http2Client)", "transport.NewHTTP2Client")) == 0
	})
}

// goroutines returns the stacks in which one of the parts is.
func goroutines(parts ...string) (found []string) {
	buf := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(buf[:goruntime.Stack(buf, true)]), "\n\n") {
		if slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(g, part) }) {
			found = append(found, g)
		}
	}
	return found
}
