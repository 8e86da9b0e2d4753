// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

func (a *app) replayCommand() *cli.Command {
	return &cli.Command{
		Name:               "replay",
		Usage:              "show a recording again, anywhere; several files are several nodes, merged",
		ArgsUsage:          "FILE... [PCAP-FILTER]",
		CustomHelpTemplate: replayHelp,
		Flags: slices.Concat(choosingFlags(), showingFlags("line", "tree", "json", "summary"), rangeFlags(), []cli.Flag{
			&cli.IntFlag{Name: "count", Category: ending, DefaultText: "no limit", Usage: "end after `N` traversals shown"},
			boolFlag("exit-status", ending, "exit with 2 if events were lost, 3 if a traversal was terminated, 4 if nothing matched"),
		}),
		Action: a.replay,
	}
}

// rangeFlags choose a part of a recording by time.
func rangeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "since", Category: choosing, DefaultText: "the beginning", Usage: "what began at `TIME` or later: 2026-01-02T15:04:05Z, 15:04:05 on the recording's day, or +10s after its beginning"},
		&cli.StringFlag{Name: "until", Category: choosing, DefaultText: "the end", Usage: "what began before `TIME`, given likewise"},
	}
}

// replayOptions is what the command line of a command that reads recordings says.
type replayOptions struct {
	sources      []*source
	filter       *pcapexpr.Expr // nil: all that was recorded
	since, until time.Time      // zero: no bound
	wires        bool           // events.Config.Wires, also for a single node
	reuse        bool           // events.Config.Reuse, for a single node: nothing is kept of a traversal
}

// replayOptions looks into the files and reads the flags. What is not a file
// among the arguments is an expression.
func (a *app) replayOptions(c *cli.Context) (*replayOptions, error) {
	files, words, err := splitFiles(c.Args().Slice())
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no recording is named\n  give one file for each node: %s n1.hop n2.hop", c.Command.HelpName)
	}
	if a.command != nil {
		return nil, errNoCommand(c)
	}
	if c.Bool("explain") && c.String("output") == "summary" {
		return nil, errors.New("--explain is for single packets: -o line, tree or json")
	}
	o := &replayOptions{}
	if o.sources, err = openSources(files); err != nil {
		return nil, err
	}
	if o.filter, err = a.offlineSelection(c, words, o.sources); err != nil {
		if len(words) > 0 && strings.ContainsAny(words[0], `./\`) {
			err = fmt.Errorf("%w\n  and there is no file %s", err, quoted(words[0]))
		}
		return nil, err
	}
	start := time.Unix(0, o.sources[0].meta().Clock.Real)
	if o.since, err = parseMoment(c.String("since"), start); err != nil {
		return nil, fmt.Errorf("--since: %w", err)
	}
	if o.until, err = parseMoment(c.String("until"), start); err != nil {
		return nil, fmt.Errorf("--until: %w", err)
	}
	return o, nil
}

// files are those that are read.
func (o *replayOptions) files() (out []string) {
	for _, s := range o.sources {
		for _, p := range s.parts {
			out = append(out, p.path)
		}
	}
	return out
}

// sourceOf is the number of the source that is a node's.
func (o *replayOptions) sourceOf(node string) int {
	return max(0, slices.IndexFunc(o.sources, func(s *source) bool { return s.node() == node }))
}

// splitFiles tells recordings, which come first, from the words of an expression.
func splitFiles(args []string) (files, words []string, err error) {
	for i, arg := range args {
		_, statErr := os.Stat(arg)
		if statErr != nil && !strings.HasSuffix(arg, ".hop") {
			if i == 0 {
				return nil, nil, fmt.Errorf("%s is not a recording: %w", quoted(arg), errors.Unwrap(statErr))
			}
			return args[:i], args[i:], nil
		}
	}
	return args, nil, nil
}

// parseMoment reads a time on the day of start, or after it.
func parseMoment(s string, start time.Time) (time.Time, error) {
	switch {
	case s == "":
		return time.Time{}, nil
	case s[0] == '+':
		if d, err := time.ParseDuration(s[1:]); err == nil {
			return start.Add(d), nil
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	if t, err := time.Parse("15:04:05.999999999", s); err == nil {
		y, m, d := start.UTC().Date()
		return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC), nil
	}
	return time.Time{}, fmt.Errorf("%s is not a time: give 2026-01-02T15:04:05Z, 15:04:05 (UTC, on the recording's day) or +10s", quoted(s))
}

// within says whether a traversal began in the time asked for.
func (o *replayOptions) within(t *events.Traversal) bool {
	return (o.since.IsZero() || !t.Time.Before(o.since)) && (o.until.IsZero() || t.Time.Before(o.until))
}

// replay is the command.
func (a *app) replay(c *cli.Context) error {
	o, err := a.replayOptions(c)
	if err != nil {
		return err
	}
	ctx, stop := a.sys.interruptible(c.Context)
	defer stop()
	d := newDisplay(a.sys, newShowing(c), c.Int("count"))
	o.reuse = true
	result, err := a.readAll(ctx, o, func(t *events.Traversal) error {
		full, err := d.show(ctx, t)
		if full && err == nil {
			err = errEnough
		}
		return errors.Join(err, d.err(), ctx.Err())
	})
	if errors.Is(err, errEnough) || errors.Is(err, context.Canceled) {
		err = nil
	}
	err = errors.Join(err, d.finish())
	unwritten := d.close(ctx, replayPatience)
	switch outErr := d.err(); {
	case closedPipe(outErr): // whoever read has seen enough
		return nil
	case outErr != nil:
		return fmt.Errorf("write to standard output: %w", outErr)
	case err != nil:
		return err
	}
	came := result.outcome(d.shown)
	came.unwritten = unwritten
	if err := a.conclude(result, came); err != nil {
		return err
	}
	if status := came.status(); c.Bool("exit-status") && status != exitDone {
		return exitStatus(status)
	}
	return nil
}

// replayPatience is how long a slow reader of the output is waited for. Nothing
// is lost in the meantime: what is not written yet waits in the files.
const replayPatience = time.Hour
