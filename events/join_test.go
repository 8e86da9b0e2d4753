// SPDX-License-Identifier: Apache-2.0

package events

import (
	"maps"
	"testing"
	"time"
)

// TestJoinLosses: what the runs had lost is added up by nodes: a packet that comes back
// to one has its run's losses in two parts.
func TestJoinLosses(t *testing.T) {
	part := func(node string, lost map[string]uint64) *Traversal { return &Traversal{Node: node, LostInRun: lost} }
	for name, tt := range map[string]struct {
		parts []*Traversal
		want  map[string]uint64
	}{
		"none":      {parts: []*Traversal{part("n1", nil), part("n2", nil)}},
		"two nodes": {[]*Traversal{part("n1", map[string]uint64{"ring": 100}), part("n2", map[string]uint64{"ring": 7, "shed": 1})}, map[string]uint64{"ring": 107, "shed": 1}},
		"one twice": {[]*Traversal{part("n1", map[string]uint64{"ring": 100}), part("n1", map[string]uint64{"ring": 103})}, map[string]uint64{"ring": 103}},
		"and back":  {[]*Traversal{part("n1", map[string]uint64{"ring": 100}), part("n2", map[string]uint64{"ring": 7}), part("n1", map[string]uint64{"ring": 100})}, map[string]uint64{"ring": 107}},
	} {
		got := Join(tt.parts, make([]time.Time, len(tt.parts)))
		if !maps.Equal(got.LostInRun, tt.want) {
			t.Errorf("%s: %v, want %v", name, got.LostInRun, tt.want)
		}
	}
}
