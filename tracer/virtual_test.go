// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackhop/stackhop/events"
)

func TestVirtualFacts(t *testing.T) {
	for _, tt := range []struct {
		name string
		all  []Destination
		want events.VirtualFacts
	}{
		{"none", nil, events.VirtualFacts{}},
		{"one", []Destination{{Weight: 1}}, events.VirtualFacts{Destinations: 1}},
		{"weight 0", []Destination{{Weight: 0}, {Weight: 1}}, events.VirtualFacts{Destinations: 2, Idle: 1}},
		{"weight 0 and full", []Destination{{Weight: 0, Upper: 1, Active: 1}}, events.VirtualFacts{Destinations: 1, Idle: 1}},
		{"at the threshold", []Destination{{Weight: 1, Upper: 3, Active: 2, Inactive: 1}}, events.VirtualFacts{Destinations: 1, Full: 1}},
		{"below it", []Destination{{Weight: 1, Upper: 3, Active: 2}}, events.VirtualFacts{Destinations: 1}},
	} {
		if got := virtualFacts(tt.all); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestVirtualsNear: a table answers for the moment at which it was read only.
func TestVirtualsNear(t *testing.T) {
	vip := netip.MustParseAddrPort("10.96.0.1:80")
	want := events.VirtualFacts{Destinations: 1, Idle: 1}
	inv := &inventory{virtuals: newVirtuals()}
	set := func(age time.Duration) {
		inv.virtuals.tables[7] = virtualTable{at: time.Now().Add(-age), services: map[virtualKey]events.VirtualFacts{{vip, 6}: want}}
	}
	set(0)
	if f, ok := inv.Virtual(7, "10.96.0.1", 80, 6); !ok || f != want {
		t.Errorf("read just now: %+v, %v", f, ok)
	}
	for name, ok := range map[string]bool{
		"namespace": second(inv.Virtual(8, "10.96.0.1", 80, 6)), "port": second(inv.Virtual(7, "10.96.0.1", 81, 6)),
		"protocol": second(inv.Virtual(7, "10.96.0.1", 80, 17)), "address": second(inv.Virtual(7, "x", 80, 6)),
	} {
		if ok {
			t.Errorf("another %s is known", name)
		}
	}
	set(virtualHolds + time.Second)
	if second(inv.Virtual(7, "10.96.0.1", 80, 6)) {
		t.Error("a table answers that was read long ago")
	}
	for range 2 * maxVirtual { // nobody reads: it must not wait
		inv.virtuals.want(9)
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

func second(_ events.VirtualFacts, ok bool) bool { return ok }
