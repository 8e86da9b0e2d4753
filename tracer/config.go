// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"fmt"
	"time"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

// HookSet is which kind of hooks a run uses.
type HookSet string

// Hook sets. HooksTracepoints works on kernels that refuse function hooks
// (lockdown, no kprobes): devices, namespaces and drops are observed, IPVS,
// conntrack, netfilter, IP and sockets are not.
const (
	HooksAll         HookSet = "all"
	HooksTracepoints HookSet = "tracepoints"
)

// Config says what a Tracer observes. The zero value selects nothing and is
// refused; set Select or All.
type Config struct {
	// Select is the packets to follow. A packet that it matches at any hook is
	// followed everywhere, and so is its connection. When the members of its sets
	// change, UpdateSets has to be called.
	Select *pcapexpr.Expr
	// All follows every packet. Select must be nil.
	All bool
	// Hooks defaults to HooksAll.
	Hooks HookSet
	// RingBytes is the size of each CPU's ring buffer, a power of two and a
	// multiple of the page size; 0 means 4 MiB.
	RingBytes int
	// RingMark is how many bytes in any CPU's ring keep all from following further
	// packets: what is followed already has the rest, so that under more load than the
	// Sink takes fewer packets are seen, and those whole. 0 means half of RingBytes.
	RingMark int
	// MaxPackets bounds the socket buffers followed at one time; 0 means 65536.
	MaxPackets int
	// Count makes the kernel count how often each hook fires, for selected
	// and other packets alike. It costs a little on every packet.
	Count bool
	// Sample follows one connection in so many, whole; 0 and 1 follow all.
	Sample uint32
	// Rate bounds the events a second: beyond it no further packet is followed
	// until the next tenth of a second, and that is counted. It is shared out
	// among the CPUs. 0 is no bound.
	Rate uint32
	// Record makes events carry what a recording needs beside what a live view
	// does: Event.Link at devices and Event.Bytes with the headers, which are told
	// again wherever a packet comes into another namespace. Without it neither
	// costs anything.
	Record bool
	// SnapLen is how many bytes of a packet, from its network header on, a run
	// with Record keeps at least; 0: the network and transport headers alone (for
	// an ICMP error also those of the packet in it). What of it does not lie in
	// the socket buffer's linear part is kept only where tc programs run.
	SnapLen int
	// NamesFile names namespaces and addresses, see events.ParseNamesFile; nil: none.
	NamesFile []byte
	// Warn receives conditions that do not stop the run, once each; nil drops
	// them.
	Warn func(string)
	// Keep is what DropPrivilege leaves; empty means KeepAll. With KeepNone the
	// node is taken to be as it was when that was called: no devices, namespaces,
	// processes, modules and services are looked for any more, and no rules read.
	Keep KeepCaps
	// Later is for what KeepLate keeps more.
	Later Later
	// Poll is how often rings are looked at while there is nothing in them, and twice as
	// often while there is; 0 means 40 ms.
	Poll time.Duration

	// step is called before each thing that may fail while hooks are attached, by
	// several goroutines, and its error is taken for that thing's; nil: nothing is.
	step func(what string) error
}

// MaxSnapLen bounds Config.SnapLen: no packet is longer, but for those that only
// exist on their way to a device that cuts them.
const MaxSnapLen = 65535

// minRecords is how many packets of SnapLen bytes a ring has room for, at least.
const minRecords = 16

// ErrConfig is wrapped by every complaint about a Config.
var ErrConfig = errors.New("configuration")

// validate fills defaults and refuses what cannot work.
func (c *Config) validate() error {
	switch {
	case c.Select == nil && !c.All:
		return fmt.Errorf("%w: nothing is selected", ErrConfig)
	case c.Select != nil && c.All:
		return fmt.Errorf("%w: both a selection and all packets", ErrConfig)
	}
	if c.Hooks == "" {
		c.Hooks = HooksAll
	}
	if c.Hooks != HooksAll && c.Hooks != HooksTracepoints {
		return fmt.Errorf("%w: unknown hook set %q", ErrConfig, c.Hooks)
	}
	if c.RingBytes == 0 {
		c.RingBytes = 4 << 20
	}
	if c.RingBytes < 4096 || c.RingBytes&(c.RingBytes-1) != 0 {
		return fmt.Errorf("%w: ring size %d is not a power of two of at least 4096", ErrConfig, c.RingBytes)
	}
	if c.RingMark == 0 {
		c.RingMark = c.RingBytes / 2
	}
	if c.RingMark < 0 || c.RingMark > c.RingBytes {
		return fmt.Errorf("%w: a mark at %d bytes of a ring of %d", ErrConfig, c.RingMark, c.RingBytes)
	}
	if c.SnapLen < 0 || c.SnapLen > MaxSnapLen {
		return fmt.Errorf("%w: %d bytes of a packet to keep; at most %d can be", ErrConfig, c.SnapLen, MaxSnapLen)
	}
	if c.SnapLen > 0 && !c.Record {
		return fmt.Errorf("%w: bytes of packets are kept only in a run that records", ErrConfig)
	}
	if c.SnapLen > c.RingBytes/minRecords {
		return fmt.Errorf("%w: a ring of %d bytes is too small for packets of %d", ErrConfig, c.RingBytes, c.SnapLen)
	}
	if c.MaxPackets == 0 {
		c.MaxPackets = 65536
	}
	if c.MaxPackets < 1 || c.MaxPackets > 1<<22 {
		return fmt.Errorf("%w: %d packets to follow at one time", ErrConfig, c.MaxPackets)
	}
	if c.Keep == "" {
		c.Keep = KeepAll
	}
	if c.Keep != KeepLate && c.Keep != KeepNone && c.Keep != KeepAll {
		return fmt.Errorf("%w: unknown set of capabilities %q", ErrConfig, c.Keep)
	}
	if c.Poll == 0 {
		c.Poll = 40 * time.Millisecond
	}
	if c.Warn == nil {
		c.Warn = func(string) {}
	}
	if c.step == nil {
		c.step = func(string) error { return nil }
	}
	return nil
}
