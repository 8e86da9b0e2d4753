// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
	"github.com/stackhop/stackhop/tracer"
)

// countTime is how long hooks --count counts unless told otherwise.
const countTime = 5 * time.Second

func (a *app) hooksCommand() *cli.Command {
	return &cli.Command{
		Name:               "hooks",
		Usage:              "the places where packets are observed, and which of them this kernel has",
		ArgsUsage:          "[-- COMMAND...]",
		CustomHelpTemplate: hooksHelp,
		Flags: []cli.Flag{
			boolFlag("count", "", "count how often each hook fires, for all packets of the machine"),
			&cli.DurationFlag{Name: "for", DefaultText: "5s, or until COMMAND ends", Usage: "count for a `TIME`"},
			&cli.StringFlag{Name: "hooks", Value: string(tracer.HooksAll), Usage: "count in the `SET`: all or tracepoints"},
			keepFlag(""),
			outputFlag("", "table", "json"),
		},
		Action: a.plainAction(true, a.hooks),
	}
}

func (a *app) hooks(c *cli.Context) error {
	if !c.Bool("count") {
		if a.command != nil || c.IsSet("for") || c.IsSet("hooks") || c.IsSet("keep-caps") {
			return errors.New("--for, --hooks, --keep-caps and -- COMMAND are for hooks --count")
		}
		table, err := a.sys.hookTable()
		if err != nil {
			return err
		}
		return writeHooks(a.sys.stdout, table, c.String("output"), false)
	}
	table, err := a.countHooks(c)
	if table != nil { // what was counted is shown, also if something failed at the end
		err = errors.Join(err, writeHooks(a.sys.stdout, table, c.String("output"), true))
	}
	return err
}

// countHooks attaches everything, and follows nothing.
func (a *app) countHooks(c *cli.Context) (table []tracer.HookStatus, err error) {
	if c.IsSet("for") && c.Duration("for") <= 0 {
		return nil, errors.New("--for: the time must be more than 0")
	}
	b := bounds{limit: c.Duration("for")}
	if a.command != nil {
		if b.child, err = newChild(a.sys, a.errw, a.command); err != nil {
			return nil, err
		}
	} else if b.limit == 0 {
		b.limit = countTime
	}
	cfg := tracer.Config{
		Select: pcapexpr.None(), Count: true, Hooks: tracer.HookSet(c.String("hooks")), Later: tracer.Later{Command: b.child != nil},
		Warn: func(text string) { a.say("warning: %s", text) },
	}
	if err := readKeep(c, &cfg); err != nil {
		return nil, err
	}
	tr, err := a.attach(cfg, false)
	debug.FreeOSMemory()
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := tr.Close(); closeErr != nil {
			err = errors.Join(err, fmt.Errorf("detach: %w", closeErr))
		}
	}()
	ctx, stop := a.sys.interruptible(c.Context)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{
		tr: tr, own: a.sys.own, bounds: b, ctx: ctx, cancel: cancel, display: &display{out: newOutput(io.Discard)},
		stitcher: events.NewStitcher(events.Config{}, func(*events.Traversal) {}),
	}
	defer s.display.close(ctx, 0)
	if err := a.dropPrivilege(tr, &cfg, b.child); err != nil {
		return nil, err
	}
	a.announce(tr, "counting", &b)
	err = tr.Run(ctx, s)
	if s.child != nil {
		err = errors.Join(err, s.child.stop())
	}
	return tr.Attached(), errors.Join(s.err, err)
}

func writeHooks(w io.Writer, table []tracer.HookStatus, form string, counted bool) error {
	if form == "json" {
		return writeHooksJSON(w, table, counted)
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	columns := []string{"HOOK", "STATION", "FUNCTION", "HOW", "NEED", "MEANS"}
	if counted {
		columns = append([]string{"HITS"}, columns...)
	}
	writeRow(tw, columns)
	for _, h := range table {
		need := "optional"
		if h.Required {
			need = "required"
		}
		means := h.Means
		if h.Kernels != "" {
			means += "; kernels: " + h.Kernels
		}
		if h.Err != "" {
			means += " (" + h.Err + ")"
		}
		row := []string{h.Name, h.Station, h.Function, h.How, need, means}
		if counted {
			row = append([]string{strconv.FormatUint(h.Hits, 10)}, row...)
		}
		writeRow(tw, row)
	}
	if err := tw.Flush(); err != nil && !closedPipe(err) {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// writeRow writes one row; Flush reports its errors.
func writeRow(tw *tabwriter.Writer, cells []string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	_, _ = fmt.Fprintln(tw, strings.Join(cells, "\t"))
}

func writeHooksJSON(w io.Writer, table []tracer.HookStatus, counted bool) error {
	enc := json.NewEncoder(w)
	for i := range table {
		var row any = &table[i]
		if counted { // a hook that never fired says so
			row = struct {
				tracer.HookStatus
				Hits uint64 `json:"hits"`
			}{table[i], table[i].Hits}
		}
		if err := enc.Encode(row); err != nil {
			if closedPipe(err) {
				return nil
			}
			return fmt.Errorf("write to standard output: %w", err)
		}
	}
	return nil
}
