// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

var errRuntimeUsage = errors.New("usage: lab runtime up | pod [-n NS] [-host] [-stay] [-for TIME] NAME [COMMAND...] | " +
	"exec [-n NS] NAME COMMAND... | rm [-n NS] NAME")

// cmdRuntime makes pods with a real container runtime. A COMMAND is this
// program's arguments: it is all that there is in the pods.
func cmdRuntime(args []string) error {
	ctx := context.Background()
	if len(args) == 1 && args[0] == "up" {
		start := time.Now()
		r, err := runtimeUp(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "lab: the container runtime is up after %.1f s\n", time.Since(start).Seconds())
		return r.Close()
	}
	if len(args) == 0 {
		return errRuntimeUsage
	}
	fs := flags("runtime " + args[0])
	spec := podSpec{}
	fs.StringVar(&spec.namespace, "n", "default", "namespace")
	fs.BoolVar(&spec.host, "host", false, "pod: in the node's network namespace")
	stay := fs.Bool("stay", false, "pod: leave it running")
	lasts := fs.Duration("for", 0, "pod: remove it after this `TIME`, if its command has not ended before")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return errRuntimeUsage
	}
	spec.name, spec.command = fs.Arg(0), fs.Args()[1:]
	r, err := dialRuntime()
	if err != nil {
		return err
	}
	defer r.Close()
	if args[0] == "pod" {
		return r.makePod(ctx, spec, *stay || len(spec.command) == 0 && *lasts == 0, *lasts)
	}
	p, err := r.find(ctx, spec.namespace, spec.name)
	if err != nil {
		return err
	}
	switch {
	case args[0] == "rm" && len(spec.command) == 0:
		return r.remove(ctx, p)
	case args[0] == "exec" && len(spec.command) > 0:
		return r.exec(ctx, p, spec.command...)
	}
	return errRuntimeUsage
}

// makePod makes a pod and prints it as a line of JSON. One that does not stay is
// removed when its command has ended or its time is up.
func (r *podRuntime) makePod(ctx context.Context, spec podSpec, stay bool, lasts time.Duration) error {
	p, err := r.run(ctx, spec)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(p); err != nil {
		return err
	}
	if stay {
		return nil
	}
	_, err = r.await(ctx, p, lasts)
	if lasts > 0 && errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return errors.Join(err, r.remove(ctx, p))
}
