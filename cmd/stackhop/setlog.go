// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"sync"

	"github.com/stackhop/stackhop/events/record"
)

// setLog is what the follower of a run has for its recorder: which members the
// kernel goes by, and since when. A nil one takes nothing.
type setLog struct {
	mu   sync.Mutex
	list []record.SetState // in the order of their times
	// changing are the sets of which the kernel is being told, of which the
	// recorder does not know yet.
	changing []*namedSet
	since    uint64 // ns, when that began
}

// begin says that the kernel is about to be told other members.
func (l *setLog) begin(tr liveTracer, changed []*namedSet) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changing, l.since = changed, tr.Now().Mono
}

// end says that the kernel was told the members of these sets. If that failed nobody
// knows which of them it goes by, until it is told the next time.
func (l *setLog) end(tr liveTracer, told []*namedSet, err error) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.doubt()
		return
	}
	l.changing = nil
	by := tr.Now().Mono
	for _, s := range told {
		l.list = append(l.list, record.SetState{Set: s.Name(), From: l.since, By: by, Members: s.ends()})
	}
}

// doubt says that it is not known which members the kernel goes by.
func (l *setLog) doubt() {
	for _, s := range l.changing {
		l.list = append(l.list, record.SetState{Set: s.Name(), From: l.since, Untold: true})
	}
	l.changing = nil
}

// take returns what is new. What the kernel is being told at the moment is in doubt:
// the recorder may be killed before that ends.
func (l *setLog) take() []record.SetState {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubt()
	list := l.list
	l.list = nil
	return list
}

// ends are the members in the form of a recording.
func (s *namedSet) ends() []netip.AddrPort {
	members := s.Members()
	out := make([]netip.AddrPort, len(members))
	for i, m := range members {
		out[i] = netip.AddrPortFrom(m.Net.Addr(), m.Port)
	}
	return out
}
