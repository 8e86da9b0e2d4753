// SPDX-License-Identifier: Apache-2.0

package tracer

import "github.com/stackhop/stackhop/events"

// Sink receives what a Tracer reads, from one goroutine.
type Sink interface {
	// Event is called for each event; the event is reused after it returns.
	Event(e *events.Event)
	// Tick is called at least every Config.Poll with the monotonic clock, in ns, up
	// to which the rings were read, and the time up to which names are known: where
	// devices and namespaces have just changed that is earlier, by a quarter of a second
	// at most. It says whether it has more to do: then it is called again as soon as the
	// rings were read again.
	Tick(now, known uint64) (more bool)
}

// Stats counts events from the hooks to the Sink. Matched is the sum of
// Delivered and of all of Lost that begins with "ring" or "decode", once the
// rings are drained.
type Stats struct {
	Matched   uint64 // events of followed packets, lost ones included
	Delivered uint64 // events given to the Sink
	Packets   uint64 // lives of socket buffers that were followed
	// Lost counts what was lost, by stage. Stages: "ring" (no room in the
	// ring), "decode", "packet-table" (how often a packet was not followed
	// because too many are: once at each hook that would have begun to),
	// "shed" (packets not followed because a ring was too full, see
	// Config.RingMark), "flow-table" (connections whose replies may be missed), "read" (headers
	// or conntrack entries that could not be read; their events came without),
	// "rate" (packets not followed, to keep to Config.Rate), "hook-not-run" (the
	// kernel left a hook out because its program was running on that CPU; known
	// from 5.12 on, for packets that are followed and others alike).
	Lost map[string]uint64
}
