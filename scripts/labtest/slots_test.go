// SPDX-License-Identifier: Apache-2.0

//go:build lab

package labtest

import (
	"sync"
	"testing"
	"time"
)

// machines is how many run side by side: each has two processors, and emulates them.
const machines = 2

// slots gives out the places for machines.
var slots = queue{free: machines}

// A queue lets in who will take longest, so that in the end none runs alone for long. Go
// has a queue of its own, in front of this one: go test -parallel 32 makes it no matter.
type queue struct {
	mu      sync.Mutex
	free    int
	waiting []*place
}

type place struct {
	lasts time.Duration
	ready chan struct{}
}

// take makes the test one of those that run side by side, waits for a place and keeps
// it until the test has ended. How long that lasts is about what it takes on two cores.
func (q *queue) take(t *testing.T, lasts time.Duration) {
	t.Helper()
	t.Parallel()
	<-q.enter(lasts)
	t.Cleanup(q.leave)
}

func (q *queue) enter(lasts time.Duration) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := &place{lasts, make(chan struct{})}
	q.waiting = append(q.waiting, p)
	q.admit()
	return p.ready
}

func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free++
	q.admit()
}

func (q *queue) admit() {
	for ; q.free > 0 && len(q.waiting) > 0; q.free-- {
		first := 0
		for i, p := range q.waiting {
			if p.lasts > q.waiting[first].lasts {
				first = i
			}
		}
		close(q.waiting[first].ready)
		q.waiting = append(q.waiting[:first], q.waiting[first+1:]...)
	}
}

func TestQueue(t *testing.T) {
	q := queue{free: 1}
	first, short, long := q.enter(time.Second), q.enter(time.Second), q.enter(time.Minute)
	in := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	if !in(first) || in(short) || in(long) {
		t.Fatal("not the first alone")
	}
	if q.leave(); !in(long) || in(short) {
		t.Error("not the one that takes longest")
	}
	if q.leave(); !in(short) || q.free != 0 {
		t.Error("not the last")
	}
}
