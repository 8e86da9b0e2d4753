// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"sync"
)

// errFrozen is why something is not known that came after the start.
var errFrozen = errors.New("--keep-caps none reads nothing after the start")

// frozen says whether the node is taken to be as it was at the start.
func (t *Tracer) frozen() bool { return t.kernel.frozen.Load() }

// freeze takes a last look at the node, while that is allowed, and has nothing looked
// for from then on: each try would fail, or, worse, find nothing and take what is known
// for gone.
func (t *Tracer) freeze() {
	inv := t.names
	inv.refresh()
	if t.tc != nil {
		t.tc.update(t.tc.ctx)
	}
	inv.findFirst(context.Background())
	inv.virtuals.services = func(uint32, string) ([]Service, error) { return nil, errFrozen }
	inv.rules.read = func(context.Context, string) readResult { return readResult{missing: []missingRules{{err: errFrozen}}} }
	inv.unknown = sync.OnceFunc(func() {
		t.cfg.Warn("packets pass devices that came after the start: they go by their numbers (such as if7), without tc_ingress and tc_egress, and whose namespaces those are is not known (--keep-caps none)")
	})
	t.kernel.frozen.Store(true)
}
