// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
)

// tcAttacher keeps the tc programs on every device of every namespace, also
// those that appear during the run. A device that vanishes takes its
// attachment along.
type tcAttacher struct {
	ingress, egress *hook
	how             string // tcx or clsact
	cleaner         *cleaner
	warn            func(string)
	ctx             context.Context //nolint:containedctx // until close
	cancel          context.CancelFunc

	// current is what there is on the node now, reading is held while that is read.
	current func() *snapshot
	reading *sync.RWMutex

	mu       sync.Mutex
	seen     *snapshot              // what look looked at last
	early    map[deviceKey]struct{} // those that there were at first
	attached map[deviceKey][]link.Link
	failed   map[deviceKey]bool
}

// A run waits for its tc hooks on so many devices, and a moment for those on more: the
// kernel takes a grace period for each, 10 to 20 ms, two for a device. Packets are seen
// on all devices without them; the rest follow while the run goes on.
const (
	fewDevices = 64
	tcPatience = time.Second
)

// startTC begins to attach to the devices that there are, and returns what is closed
// when that is done. Without tc hooks a run is poorer, and goes on: it is nil then.
func (t *Tracer) startTC() <-chan struct{} {
	a := newTCAttacher(t.names.now.Load, &t.names.reading, t.cfg.Warn)
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
		if a.cleaner, err = startCleaner(t.cfg.Keep); err != nil {
			a.ingress.absentTC(err)
			a.egress.absentTC(err)
			return nil // attachHooks warns of what is absent
		}
	}
	a.ingress.how, a.egress.how = a.how, a.how
	a.ctx, a.cancel = context.WithCancel(context.Background())
	t.tc = a
	first := make(chan struct{})
	go func() {
		defer close(first)
		a.update(a.ctx)
	}()
	return first
}

func newTCAttacher(current func() *snapshot, reading *sync.RWMutex, warn func(string)) *tcAttacher {
	return &tcAttacher{current: current, reading: reading, warn: warn, early: map[deviceKey]struct{}{},
		attached: map[deviceKey][]link.Link{}, failed: map[deviceKey]bool{}}
}

// awaitTC waits for what startTC has begun, with many devices only for a moment.
func (t *Tracer) awaitTC(first <-chan struct{}) {
	if first == nil {
		return
	}
	devices := len(t.names.now.Load().devices)
	var patience <-chan time.Time
	if devices > fewDevices && t.cfg.Keep != KeepNone { // which could not attach to any later
		patience = time.After(tcPatience)
	}
	select {
	case <-first:
	case <-patience:
		t.tc.warn(fmt.Sprintf("there are %d devices: on some of them tc_ingress and tc_egress are attached while packets are followed already", devices))
	}
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

// update attaches to devices that have no attachment yet, until ctx is done. While
// another update does so it leaves them to that one.
func (a *tcAttacher) update(ctx context.Context) {
	if !a.mu.TryLock() {
		return
	}
	defer a.mu.Unlock()
	for s := a.current(); s != a.seen && ctx.Err() == nil; s = a.current() {
		todo := a.look(s)
		for done := true; done && len(todo) > 0; {
			n := 1
			for n < len(todo) && todo[n].netns == todo[0].netns {
				n++
			}
			done = a.attachSome(ctx, s, todo[:n])
			todo = todo[n:]
		}
	}
}

// look lets go of what has vanished, and lists what is to be attached to, by namespaces.
// What came during the run is first: behind thousands of others its packets would have
// been sent before its turn.
func (a *tcAttacher) look(s *snapshot) []deviceKey {
	before := a.seen
	a.seen = s
	for netns := range replacedNamespaces(before, s) {
		for key := range s.devices {
			if key.netns == netns {
				a.forget(key)
			}
		}
	}
	var todo []deviceKey
	for key, dev := range s.devices {
		if before == nil {
			a.early[key] = struct{}{}
		}
		if dev.gone {
			a.forget(key)
			continue
		}
		if _, done := a.attached[key]; !done && !a.failed[key] {
			todo = append(todo, key)
		}
	}
	early := func(key deviceKey) int {
		if _, ok := a.early[key]; ok {
			return 1
		}
		return 0
	}
	slices.SortFunc(todo, func(x, y deviceKey) int {
		return cmp.Or(early(x)-early(y), cmp.Compare(x.netns, y.netns), cmp.Compare(x.ifindex, y.ifindex))
	})
	return todo
}

// attachSome attaches to devices of one namespace, until there is something new to look
// at: it says whether it came to the end.
func (a *tcAttacher) attachSome(ctx context.Context, s *snapshot, some []deviceKey) bool {
	done := 0
	err := inNamespace(s.paths[some[0].netns], func() {
		for done < len(some) && a.attachNext(ctx, s, some[done]) {
			done++
		}
	})
	if err != nil {
		// The process that lent its namespace may have ended, and the devices be there
		// for the next look all the same.
		for _, key := range some {
			if !vanished(err) {
				a.fail(key, s.devices[key].Name, err)
			}
		}
		return true
	}
	return done == len(some)
}

// attachNext attaches to a device, unless there is something new to look at or ctx is done.
func (a *tcAttacher) attachNext(ctx context.Context, s *snapshot, key deviceKey) bool {
	a.reading.RLock()
	defer a.reading.RUnlock()
	if ctx.Err() != nil || a.current() != s {
		return false
	}
	links, err := a.attachDevice(key)
	if err != nil {
		a.fail(key, s.devices[key].Name, err)
	} else {
		a.attached[key] = links
	}
	return true
}

// replacedNamespaces lists the namespaces in which a device is another one than
// before. Inode numbers are given out again at once: the namespace may be another
// one too, and all its devices.
func replacedNamespaces(before, now *snapshot) map[uint32]bool {
	replaced := map[uint32]bool{}
	if before == nil {
		return replaced
	}
	for key, dev := range now.devices {
		if old, ok := before.devices[key]; ok && (old.address != dev.address || old.Name != dev.Name) {
			replaced[key.netns] = true
		}
	}
	return replaced
}

// fail gives a device up, and tells why unless it has merely vanished.
func (a *tcAttacher) fail(key deviceKey, name string, err error) {
	a.failed[key] = true
	if !vanished(err) {
		a.warn(fmt.Sprintf("packets at tc of device %s are not observed: %v", events.Safe(name), err))
	}
}

// vanished says whether an error means that a device or its namespace is gone.
func vanished(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, unix.ENODEV) || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH)
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

// forget drops what is known of a device that is gone; its ifindex may come
// back, in a new namespace with the same inode number.
func (a *tcAttacher) forget(key deviceKey) {
	for _, l := range a.attached[key] {
		l.Close()
	}
	delete(a.attached, key)
	delete(a.failed, key)
	delete(a.early, key)
}

// fewLinks are closed while the user waits: each takes a grace period.
const fewLinks = 16

func (a *tcAttacher) close() {
	a.cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	var fds []int
	for _, links := range a.attached {
		for _, l := range links {
			if f, ok := l.(interface{ FD() int }); ok {
				fds = append(fds, f.FD())
			}
		}
	}
	if len(fds) > fewLinks {
		if err := detachLater(fds); err != nil {
			a.warn(err.Error()) // then it takes as long as it takes
		}
	}
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
