// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/stackhop/stackhop/events"
)

// Tracer is one run: programs attached to hooks, and the rings they fill.
type Tracer struct {
	cfg    Config
	kernel *kernel
	loader *loader
	hooks  []*hook
	state  state
	rings  *rings
	forget *ebpf.Program // see sweepPackets
	tc     *tcAttacher
	names  *inventory
	links  *linkNews
	clock  clock
	early  *earlyMaps // until all maps are made

	delivered, malformed uint64

	// update is of what the kernel's maps are known to hold. Close waits for it,
	// and whoever needs mu as well takes this one first.
	update  sync.Mutex
	via     map[viaKey]bool
	targets targetMap

	mu           sync.Mutex // of what follows, and of hooks once Run may replace some
	closed       bool
	notRunBefore uint64 // of hooks that were replaced
}

// New attaches all hooks, still switched off. If a required one cannot be
// attached nothing stays attached. The error names the cause and the way out.
func New(cfg Config) (_ *Tracer, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := checkPrivilege(); err != nil {
		return nil, err
	}
	if cfg.Keep != KeepAll {
		if err := checkThreads(); err != nil {
			return nil, err
		}
	}
	early := startMaps(&cfg)
	defer early.close()
	k := newKernel()
	defer func() {
		if err != nil {
			k.background.Wait()
		}
	}()
	k.startSymbols()
	if err := k.readTypes(); err != nil {
		return nil, err
	}
	if err := k.checkLayout(); err != nil {
		return nil, err
	}
	if err := checkKernelReads(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, readsWayOut)
	}
	if cfg.Hooks == HooksAll {
		if err := k.checkFunctionHooks(); err != nil {
			return nil, fmt.Errorf("%w: use --hooks tracepoints to see devices, namespaces and drops; IPVS, conntrack, netfilter and sockets are not observed then", err)
		}
	}
	t := &Tracer{cfg: cfg, kernel: k, clock: newClock(), hooks: newHooks(), early: early}
	for _, h := range t.hooks {
		if !cfg.Hooks.has(h.row) {
			h.err = errNotWanted
		}
	}
	if err := t.setUp(); err != nil {
		t.Close()
		return nil, err
	}
	t.dropLoading()
	return t, nil
}

// dropLoading gives back what only attaching needs, some 15 MB.
func (t *Tracer) dropLoading() {
	t.kernel.dropTypes()
	t.loader.spec = nil
}

func (t *Tracer) setUp() error {
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"read devices and namespaces", t.readNames},
		{"create maps", t.load},
		{"tell the kernel of sets", t.updateTargets},
		{"attach", t.attachHooks},
		{"read the kernel's symbols", t.kernel.awaitSymbols},
		{"tell the kernel of services", t.updateVia},
	} {
		if err := t.cfg.step(s.name); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tracer) readNames() (err error) {
	if t.links, err = listenLinks(); err != nil { // before reading: nothing comes in between
		return err
	}
	if t.names, err = newInventory(t.cfg.NamesFile, t.kernel); err != nil {
		return err
	}
	t.names.rules = newRuleNames(t.names, t.cfg.Warn)
	if t.cfg.Keep != KeepNone { // which has them all found later
		t.names.beginFirst() // done long before everything is attached
	}
	return nil
}

// attachHooks attaches to devices, which waits for the kernel rather than for a CPU,
// while the programs of all other hooks are loaded.
func (t *Tracer) attachHooks() error {
	var onDevices, others []*hook
	for _, h := range t.wanted() {
		if h.row.at == onTC {
			onDevices = append(onDevices, h)
		} else {
			others = append(others, h)
		}
	}
	if err := t.loader.attachAll(onDevices); err != nil {
		return err
	}
	tc := t.startTC()
	if err := t.loader.attachAll(others); err != nil {
		return err
	}
	t.warnOfFailures()
	t.awaitTC(tc)
	return nil
}

// warnOfFailures tells of hooks that this kernel has and that could not be
// attached all the same. What the kernel lacks is told by the command hooks.
func (t *Tracer) warnOfFailures() {
	for _, h := range t.wanted() {
		if h.err != nil && !errors.Is(h.err, errAbsent) && !errors.Is(h.err, errNoArgument) {
			t.cfg.Warn(fmt.Sprintf("hook %s is missing: %s", h.row.name, short(h.err)))
		}
	}
}

// wanted are the rows that this run's hook set has.
func (t *Tracer) wanted() []*hook {
	return slices.DeleteFunc(t.table(), func(h *hook) bool { return !t.cfg.Hooks.has(h.row) })
}

// has says whether a hook set has a row.
func (s HookSet) has(r *row) bool { return s == HooksAll || r.at == onTracepoint || r.at == onTC }

// errNotWanted says that a row is not of this run's hook set.
var errNotWanted = errors.New("not used with --hooks tracepoints")

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// Run switches the hooks on and gives every event to sink until ctx is done;
// then it switches them off and gives what is still in the rings.
func (t *Tracer) Run(ctx context.Context, sink Sink) error {
	background, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	if !t.frozen() {
		wg.Go(func() { t.links.follow(background, t.names.changed) })
		wg.Go(func() { t.names.watch(background) })
		wg.Go(func() { t.names.watchProcesses(background) })
		wg.Go(func() { t.followDevices(background) })
	}
	wg.Go(func() {
		t.names.virtuals.watch(background, func(netns uint32) string { return t.names.now.Load().paths[netns] })
	})
	wg.Go(func() { t.names.rules.watch(background) })
	wg.Go(func() { t.followChanges(background) })
	wg.Go(func() { t.followPackets(background) })

	if err := t.state.set("enabled", 1); err != nil {
		return err
	}
	d := t.decoder()
	var e events.Event
	deliver := func(raw []byte) {
		if err := d.decode(raw, &e); err != nil {
			t.malformed++
			return
		}
		t.delivered++
		t.names.notice(&e)
		if d.stations[e.Hook] == events.StationIPVSLeave {
			t.names.virtuals.want(e.Netns)
		}
		sink.Event(&e)
	}
	pace := newPace(t.cfg.Poll)
	defer pace.stop()
	busy := make(chan time.Time)
	close(busy)
	known := monotonic()
	for {
		now, before := monotonic(), t.delivered
		if err := t.rings.drain(deliver); err != nil {
			return err
		}
		again := pace.next(now, t.delivered != before)
		known = max(known, t.names.until(now))
		if sink.Tick(now, known) {
			again = busy
		}
		select {
		case <-ctx.Done():
			if err := t.state.set("enabled", 0); err != nil {
				return err
			}
			return t.rings.drain(deliver)
		case <-again:
		}
	}
}

