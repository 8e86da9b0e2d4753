// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
	"github.com/stackhop/stackhop/tracer"
)

// A drain is a reader that makes nothing of events: what the tool costs beside one is
// the price of the hooks and of telling of events, which no reader can be without.
type drain struct{ events uint64 }

func (d *drain) Event(*events.Event)          { d.events++ }
func (d *drain) Tick(_, _ uint64) (more bool) { return false }

// cmdDrain reads the events of what is selected, until Ctrl-C. What it says is what
// bpftrace says of a map that counts: the benchmarks read that.
func cmdDrain(args []string) error {
	fs := flags("drain")
	hooks := fs.String("hooks", string(tracer.HooksAll), "all or tracepoints")
	rest, err := parse(fs, args, 1, "[-hooks SET] FILTER")
	if err != nil {
		return err
	}
	expr, err := pcapexpr.Parse(rest[0])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ended := make(chan error)
	// Not on the first thread: there a goroutine costs a switch each time that it waits.
	go func() { ended <- drainInto(ctx, tracer.Config{Select: expr, Hooks: tracer.HookSet(*hooks)}) }()
	return <-ended
}

func drainInto(ctx context.Context, cfg tracer.Config) error {
	t, err := tracer.New(cfg)
	if err != nil {
		return err
	}
	fmt.Println(bpftraceReady)
	var d drain
	err = errors.Join(t.Run(ctx, &d), t.Close())
	fmt.Printf("@: %d\n", d.events)
	return err
}
