// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stackhop/stackhop/scripts/internal/plot"
)

// growth is how the tool's cost grows, on a pair of pods in this machine's kernel.
type growth struct {
	tool   tool
	rounds int
	lasts  time.Duration // of one run
	long   time.Duration // of the run in which memory is watched
}

// growths are the pictures, by the names of their files.
var growths = []struct {
	name string
	make func(*growth) (*plot.Chart, error)
}{
	{"traffic", (*growth).traffic},
	{"flows", (*growth).flows},
	{"devices", (*growth).devices},
	{"idle", (*growth).idle},
	{"load", (*growth).load},
	{"memory", (*growth).memory},
}

// cmdGrowth measures and draws. Each picture is kept as points too.
func cmdGrowth(args []string) error {
	var g growth
	fs := flags("growth")
	fs.IntVar(&g.rounds, "rounds", 3, "how often each point is measured; the median counts")
	fs.DurationVar(&g.lasts, "for", 3*time.Second, "how long one run takes")
	fs.DurationVar(&g.long, "time", time.Minute, "how long the run is in which memory is watched")
	only := fs.String("only", "", "only these `PICTURES`: traffic, flows, devices, idle, load, memory")
	path := fs.String("tool", "", "stackhop's program (default: beside this one, or on PATH)")
	rest, err := parse(fs, args, 1, "[flags] FOLDER")
	if err != nil {
		return err
	}
	if g.rounds < 1 || g.lasts <= 0 || g.long <= 0 {
		return errors.New("want at least one -rounds, and a -for and a -time of some time")
	}
	if g.tool, err = findTool(*path); err != nil {
		return err
	}
	dir := rest[0]
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var passed error // a bound, by what was measured: the picture shows by how much
	for _, one := range growths {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), one.name) {
			continue
		}
		chart, err := one.make(&g)
		switch {
		case errors.Is(err, errSlowEnd):
			passed = errors.Join(passed, fmt.Errorf("%s: %w", one.name, err))
		case err != nil:
			return fmt.Errorf("%s: %w", one.name, err)
		}
		file := filepath.Join(dir, one.name+".json")
		if err := writeInto(file, chart.WriteJSON); err != nil {
			return err
		}
		if err := drawFile(file); err != nil {
			return err
		}
	}
	return passed
}

// cmdPlot draws files of points, each beside itself.
func cmdPlot(args []string) error {
	fs := flags("plot")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return errors.New("usage: lab plot FILE...")
	}
	for _, file := range fs.Args() {
		if err := drawFile(file); err != nil {
			return err
		}
	}
	return nil
}

func drawFile(file string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	chart, err := plot.Read(in)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	to := strings.TrimSuffix(file, filepath.Ext(file)) + ".svg"
	if err := writeInto(to, chart.WriteSVG); err != nil {
		return err
	}
	fmt.Println(to)
	return nil
}

// selecting is the tool with a selection, and what the growth of traffic needs.
func (g *growth) selecting(site benchSite, filter string, more ...string) benchWay {
	argv := slices.Concat([]string{g.tool.path, "trace", "-o", "json", "--names", site.names, "--no-kube", "--ready-file", readyFile},
		site.set, more, []string{filter})
	return benchWay{name: filter, own: true, argv: argv}
}

// trafficRates are the events a second that --rate lets through; 0: all.
var trafficRates = []int{1000, 10_000, 20_000, 50_000, 100_000, 200_000, 0}

// traffic is the rate of requests against the packets that are traced.
func (g *growth) traffic() (*plot.Chart, error) {
	c := &plot.Chart{Title: "Request rate against packets traced", X: "packets traced [1/s]", Y: "request rate, of untraced [%]",
		Note: g.note("8 kept TCP connections; --rate from 1000 events/s to no limit")}
	load := keptLoad
	return c, withPair(func(p pairInfo) error {
		site := pairSite(p)
		ways := []benchWay{g.selecting(site, selectNothing)}
		for _, n := range trafficRates {
			var limit []string
			if n > 0 {
				limit = []string{"--rate", fmt.Sprint(n)}
			}
			ways = append(ways, g.selecting(site, selectAll, limit...))
		}
		for _, w := range ways {
			var packets, ratios []float64
			for range g.rounds {
				before, err := load.measure(site, g.lasts)
				if err != nil {
					return err
				}
				during, cost, err := w.aroundOne(load, site, g.lasts)
				if err != nil {
					return err
				}
				after, err := load.measure(site, g.lasts)
				if err != nil {
					return err
				}
				packets = append(packets, float64(cost.Packets)/(g.lasts+warmUp(g.lasts)).Seconds())
				ratios = append(ratios, 100*ratio(during.rate, before.rate, after.rate))
			}
			c.Add(plot.Point{Series: "median of " + fmt.Sprint(g.rounds), X: median(packets), Y: median(ratios)})
			g.tell("%s packets/s traced: %.0f %% of the request rate", scaled(median(packets)), median(ratios))
		}
		return nil
	})
}

func (g *growth) note(text string) string {
	return fmt.Sprintf("Linux %s, two pods on a bridge, --hooks tracepoints; %s", kernelRelease(), text)
}

func (g *growth) tell(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "lab: "+format+"\n", args...)
}

// writeInto lets write fill a file.
func writeInto(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
