// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/tracer"
)

// liveOptions is what the command line of a command that observes the kernel
// says, checked.
type liveOptions struct {
	config     tracer.Config
	selection  selection
	bounds     bounds
	onlyNode   string
	exitStatus bool
	show       *showing         // nil: no traversal is shown
	recording  *recordOptions   // nil: none
	capture    *capture         // nil: none
	cluster    cluster          // nil: none
	sets       []*namedSet      // of the selection, that follow the cluster
	asked      <-chan os.Signal // by each somebody asks what was counted so far
}

// close ends what the options hold open.
func (o *liveOptions) close() {
	if o.cluster != nil {
		o.cluster.Close()
	}
}

// showing is what is written about traversals.
type showing struct {
	form       string
	noColor    bool
	explain    bool
	failedOnly bool
}

func newShowing(c *cli.Context) *showing {
	return &showing{form: c.String("output"), noColor: c.Bool("no-color"), explain: c.Bool("explain"), failedOnly: c.Bool("failed")}
}

// liveOptions reads and checks the flags. What it returns is to be closed.
func (a *app) liveOptions(c *cli.Context) (_ *liveOptions, err error) {
	o := &liveOptions{
		bounds:   bounds{limit: c.Duration("for"), count: c.Int("count"), readyFile: c.String("ready-file")},
		onlyNode: c.String("only-node"), exitStatus: c.Bool("exit-status"),
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
	if err := readKeep(c, &o.config); err != nil {
		return nil, err
	}
	o.config.Warn = func(text string) { a.say("warning: %s", text) }

	names, err := readNames(c.String("names"), &o.config)
	if err != nil {
		return nil, err
	}
	if err := a.checkOnlyNode(o.onlyNode, names); err != nil {
		return nil, err
	}
	if o.cluster, err = a.openCluster(c, o.config.Warn); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	if err := a.selectLive(c, o, names); err != nil {
		return nil, err
	}
	if a.command != nil {
		if o.bounds.child, err = newChild(a.sys, a.errw, a.command); err != nil {
			return nil, err
		}
	}
	return o, removeStale(o.bounds.readyFile)
}

// selectLive reads what is selected.
func (a *app) selectLive(c *cli.Context, o *liveOptions, names *events.NamesFile) (err error) {
	o.selection = newSelection(a, c)
	if o.cluster != nil && o.selection.needsNames() {
		a.settle(o.cluster)
	}
	t := &targets{
		sys: a.sys, names: names, namesPath: c.String("names"), cluster: o.cluster, warn: o.config.Warn, namespace: o.selection.namespace,
	}
	o.config.Select, err = o.selection.compile(t)
	o.config.All, o.sets = o.selection.all, t.sets
	if err == nil {
		a.leaveOutOwn(&o.config)
	}
	return err
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

// checkOnlyNode refuses a node that the names file does not have. Without one there
// is the node that this machine is: where nodes are containers, the one that this
// runs in.
func (a *app) checkOnlyNode(node string, names *events.NamesFile) error {
	if node == "" {
		return nil
	}
	if names == nil {
		host, err := a.sys.hostname()
		if err == nil && host == node {
			return nil
		}
		return fmt.Errorf("--only-node needs --names FILE, which says which namespaces are the node's, unless it is the host name, %s", events.Safe(host))
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
