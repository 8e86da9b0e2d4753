// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/tracer/pcapbpf"
)

// earlyMaps are the largest maps. The kernel takes as long to make them as this process
// does to read the kernel's types, and does so meanwhile.
type earlyMaps struct {
	made chan struct{} // closed when what follows is as it will be
	spec *ebpf.CollectionSpec
	maps map[string]*ebpf.Map
	err  error
}

// startMaps begins to make them. They are to be closed.
func startMaps(cfg *Config) *earlyMaps {
	e := &earlyMaps{made: make(chan struct{}), maps: map[string]*ebpf.Map{}}
	go func() {
		defer close(e.made)
		e.err = e.make(cfg)
	}()
	return e
}

func (e *earlyMaps) make(cfg *Config) (err error) {
	// 5.10 counts BPF memory against the limit for locked memory.
	if err = cfg.step("raise the limit for locked memory"); err == nil {
		err = rlimit.RemoveMemlock()
	}
	if err != nil {
		return fmt.Errorf("raise the limit for locked memory: %w", err)
	}
	if e.spec, err = bpf.Spec(); err != nil {
		return fmt.Errorf("read compiled programs: %w", err)
	}
	if err := e.size(cfg); err != nil {
		return err
	}
	for _, name := range []string{bpf.MapPackets, bpf.MapFlows, bpf.MapVia} {
		if e.maps[name], err = ebpf.NewMap(e.spec.Maps[name]); err != nil {
			delete(e.maps, name)
			return fmt.Errorf("create map %s: %w", name, err)
		}
	}
	return nil
}

// size gives all maps the sizes of this run.
func (e *earlyMaps) size(cfg *Config) error {
	possible, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("number of CPUs: %w", err)
	}
	maps := e.spec.Maps
	if len(cfg.Select.Sets()) == 0 {
		maps[bpf.MapTargets].MaxEntries = 1
	}
	maps[bpf.MapPackets].MaxEntries = uint32(cfg.MaxPackets)
	maps[bpf.MapRings].MaxEntries = uint32(possible)
	maps[bpf.MapRings].InnerMap.MaxEntries = uint32(cfg.RingBytes)
	return nil
}

// take waits for them.
func (e *earlyMaps) take() (*ebpf.CollectionSpec, map[string]*ebpf.Map, error) {
	<-e.made
	return e.spec, e.maps, e.err
}

// close lets go of them: a collection that was made of them has its own.
func (e *earlyMaps) close() {
	<-e.made
	for _, m := range e.maps {
		m.Close()
	}
}

// rateWindows is how many windows of Config.Rate a second has (RATE_WINDOW in
// bpf/state.h).
const rateWindows = 10

// headerRoom holds the headers of nearly every packet: IPv6 and TCP with all
// options, twice over in an ICMP error but for most of the options. What is
// longer is cut.
const headerRoom = 160

// load creates the maps that all programs share.
func (t *Tracer) load() error {
	spec, large, err := t.early.take()
	if err != nil {
		return err
	}
	selection := asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}
	if t.cfg.Select != nil {
		if selection, err = pcapbpf.Compile(t.cfg.Select); err != nil {
			return fmt.Errorf("compile selection: %w", err)
		}
	}
	set := map[string]uint32{"select_all": b2u(t.cfg.All), "prove_identity": b2u(t.cfg.Hooks == HooksTracepoints), "count_hits": b2u(t.cfg.Count), "sample": t.cfg.Sample, "rate": 0, "ring_mark": uint32(t.cfg.RingMark),
		"typed_skb": b2u(t.kernel.trampolines || t.cfg.Hooks == HooksTracepoints),
		"want_vlan": b2u(t.cfg.Select.ReadsVLAN()), "targets": b2u(len(t.cfg.Select.Sets()) > 0)}
	if t.cfg.Record {
		set["record"], set["snap"], set["room"] = 1, uint32(t.cfg.SnapLen), uint32(max(t.cfg.SnapLen, headerRoom))
	}
	online, err := onlineCPUs()
	if err != nil {
		return err
	}
	if t.cfg.Rate > 0 {
		set["rate"] = max(1, t.cfg.Rate/uint32(len(online))/rateWindows)
	}
	for name, value := range set {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(
		&ebpf.CollectionSpec{Maps: spec.Maps, Variables: spec.Variables, Types: spec.Types, ByteOrder: spec.ByteOrder},
		ebpf.CollectionOptions{MapReplacements: large})
	if err != nil {
		return fmt.Errorf("create maps: %w", err)
	}
	t.early, t.state = nil, state{coll: coll}
	t.loader = &loader{step: t.cfg.step, kernel: t.kernel, spec: spec, maps: coll.Maps, selection: selection}
	if err := t.cfg.step("create rings"); err != nil {
		return fmt.Errorf("create rings: %w", err)
	}
	if t.rings, err = newRings(coll.Maps[bpf.MapRings], online, t.cfg.RingBytes); err != nil {
		return err
	}
	return t.loadForget()
}
