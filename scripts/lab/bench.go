// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// A benchWay is one way to run the same requests.
type benchWay struct {
	name, filter string // an empty filter: no tool
}

var benchWays = []benchWay{
	{"untraced", ""},
	{"a filter that matches nothing", "host 192.0.2.99"},
	{"everything selected", "tcp or udp"},
}

// benchPlan is a client on one node that asks a ClusterIP whose backend is on
// another, over kept connections, each with one question under way.
var benchPlan = churnPlan{from: "centos", to: "nginx1a", proto: "tcp", dst: vipNginx1 + ":80", listen: ":80",
	packets: 3000, flows: 8, size: 64, window: 1}

// cmdBench measures the rate of requests without the tool, with one that selects
// nothing, and with one that selects everything, by turns: what the machine does
// beside it hits all of them alike. Under emulation only the ratios mean something.
func cmdBench(args []string) error {
	fs := flags("bench")
	path := fs.String("tool", "", "stackhop's program (default: beside this one, or on PATH)")
	rounds := fs.Int("rounds", 3, "how often each way is measured")
	if _, err := parse(fs, args, 0, "[-rounds N] [-tool PATH]"); err != nil {
		return err
	}
	t, err := findTool(*path)
	if err != nil {
		return err
	}
	rates := make([][]float64, len(benchWays))
	said := make([]string, len(benchWays))
	if _, err := churn(benchPlan); err != nil { // neighbours learned, caches warm
		return err
	}
	for round := range *rounds {
		for i, way := range benchWays {
			rate, text, err := way.measure(t)
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			fmt.Fprintf(os.Stderr, "lab: round %d, %s: %.0f requests a second\n", round+1, way.name, rate)
			rates[i] = append(rates[i], rate)
			said[i] = text
		}
	}
	return benchTable(rates, said)
}

func (w benchWay) measure(t tool) (rate float64, said string, err error) {
	if w.filter == "" {
		report, err := churn(benchPlan)
		return report.Rate, "", err
	}
	s, err := t.start(w.filter)
	if err != nil {
		return 0, "", err
	}
	report, err := churn(benchPlan)
	if err != nil {
		return 0, "", err
	}
	if err := s.interrupt(); err != nil {
		return 0, "", err
	}
	for _, line := range s.summary() {
		if strings.Contains(line, "matched with") {
			said = line
		}
	}
	return report.Rate, said, nil
}

func benchTable(rates [][]float64, said []string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WAY\tREQUESTS/S (MEDIAN)\tOF UNTRACED\tTHE TOOL SAYS")
	base := median(rates[0])
	for i, way := range benchWays {
		fmt.Fprintf(w, "%s\t%.0f\t%.0f %%\t%s\n", way.name, median(rates[i]), 100*median(rates[i])/base, said[i])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if want := "0 packets matched with 0 events, 0 delivered"; !strings.HasPrefix(said[1], want) {
		return fmt.Errorf("the filter that matches nothing: %q, want %q", said[1], want)
	}
	return nil
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
