// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/stackhop/stackhop/kube"
)

const (
	// pageSize is how many objects are decoded at a time: what is listed costs
	// memory by the page, not by the cluster.
	pageSize = 500
	// maxObjects of one kind are followed. Kubernetes is made for 150,000 pods.
	maxObjects = 200_000

	minWait, maxWait = 500 * time.Millisecond, 30 * time.Second
	// A watch that ends sooner is not taken up again at once.
	shortWatch = time.Second
)

var (
	errEndless = fmt.Errorf("it lists more than %d objects", maxObjects)
	errUndated = errors.New("it lists without a resource version")
	errShort   = errors.New("it ends a watch at once")
)

// watcher follows all objects of one kind.
type watcher struct {
	kind
	index   int // of the kind, for health
	store   kube.Store
	health  *health
	timeout time.Duration

	known map[string]entry
	round uint32 // counts the lists
	// version is where to watch from; empty: everything has to be listed.
	version string
}

// entry is what is kept of an object.
type entry struct {
	sum   uint64 // of what was told of it
	round uint32 // the last list that had it
}

// run lists and watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	var pause backoff
	for ctx.Err() == nil {
		began := time.Now()
		err := w.step(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxWait {
			pause = backoff{}
		}
		if err == nil {
			continue
		}
		if !expired(err) {
			pause.after(w.health.fail(w.index, w.resource, err))
		}
		if !pause.wait(ctx) {
			return
		}
	}
}

// step lists, if that is needed, and watches until the watch ends.
func (w *watcher) step(ctx context.Context) error {
	if w.version == "" {
		if err := w.list(ctx); err != nil {
			return err
		}
		w.health.ok(w.index)
	}
	err := w.watch(ctx)
	if expired(err) {
		w.version = ""
	}
	return err
}

// list reads all objects, page by page, and drops those that are no longer.
func (w *watcher) list(ctx context.Context) error {
	w.round++
	options := metav1.ListOptions{Limit: pageSize}
	for range maxObjects/pageSize + 1 {
		list := w.newList()
		if err := w.page(ctx, &options, list); err != nil {
			return err
		}
		if err := meta.EachListItem(list, func(o runtime.Object) error { w.tell(o); return nil }); err != nil {
			return fmt.Errorf("read a list of %s: %w", w.resource, err)
		}
		about, err := meta.ListAccessor(list)
		if err != nil {
			return fmt.Errorf("read a list of %s: %w", w.resource, err)
		}
		if options.Continue = about.GetContinue(); options.Continue != "" {
			continue
		}
		if w.version = about.GetResourceVersion(); w.version == "" {
			return errUndated
		}
		for key, e := range w.known {
			if e.round != w.round {
				w.forget(key)
			}
		}
		return nil
	}
	return errEndless
}

func (w *watcher) page(ctx context.Context, options *metav1.ListOptions, into runtime.Object) error {
	ctx, cancel := context.WithTimeoutCause(ctx, w.timeout, errSlow)
	defer cancel()
	return w.request(options).Do(ctx).Into(into)
}

// watch follows changes until the stream ends: nil if it ended in order.
func (w *watcher) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The server ends it after a while, at another time for each kind.
	seconds := 300 + rand.Int64N(300)
	options := metav1.ListOptions{Watch: true, ResourceVersion: w.version, AllowWatchBookmarks: true, TimeoutSeconds: &seconds}
	limit := time.AfterFunc(w.timeout, func() { cancel(errSlow) })
	stream, err := w.request(&options).Watch(ctx)
	limit.Stop()
	if err != nil {
		return err
	}
	defer func() {
		stream.Stop()
		for range stream.ResultChan() { // until its goroutine has ended
		}
	}()
	w.health.ok(w.index)
	defer w.health.lost(w.index)

	began, told := time.Now(), false
	for event := range stream.ResultChan() {
		if event.Type == watch.Error {
			if !told { // this version may be why
				w.version = ""
			}
			return apierrors.FromObject(event.Object)
		}
		told = true
		w.event(event)
	}
	if time.Since(began) < shortWatch {
		return errShort
	}
	return nil
}

func (w *watcher) event(e watch.Event) {
	switch e.Type {
	case watch.Added, watch.Modified:
		w.tell(e.Object)
	case watch.Deleted:
		if key, _ := w.thin(e.Object); key != "" {
			w.forget(key)
		}
	}
	if about, err := meta.Accessor(e.Object); err == nil && about.GetResourceVersion() != "" {
		w.version = about.GetResourceVersion()
	}
}

var seed = maphash.MakeSeed()

// tell hands an object to the store, unless what matters of it is as before.
func (w *watcher) tell(o runtime.Object) {
	key, what := w.thin(o)
	if key == "" {
		return
	}
	var h maphash.Hash
	h.SetSeed(seed)
	fmt.Fprintf(&h, "%+v", what)
	before, known := w.known[key]
	if !known && len(w.known) >= maxObjects {
		return
	}
	now := entry{sum: h.Sum64(), round: w.round}
	w.known[key] = now
	if !known || now.sum != before.sum {
		put(w.store, what)
	}
}

func (w *watcher) forget(key string) {
	if _, known := w.known[key]; known {
		delete(w.known, key)
		w.remove(w.store, key)
	}
}

// expired says whether an error means that everything has to be listed again:
// the server no longer, or not yet, knows the version.
func expired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) ||
		apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// backoff is the wait before something is tried again.
type backoff struct {
	next time.Duration
	last string // class of the trouble
}

// after takes note of the trouble: another one than before is tried again soon,
// since something has changed.
func (b *backoff) after(class string) {
	if class != b.last {
		*b = backoff{last: class}
	}
}

// wait waits, longer each time; false: ctx has ended.
func (b *backoff) wait(ctx context.Context) bool {
	b.next = min(max(2*b.next, minWait), maxWait)
	// Not all at the same time: they would come back together.
	timer := time.NewTimer(b.next*3/4 + rand.N(b.next/4))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