func (t *Tracer) decoder() *decoder {
	d := &decoder{stations: make([]events.Station, len(t.hooks)+1)}
	for _, h := range t.hooks {
		d.stations[h.id] = h.row.station
	}
	return d
}

// table is the hooks as they are now. exchange replaces whole ones.
func (t *Tracer) table() []*hook {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.hooks)
}

// Table is the hook table of this run: all rows of its hook set, since one that
// is absent now may be attached later, with its module.
func (t *Tracer) Table() []events.Hook {
	var out []events.Hook
	for _, h := range t.wanted() {
		out = append(out, events.Hook{ID: h.id, Name: h.row.name, Station: h.row.station})
	}
	return out
}

// Devices lists the devices that are there now, by namespace: what Names can tell
// of although no event has shown it.
func (t *Tracer) Devices() map[uint32][]uint32 {
	out := map[uint32][]uint32{}
	for k := range t.names.now.Load().devices {
		out[k.netns] = append(out[k.netns], k.ifindex)
	}
	return out
}

// Names tells what this node's numbers stand for.
func (t *Tracer) Names() events.Names { return t.names }

// Wall turns the kernel's monotonic clock (ns) into wall time.
func (t *Tracer) Wall(mono uint64) time.Time { return t.clock.wall(mono) }

// Clock is the pair by which Wall tells the time. A pair of now, from Now, says
// how far the wall clock was set meanwhile.
func (t *Tracer) Clock() ClockPair { return t.clock.pair }

// Now is this moment on both clocks.
func (t *Tracer) Now() ClockPair { return newClock().pair }

// HasFunctions says whether kernel functions are hooked, not only tracepoints.
func (t *Tracer) HasFunctions() bool { return t.cfg.Hooks == HooksAll }

// Stats reads the counters. It may be called during and after Run, from the
// goroutine of the Sink or once Run has returned.
func (t *Tracer) Stats() Stats {
	s := Stats{Delivered: t.delivered, Lost: map[string]uint64{"decode": t.malformed}}
	kernelStats, err := t.state.stats()
	if err != nil {
		t.cfg.Warn(fmt.Sprintf("cannot read the kernel side's counters: %v", err))
		return s
	}
	s.Matched, s.Packets = kernelStats.Matched, kernelStats.Packets
	s.Lost["ring"] = kernelStats.LostRing
	s.Lost["packet-table"] = kernelStats.LostTable
	s.Lost["flow-table"] = kernelStats.LostFlows
	s.Lost["read"] = kernelStats.ReadFailed
	s.Lost["rate"] = kernelStats.Rate
	s.Lost["shed"] = kernelStats.Shed
	s.Lost["hook-not-run"] = t.notRun()
	return s
}

// Missed is how many events have been lost between the hooks and the Sink so far, and
// how many packets were not followed for want of room or for Config.Rate. It is cheaper
// than Stats and may be called at the same times.
func (t *Tracer) Missed() (lost, unfollowed uint64) {
	kernelStats, err := t.state.stats()
	if err != nil {
		return t.malformed, 0 // Stats warns of it
	}
	return kernelStats.LostRing + t.malformed, kernelStats.LostTable + kernelStats.LostFlows + kernelStats.Rate + kernelStats.Shed
}

// Close detaches everything. It may be called more than once.
func (t *Tracer) Close() error {
	t.update.Lock()
	defer t.update.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	if t.tc != nil {
		t.tc.close()
	}
	t.detach()
	if t.links != nil {
		t.links.socket.Close()
	}
	if t.names != nil {
		t.names.endFirst()
	}
	t.kernel.background.Wait()
	if t.rings != nil {
		t.rings.close()
	}
	if t.forget != nil {
		t.forget.Close()
	}
	if t.state.coll != nil {
		t.state.coll.Close()
	}
	return nil
}

func (t *Tracer) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// notRun is how often the kernel left a program out because the same one was
// running on that CPU: a softirq, or on preemptible kernels another task, came
// in between. It is not known whose packet that was. 5.10 does not count it.
func (t *Tracer) notRun() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.notRunBefore
	for _, h := range t.hooks {
		n += h.notRun()
	}
	return n
}

func (h *hook) notRun() uint64 {
	if h.prog == nil {
		return 0
	}
	st, err := h.prog.Stats()
	if err != nil {
		return 0
	}
	return st.RecursionMisses
}

// checkPrivilege refuses early what the kernel would refuse late and unclearly.
func checkPrivilege() error {
	missing, err := missingCapabilities()
	if err != nil || len(missing) == 0 {
		return err
	}
	return fmt.Errorf("%w: missing capabilities %v: run as root (sudo stackhop …), or grant them: setcap %s+ep stackhop",
		os.ErrPermission, missing, joinLower(missing))
}
