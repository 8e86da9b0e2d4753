// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"testing"

	"github.com/cilium/ebpf/link"
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
		r.tracer.names.refreshSoon() // as an event of the device would
		eventually(t, "the new device is attached to", attached)
		c.in(c.node, func(h *netlink.Handle) error {
			l, err := h.LinkByName("short-lived")
			if err != nil {
				return err
			}
			return h.LinkDel(l)
		})
		r.tracer.names.refreshSoon()
		eventually(t, "the vanished device is forgotten", func() bool { return !attached() })
	}
	r.stop()
	if len(r.warned) > 0 {
		t.Errorf("warned of %q", r.warned)
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
	r.tracer.names.refreshSoon()
	eventually(t, "the device is attached to", attached)
	c.in(c.node, func(h *netlink.Handle) error {
		l, err := h.LinkByName("replaced")
		if err != nil {
			return err
		}
		return errors.Join(h.LinkDel(l), add(h))
	})
	r.tracer.names.refreshSoon()
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
	late := &tcAttacher{ingress: tc.ingress, egress: tc.egress, how: tc.how, warn: tc.warn, ctx: ended, cancel: end,
		attached: map[deviceKey][]link.Link{}, failed: map[deviceKey]bool{}}
	defer late.close()
	if late.update(ended, r.tracer.names.now.Load()); len(late.attached)+len(late.failed) > 0 {
		t.Errorf("attached to %d devices, %d failed, after the end", len(late.attached), len(late.failed))
	}
}
