// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

// A device that vanishes is let go of, and one that comes in its place is
// attached to: runs that see pods come and go do not pile up links.
func TestNativeTCFollowsDevices(t *testing.T) {
	c := newCluster(t, 1)
	r := startRun(t, Config{Select: pcapexpr.None()}, nil)
	tc := r.tracer.tc
	if tc == nil || tc.how != "tcx" {
		t.Fatalf("tc is %+v; this test is for kernels with TCX", tc)
	}
	node, err := netnsInode(runNetns + "/" + c.node)
	if err != nil {
		t.Fatal(err)
	}
	const index = 4711
	key := deviceKey{netns: node, ifindex: index}
	attached := func() bool {
		tc.mu.Lock()
		defer tc.mu.Unlock()
		return len(tc.attached[key]) == 2
	}
	for range 2 {
		c.in(c.node, func(h *netlink.Handle) error {
			return h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "short-lived", Index: index}})
		})
		r.tracer.names.seek(deviceKey{}) // as an event of the device would
		eventually(t, "the new device is attached to", attached)
		c.in(c.node, func(h *netlink.Handle) error {
			l, err := h.LinkByName("short-lived")
			if err != nil {
				return err
			}
			return h.LinkDel(l)
		})
		r.tracer.names.seek(deviceKey{})
		eventually(t, "the vanished device is forgotten", func() bool { return !attached() })
	}
	r.stop()
	if len(r.warned) > 0 {
		t.Errorf("warned of %q", r.warned)
	}
}

// A new device is attached to before a pod can have sent much: the kernel tells of it.
func TestNativeTCCoversNewDevices(t *testing.T) {
	c := newCluster(t, 1)
	var r *run
	c.within(c.node, func() error { // on a node the tool is in the node's namespace
		r = startRun(t, Config{Select: pcapexpr.None()}, nil)
		return nil
	})
	defer r.stop()
	tc := r.tracer.tc
	for range 3 {
		begun, p := time.Now(), c.addPod()
		node, err := netnsInode(runNetns + "/" + c.node)
		if err != nil {
			t.Fatal(err)
		}
		var host uint32
		c.in(c.node, func(h *netlink.Handle) error {
			l, err := h.LinkByName(p.host)
			if err == nil {
				host = uint32(l.Attrs().Index)
			}
			return err
		})
		both := func() bool {
			tc.mu.Lock()
			defer tc.mu.Unlock()
			pods := 0
			for key, links := range tc.attached {
				if key.netns == p.inode && len(links) == 2 {
					pods++
				}
			}
			return pods == 2 && len(tc.attached[deviceKey{node, host}]) == 2 // lo and eth0
		}
		if !becomes(refreshEvery/2, both) {
			t.Fatalf("the devices of %s are not attached to %v after it was begun", p.name, time.Since(begun))
		}
		t.Logf("%s: attached to %v after it was begun", p.name, time.Since(begun).Round(time.Millisecond))
	}
}

// What comes during the run is attached to before what there was.
func TestTCNewDevicesFirst(t *testing.T) {
	old := &snapshot{devices: map[deviceKey]device{{1, 1}: {}, {1, 2}: {}, {3, 1}: {}}}
	a := newTCAttacher(func() *snapshot { return old }, nil, nil)
	if got, want := a.look(old), []deviceKey{{1, 1}, {1, 2}, {3, 1}}; !slices.Equal(got, want) {
		t.Errorf("at first: %v, want %v", got, want)
	}
	a.attached[deviceKey{1, 1}] = nil
	now := &snapshot{devices: map[deviceKey]device{{1, 1}: {}, {1, 2}: {}, {3, 1}: {}, {1, 9}: {}, {4, 2}: {}, {5, 1}: {gone: true}}}
	if got, want := a.look(now), []deviceKey{{1, 9}, {4, 2}, {1, 2}, {3, 1}}; !slices.Equal(got, want) {
		t.Errorf("with new ones: %v, want %v", got, want)
	}
}

// While devices are read nothing is attached, and what was read before that is not attached to.
func TestTCWaitsForLook(t *testing.T) {
	var reading sync.RWMutex
	old, now := &snapshot{}, &snapshot{}
	shared := false
	a := newTCAttacher(func() *snapshot {
		if shared = !reading.TryLock(); !shared {
			reading.Unlock()
		}
		return now
	}, &reading, func(text string) { t.Error(text) })
	if a.attachNext(t.Context(), old, deviceKey{1, 1}) || len(a.attached)+len(a.failed) > 0 {
		t.Error("attached to what was read before")
	}
	if !shared {
		t.Error("devices could have been read meanwhile")
	}
	if !reading.TryLock() {
		t.Error("devices can't be read any more")
	}
}

// A pod that comes in the place of another, before that is missed, may have its
// namespace's inode number and its device's index.
func TestNativeTCReplacedDevice(t *testing.T) {
	c := newCluster(t, 1)
	r := startRun(t, Config{Select: pcapexpr.None()}, nil)
	defer r.stop()
	tc := r.tracer.tc
	node, err := netnsInode(runNetns + "/" + c.node)
	if err != nil {
		t.Fatal(err)
	}
	const index = 4712
	add := func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "replaced", Index: index}})
	}
	attached := func() bool {
		tc.mu.Lock()
		defer tc.mu.Unlock()
		links := tc.attached[deviceKey{netns: node, ifindex: index}]
		for _, l := range links {
			info, err := l.Info()
			if err != nil {
				t.Fatal(err)
			}
			// The kernel lets go of a device that is gone: 0 is left.
			if x := info.TCX(); x == nil || x.Ifindex != index {
				return false
			}
		}
		return len(links) == 2
	}
	c.in(c.node, add)
	r.tracer.names.seek(deviceKey{})
	eventually(t, "the device is attached to", attached)
	c.in(c.node, func(h *netlink.Handle) error {
		l, err := h.LinkByName("replaced")
		if err != nil {
			return err
		}
		return errors.Join(h.LinkDel(l), add(h))
	})
	r.tracer.names.seek(deviceKey{})
	eventually(t, "the one in its place is attached to", attached)
}

func TestTCFailure(t *testing.T) {
	key := deviceKey{netns: 1, ifindex: 2}
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"device vanished", netlink.LinkNotFoundError{}, ""},
		{"refused", errors.New("no"), `packets at tc of device a\x1b are not observed: no`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			said := ""
			a := &tcAttacher{warn: func(s string) { said = s }, failed: map[deviceKey]bool{}}
			a.fail(key, "a\x1b", tt.err)
			if said != tt.want || !a.failed[key] {
				t.Errorf("said %q, want %q; given up: %t", said, tt.want, a.failed[key])
			}
		})
	}
}

// A run that ends while it still attaches to very many devices does not wait for them.
func TestNativeTCEndsEarly(t *testing.T) {
	newCluster(t, 1)
	r := startRun(t, Config{Select: pcapexpr.None()}, nil)
	defer r.stop()
	tc := r.tracer.tc
	ended, end := context.WithCancel(context.Background())
	end()
	late := newTCAttacher(tc.current, tc.reading, tc.warn)
	late.ingress, late.egress, late.how, late.ctx, late.cancel = tc.ingress, tc.egress, tc.how, ended, end
	defer late.close()
	if late.update(ended); len(late.attached)+len(late.failed) > 0 {
		t.Errorf("attached to %d devices, %d failed, after the end", len(late.attached), len(late.failed))
	}
}
