// SPDX-License-Identifier: Apache-2.0

package bpf

import "github.com/cilium/ebpf"

// Names that the Go side refers to.
const (
	// The subprograms whose bodies are replaced before loading.
	FuncHookArgs = "hook_args"
	FuncHookSkb  = "hook_skb"
	FuncSelMatch = "sel_match"

	// ProgForget is the program that is no hook's: user space runs it.
	ProgForget = "forget"

	MapRings   = "sh_rings"
	MapPackets = "sh_packets"
	MapFlows   = "sh_flows"
	MapVia     = "sh_via"
	MapTargets = "sh_targets"
)

// Slots of struct hook_args (hook.h), byte offsets.
const (
	ArgSkb   = 0
	ArgNet   = 8
	ArgSk    = 16
	ArgState = 24
	ArgA     = 32
	ArgB     = 40
	ArgC     = 48
	ArgHook  = 56
	ArgsSize = 64
)

// Sizes of the records in the ring (wire.h), in bytes.
const (
	EventSize       = 64
	EventHeaderSize = 184
	EventCTSize     = 152
)

// CPUSlots is the number of per-CPU slots in the counters (CPUS in state.h).
const CPUSlots = 256

// Stats are the kernel side's counters, in the order of enum stat (state.h).
type Stats struct {
	Matched, Packets, LostRing, LostTable, LostFlows, ReadFailed, Reused, Rate, Shed uint64
	_                                                                                [7]uint64
}

// Spec returns the compiled programs and maps. It makes no system call.
func Spec() (*ebpf.CollectionSpec, error) {
	return loadStackhop()
}
