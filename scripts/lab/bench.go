// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// benchOptions are what the command line says.
type benchOptions struct {
	rounds      int
	lasts       time.Duration
	loads, ways string // names, separated by commas; empty: all
	peer        string
	pair        bool
	form, dir   string
	tool        string
}

func (o *benchOptions) flags() *flag.FlagSet {
	fs := flags("bench")
	fs.IntVar(&o.rounds, "rounds", 3, "how often each way is measured")
	fs.DurationVar(&o.lasts, "for", 3*time.Second, "how long one run takes")
	fs.StringVar(&o.loads, "loads", "", "only these `LOADS`: "+names(benchLoads, func(l benchLoad) string { return l.name }))
	fs.StringVar(&o.ways, "ways", "", "only these `WAYS` beside untraced, by the first words of their names: nothing, everything, record, events, hooks, bpftrace, peer")
	fs.StringVar(&o.peer, "peer", "", "also this tracer: a `COMMAND` for sh, ended by SIGINT; it is ready when it said something, or after 5 s")
	fs.BoolVar(&o.pair, "pair", false, "on two pods on a bridge of this machine, with the hooks of --hooks tracepoints, instead of in the cluster")
	fs.StringVar(&o.form, "o", "table", "`FORM` of standard output: table, or json (a line for each run)")
	fs.StringVar(&o.dir, "dir", "", "write both forms into this `FOLDER` too: bench.txt, bench.json")
	fs.StringVar(&o.tool, "tool", "", "stackhop's program (default: beside this one, or on PATH)")
	return fs
}

// cmdBench measures traffic without a tracer and beside each of several, by
// turns: what the machine does beside it hits all of them alike. Under emulation
// only the ratios mean something.
func cmdBench(args []string) error {
	var o benchOptions
	if _, err := parse(o.flags(), args, 0, "[flags]"); err != nil {
		return err
	}
	if o.rounds < 1 || o.lasts <= 0 || o.form != "table" && o.form != "json" {
		return errors.New("want at least one -rounds, a -for of some time, and -o table or json")
	}
	t, err := findTool(o.tool)
	if err != nil {
		return err
	}
	if !o.pair {
		return o.measure(t, clusterSite, siteCluster)
	}
	return withPair(func(p pairInfo) error { return o.measure(t, pairSite(p), sitePair) })
}

// withPair builds a pair for a while. It is removed on Ctrl-C too.
func withPair(do func(pairInfo) error) error {
	p := newPair("")
	told, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(told, os.Interrupt, unix.SIGTERM)
	defer signal.Stop(told)
	defer close(done)
	go func() {
		select {
		case <-told:
			if err := pairDown(p.ID); err != nil {
				fmt.Fprintf(os.Stderr, "lab: remove the pair: %v\n", err)
			}
			os.Exit(130)
		case <-done:
		}
	}()
	if err := p.build(); err != nil {
		return errors.Join(err, pairDown(p.ID))
	}
	return errors.Join(do(p), pairDown(p.ID))
}

func (o *benchOptions) measure(t tool, site benchSite, name string) error {
	ways, left, err := o.choose(t, site)
	if err != nil {
		return err
	}
	loads, err := named(benchLoads, o.loads, func(l benchLoad) string { return l.name })
	if err != nil {
		return err
	}
	b := bench{Kernel: kernelRelease(), Site: name, rounds: o.rounds, lasts: o.lasts, ways: ways, loads: loads, left: left}
	for round := range o.rounds {
		if err := b.round(site, round+1); err != nil {
			return err
		}
	}
	return errors.Join(o.write(&b), b.check())
}

// choose is which ways are measured, and lines about those that are not.
func (o *benchOptions) choose(t tool, site benchSite) (ways []benchWay, left []string, err error) {
	me, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	bare, err := bareWay(me, t, site)
	if err != nil {
		return nil, nil, err
	}
	ways = append(toolWays(t, site), drainWay(me, site), bare)
	bpftrace, missing, err := bpftraceWay(t, site)
	if err != nil {
		return nil, nil, err
	}
	if missing == "" {
		ways = append(ways, bpftrace)
	} else {
		left = append(left, missing)
	}
	if o.peer != "" {
		ways = append(ways, peerWay(o.peer))
	}
	ways, err = named(ways, o.ways, func(w benchWay) string { return w.name })
	return ways, left, err
}

