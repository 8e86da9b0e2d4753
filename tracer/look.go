// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"time"

	"github.com/stackhop/stackhop/events"
)

// refreshEvery is how often namespaces are looked for without being asked;
// lookAgain how soon after an unknown one was seen. A pod that changes its devices
// without end has us look for a fifth of the time: restFor as long as it took there is
// no look for the kernel's news alone.
const (
	refreshEvery = 5 * time.Second
	lookAgain    = 20 * time.Millisecond
	restFor      = 4
)

// notice looks at an event for numbers that are not known yet.
func (inv *inventory) notice(e *events.Event) {
	if e.Reason != 0 && e.Reason == inv.netfilterDrop && inv.rules != nil {
		inv.rules.dropped(e.Netns, e.Time)
	}
	place := deviceKey{e.Netns, e.Ifindex}
	ok := e.Netns == 0 || inv.now.Load().has(place)
	if inv.unknown != nil {
		if !ok {
			inv.unknown()
		}
		return
	}
	if !ok {
		inv.seek(place)
	}
	if inode := e.Socket.Inode; inode != 0 {
		if _, ok := (*inv.processes.Load())[inode]; !ok {
			inv.wantProcess(inode) // also of first's, which may have another one by now
		}
	}
}

func (inv *inventory) wantProcess(inode uint32) {
	inv.mu.Lock()
	look := inv.tried[inode] < maxTries
	if look {
		inv.wanted[inode] = struct{}{}
	}
	inv.mu.Unlock()
	if look {
		tell(inv.want)
	}
}

// changed takes note of the kernel's news.
func (inv *inventory) changed() {
	inv.mu.Lock()
	now := monotonic()
	if inv.looks && inv.next == 0 {
		inv.next = now
	}
	inv.unread.CompareAndSwap(0, now)
	inv.mu.Unlock()
	tell(inv.news)
}

// look refreshes, and takes note of which news that has read: of those that came
// meanwhile it may not have. It says how long that took, without the wait for a device
// that was being attached to: what came meanwhile it has read.
func (inv *inventory) look() (took time.Duration) {
	inv.reading.Lock()
	inv.mu.Lock()
	inv.looks, inv.next = true, 0
	select {
	case <-inv.news:
	default:
	}
	inv.mu.Unlock()
	begun := time.Now()
	inv.refresh()
	took = time.Since(begun)
	inv.reading.Unlock()
	inv.mu.Lock()
	inv.looks = false
	inv.unread.Store(inv.next)
	inv.mu.Unlock()
	return took
}

// maxUnread bounds what is waited for names, in ns: where devices change all the time
// there is always news.
const maxUnread = uint64(250 * time.Millisecond)

// until is the time, of now and before, up to which names are known. A pod's namespace may
// have the number of one that went a moment ago: what ended after the news of it is not
// to be told by that one's name.
func (inv *inventory) until(now uint64) uint64 {
	since := inv.unread.Load()
	if since == 0 || since > now {
		return now
	}
	return max(since, now-min(now, maxUnread))
}

// has says whether a namespace and, but for ifindex 0, a device of it are known.
func (s *snapshot) has(place deviceKey) bool {
	_, ok := s.namespaces[place.netns]
	if ok && place.ifindex != 0 {
		_, ok = s.devices[place]
	}
	return ok
}

// maxSought bounds what is remembered to be looked for: one look finds all.
const maxSought = 64

// seek has namespaces and devices looked at soon, for one that is not known.
func (inv *inventory) seek(place deviceKey) {
	inv.mu.Lock()
	if len(inv.sought) < maxSought {
		inv.sought[place] = struct{}{}
	}
	inv.mu.Unlock()
	tell(inv.wake)
}

// seeks says whether any of what was sought is not known yet: a look that had begun
// already may have found it. (Where there is news besides, a namespace may be another one
// under the same number, and that counts.)
func (inv *inventory) seeks() bool {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	yes, s := len(inv.sought) == maxSought, inv.now.Load()
	for place := range inv.sought {
		yes = yes || !s.has(place)
	}
	clear(inv.sought)
	return yes
}

// tell leaves word in a channel with room for one.
func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// watch refreshes until ctx is done.
func (inv *inventory) watch(ctx context.Context) {
	regular, rested := time.NewTicker(refreshEvery), time.NewTimer(0)
	defer regular.Stop()
	defer rested.Stop()
	var news <-chan struct{} // nil while there is rest
	for {
		select {
		case <-ctx.Done():
			return
		case <-rested.C:
			news = inv.news
			continue
		case <-regular.C:
		case <-inv.wake:
			if !inv.seeks() && inv.unread.Load() == 0 {
				continue
			}
		case <-news:
		}
		took := inv.look()
		tell(inv.read)
		news = nil
		rested.Reset(restFor * took)
		// A number that cannot be found must neither keep us busy nor others from attaching.
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(lookAgain, took)):
		}
	}
}
