// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netns"
)

// tcAttacher keeps the tc programs on every device of every namespace, also
// those that appear during the run. A device that vanishes takes its
// attachment along.
type tcAttacher struct {
	ingress, egress *hook
	how             string // tcx or clsact
	cleaner         *cleaner

	mu       sync.Mutex
	attached map[deviceKey][]link.Link
	failed   map[deviceKey]error
}

func (t *Tracer) attachTC() error {
	a := &tcAttacher{attached: map[deviceKey][]link.Link{}, failed: map[deviceKey]error{}}
	for _, h := range t.hooks {
		if h.row.at != onTC || h.prog == nil {
			continue
		}
		if h.row.symbol() == "ingress" {
			a.ingress = h
		} else {
			a.egress = h
		}
	}
	if a.ingress == nil || a.egress == nil {
		return nil
	}
	a.how = "tcx"
	if !haveTCX(a.ingress.prog) {
		a.how = "clsact"
		var err error
		if a.cleaner, err = startCleaner(); err != nil {
			a.ingress.absentTC(err)
			a.egress.absentTC(err)
			t.cfg.Warn(fmt.Sprintf("tc hooks are left out: %v", err))
			return nil
		}
	}
	a.ingress.how, a.egress.how = a.how, a.how
	t.tc = a
	return a.update(t.names.now.Load())
}

func (h *hook) absentTC(err error) {
	h.how, h.err = "", err
}

// haveTCX says whether programs attach to devices by link (6.6 and later): a
// device that does not exist is refused for another reason then.
func haveTCX(prog *ebpf.Program) bool {
	_, err := link.AttachTCX(link.TCXOptions{Interface: 1 << 30, Program: prog, Attach: ebpf.AttachTCXIngress})
	return !errors.Is(err, ebpf.ErrNotSupported)
}

// update attaches to devices of s that have no attachment yet.
func (a *tcAttacher) update(s *snapshot) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	todo := map[uint32][]deviceKey{}
	for key := range s.devices {
		if _, ok := s.paths[key.netns]; !ok {
			a.forget(key)
			continue
		}
		if _, done := a.attached[key]; done || a.failed[key] != nil {
			continue
		}
		todo[key.netns] = append(todo[key.netns], key)
	}
	for inode, keys := range todo {
		if err := inNamespace(s.paths[inode], func() { a.attachDevices(keys) }); err != nil {
			for _, key := range keys {
				a.failed[key] = err
			}
		}
	}
	return nil
}

func (a *tcAttacher) attachDevices(keys []deviceKey) {
	for _, key := range keys {
		links, err := a.attachDevice(key)
		if err != nil {
			a.failed[key] = err // as a rule it has vanished
			continue
		}
		a.attached[key] = links
	}
}

func (a *tcAttacher) attachDevice(key deviceKey) ([]link.Link, error) {
	if a.how == "clsact" {
		return nil, a.cleaner.attach(key, a.ingress.prog, a.egress.prog)
	}
	in, err := link.AttachTCX(link.TCXOptions{Interface: int(key.ifindex), Program: a.ingress.prog, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return nil, fmt.Errorf("tc ingress of device %d: %w", key.ifindex, err)
	}
	out, err := link.AttachTCX(link.TCXOptions{Interface: int(key.ifindex), Program: a.egress.prog, Attach: ebpf.AttachTCXEgress})
	if err != nil {
		in.Close()
		return nil, fmt.Errorf("tc egress of device %d: %w", key.ifindex, err)
	}
	return []link.Link{in, out}, nil
}

// forget drops what is known of a device whose namespace is gone; an ifindex
// may come back in a new namespace with the same inode number.
func (a *tcAttacher) forget(key deviceKey) {
	for _, l := range a.attached[key] {
		l.Close()
	}
	delete(a.attached, key)
	delete(a.failed, key)
}

func (a *tcAttacher) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key := range a.attached {
		a.forget(key)
	}
	if a.cleaner != nil {
		a.cleaner.close()
	}
}

// inNamespace runs f on a thread that is in the namespace.
func inNamespace(path string, f func()) error {
	done := make(chan error, 1)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, and nobody
		// else finds himself in the wrong namespace.
		runtime.LockOSThread()
		ns, err := netns.GetFromPath(path)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", path, err)
			return
		}
		f()
		done <- nil
	}()
	return <-done
}
