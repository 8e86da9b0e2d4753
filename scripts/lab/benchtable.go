// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A bench is what one run of the benchmark came to.
type bench struct {
	Kernel, Site string
	rounds       int
	lasts        time.Duration
	ways         []benchWay // without untraced
	loads        []benchLoad
	left         []string // lines about ways that were not measured
	runs         []benchFigure
}

// A benchFigure is one run of traffic.
type benchFigure struct {
	Kernel string  `json:"kernel"`
	Site   string  `json:"site"` // cluster or pair
	Load   string  `json:"load"`
	Unit   string  `json:"unit"` // of the rate
	Way    string  `json:"way"`
	Round  int     `json:"round"`
	Rate   float64 `json:"rate"`
	// Errors are questions that had no answer.
	Errors int64 `json:"errors"`
	// Ratio is the rate by the mean of the untraced runs before and after it.
	Ratio float64 `json:"ratio,omitempty"`
	// Cost is of this load, Run of all that one run of the tracer saw.
	Cost *benchCost `json:"cost,omitempty"`
	Run  *benchCost `json:"run,omitempty"`
}

// A benchCost is what a tracer took, and what it saw. Beside one of several loads it has
// neither its beginning and end nor a recording; and of somebody else's tracer the memory
// only.
type benchCost struct {
	Attach float64 `json:"attach_s,omitempty"` // from its start
	Detach float64 `json:"detach_s,omitempty"` // from SIGINT to its end
	Gone   float64 `json:"gone_s,omitempty"`   // from SIGINT until the kernel has none of its programs
	User   float64 `json:"user_s"`
	System float64 `json:"system_s"`
	// Lag is from a packet's end to its line, the 99th percentile; 0: no lines.
	Lag float64 `json:"line_p99_s,omitempty"`
	// PeakRSS is in KiB.
	PeakRSS int    `json:"peak_rss_kib"`
	Packets uint64 `json:"packets"`
	Matched uint64 `json:"events_matched"`
	Events  uint64 `json:"events"` // that user space got; of bpftrace: that it counted
	Lost    uint64 `json:"lost"`
	Shed    uint64 `json:"shed_packets"`
	NotRun  uint64 `json:"hooks_not_run"`
	// File is the recording's size in bytes, Recorded its events; 0: none was written.
	File     int64  `json:"file_bytes,omitempty"`
	Recorded uint64 `json:"file_events,omitempty"`
}

// ratio is a rate by the mean of those beside it; 0 if they are nothing.
func ratio(rate, before, after float64) float64 {
	if before+after <= 0 {
		return 0
	}
	return rate / ((before + after) / 2)
}

// median of an even number is the mean of the two in the middle; 0 of none.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	mid := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[mid-1] + sorted[mid]) / 2
	}
	return sorted[mid]
}

// of are the figures of a load and a way.
func (b *bench) of(load, way string) (list []benchFigure) {
	for _, f := range b.runs {
		if f.Load == load && f.Way == way {
			list = append(list, f)
		}
	}
	return list
}

// values takes one value of each figure.
func values(list []benchFigure, value func(benchFigure) float64) (out []float64) {
	for _, f := range list {
		out = append(out, value(f))
	}
	return out
}

// ratios of a way; those of untraced are of its own median, and so show how much
// the machine varies.
func (b *bench) ratios(load, way string) []float64 {
	list := b.of(load, way)
	if way != untraced {
		return values(list, func(f benchFigure) float64 { return f.Ratio })
	}
	rates := values(list, func(f benchFigure) float64 { return f.Rate })
	mid := median(rates)
	for i, r := range rates {
		rates[i] = ratio(r, mid, mid)
	}
	return rates
}

// table shows the ratios, then what they cost.
func (b *bench) table() string {
	var out bytes.Buffer
	fmt.Fprintf(&out, "Linux %s, %s, %d rounds of %v: of the untraced rate, median (lowest to highest)\n\n", b.Kernel, b.Site, b.rounds, b.lasts)
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "WAY")
	for _, l := range b.loads {
		fmt.Fprint(w, "\t"+strings.ToUpper(l.name))
	}
	fmt.Fprintln(w)
	for _, way := range slices.Concat([]benchWay{{name: untraced}}, b.ways) {
		fmt.Fprint(w, way.name)
		for _, l := range b.loads {
			fmt.Fprint(w, "\t"+spread(b.ratios(l.name, way.name)))
		}
		fmt.Fprintln(w)
	}
	w.Flush() // into memory
	out.WriteByte('\n')
	b.costs(&out)
	for _, way := range b.ways {
		if way.note != "" {
			fmt.Fprintf(&out, "%s: %s\n", way.name, way.note)
		}
	}
	for _, line := range b.left {
		fmt.Fprintln(&out, line)
	}
	return out.String()
}

