// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/kube"
)

// shop has the ends of case 5, as pod/shop/web and svc/shop/cart:80.
func shop() *fakeCluster {
	f := newFakeCluster()
	f.changes = make(chan struct{})
	f.PutSlice(&kube.Slice{
		Namespace: "shop", Name: "cart-1", Service: "cart", Ports: []kube.SlicePort{{Name: "http", Proto: 6, Port: 80}},
		Endpoints: []kube.Endpoint{{Addrs: []netip.Addr{netip.MustParseAddr("172.23.96.163")}, Node: "n2", Pod: "cart-a", Ready: true, Serving: true}},
	})
	return f
}

// recordNamed records what n2 had of rounds of which it lacks those in the middle,
// selected by names. Round r begins at 10 s + 5 s × r. do is called at moments of
// the run.
func recordNamed(t *testing.T, do map[time.Duration]func(*world, *fakeCluster), args ...string) string {
	t.Helper()
	c := readCapture(t, "6.12-case5")
	few := func(r int, e *events.Event) bool { return r == 0 || r == 7 || c.Names.Namespace(e.Netns).Node != "n2" }
	f := shop()
	return recordRounds(t, "n2", few, func(w *world) {
		w.withCluster(f)
		w.tr.afterTick = func(int) {
			at := time.Duration(w.tr.now.Load())
			for d, step := range do {
				if d > at-tick && d <= at {
					step(w, f)
				}
			}
		}
	}, args...)
}

// TestNeverArrivedByName: a recording that was selected by names is as good as one
// by addresses, but near a change, and where it is not told what the names stood for.
func TestNeverArrivedByName(t *testing.T) {
	type steps = map[time.Duration]func(*world, *fakeCluster)
	put := func(ip string) func(*world, *fakeCluster) {
		return func(_ *world, f *fakeCluster) {
			f.PutPod(kube.FromAPI, podAt("shop", "web", ip))
			f.followed()
		}
	}
	fail := func(err error) func(*world, *fakeCluster) {
		return func(w *world, f *fakeCluster) {
			w.tr.updateErr = err
			put("172.23.96.99")(w, f)
		}
	}
	again := func(w *world, f *fakeCluster) {
		w.tr.updateErr = nil
		put("172.23.96.23")(w, f)
	}
	byName := []string{"--from", "pod/shop/web", "--to", "svc/shop/cart:80"}
	key := "--redact=" + filepath.Join(t.TempDir(), "key")
	n1 := recordRounds(t, "n1", all, nil, "--all")
	secret := recordRounds(t, "n1", all, nil, "--all", key)
	damaged := func(path string) string {
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, append(data, "SHB"...), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	const round = 4 // packets that come to n2
	const s = time.Second
	for name, tt := range map[string]struct {
		n1, n2 string
		gone   int
	}{
		"by name":             {n1, recordNamed(t, nil, byName...), 6 * round},
		"and an expression":   {n1, recordNamed(t, nil, append(byName, "tcp")...), 6 * round},
		"a whole namespace":   {n1, recordNamed(t, nil, "-n", "shop"), 6 * round},
		"other pod":           {n1, recordNamed(t, nil, "--from", "pod/test/web", "--to", "svc/shop/cart:80"), 0},
		"by netns":            {n1, recordNamed(t, nil, "--from", "netns/centos"), 6 * round},
		"elsewhere for long":  {n1, recordNamed(t, steps{22 * s: put("172.23.96.99"), 33 * s: put("172.23.96.23")}, byName...), 4 * round},
		"a change nearby":     {n1, recordNamed(t, steps{24500 * time.Millisecond: put("172.23.96.24"), 25800 * time.Millisecond: put("172.23.96.23")}, byName...), 5 * round},
		"a change soon after": {n1, recordNamed(t, steps{25900 * time.Millisecond: put("172.23.96.24"), 28 * s: put("172.23.96.23")}, byName...), 5 * round},
		"a change before":     {n1, recordNamed(t, steps{24100 * time.Millisecond: put("172.23.96.24"), 24200 * time.Millisecond: put("172.23.96.23")}, byName...), 5 * round},
		"a change in between": {n1, recordNamed(t, steps{27 * s: put("172.23.96.24"), 28 * s: put("172.23.96.23")}, byName...), 6 * round},
		"the kernel refuses":  {n1, recordNamed(t, steps{27 * s: fail(errors.ErrUnsupported)}, byName...), 3 * round},
		"for a time":          {n1, recordNamed(t, steps{27 * s: fail(errors.ErrUnsupported), 32 * s: again}, byName...), 5 * round},
		"redacted":            {secret, recordNamed(t, nil, append(byName, key)...), 6 * round},
		"redacted, a change":  {secret, recordNamed(t, steps{22 * s: put("172.23.96.99"), 33 * s: put("172.23.96.23")}, append(byName, key)...), 4 * round},
		"damaged":             {n1, damaged(recordNamed(t, nil, byName...)), 0},
		"sampled":             {n1, recordNamed(t, nil, append(byName, "--sample", "1/100")...), 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.run("replay", tt.n1, tt.n2)
			if n := strings.Count(w.stdout.String(), "never arrived at"); n != tt.gone {
				t.Errorf("%d are said never to have arrived, want %d\n%s\n%s", n, tt.gone, w.stderr.String(), w.stdout.String())
			}
		})
	}
}

// TestRecordedSets: all parts of a recording tell what names stood for, and what the
// user said.
func TestRecordedSets(t *testing.T) {
	path := recordNamed(t, map[time.Duration]func(*world, *fakeCluster){27 * time.Second: func(_ *world, f *fakeCluster) {
		f.DeletePod(kube.FromAPI, "shop-web")
		f.followed()
	}}, "--from", "pod/shop/web,10.0.0.9", "--to", "svc/shop/cart:80", "tcp", "--ring", "1000x1k")
	parts, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(parts) < 9 {
		t.Fatal(parts, err)
	}
	var whole setReader
	for _, part := range parts {
		meta, _, err := readMeta(part)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(meta.Selection, "|"); got != "--from|pod/shop/web,10.0.0.9|--to|svc/shop/cart:80|tcp" {
			t.Error(got)
		}
		one := setReader{}
		for _, s := range []*setReader{&whole, &one} {
			f, r, err := openRecording(part, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(r.Run(s), f.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Contains(one.names, "--from") || !slices.Contains(one.names, "--to") {
			t.Errorf("%s tells of %q", part, one.names)
		}
	}
	for at, want := range map[time.Duration]bool{20 * time.Second: true, 40 * time.Second: false} {
		from, known := whole.At("--from", uint64(at), uint64(at))
		to, also := whole.At("--to", uint64(at), uint64(at))
		if !known || !also || from.Has(netip.MustParseAddrPort("172.23.96.23:0")) != want || !to.Has(netip.MustParseAddrPort("192.168.13.23:80")) {
			t.Errorf("at %v: known %v %v, not as it was", at, known, also)
		}
	}
}

// setReader reads what a recording tells of sets.
type setReader struct {
	record.SetHistory
	names []string
}

func (s *setReader) Event(*events.Event) {}
func (s *setReader) Tick(uint64)         {}
func (s *setReader) SetChange(c *record.SetChange) {
	s.names = append(s.names, string(c.Set))
	s.Put(c)
}
