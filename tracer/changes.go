// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"time"
)

// How often a run looks for what has changed on the node but for devices: of those the
// inventory tells.
const (
	servicesEvery = 3 * time.Second
	flowsEvery    = 30 * time.Second
)

// followDevices attaches to devices of which the inventory tells until ctx is done.
func (t *Tracer) followDevices(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.names.read:
			if t.tc != nil {
				t.tc.update(ctx)
			}
		}
	}
}

// followChanges follows the node until ctx is done: modules that are loaded, virtual
// services that come and go.
func (t *Tracer) followChanges(ctx context.Context) {
	services, flows := time.NewTicker(servicesEvery), time.NewTicker(flowsEvery)
	defer services.Stop()
	defer flows.Stop()
	modules, said := loadedModules(), ""
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-services.C:
			if !t.frozen() {
				modules, err = t.followModules(modules)
			}
			err = errors.Join(err, t.updateVia())
		case <-flows.C:
			err = t.sweepFlows(monotonic())
		}
		if err != nil && err.Error() != said { // what fails is tried again, and told once
			said = err.Error()
			t.cfg.Warn(said)
		}
	}
}
