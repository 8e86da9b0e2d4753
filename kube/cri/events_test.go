// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stackhop/stackhop/kube"
)

// Without any polling, events alone tell of pods that come and go.
func TestEvents(t *testing.T) {
	for name, f := range map[string]*fakeRuntime{
		"containerd": {name: "containerd", version: "v2.1.4", events: true},
		"CRI-O":      {name: "cri-o", version: "1.33.0", events: true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			f.pods = []*fakePod{newPod(1)}
			f.serve(t, root)
			tm := quick
			tm.poll = hour
			r, _, stop := start(t, root, tm)
			r.untilState(t, kube.Current)
			untilTrue(t, "a subscriber", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.subscribers) == 1 })
			f.set(func() { f.pods = append(f.pods, newPod(2)) })
			f.changed()
			r.untilPod(t, "uid-2", true)
			f.set(func() { f.pods[1].containers = append(f.pods[1].containers, "more") })
			f.changed()
			r.until(t, "another container", func() bool { return slices.Contains(r.pods["uid-2"].Containers, "more") })
			f.set(func() { f.pods = f.pods[1:] })
			f.changed()
			r.untilPod(t, "uid-1", false)
			stop()
			r.wantWarnings(t)
		})
	}
}

// Events that end leave polling as it was.
func TestEventsEnd(t *testing.T) {
	root := t.TempDir()
	f := &fakeRuntime{name: "cri-o", version: "1.33.0", events: true, pods: []*fakePod{newPod(1)}}
	f.serve(t, root)
	r, _, stop := start(t, root, quick)
	untilTrue(t, "a subscriber", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.subscribers) == 1 })
	f.changed()
	lists := f.listCount()
	untilTrue(t, "a list", func() bool { return f.listCount() > lists })
	f.set(func() { close(f.subscribers[0]) })
	f.set(func() { f.pods = nil })
	r.untilPod(t, "uid-1", false)
	stop()
	r.wantWarnings(t)
}

// A pod lives 300 ms, and the runtime lists it only some time after Look. Polls
// alone would miss it.
func TestShortLived(t *testing.T) {
	root := t.TempDir()
	f := &fakeRuntime{name: "containerd", version: "v1.6.20", pods: []*fakePod{newPod(1)}}
	f.serve(t, root)
	tm := defaultTiming
	tm.poll = hour
	r, s, stop := start(t, root, tm)
	r.untilState(t, kube.Current)
	before := f.listCount()
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 10_000 {
			s.Look()
		}
	})
	<-time.After(200 * time.Millisecond)
	f.set(func() { f.pods = append(f.pods, newPod(2)) })
	came := f.listCount()
	<-time.After(300 * time.Millisecond)
	// Where the test itself got no processor, time says nothing.
	untilTrue(t, "two lists", func() bool { return f.listCount() >= came+2 })
	f.set(func() { f.pods = f.pods[:1] })
	r.untilPod(t, "uid-2", true)
	r.untilPod(t, "uid-2", false)
	wg.Wait()
	stop()
	if want := []string{"put uid-1", "put uid-2", "delete uid-2"}; !slices.Equal(r.told, want) {
		t.Errorf("told %v, want %v", r.told, want)
	}
	var gaps []time.Duration
	for i := before + 1; i < len(f.lists); i++ {
		gaps = append(gaps, f.lists[i].Sub(f.lists[i-1]))
	}
	slices.Sort(gaps)
	if len(gaps) < 2 || gaps[0] < tm.gap*9/10 || gaps[len(gaps)/2] > 4*tm.gap {
		t.Errorf("times between lists: %v, want %v", gaps, tm.gap)
	}
}

// A burst ends.
func TestBurstEnds(t *testing.T) {
	root := t.TempDir()
	f := &fakeRuntime{}
	f.serve(t, root)
	tm := quick
	tm.poll = time.Second
	r, s, stop := start(t, root, tm)
	r.untilState(t, kube.Current)
	s.Look()
	untilTrue(t, "a burst", func() bool { return f.listCount() >= 5 })
	// At most 20 lists fit into a burst; what comes then is a second apart.
	for {
		lists, began := f.listCount(), time.Now()
		untilTrue(t, "another list", func() bool { return f.listCount() > lists })
		if time.Since(began) > tm.poll/2 {
			break
		}
		if lists > 100 {
			t.Fatalf("%d lists", lists)
		}
	}
	stop()
}
