// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stackhop/stackhop/kube"
)

// accept does the same with each connection; count tells how many there were.
// Connections stay open until the test ends, unless serve closes them.
func accept(t *testing.T, root string, serve func(net.Conn)) (count *atomic.Int32) {
	t.Helper()
	l := listen(t, root)
	count = &atomic.Int32{}
	var wg sync.WaitGroup
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			conns = append(conns, c)
			serve(c)
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
		for _, c := range conns {
			c.Close()
		}
	})
	return count
}

// Sockets with something else behind them, or nothing.
func TestNoRuntime(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve func(net.Conn)
		warns string
	}{
		{"hangs", func(net.Conn) {}, "list pods: no answer within 100ms: no pods are known from it"},
		{"closes", func(c net.Conn) { c.Close() }, "list pods: "},
		{"web server", func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
			c.Close()
		}, "list pods: "},
		{"garbage", func(c net.Conn) {
			_, _ = c.Write(slices.Repeat([]byte{0, 0, 0, 4, 0, 0xff, 0x1b}, 10_000))
			c.Close()
		}, "list pods: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			count := accept(t, root, tt.serve)
			tm := quick
			tm.listing = 100 * time.Millisecond
			r, _, stop := start(t, root, tm)
			untilTrue(t, "attempts", func() bool { return count.Load() >= 4 })
			stop()
			r.wantWarnings(t, tt.warns)
			if want := []kube.State{kube.Loading, kube.Absent}; !slices.Equal(r.state, want) {
				t.Errorf("states %v, want %v", r.state, want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	root := t.TempDir()
	l := listen(t, root).(*net.UnixListener)
	l.SetUnlinkOnClose(false)
	l.Close()
	r, _, stop := start(t, root, quick)
	r.untilState(t, kube.Absent)
	// It comes later.
	if err := os.Remove(filepath.Join(root, sockets[0])); err != nil {
		t.Fatal(err)
	}
	(&fakeRuntime{pods: []*fakePod{newPod(1)}}).serve(t, root)
	r.untilState(t, kube.Current)
	r.untilPod(t, "uid-1", true)
	stop()
	r.wantWarnings(t, "connection refused")
}

// A runtime is restarted, over and over: what it said stays, until it says
// something else, and there is one warning.
func TestRestart(t *testing.T) {
	root := t.TempDir()
	f := &fakeRuntime{name: "containerd", version: "v2.0.0", events: true, pods: []*fakePod{newPod(1), newPod(2)}}
	stopServer := f.serve(t, root)
	r, _, stop := start(t, root, quick)
	r.untilState(t, kube.Current)
	for n := range 3 {
		stopServer()
		r.untilState(t, kube.Stale)
		r.untilPod(t, "uid-2", true)
		f.set(func() { f.pods = []*fakePod{newPod(2), newPod(3 + n)} })
		stopServer = f.serve(t, root)
		r.untilState(t, kube.Current)
		r.untilPod(t, "uid-1", false)
		r.untilPod(t, f.pods[1].listed.GetMetadata().GetUid(), true)
	}
	stop()
	if len(r.warns) == 0 || len(r.warns) > 2 {
		t.Errorf("warnings %q", r.warns)
	}
}

// A runtime hangs in the middle, and comes back.
func TestHang(t *testing.T) {
	root := t.TempDir()
	f := &fakeRuntime{pods: []*fakePod{newPod(1)}}
	f.serve(t, root)
	tm := quick
	tm.listing = time.Second
	r, _, stop := start(t, root, tm)
	r.untilState(t, kube.Current)
	release := make(chan struct{})
	f.set(func() { f.listing = hung(release) })
	r.untilState(t, kube.Stale)
	r.untilPod(t, "uid-1", true)
	f.set(func() { f.pods = append(f.pods, newPod(2)) })
	close(release)
	r.untilState(t, kube.Current)
	r.untilPod(t, "uid-2", true)
	stop()
	r.wantWarnings(t, "list pods: no answer within 1s: its pods' names may be out of date")
}

// A runtime that hangs does not hold up the end.
func TestEndWhileHung(t *testing.T) {
	root := t.TempDir()
	f := &fakeRuntime{listing: hung(nil)}
	f.serve(t, root)
	r, _, stop := start(t, root, defaultTiming)
	untilTrue(t, "a list", func() bool { return f.listCount() > 0 })
	stop()
	r.wantWarnings(t)
}

// The connection breaks while the list is awaited.
func TestClosedInList(t *testing.T) {
	root := t.TempDir()
	f := &fakeRuntime{pods: []*fakePod{newPod(1)}}
	stopServer := f.serve(t, root)
	r, _, stop := start(t, root, quick)
	r.untilState(t, kube.Current)
	entered := make(chan struct{}, 1000)
	f.set(func() {
		f.listing = func(ctx context.Context) error {
			entered <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
	})
	<-entered
	stopServer()
	r.untilState(t, kube.Stale)
	f.set(func() { f.listing = nil })
	f.serve(t, root)
	r.untilState(t, kube.Current)
	stop()
	if len(r.warns) != 1 || slices.Contains(r.told, "delete uid-1") {
		t.Errorf("warnings %q, told %v", r.warns, r.told)
	}
}

func TestEndpoint(t *testing.T) {
	root := t.TempDir()
	(&fakeRuntime{}).serve(t, root)
	for _, tt := range []struct{ endpoint, root, path, err string }{
		{"", root, root + sockets[0], ""},
		{"", t.TempDir(), "", errNoRuntime.Error()},
		{"unix:///run/x.sock", "", "/run/x.sock", ""},
		{"/run/x.sock", "/host", "/host/run/x.sock", ""},
		{"tcp://1.2.3.4:5", "", "", "endpoint tcp://1.2.3.4:5: not unix:///PATH"},
		{"run/x.sock", "", "", "endpoint run/x.sock: not unix:///PATH"},
	} {
		path, err := New(Config{Endpoint: tt.endpoint, Root: tt.root}, newRecorder()).endpoint()
		if path != tt.path || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%q under %q: %q, %v", tt.endpoint, tt.root, path, err)
		}
	}
}

func TestFind(t *testing.T) {
	for _, path := range append(sockets, "/var/run/crio/crio.sock") {
		root, err := os.MkdirTemp("", "cri")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(root)
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		// An ordinary file in a better place is no runtime.
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(sockets[0])), 0o755); err != nil {
			t.Fatal(err)
		}
		if path != sockets[0] {
			if err := os.WriteFile(filepath.Join(root, sockets[0]), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l, err := net.Listen("unix", filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		if got := Find(root); got != path {
			t.Errorf("found %q, want %q", got, path)
		}
		l.Close()
	}
}
