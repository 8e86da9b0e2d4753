// SPDX-License-Identifier: Apache-2.0

package record

import (
	"net/netip"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Meta describes the run that a recording is of. It is the file's first block.
type Meta struct {
	Tool         string    `json:"tool"`                // version of stackhop
	Kernel       string    `json:"kernel,omitempty"`    // release of the traced kernel
	Arch         string    `json:"arch,omitempty"`      // of the traced machine, as in GOARCH
	Node         string    `json:"node,omitempty"`      // name of the traced machine
	OnlyNode     string    `json:"only_node,omitempty"` // events.Config.OnlyNode
	BootID       string    `json:"boot_id,omitempty"`   // of the traced kernel
	RunID        string    `json:"run_id"`              // the same in all parts of one run
	Part         int       `json:"part,omitempty"`      // number of the file within the run, from 0
	Args         []string  `json:"args,omitempty"`      // command line
	Filter       string    `json:"filter,omitempty"`    // the selection as an expression, see pcapexpr.ParseSets
	Selection    []string  `json:"selection,omitempty"` // the words that made it, for people: flags, names, an expression
	Sample       uint32    `json:"sample,omitempty"`    // one connection in so many was recorded; 0 and 1: all
	HasFunctions bool      `json:"has_functions"`       // events.Config.HasFunctions
	SnapLen      int       `json:"snap_len,omitempty"`  // bytes kept of a packet; 0: headers only
	Redacted     bool      `json:"redacted,omitempty"`  // names and addresses are pseudonyms
	Hooks        []Hook    `json:"hooks"`
	Clock        ClockPair `json:"clock"` // by which times are told
}

// HowAbsent is Hook.How of a hook that is not attached.
const HowAbsent = "absent"

// Hook is a row of the run's hook table.
type Hook struct {
	ID      events.HookID `json:"id"` // 1 to MaxHookID
	Name    string        `json:"name"`
	Station string        `json:"station"`       // events.StationName
	How     string        `json:"how,omitempty"` // "fentry", "kprobe", …; HowAbsent
	Err     string        `json:"err,omitempty"` // why it is absent
}

// ClockPair is one moment on two clocks.
type ClockPair struct {
	Mono uint64 `json:"mono"` // ns on the kernel's monotonic clock
	Real int64  `json:"real"` // ns since 1970
}

// Wall is the time of day at a moment of the monotonic clock, in ns, as if the
// other clock had not been set since.
func (c ClockPair) Wall(mono uint64) time.Time {
	return time.Unix(0, c.Real+int64(mono-c.Mono)).UTC() //nolint:gosec // differences of ns fit
}

// Facts are what was configured while the run went on. A recording may hold
// them several times; what a Reader gives is all of them together.
type Facts struct {
	Services  []Service `json:"services,omitempty"`
	Sysctls   []Sysctl  `json:"sysctls,omitempty"`
	Conntrack []CTEntry `json:"conntrack,omitempty"`
}

// Service is an IPVS service.
type Service struct {
	Netns        uint32         `json:"netns"`
	Proto        uint8          `json:"proto"` // IPPROTO_*
	Addr         netip.AddrPort `json:"addr"`
	FWMark       uint32         `json:"fwmark,omitempty"` // instead of Proto and Addr
	Scheduler    string         `json:"scheduler,omitempty"`
	Flags        uint32         `json:"flags,omitempty"`   // IP_VS_SVC_F_*
	Timeout      uint32         `json:"timeout,omitempty"` // s, of persistence
	Destinations []Destination  `json:"destinations"`
}

// Destination is a real server of an IPVS service.
type Destination struct {
	Addr     netip.AddrPort `json:"addr"`
	Weight   int            `json:"weight"`
	Forward  string         `json:"forward,omitempty"` // masquerade, tunnel, route or local
	Active   uint32         `json:"active,omitempty"`  // connections
	Inactive uint32         `json:"inactive,omitempty"`
}

// Sysctl is a kernel setting as it was in a namespace.
type Sysctl struct {
	Netns uint32 `json:"netns"`
	Name  string `json:"name"` // with dots, e.g. net.ipv4.ip_forward
	Value string `json:"value"`
}

// Tuple is an events.Tuple as it is written in Facts.
type Tuple struct {
	Proto uint8          `json:"proto"`
	Src   netip.AddrPort `json:"src"`
	Dst   netip.AddrPort `json:"dst"`
}

// CTEntry is an entry of a conntrack table.
type CTEntry struct {
	Netns    uint32 `json:"netns"`
	Original Tuple  `json:"original"`
	Reply    Tuple  `json:"reply"`
	Status   uint32 `json:"status,omitempty"`  // IPS_*
	Timeout  uint32 `json:"timeout,omitempty"` // s, until it expires
	State    string `json:"state,omitempty"`   // of TCP
	Zone     uint16 `json:"zone,omitempty"`
	Mark     uint32 `json:"mark,omitempty"`
}

// Status is what a recorder counted up to a moment. All counts are of the
// interval since the status before.
type Status struct {
	Clock     ClockPair         `json:"clock"`
	Since     uint64            `json:"since"`          // ns on the monotonic clock: the interval's beginning
	Lost      map[string]uint64 `json:"lost,omitempty"` // by the stage that lost them: events, or what tracer.Stats says of the stage
	Matched   uint64            `json:"matched"`        // events that the kernel side had to tell
	Delivered uint64            `json:"delivered"`      // of them, those that were recorded
	Packets   uint64            `json:"packets"`        // socket buffer lives begun
	// Gap says that the recorder left out events here that it had, because
	// nothing failed near them. The counts of such a status say nothing.
	Gap bool `json:"gap,omitempty"`
}

// Missed is how many events of packets that were followed were lost: after each of
// them its packet may have had no other (events.Stitcher.Missed).
func (s *Status) Missed() uint64 { return s.Lost["ring"] + s.Lost["decode"] }

// Unfollowed is more than 0 if packets that were selected were not followed
// (events.Stitcher.Unfollowed). tracer.Tracer.Missed has the same stages.
func (s *Status) Unfollowed() uint64 {
	return s.Lost["packet-table"] + s.Lost["flow-table"] + s.Lost["rate"] + s.Lost["shed"]
}

// End is the last block of a recording that was closed: the totals.
type End struct {
	Events    uint64             `json:"events"` // in this file; Close sets it
	Ticks     uint64             `json:"ticks"`  // in this file; Close sets it
	Stitched  events.StitchStats `json:"stitched"`
	Lost      map[string]uint64  `json:"lost,omitempty"`
	Matched   uint64             `json:"matched"`
	Delivered uint64             `json:"delivered"`
	Packets   uint64             `json:"packets"`
	Reason    string             `json:"reason,omitempty"` // why the run ended
}
