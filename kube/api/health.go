// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"sync"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/kube"
)

const (
	// grace is how long a watch may be gone, or in one kind of trouble, before
	// that is told: a watch ends all few minutes, and is taken up again.
	grace = 2 * time.Second
	// quiet is how long a trouble must be away to be told again.
	quiet = 3 * time.Minute
)

// condition is how far one kind has come.
type condition uint8

const (
	trying condition = iota // not listed yet
	failed                  // not listed, and the last try failed
	fine                    // listed, and watched
	gone                    // was fine, and is not watched
)

// health makes of the kinds' conditions the state of the source, and of their
// troubles the warnings.
type health struct {
	host  string
	store kube.Store
	warn  func(string)
	wake  chan struct{}

	mu    sync.Mutex
	kinds []kindHealth
	heard map[string]time.Time // by class of trouble: when one that was told was last there
}

type kindHealth struct {
	condition condition
	since     time.Time // of gone
	trouble   trouble   // class "": none
	arose     time.Time // when trouble of that class began
	told      bool      // it needs no more words
}

func newHealth(kinds int, host string, store kube.Store, warn func(string)) *health {
	if warn == nil {
		warn = func(string) {}
	}
	return &health{
		host: host, store: store, warn: warn, wake: make(chan struct{}, 1),
		kinds: make([]kindHealth, kinds), heard: map[string]time.Time{},
	}
}

// run tells the state and the warnings until ctx ends. All of them come from
// here: they are in order.
func (h *health) run(ctx context.Context) {
	state := kube.Loading
	h.store.SetState(kube.FromAPI, state)
	for {
		now, next, warnings := h.look(time.Now())
		if now != state {
			state = now
			h.store.SetState(kube.FromAPI, state)
		}
		for _, w := range warnings {
			h.warn(w)
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-h.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// ok: the kind is listed, or its watch stands.
func (h *health) ok(kind int) {
	h.change(kind, func(k *kindHealth) { *k = kindHealth{condition: fine} })
}

// lost: the kind's watch has ended.
func (h *health) lost(kind int) {
	h.change(kind, func(k *kindHealth) { k.condition, k.since = gone, time.Now() })
}

// fail takes an error of a kind, and says of which class it is.
func (h *health) fail(kind int, resource string, err error) string {
	t := newTrouble(h.host, resource, err)
	h.change(kind, func(k *kindHealth) {
		switch k.condition {
		case trying:
			k.condition = failed
		case fine: // listed, but there was no watch yet
			k.condition, k.since = gone, time.Now()
		}
		if k.trouble.class != t.class {
			k.trouble, k.arose, k.told = t, time.Now(), false
		}
	})
	return t.class
}

func (h *health) change(kind int, f func(*kindHealth)) {
	h.mu.Lock()
	f(&h.kinds[kind])
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// look says how the source is, when that may be otherwise by time alone, and
// what has to be told.
func (h *health) look(now time.Time) (state kube.State, next time.Duration, warnings []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next = time.Hour
	after := func(from time.Time) bool {
		left := from.Add(grace).Sub(now)
		if left > 0 {
			next = min(next, left)
		}
		return left <= 0
	}
	stale := false
	for i := range h.kinds {
		k := &h.kinds[i]
		if k.condition == gone && after(k.since) {
			stale = true
		}
		if k.trouble.class == "" || k.condition == gone && !after(k.arose) {
			continue
		}
		heard, told := h.heard[k.trouble.class]
		if !k.told && (!told || now.Sub(heard) > quiet) {
			warnings = append(warnings, events.SafeSentence(k.trouble.text)+consequence(k))
		}
		k.told, h.heard[k.trouble.class] = true, now
	}
	if stale {
		return kube.Stale, next, warnings
	}
	return h.unlost(), next, warnings
}

// consequence ends a warning.
func consequence(k *kindHealth) string {
	switch {
	case k.condition == gone:
		return "; until then names are as it last said"
	case k.trouble.alone:
		return "; until then their names are missing"
	}
	return "; until then its names are missing"
}

// unlost is the state if no kind is lost.
func (h *health) unlost() kube.State {
	known, waiting, refused := 0, 0, 0
	for i := range h.kinds {
		switch k := &h.kinds[i]; {
		case k.condition == trying:
			return kube.Loading
		case k.condition == failed && k.trouble.alone:
			refused++
		case k.condition == failed:
			waiting++
		default:
			known++
		}
	}
	switch {
	case known > 0 && waiting == 0:
		return kube.Current
	case known > 0:
		return kube.Loading
	}
	return kube.Absent
}