// round measures all traffic untraced, beside the first way, untraced, beside the
// second, and so on: a way is attached once for all kinds of traffic.
func (b *bench) round(site benchSite, round int) error {
	before, err := b.untraced(site, round)
	if err != nil {
		return err
	}
	for _, w := range b.ways {
		during, err := w.around(b.loads, site, b.lasts)
		if err != nil {
			return err
		}
		after, err := b.untraced(site, round)
		if err != nil {
			return err
		}
		for i, d := range during {
			f := b.figure(i, w.name, round, d.loadResult)
			f.Ratio, f.Cost, f.Run = ratio(d.rate, before[i].rate, after[i].rate), &d.cost, d.run
			b.runs = append(b.runs, f)
			fmt.Fprintf(os.Stderr, "lab: %s, round %d, %s: %s of %s %s\n", f.Load, round, w.name, percent(f.Ratio), scaled(before[i].rate), f.Unit)
		}
		fmt.Fprintf(os.Stderr, "lab: round %d, %s: attached in %.2f s, detached in %.2f s\n", round, w.name, during[0].run.Attach, during[0].run.Detach)
		before = after
	}
	return nil
}

// untraced measures all traffic with nothing beside it.
func (b *bench) untraced(site benchSite, round int) (results []loadResult, err error) {
	for i, l := range b.loads {
		r, err := l.measure(site, b.lasts)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
		b.runs = append(b.runs, b.figure(i, untraced, round, r))
	}
	return results, nil
}

// figure is a run of a load.
func (b *bench) figure(load int, way string, round int, r loadResult) benchFigure {
	return benchFigure{Kernel: b.Kernel, Site: b.Site, Load: b.loads[load].name, Unit: b.loads[load].unit, Way: way, Round: round,
		Rate: r.rate, Errors: r.errors}
}

// warmUp is how long traffic goes on before it is measured: neighbours are learned,
// caches are warm, and an emulator has translated again what hooks have changed.
func warmUp(lasts time.Duration) time.Duration { return lasts / 3 }

// measure makes a load's traffic for a while, and then measures it.
func (l benchLoad) measure(site benchSite, lasts time.Duration) (loadResult, error) {
	if _, err := l.run(site, warmUp(lasts)); err != nil {
		return loadResult{}, err
	}
	return l.run(site, lasts)
}

// A benchDuring is what a load came to beside a way, and what it cost the way; and what
// the way's whole run did, the other loads included.
type benchDuring struct {
	loadResult
	cost benchCost
	run  *benchCost
}

// around makes the traffic of each load beside a way, one after the other.
func (w benchWay) around(loads []benchLoad, site benchSite, lasts time.Duration) (list []benchDuring, err error) {
	r, err := w.start()
	if err != nil {
		return nil, err
	}
	for _, l := range loads {
		d, failed := r.beside(l, site, lasts)
		if err = failed; err != nil {
			break
		}
		list = append(list, d)
	}
	run, stopped := r.stop()
	for i := range list {
		list[i].cost.Lag = r.proc.lines.percentile99(i)
		list[i].run = &run
	}
	return list, errors.Join(err, stopped)
}

// aroundOne is around with one load, and what the whole run cost.
func (w benchWay) aroundOne(l benchLoad, site benchSite, lasts time.Duration) (loadResult, benchCost, error) {
	list, err := w.around([]benchLoad{l}, site, lasts)
	if err != nil {
		return loadResult{}, benchCost{}, err
	}
	return list[0].loadResult, *list[0].run, nil
}

// write writes what was measured.
func (o *benchOptions) write(b *bench) error {
	text, lines := b.table(), b.lines()
	if o.dir != "" {
		if err := errors.Join(os.MkdirAll(o.dir, 0o755),
			os.WriteFile(filepath.Join(o.dir, "bench.txt"), []byte(text), 0o600),
			os.WriteFile(filepath.Join(o.dir, "bench.json"), lines, 0o600)); err != nil {
			return err
		}
	}
	out := []byte(text)
	if o.form == "json" {
		out = lines
	}
	_, err := os.Stdout.Write(out)
	return err
}

// named are those of a list whose name begins with one of the words; all
// without words.
func named[T any](list []T, words string, name func(T) string) (out []T, err error) {
	if words == "" {
		return list, nil
	}
	for word := range strings.SplitSeq(words, ",") {
		i := slices.IndexFunc(list, func(one T) bool { return strings.HasPrefix(name(one), word) })
		if i < 0 {
			return nil, fmt.Errorf("there is no %q here: there is %s", word, names(list, name))
		}
		out = append(out, list[i])
	}
	return out, nil
}

func names[T any](list []T, name func(T) string) string {
	var all []string
	for _, one := range list {
		all = append(all, name(one))
	}
	return strings.Join(all, ", ")
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
