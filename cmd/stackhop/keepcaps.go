// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/tracer"
)

// keepFlag is --keep-caps.
func keepFlag(category string) cli.Flag {
	return &cli.StringFlag{
		Name: "keep-caps", Category: category, Value: string(tracer.KeepLate),
		Usage: "once everything is attached keep a `SET` of capabilities: late, to follow what comes later and to read rules; none, which does neither; or all",
	}
}

// readKeep reads --keep-caps.
func readKeep(c *cli.Context, cfg *tracer.Config) error {
	cfg.Keep = tracer.KeepCaps(c.String("keep-caps"))
	switch cfg.Keep {
	case tracer.KeepLate, tracer.KeepNone, tracer.KeepAll:
		return nil
	}
	return fmt.Errorf("--keep-caps %s: there are late, none and all", events.Safe(c.String("keep-caps")))
}

// keepForLater finds out what will be done once privilege is dropped, and refuses what
// could not be.
func (a *app) keepForLater(o *liveOptions) error {
	later := &o.config.Later
	later.Command = o.bounds.child != nil
	look := func(path string) {
		foreign, sticky := a.sys.foreign(filepath.Dir(path))
		later.Give = later.Give || a.sys.gives()
		later.Foreign, later.Sticky = later.Foreign || foreign, later.Sticky || sticky
	}
	if o.recording != nil && o.recording.files.Parts > 0 {
		look(o.recording.files.Path)
	}
	sticky := later.Sticky
	if path := o.bounds.readyFile; path != "" {
		// A pipe, or what a shell has open, is there to be written to.
		if st, err := os.Stat(path); err != nil || st.Mode().IsRegular() {
			look(path)
		}
	}
	later.Sticky = sticky // a ready file is not removed
	if o.config.Keep == tracer.KeepNone && (later.Give || later.Foreign) {
		return errors.New("--keep-caps none: --ring and --ready-file make files later, which takes a capability in another user's directory, or to give them to the user of sudo: use --keep-caps late, or another directory without sudo")
	}
	return nil
}

// dropPrivilege drops what is not needed any more. COMMAND is made ready before, with
// the privileges that the user has.
func (a *app) dropPrivilege(tr liveTracer, cfg *tracer.Config, command *child) error {
	if cfg.Keep == tracer.KeepAll {
		return nil
	}
	if command != nil && canHold {
		if err := command.hold(); err != nil {
			return err
		}
	}
	if err := tr.DropPrivilege(); err != nil {
		if command != nil {
			err = errors.Join(err, command.stop())
		}
		return err
	}
	if cfg.Keep == tracer.KeepNone {
		a.say("--keep-caps none: devices, namespaces, processes, modules and IPVS's services are taken to be as they are now, and rules are not read")
	}
	return nil
}
