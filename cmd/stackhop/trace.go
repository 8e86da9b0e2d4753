// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/tracer"
)

func (a *app) traceCommand() *cli.Command {
	return &cli.Command{
		Name:               "trace",
		Usage:              "show where packets go and how they end, live",
		ArgsUsage:          "[PCAP-FILTER] [-- COMMAND...]",
		CustomHelpTemplate: traceHelp,
		Flags:              traceFlags(),
		Action:             a.trace,
	}
}

// Categories of flags; help texts sort them by name.
const (
	choosing = "Choosing packets:"
	bounding = "Bounding the cost:"
	ending   = "Ending:"
	naming   = "Names:"
	writing  = "Output:"
	running  = "Running:"
)

func traceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "from", Category: choosing, Usage: "connections with an end at `T`; with --to, those between the two"},
		&cli.StringSliceFlag{Name: "to", Category: choosing, Usage: "connections with an end at `T`; with --from, those between the two"},
		&cli.StringSliceFlag{Name: "with", Category: choosing, Usage: "connections with an end at `T`, beside what --from and --to say"},
		&cli.StringFlag{Name: "namespace", Aliases: []string{"n"}, Category: choosing, Usage: "Kubernetes namespace `NS` of the pods and services above; alone: everything that begins or ends in it"},
		boolFlag("all", choosing, "every packet; costs the node more than a selection"),
		boolFlag("failed", choosing, "show only what was neither delivered nor left the node"),
		outputFlag(writing, "line", "tree", "json"),
		boolFlag("no-color", writing, "no colours, as with NO_COLOR set or without a terminal"),
		&cli.DurationFlag{Name: "for", Category: ending, DefaultText: "until Ctrl-C", Usage: "end after a `TIME` such as 30s"},
		&cli.IntFlag{Name: "count", Category: ending, DefaultText: "no limit", Usage: "end after `N` traversals shown"},
		&cli.StringFlag{Name: "sample", Category: bounding, DefaultText: "1/1", Usage: "follow only `1/N` of the connections, each whole"},
		&cli.UintFlag{Name: "rate", Category: bounding, DefaultText: "no limit", Usage: "about `N` events a second: beyond it no further packet is followed for the rest of a tenth of a second; those are counted, the others sent whole"},
		boolFlag("exit-status", ending, "exit with 2 if events were lost, 3 if a traversal was terminated, 4 if nothing matched"),
		&cli.StringFlag{Name: "names", Category: naming, Usage: "names for namespaces and addresses, from `FILE`"},
		&cli.StringFlag{Name: "only-node", Category: naming, Usage: "observe the node `NAME` of the names file alone, as if this ran on it"},
		&cli.StringFlag{Name: "hooks", Category: running, Value: string(tracer.HooksAll), Usage: "`SET` of hooks: all, or tracepoints on kernels that refuse function hooks (no IPVS, conntrack, netfilter, IP and sockets then)"},
		&cli.StringFlag{Name: "ready-file", Category: running, Usage: "write `PATH` once everything is attached"},
		&cli.StringFlag{Name: "capture", Hidden: true, Usage: "write every event to `FILE`, for the project's own tests"},
	}
}

// boolFlag is a switch; "(default: false)" behind each would tell nothing.
func boolFlag(name, category, usage string) *cli.BoolFlag {
	return &cli.BoolFlag{Name: name, Category: category, Usage: usage, DisableDefaultText: true}
}

// traceOptions is what the command line of trace says, checked.
type traceOptions struct {
	config     tracer.Config
	bounds     bounds
	onlyNode   string
	output     string
	noColor    bool
	failedOnly bool
	exitStatus bool
	capture    *capture // nil: none
}

