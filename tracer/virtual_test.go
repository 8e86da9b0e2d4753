// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackhop/stackhop/events"
)

func TestVirtualState(t *testing.T) {
	for _, tt := range []struct {
		name string
		all  []Destination
		want events.VirtualState
	}{
		{"none", nil, events.VirtualState{}},
		{"one", []Destination{{Weight: 1}}, events.VirtualState{Destinations: 1}},
		{"weight 0", []Destination{{Weight: 0}, {Weight: 1}}, events.VirtualState{Destinations: 2, Idle: 1}},
		{"weight 0 and full", []Destination{{Weight: 0, Upper: 1, Active: 1}}, events.VirtualState{Destinations: 1, Idle: 1}},
		{"at the threshold", []Destination{{Weight: 1, Upper: 3, Active: 2, Inactive: 1}}, events.VirtualState{Destinations: 1, Full: 1}},
		{"below it", []Destination{{Weight: 1, Upper: 3, Active: 2}}, events.VirtualState{Destinations: 1}},
	} {
		if got := virtualState(tt.all); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// readings are IPVS tables of namespace 7 as a test tells them, on a clock of its own.
type readings struct {
	*virtuals
	clock uint64 // ms
}

const vipText = "10.96.0.1:80"

// idle are destinations of weight 0, and free one that takes connections.
var (
	idle = []Destination{{Weight: 0}}
	full = []Destination{{Weight: 1, Upper: 1, Active: 1}}
	free = []Destination{{Weight: 1}}
)

func newReadings() *readings {
	r := &readings{virtuals: newVirtuals()}
	r.now = func() uint64 { return r.clock * uint64(time.Millisecond) }
	return r
}

// at reads the table from one time to another, in ms; nil: it cannot be read.
func (r *readings) at(began, ended uint64, services ...Service) {
	r.clock = began
	r.services = func(uint32, string) ([]Service, error) {
		r.clock = ended
		if services == nil {
			return nil, errors.New("no table")
		}
		return services, nil
	}
	r.read(7, "x")
}

func served(vip string, all []Destination) Service {
	return Service{VIP: netip.MustParseAddrPort(vip), Proto: 6, Destinations: all}
}

// asked is what is known of a refusal at a time, in ms.
func (r *readings) asked(at uint64) (events.VirtualFacts, bool) {
	return r.facts(&events.VirtualQuery{Time: at * uint64(time.Millisecond), Netns: 7, Service: netip.MustParseAddrPort(vipText), Proto: 6})
}

func (r *readings) wants() int { return len(r.wanted) }

// TestVirtualsAfter: of a refusal only a reading tells that began after it, and what
// the one before it found is told as well.
func TestVirtualsAfter(t *testing.T) {
	state := func(ms uint64, s events.VirtualState) events.VirtualState {
		s.At = ms * uint64(time.Millisecond)
		return s
	}
	isIdle, isFull, isFree, absent := events.VirtualState{Destinations: 1, Idle: 1}, events.VirtualState{Destinations: 1, Full: 1}, events.VirtualState{Destinations: 1}, events.VirtualState{Absent: true}
	type facts = events.VirtualFacts
	for name, tt := range map[string]struct {
		reads func(r *readings)
		at    uint64
		want  facts
		ok    bool
	}{
		"never read":        {func(*readings) {}, 500, facts{Pending: true}, true},
		"read before":       {func(r *readings) { r.at(400, 401, served(vipText, free)) }, 500, facts{Pending: true}, true},
		"being read":        {func(r *readings) { r.at(499, 510, served(vipText, free)) }, 500, facts{Pending: true}, true},
		"read after only":   {func(r *readings) { r.at(505, 510, served(vipText, full)) }, 500, facts{After: state(510, isFull)}, true},
		"the same":          {func(r *readings) { r.at(400, 401, served(vipText, full)); r.at(505, 510, served(vipText, full)) }, 500, facts{Before: state(401, isFull), After: state(505, isFull)}, true},
		"another one":       {func(r *readings) { r.at(400, 401, served(vipText, free)); r.at(505, 510, served(vipText, full)) }, 500, facts{Before: state(400, isFree), After: state(510, isFull)}, true},
		"read when it came": {func(r *readings) { r.at(499, 502, served(vipText, full)); r.at(605, 610, served(vipText, full)) }, 500, facts{After: state(502, isFull)}, true},
		"long before":       {func(r *readings) { r.at(400, 401, served(vipText, free)); r.at(9505, 9510, served(vipText, full)) }, 9500, facts{After: state(9510, isFull)}, true},
		"the first one counts": {func(r *readings) {
			r.at(505, 510, served(vipText, full))
			r.at(605, 610, served(vipText, idle))
			r.at(705, 710, served(vipText, free))
		}, 500, facts{After: state(510, isFull)}, true},
		"back again": {func(r *readings) {
			r.at(400, 410, served(vipText, idle))
			r.at(505, 510, served(vipText, full))
			r.at(605, 610, served(vipText, idle))
		}, 550, facts{Before: state(505, isFull), After: state(610, isIdle)}, true},
		"just made": {func(r *readings) {
			r.at(400, 401, []Service{}...)
			r.at(450, 451, served("10.96.0.2:80", free))
			r.at(505, 510, served(vipText, idle))
		}, 500, facts{Before: state(450, absent), After: state(510, isIdle)}, true},
		"removed":          {func(r *readings) { r.at(400, 401, served(vipText, idle)); r.at(505, 510, served("10.96.0.2:80", free)) }, 500, facts{After: state(505, absent)}, true},
		"of all ports":     {func(r *readings) { r.at(505, 510, served("10.96.0.1:0", full)) }, 500, facts{After: state(510, isFull)}, true},
		"by firewall mark": {func(r *readings) { r.at(505, 510, Service{FwMark: 3, Destinations: full}) }, 500, facts{After: state(505, absent)}, false},
		"not readable":     {func(r *readings) { r.at(400, 401, served(vipText, free)); r.at(505, 510) }, 500, facts{After: state(505, absent)}, false},
		"readable again":   {func(r *readings) { r.at(400, 401); r.at(505, 510, served(vipText, full)) }, 500, facts{After: state(510, isFull)}, true},
	} {
		r := newReadings()
		tt.reads(r)
		got, ok := r.asked(tt.at)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, ok, tt.want)
		}
		if wants := r.wants() > 0; wants != tt.want.Pending {
			t.Errorf("%s: it is asked for: %v", name, wants)
		}
	}
}