// costs are the tables of what each way took, beside each load and in all; all figures
// are medians over the rounds.
func (b *bench) costs(out *bytes.Buffer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WAY\tTRAFFIC\tRATE\tNO ANSWER\tPEAK RSS\tEVENTS\tLOST\tSHED\tUSER CPU\tSYSTEM CPU\tLINE P99")
	for _, way := range slices.Concat([]benchWay{{name: untraced}}, b.ways) {
		for _, l := range b.loads {
			list := b.of(l.name, way.name)
			mid := func(value func(benchFigure) float64) float64 { return median(values(list, value)) }
			fmt.Fprintf(w, "%s\t%s\t%s %s\t%.0f", way.name, l.name, scaled(mid(func(f benchFigure) float64 { return f.Rate })), l.unit,
				mid(func(f benchFigure) float64 { return float64(f.Errors) }))
			cost := costOf(list, func(f benchFigure) *benchCost { return f.Cost })
			if way.name == untraced {
				fmt.Fprint(w, "\t-")
			} else {
				fmt.Fprintf(w, "\t%.1f MiB", cost(func(c *benchCost) float64 { return float64(c.PeakRSS) / 1024 }))
			}
			if way.own {
				fmt.Fprintf(w, "\t%.0f\t%.0f\t%.0f\t%.2f s\t%.2f s\t%.2f s", cost(func(c *benchCost) float64 { return float64(c.Events) }),
					cost(func(c *benchCost) float64 { return float64(c.Lost) }), cost(func(c *benchCost) float64 { return float64(c.Shed) }),
					cost(func(c *benchCost) float64 { return c.User }), cost(func(c *benchCost) float64 { return c.System }),
					cost(func(c *benchCost) float64 { return c.Lag }))
			} else {
				fmt.Fprint(w, strings.Repeat("\t-", 6))
			}
			fmt.Fprintln(w)
		}
	}
	w.Flush() // into memory
	out.WriteByte('\n')
	fmt.Fprintln(w, "WHOLE RUN\tATTACH\tDETACH\tALL GONE\tEVENTS\tUSER CPU\tSYSTEM CPU\tRECORDING")
	for _, way := range b.ways {
		cost := costOf(b.of(b.loads[0].name, way.name), func(f benchFigure) *benchCost { return f.Run })
		fmt.Fprintf(w, "%s\t%.2f s\t%.2f s\t%.2f s\t%.0f\t%.2f s\t%.2f s", way.name, cost(func(c *benchCost) float64 { return c.Attach }),
			cost(func(c *benchCost) float64 { return c.Detach }), cost(func(c *benchCost) float64 { return c.Gone }),
			cost(func(c *benchCost) float64 { return float64(c.Events) }), cost(func(c *benchCost) float64 { return c.User }),
			cost(func(c *benchCost) float64 { return c.System }))
		if each := cost(bytesRecorded); each > 0 {
			fmt.Fprintf(w, "\t%.2f bytes/event\n", each)
		} else {
			fmt.Fprintln(w, "\t-")
		}
	}
	w.Flush() // into memory
	out.WriteByte('\n')
}

// costOf takes the median of one of the costs of some runs.
func costOf(list []benchFigure, of func(benchFigure) *benchCost) func(func(*benchCost) float64) float64 {
	return func(value func(*benchCost) float64) float64 {
		return median(values(list, func(f benchFigure) float64 { return value(of(f)) }))
	}
}

// bytesRecorded is the size of a recording by its events.
func bytesRecorded(c *benchCost) float64 { return float64(c.File) / float64(max(c.Recorded, 1)) }

// lines are the runs as JSON, one a line.
func (b *bench) lines() []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for _, f := range b.runs {
		_ = enc.Encode(f) // numbers and strings, into memory
	}
	return out.Bytes()
}

// check holds what must be so at any speed: what selects nothing gets nothing.
func (b *bench) check() error {
	for _, f := range b.runs {
		if f.Way == wayNothing && (f.Run.Packets != 0 || f.Run.Events != 0) {
			return fmt.Errorf("round %d: the filter that matches nothing matched %d packets, %d events", f.Round, f.Run.Packets, f.Run.Events)
		}
	}
	return nil
}

func percent(ratio float64) string { return fmt.Sprintf("%.0f %%", 100*ratio) }

// spread is a median with its extremes.
func spread(ratios []float64) string {
	if len(ratios) == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (%.0f to %.0f)", percent(median(ratios)), 100*slices.Min(ratios), 100*slices.Max(ratios))
}

// scaled is a figure of four digits, with k, M or G for its thousands.
func scaled(v float64) string {
	letters := []string{"", "k", "M", "G"}
	for v >= 9999.5 && len(letters) > 1 {
		v, letters = v/1000, letters[1:]
	}
	if letters[0] == "" {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g%s", v, letters[0])
}