// trace is the command.
func (a *app) trace(c *cli.Context) error {
	o, err := a.traceOptions(c)
	if err != nil {
		return err
	}
	if err := removeStale(o.bounds.readyFile); err != nil {
		return err
	}
	if o.capture, err = newCapture(c.String("capture")); err != nil {
		return err
	}
	tr, err := a.attach(o.config)
	if err != nil {
		return errors.Join(err, o.capture.discard())
	}
	result, err := a.runSession(c.Context, tr, o)
	quiet := closedPipe(err) // whoever read has seen enough
	if !quiet {
		a.say("%s", result.summary())
	}
	// After the summary: to detach 80 hooks takes the kernel seconds, one grace
	// period each.
	if closeErr := tr.Close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("detach: %w", closeErr))
	}
	if quiet {
		return nil
	}
	if err != nil {
		return err
	}
	if result.stitched.Traversals == 0 {
		a.say("nothing matched: '%s trace --all --count 5' shows what passes here", a.name)
	}
	if status := result.status(); o.exitStatus && status != exitDone {
		return exitStatus(status)
	}
	return nil
}

// traceOptions reads and checks the flags.
func (a *app) traceOptions(c *cli.Context) (*traceOptions, error) {
	o := &traceOptions{
		bounds:   bounds{limit: c.Duration("for"), count: c.Int("count"), readyFile: c.String("ready-file")},
		onlyNode: c.String("only-node"), output: c.String("output"), noColor: c.Bool("no-color"),
		failedOnly: c.Bool("failed"), exitStatus: c.Bool("exit-status"),
	}
	if c.IsSet("for") && o.bounds.limit <= 0 {
		return nil, errors.New("--for: the time must be more than 0")
	}
	if c.IsSet("count") && o.bounds.count <= 0 {
		return nil, errors.New("--count: the number must be more than 0")
	}
	if err := readBounds(c, &o.config); err != nil {
		return nil, err
	}
	o.config.Hooks = tracer.HookSet(c.String("hooks"))
	if o.config.Hooks != tracer.HooksAll && o.config.Hooks != tracer.HooksTracepoints {
		return nil, fmt.Errorf("--hooks %s: there are all and tracepoints", events.Safe(c.String("hooks")))
	}
	o.config.Warn = func(text string) { a.say("warning: %s", text) }

	names, err := readNames(c.String("names"), &o.config)
	if err != nil {
		return nil, err
	}
	if err := checkOnlyNode(o.onlyNode, names); err != nil {
		return nil, err
	}
	s := selection{
		from: c.StringSlice("from"), to: c.StringSlice("to"), with: c.StringSlice("with"),
		namespace: c.String("namespace"), all: c.Bool("all"), expression: strings.Join(c.Args().Slice(), " "),
		program: a.name,
	}
	t := &targets{sys: a.sys, names: names, namesPath: c.String("names"), namespace: s.namespace}
	if o.config.Select, err = s.compile(t); err != nil {
		return nil, err
	}
	o.config.All = s.all
	if a.command != nil {
		if o.bounds.child, err = newChild(a.sys, a.errw, a.command); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// readBounds reads what bounds the cost of a run.
func readBounds(c *cli.Context, cfg *tracer.Config) error {
	if c.IsSet("sample") {
		n, err := strconv.ParseUint(strings.TrimPrefix(c.String("sample"), "1/"), 10, 32)
		if err != nil || n == 0 {
			return fmt.Errorf("--sample %s: give 1/N, for example 1/100", events.Safe(c.String("sample")))
		}
		cfg.Sample = uint32(n)
	}
	if c.IsSet("rate") {
		n := c.Uint("rate")
		if n == 0 || uint64(n) > math.MaxUint32 {
			return errors.New("--rate: the number of events a second must be more than 0, and fit in 32 bits")
		}
		cfg.Rate = uint32(n)
	}
	return nil
}

// readNames reads the names file, if there is one.
func readNames(path string, cfg *tracer.Config) (*events.NamesFile, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // no file, no names
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--names: %w", err)
	}
	defer f.Close()
	// One byte more than allowed, so that the parser can refuse it.
	data, err := io.ReadAll(io.LimitReader(f, events.MaxNamesFile+1))
	if err != nil {
		return nil, fmt.Errorf("--names: %w", err)
	}
	names, err := events.ParseNamesFile(data)
	if err != nil {
		return nil, fmt.Errorf("--names %s: %w", events.Safe(path), err)
	}
	cfg.NamesFile = data
	return names, nil
}

// checkOnlyNode refuses a node that the names file does not have.
func checkOnlyNode(node string, names *events.NamesFile) error {
	if node == "" {
		return nil
	}
	if names == nil {
		return errors.New("--only-node needs --names FILE, which says which namespaces are the node's")
	}
	var known []string
	for i := range names.Netns {
		if ns := names.Netns[i].Namespace(); ns.Kind == events.KindNode {
			if ns.Node == node {
				return nil
			}
			known = append(known, ns.Node)
		}
	}
	return fmt.Errorf("--only-node: the names file has no netns of kind node called %s%s", events.Safe(node), didYouMean(node, known))
}

// removeStale removes what an earlier run left, before anyone can take it for
// ours. Pipes and other things stay.
func removeStale(path string) error {
	if path == "" {
		return nil
	}
	st, err := os.Lstat(path)
	if err == nil && st.Mode().IsRegular() {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("--ready-file: %w", err)
	}
	return nil
}

// runSession runs tr until something ends it.
func (a *app) runSession(parent context.Context, tr liveTracer, o *traceOptions) (outcome, error) {
	ctx, stop := a.sys.interruptible(parent)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	s := &session{
		bounds: o.bounds, failedOnly: o.failedOnly, capture: o.capture, out: newOutput(a.sys.stdout), ctx: ctx, cancel: cancel,
		losses: func() map[string]uint64 { st := tr.Stats(); return lossesOf(&st) }, warn: o.config.Warn,
	}
	s.render = newRenderer(a.sys, o.output, o.noColor, s.out)
	node, err := a.sys.hostname()
	if err != nil {
		node = "" // the names may still have one
	}
	s.stitcher = events.NewStitcher(events.Config{
		Hooks: tr.Table(), Names: tr.Names(), Wall: tr.Wall,
		Node: node, OnlyNode: o.onlyNode, HasFunctions: tr.HasFunctions(),
	}, s.show)
	a.announce(tr, "following packets", &o.bounds)
	if !tr.HasFunctions() {
		a.say("tracepoints only: IPVS, conntrack, netfilter, IP and sockets are not observed, and nothing is claimed about them")
	}

	err = tr.Run(ctx, s)
	s.stitcher.Flush()
	if s.child != nil {
		s.child.stop()
	}
	result := outcome{shown: s.shown, unwritten: s.out.close(outputPatience)}
	// The counters are read before the tracer is closed, after the last event.
	result.kernel, result.stitched = tr.Stats(), s.stitcher.Stats()
	if outErr := s.out.err(); outErr != nil {
		err = errors.Join(fmt.Errorf("write to standard output: %w", outErr), err)
	}
	if s.child != nil && s.child.cmd.ProcessState != nil && s.child.err != nil {
		a.say("COMMAND: %v", s.child.err)
	}
	return result, errors.Join(s.err, err, o.capture.write(tr, a.sys.kernelRelease(), strings.Join(a.command, " ")))
}

// slowAttach is the time after which somebody may wonder what is going on.
const slowAttach = time.Second

// attach makes the tracer of a run.
func (a *app) attach(c tracer.Config) (liveTracer, error) {
	timer := time.AfterFunc(slowAttach, func() { a.say("attaching hooks…") })
	defer timer.Stop()
	return a.sys.newTracer(c)
}

// announce says that something begins, and what ends it.
func (a *app) announce(tr liveTracer, what string, b *bounds) {
	attached := uint64(0)
	for _, h := range tr.Attached() {
		if h.How != "" && h.How != "absent" {
			attached++
		}
	}
	var ends []string
	if b.child != nil {
		ends = append(ends, "with COMMAND")
	}
	if b.limit > 0 {
		ends = append(ends, "after "+b.limit.String())
	}
	if b.count > 0 {
		ends = append(ends, "after "+plural(uint64(b.count), "traversal"))
	}
	ends = append(ends, "with Ctrl-C")
	a.say("%s attached, %s; ends %s", plural(attached, "hook"), what, strings.Join(ends, " or "))
}

var _ tracer.Sink = (*session)(nil)