// TestVirtualsBounded: neither readings nor namespaces are kept for ever, and nobody
// who asks waits.
func TestVirtualsBounded(t *testing.T) {
	r := newReadings()
	for i := range uint64(1000) {
		all := idle
		if i%2 == 0 {
			all = full
		}
		r.at(100*i, 100*i+1, served(vipText, all))
	}
	if n := len(r.tables[7].services[virtualKey{netip.MustParseAddrPort(vipText), 6}]); n > 110 {
		t.Errorf("%d readings are kept", n)
	}
	for n := range uint32(3 * maxVirtual) {
		r.read(n, "")
	}
	if n := len(r.tables); n > maxVirtual {
		t.Errorf("%d namespaces are kept", n)
	}
	for range 3 * maxVirtual { // nobody reads
		r.want(9)
		if f, ok := r.asked(1 << 30); !ok || !f.Pending {
			t.Fatalf("%+v, %v", f, ok)
		}
	}
}

// TestVirtualsPause: a table that was read a moment before a packet is read again
// behind it, but not for each packet, nor for more than a fifth of the time.
func TestVirtualsPause(t *testing.T) {
	for name, tt := range map[string]struct {
		takes time.Duration
		reads int // in 950 ms
	}{"quick": {time.Millisecond, 10}, "slow": {40 * time.Millisecond, 5}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reads := 0
				v := newVirtuals()
				v.now = func() uint64 { return uint64(time.Now().UnixNano()) }
				v.services = func(uint32, string) ([]Service, error) {
					time.Sleep(tt.takes)
					reads++
					return nil, nil
				}
				ctx, stop := context.WithTimeout(t.Context(), 950*time.Millisecond)
				defer stop()
				go v.watch(ctx, func(uint32) string { return "x" })
				for ctx.Err() == nil {
					v.want(7)
					time.Sleep(time.Millisecond)
				}
				synctest.Wait()
				if reads != tt.reads {
					t.Errorf("%d reads, want %d", reads, tt.reads)
				}
			})
		})
	}
}
