// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

// targetKey is struct target of bpf/target.h.
type targetKey struct {
	addr   [16]byte
	port   [2]byte // network order; 0: any
	family uint16
}

func newTargetKey(end netip.AddrPort) targetKey {
	k := targetKey{family: 6}
	if end.Addr().Is4() {
		k.family = 4
	}
	copy(k.addr[:], end.Addr().AsSlice())
	binary.BigEndian.PutUint16(k.port[:], end.Port())
	return k
}

func (k targetKey) anyPort() bool { return k.port == [2]byte{} }

// targetPorts is TARGET_PORTS of bpf/target.h.
const targetPorts = 1 << 31

// targetMap is what sh_targets holds, or is to hold.
type targetMap map[targetKey]uint32

// targetsOf is what the kernel is to know of the sets.
func targetsOf(sets []*pcapexpr.Set) targetMap {
	m := targetMap{}
	for i, s := range sets {
		for _, e := range s.Members() {
			bits := uint32(1) << i
			if e.Port != 0 {
				m[newTargetKey(netip.AddrPortFrom(e.Net.Addr(), e.Port))] |= bits
				bits = targetPorts
			}
			m[newTargetKey(netip.AddrPortFrom(e.Net.Addr(), 0))] |= bits
		}
	}
	return m
}

// targetBits is target_bits of bpf/target.h: 1<<17 bits.
type targetBits [1 << 11]uint64

func (b *targetBits) add(k targetKey) {
	var folded uint32
	for i := 0; i < len(k.addr); i += 4 {
		folded ^= binary.LittleEndian.Uint32(k.addr[i:])
	}
	h := folded * 0x9e3779b1 >> 15
	b[h>>6] |= 1 << (h & 63)
}

func (m targetMap) addTo(b *targetBits) *targetBits {
	for k := range m {
		b.add(k)
	}
	return b
}

// maxTargets bounds the entries of sh_targets: half of what it has room for, so
// that all old and all new ones fit side by side.
const maxTargets = 32768

// UpdateSets tells the kernel the members that the sets of Config.Select have
// now; until then it goes by those of the last time, and New is the first. It may
// be called from any goroutine, also while Run goes on. An end that stays is
// never missing meanwhile. Connections that are followed already stay followed.
// An error leaves what the kernel knew, if sets have more members than there is
// room for; after Close it is os.ErrClosed.
func (t *Tracer) UpdateSets() error {
	t.update.Lock()
	defer t.update.Unlock()
	if t.isClosed() {
		return fmt.Errorf("update selected addresses: %w", os.ErrClosed)
	}
	if err := t.updateTargets(); err != nil {
		return err
	}
	return t.findVia()
}

// updateTargets brings sh_targets up to date, for whoever holds t.update.
func (t *Tracer) updateTargets() error {
	sets := t.cfg.Select.Sets()
	if len(sets) == 0 {
		return nil
	}
	return t.setTargets(targetsOf(sets))
}

// setTargets adds, then deletes.
func (t *Tracer) setTargets(wanted targetMap) error {
	if len(wanted) > maxTargets {
		return fmt.Errorf("the selected pods and services have too many addresses: %d with their ports, at most %d can be followed; select fewer", len(wanted), maxTargets)
	}
	if t.targets == nil {
		t.targets = targetMap{}
	}
	if err := t.setTargetBits(wanted.addTo(t.targets.addTo(&targetBits{}))); err != nil {
		return err
	}
	// An address's own entry sends on to those of its ports, so these are first.
	for _, anyPort := range []bool{false, true} {
		for k, bits := range wanted {
			if k.anyPort() != anyPort {
				continue
			}
			if err := t.putTarget(k, bits); err != nil {
				return err
			}
		}
	}
	for k := range t.targets {
		if _, stays := wanted[k]; stays {
			continue
		}
		if err := t.state.coll.Maps[bpf.MapTargets].Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("stop selecting an address: %w", err)
		}
		delete(t.targets, k)
	}
	return t.setTargetBits(wanted.addTo(&targetBits{}))
}

func (t *Tracer) putTarget(k targetKey, bits uint32) error {
	if t.targets[k] == bits {
		return nil
	}
	if err := t.state.coll.Maps[bpf.MapTargets].Put(k, bits); err != nil {
		return fmt.Errorf("select an address: %w", err)
	}
	t.targets[k] = bits
	return nil
}

func (t *Tracer) setTargetBits(b *targetBits) error {
	if err := t.state.coll.Variables["target_bits"].Set(b); err != nil {
		return fmt.Errorf("select addresses: %w", err)
	}
	return nil
}
