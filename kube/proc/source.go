// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"slices"
	"time"

	"github.com/stackhop/stackhop/kube"
)

const (
	scanEvery = 5 * time.Second
	// A scan that was asked for waits for so long after the last one, and for so
	// many times as long as that one took: it may not eat up a processor.
	scanGap   = 250 * time.Millisecond
	scanShare = 10
)

// maxContainers is how many containers of one pod are told.
const maxContainers = 256

// A Source tells a Store which namespace and containers are which pod's, by
// the pods' UIDs alone. It is Current from the first pod on that it finds:
// without pods it is Absent.
type Source struct {
	root    string
	store   kube.Store
	netnsOf func(pid uint32) (uint32, error)
	every   time.Duration
	look    chan struct{}
	known   map[string]*kube.Pod
}

// New makes a Source of the /proc under root (empty: /), in state Loading.
func New(root string, store kube.Store) *Source {
	store.SetState(kube.FromProc, kube.Loading)
	return &Source{root: root, store: store, every: scanEvery, look: make(chan struct{}, 1), known: map[string]*kube.Pod{}}
}

// Look makes the Source scan soon. It may be called from any goroutine, at any
// rate, and returns at once.
func (s *Source) Look() {
	select {
	case s.look <- struct{}{}:
	default:
	}
}

// Run scans every 5 seconds and when asked to, until ctx ends. It is called
// once.
func (s *Source) Run(ctx context.Context) {
	state := kube.Loading
	for {
		began := time.Now()
		s.update(podsOf(Scan(s.root, s.netnsOf)))
		next := kube.Absent
		if len(s.known) > 0 || state == kube.Current {
			next = kube.Current
		}
		if next != state {
			state = next
			s.store.SetState(kube.FromProc, state)
		}
		if !s.wait(ctx, max(scanGap, scanShare*time.Since(began))) {
			return
		}
	}
}

// wait returns when the next scan is due, not before gap; false: ctx has
// ended.
func (s *Source) wait(ctx context.Context, gap time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(gap):
	}
	select {
	case <-ctx.Done():
		return false
	case <-s.look:
	case <-time.After(max(0, s.every-gap)):
	}
	return true
}

// podsOf gives each pod the namespace of its first process: what the pod
// starts later may be in namespaces of its own making.
func podsOf(all []Found) map[string]*kube.Pod {
	pods := map[string]*kube.Pod{}
	for _, f := range all {
		p := pods[f.PodUID]
		if p == nil {
			p = &kube.Pod{UID: f.PodUID, Netns: f.Netns}
			pods[f.PodUID] = p
		}
		if len(p.Containers) < maxContainers && !slices.Contains(p.Containers, f.Container) {
			p.Containers = append(p.Containers, f.Container)
		}
	}
	return pods
}

// update tells the store what has changed; what is gone first, since its
// namespace may be another's by now.
func (s *Source) update(pods map[string]*kube.Pod) {
	for uid := range s.known {
		if pods[uid] == nil {
			s.store.DeletePod(kube.FromProc, uid)
		}
	}
	for uid, p := range pods {
		slices.Sort(p.Containers)
		old := s.known[uid]
		if old != nil && p.Netns == 0 {
			p.Netns = old.Netns // it cannot be looked at: the process is ending, or privilege was dropped
		}
		if old == nil || old.Netns != p.Netns || !slices.Equal(old.Containers, p.Containers) {
			s.store.PutPod(kube.FromProc, p)
		}
	}
	s.known = pods
}
