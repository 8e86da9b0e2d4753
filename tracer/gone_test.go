// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// TestGone: what has vanished is known for a while, by its number or by time.
func TestGone(t *testing.T) {
	var g gone[int]
	now := time.Unix(1000, 0)
	g = g.next([]int{1}, now)
	g = g.next([]int{1, 2}, now.Add(keepGone-1))
	if len(g) != 2 || !g[1].Equal(now) {
		t.Errorf("%v, want 1 and 2, the former since %v", g, now)
	}
	if g = g.next([]int{1, 2}, now.Add(keepGone)); len(g) != 1 || g[1] != (time.Time{}) {
		t.Errorf("%v, want 2 alone", g)
	}
	if g = g.next(nil, now.Add(keepGone)); len(g) != 0 {
		t.Errorf("%v is there again, and still said to be gone", g)
	}

	g = nil
	var missing []int
	for i := range maxGone + 10 {
		missing = append(missing, i)
		if i == 4 || i == maxGone+9 {
			g = g.next(missing, now.Add(time.Duration(i)))
		}
	}
	if len(g) != maxGone {
		t.Fatalf("%d are remembered, want %d", len(g), maxGone)
	}
	for i := range 5 {
		if _, ok := g[i]; ok {
			t.Errorf("%d went first, and is remembered", i)
		}
	}
}

// TestRemember: a namespace and its devices outlive themselves in the inventory; those
// of a namespace that could not be read are not gone.
func TestRemember(t *testing.T) {
	old := &snapshot{
		namespaces: map[uint32]events.Namespace{1: {Name: "here"}, 2: {Name: "left"}},
		devices:    map[deviceKey]device{{1, 5}: {}, {1, 6}: {}, {2, 5}: {}, {3, 5}: {}},
	}
	s := &snapshot{
		namespaces: map[uint32]events.Namespace{1: {Name: "here"}, 3: {}},
		devices:    map[deviceKey]device{{1, 5}: {}},
	}
	s.remember(old, map[uint32]bool{3: true})
	if s.namespaces[2].Name != "left" || len(s.goneNamespaces) != 1 {
		t.Errorf("namespaces %v, gone %v", s.namespaces, s.goneNamespaces)
	}
	for key, want := range map[deviceKey]bool{{1, 5}: false, {1, 6}: true, {2, 5}: true, {3, 5}: false} {
		if dev, ok := s.devices[key]; !ok || dev.gone != want {
			t.Errorf("device %v: known %t, gone %t, want %t", key, ok, dev.gone, want)
		}
	}

	later := &snapshot{namespaces: map[uint32]events.Namespace{}, devices: map[deviceKey]device{}}
	for key := range s.goneDevices {
		s.goneDevices[key] = time.Now().Add(-keepGone)
	}
	s.goneNamespaces[2] = time.Now().Add(-keepGone)
	later.remember(s, nil)
	if _, ok := later.namespaces[2]; ok {
		t.Error("a namespace is remembered for ever")
	}
	if _, ok := later.devices[deviceKey{2, 5}]; ok {
		t.Error("a device is remembered for ever")
	}
}
