// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/stackhop/stackhop/bpf"
)

// flowValue is struct flow of bpf/state.h.
type flowValue struct {
	ID, Used       uint64
	Reply, Matched uint8
	_              [6]byte
}

// flowIdle is how long a connection is followed after its last new packet; it
// is longer than UDP's conntrack timeout (180 s for streams).
const flowIdle = 5 * time.Minute

// sweepFlows removes connections that nobody used for flowIdle, so that the
// table serves a run of any length.
func (t *Tracer) sweepFlows(now uint64) error {
	m := t.state.coll.Maps[bpf.MapFlows]
	const batch = 1024
	keys := make([][40]byte, batch)
	values := make([]flowValue, batch)
	var stale [][40]byte
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			if values[i].Used+uint64(flowIdle) < now {
				stale = append(stale, keys[i])
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break
		}
		if err != nil {
			return fmt.Errorf("read followed connections: %w", err)
		}
	}
	for _, k := range stale {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a connection: %w", err)
		}
	}
	return nil
}
