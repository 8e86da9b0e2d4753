// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
)

// A target is one line of what the tool may cost.
type target struct {
	what  string
	bound float64
	least bool // the bound is the least, not the most
	unit  string
	// find returns what was seen, a figure for each place; none: not measured.
	find func(*figures) []seen
	// floor is what was measured, in the same places, of something that no tracer can do
	// without, or of a part of the tool that alone takes so much.
	floor func(*figures) []seen
	// why says why it is not met everywhere, as far as that is known.
	why string
}

// seen is a figure and where it was seen.
type seen struct {
	value float64
	where string
}

// place is where without how often.
func (s *seen) place() string {
	place, _, _ := strings.Cut(s.where, ", median")
	return place
}

// floorText is the floor beside a figure; "–": none was measured there.
func (t *target) floorText(f *figures, s *seen) string {
	if t.floor != nil {
		for _, one := range t.floor(f) {
			if one.place() == s.place() {
				return t.text(one.value)
			}
		}
	}
	return "–"
}

func (t *target) met(v float64) bool {
	v = math.Round(v*1e9) / 1e9 // what sums of fractions leave
	return t.least == (v >= t.bound) || v == t.bound
}

func (t *target) text(v float64) string {
	text := scaled(v)
	if v < 100 {
		text = strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
	}
	return strings.TrimSpace(text + " " + t.unit)
}

// cmdTargets prints each target with what was seen, from the files that the
// benchmarks left.
func cmdTargets(args []string) error {
	fs := flags("targets")
	must := fs.String("must", "", "fail unless the targets whose text begins with one of these `WORDS`, separated by semicolons, are met")
	rest, err := parse(fs, args, 1, "[flags] FOLDER")
	if err != nil {
		return err
	}
	f, err := readFigures(rest[0])
	if err != nil {
		return err
	}
	if _, err = os.Stdout.WriteString(targetTable(f)); err != nil || *must == "" {
		return err
	}
	return mustMeet(f, strings.Split(*must, ";"))
}

// mustMeet fails if a target of those was not met, or not measured.
func mustMeet(f *figures, words []string) error {
	for _, word := range words {
		known := false
		for i := range targets {
			t := &targets[i]
			if !strings.HasPrefix(t.what, word) {
				continue
			}
			known = true
			list := t.find(f)
			if len(list) == 0 {
				return fmt.Errorf("%s: not measured", t.what)
			}
			for _, s := range list {
				if !t.met(s.value) {
					return fmt.Errorf("%s: %s on %s", t.what, t.text(s.value), s.where)
				}
			}
		}
		if !known {
			return fmt.Errorf("no target begins with %q", word)
		}
	}
	return nil
}

// targetTable is Markdown: a row for each figure.
func targetTable(f *figures) string {
	var out bytes.Buffer
	met, missed, none := 0, 0, 0
	out.WriteString("| target | bound | seen | floor | where | met |\n|---|---|---|---|---|---|\n")
	var whys []string
	for i := range targets {
		t := &targets[i]
		bound := "at most "
		if t.least {
			bound = "at least "
		}
		list := t.find(f)
		if len(list) == 0 {
			none++
			fmt.Fprintf(&out, "| %s | %s%s | – | – | not measured | – |\n", t.what, bound, t.text(t.bound))
		}
		all := true
		for _, s := range list {
			answer := "yes"
			if t.met(s.value) {
				met++
			} else {
				missed++
				answer, all = "**no**", false
			}
			fmt.Fprintf(&out, "| %s | %s%s | %s | %s | %s | %s |\n", t.what, bound, t.text(t.bound), t.text(s.value), t.floorText(f, &s), s.where, answer)
		}
		if !all && t.why != "" {
			whys = append(whys, fmt.Sprintf("- %s: %s", t.what, t.why))
		}
	}
	fmt.Fprintf(&out, "\n%d figures are within their bounds, %d are not, %d targets were not measured.\n", met, missed, none)
	if len(whys) > 0 {
		fmt.Fprintf(&out, "\nWhy not:\n\n%s\n", strings.Join(whys, "\n"))
	}
	return out.String()
}

const (
	wayNothing, wayAll = "nothing selected", "everything selected"
	wayRecord          = "record everything"
	wayThrown          = "events thrown away"
	wayBare            = "hooks that return at once"
	loadKept, loadCalm = "request-response", "calm"
	loadBulk           = "bulk"
	siteCluster        = "cluster"
	sitePair           = "pair"
)

// reportEvents are those of the recording that BenchmarkReport makes a page of.
const reportEvents = 7.6e6

var targets = []target{
	{what: "request rate, nothing selected, all hooks", bound: 95, least: true, unit: "%",
		find:  func(f *figures) []seen { return f.bench(siteCluster, loadKept, wayNothing, shareKept) },
		floor: func(f *figures) []seen { return f.bench(siteCluster, loadKept, wayBare, shareKept) },
		why:   "a request and its response run 168 hooks, and the kernel's own trampoline to a program takes about 150 instructions (6.12, counted): the floor is programs that return at once, in the same runs; bpftrace, which only counts in about 90 of the same functions, is in the tables of make bench"},
	{what: "request rate, nothing selected, tracepoints", bound: 98, least: true, unit: "%",
		find:  func(f *figures) []seen { return f.bench(sitePair, loadKept, wayNothing, shareKept) },
		floor: func(f *figures) []seen { return f.bench(sitePair, loadKept, wayBare, shareKept) },
		why:   "the rounds differ by more than what is missing, as the tables show; the floor is programs that return at once, in the same runs"},
	{what: "request rate, everything selected, all hooks", bound: 70, least: true, unit: "%",
		find:  func(f *figures) []seen { return f.bench(siteCluster, loadKept, wayAll, shareKept) },
		floor: func(f *figures) []seen { return f.bench(siteCluster, loadKept, wayThrown, shareKept) },
		why:   "168 events a request: the floor is a reader that makes nothing of them, in the same runs. The rest is decoding, stitching and printing, on the processors that the traffic wants, too"},
	{what: "request rate, everything selected, tracepoints", bound: 70, least: true, unit: "%",
		find:  func(f *figures) []seen { return f.bench(sitePair, loadKept, wayAll, shareKept) },
		floor: func(f *figures) []seen { return f.bench(sitePair, loadKept, wayThrown, shareKept) },
		why:   "the load takes both processors, and user space wants one of them: the floor is a reader that makes nothing of events, in the same runs"},
	{what: "bulk data, nothing selected, tracepoints", bound: 90, least: true, unit: "%",
		find:  func(f *figures) []seen { return f.bench(sitePair, loadBulk, wayNothing, shareKept) },
		floor: func(f *figures) []seen { return f.bench(sitePair, loadBulk, wayBare, shareKept) },
		why:   "the rounds differ by more than what is missing, as the tables show; the floor is programs that return at once, in the same runs"},
	{what: "bulk data, everything selected, tracepoints", bound: 60, least: true, unit: "%",
		find:  func(f *figures) []seen { return f.bench(sitePair, loadBulk, wayAll, shareKept) },
		floor: func(f *figures) []seen { return f.bench(sitePair, loadBulk, wayThrown, shareKept) }},
	{what: "events lost at half of capacity", bound: 0, unit: "%",
		find: func(f *figures) []seen { return f.point("load", seriesLost, 50) }},
	{what: "attaching, all hooks", bound: 1, unit: "s",
		find:  func(f *figures) []seen { return f.bench(siteCluster, loadCalm, wayNothing, attachTime) },
		floor: func(f *figures) []seen { return f.bench(siteCluster, loadCalm, wayBare, attachTime) },
		why:   "the kernel makes one trampoline at a time, and waits for a grace period for each: the floor is programs that return at once, attached side by side as the tool's are. The rest is mostly that the kernel verifies and compiles ours, 2,000 to 3,300 instructions each: 4.3 of 8.7 s (6.12) and 8.5 of 14.8 (7) in one run that was timed from within, where finding the offsets of fields took 0.4 and 2.2 s, which once for each program instead of each hook was not told from noise; the emulator runs two processors on one. bpftrace's are in the tables of make bench"},
	{what: "attaching, tracepoints", bound: 0.3, unit: "s",
		find:  func(f *figures) []seen { return f.bench(sitePair, loadCalm, wayNothing, attachTime) },
		floor: func(f *figures) []seen { return f.bench(sitePair, loadCalm, wayBare, attachTime) },
		why:   "the floor is programs that return at once on the same tracepoints and devices: a device takes two grace periods, 12 to 25 ms (counted), and a pair has 8, this machine 4. The tool needs its maps and the kernel's types before the first of them, 0.06 to 0.08 s"},
	{what: "ready with 1,000 veth pairs, tracepoints", bound: 2, unit: "s",
		find: func(f *figures) []seen { return f.point("devices", seriesAttach, 1000) }},
	{what: "a new veth is covered by tc, one pair beside it", bound: 0.1, unit: "s",
		find:  func(f *figures) []seen { return f.point("devices", seriesCovered, 1) },
		floor: func(f *figures) []seen { return f.point("devices", seriesLeast, 1) },
		why:   "the kernel tells of it at once; then all namespaces are read, and each of four tcx links waits for a grace period: the floor is the devices read once and the four links"},
	{what: "a new veth is covered by tc, 1,000 pairs beside it", bound: 0.1, unit: "s",
		find:  func(f *figures) []seen { return f.point("devices", seriesCovered, 1000) },
		floor: func(f *figures) []seen { return f.point("devices", seriesLeast, 1000) },
		why:   "it is made right behind the start, while tc still comes to the others: the one that is attached to then has the kernel's lock of devices for a grace period, and so have its two links; between them 2,000 devices are read anew, in 0.03 to 0.04 s. The floor is the devices read once and four links made, with nobody beside"},
	{what: "detaching, all hooks", bound: 1, unit: "s",
		find:  func(f *figures) []seen { return f.bench(siteCluster, loadCalm, wayNothing, detachTime) },
		floor: func(f *figures) []seen { return f.bench(siteCluster, loadCalm, wayBare, detachTime) },
		why:   "kprobes are let go of one by one (5.10): the floor is programs that return at once. Trampolines go in the background, which the floor waits for"},
	{what: "detaching with 1,000 veth pairs, tracepoints", bound: 1, unit: "s",
		find: func(f *figures) []seen { return f.point("devices", seriesDetach, 1000) }},
	{what: "CPU when nothing happens", bound: 1, unit: "%",
		find:  func(f *figures) []seen { return f.point("idle", seriesIdle, 1) },
		floor: func(f *figures) []seen { return f.point("idle", seriesThrown, 1) },
		why:   "rings are looked at 25 times a second, whether there is something or not: the floor is a reader that makes nothing of events"},
	{what: "allocations an event, not selected", bound: 0,
		find: func(f *figures) []seen {
			return f.goBench("tracer.Stitch/selected=false/flows=1000", "allocs/op", asIs)
		}},
	{what: "allocations an event, selected (its traversal's part)", bound: 0,
		find: func(f *figures) []seen { return f.goBench("tracer.Stitch/selected=true/flows=1000", "allocs/op", asIs) },
		why:  "an event itself allocates nothing; of a traversal that is given out the texts and short lists are made anew, itself, its visits and hooks are used again"},
	{what: "decode and stitch, on one core", bound: 2e6, least: true, unit: "events/s",
		find: func(f *figures) []seen {
			return f.goBench("tracer.Stitch/selected=true/flows=1000", "cpu-ns/op", perSecond)
		},
		why: "decoding alone takes 20 to 28 ns; the rest is stitching and what a traversal says"},
	{what: "replay", bound: 5e6, least: true, unit: "events/s",
		find:  func(f *figures) []seen { return f.goBench("stackhop.Replay", "events/s", asIs) },
		floor: func(f *figures) []seen { return f.goBench("stackhop.Floors/stitch", "cpu-ns/event", perSecond) },
		why:   "one goroutine stitches: the floor is what that alone takes of a processor (BenchmarkFloors); reading goes on beside it"},
	{what: "an event with 1,000,000 live flows, of that with one, selected", bound: 115, unit: "%",
		find: func(f *figures) []seen {
			return f.growth("tracer.Stitch/selected=true/flows=1000000", "tracer.Stitch/selected=true/flows=1")
		},
		floor: func(f *figures) []seen { return f.remembered("true") },
		why:   "what is remembered of a flow is no longer in the processor's caches, nor is the rest of what a traversal is made of: the floor is what the first takes by itself (BenchmarkRemembered)"},
	{what: "an event with 1,000,000 live flows, of that with one, not selected", bound: 115, unit: "%",
		find: func(f *figures) []seen {
			return f.growth("tracer.Stitch/selected=false/flows=1000000", "tracer.Stitch/selected=false/flows=1")
		},
		floor: func(f *figures) []seen { return f.remembered("false") },
		why:   "what is remembered of a flow is no longer in the processor's caches: the floor is what that takes by itself (BenchmarkRemembered); the rest is what it pushes out of them"},
	{what: "memory at twice the capacity: the rings (4 MiB for each of two processors) and 64 MiB", bound: 72, unit: "MiB",
		find:  func(f *figures) []seen { return f.peak() },
		floor: (*figures).atRest,
		why:   "the floor is what the tool takes before anything happens. With tracepoints only the end of what a receiver takes is not seen: such packets are kept for 0.1 s (of a node 0.25 s), others for up to 3 s, with all their events. At 270,000 events a second 13,000 to 20,000 packets are open (counted, quarter of a second by quarter), of 814 bytes for one of ten events, and what waits for the collector beside them is as much as half of that"},
	{what: "memory in the last minute of that, of that in the first", bound: 105, unit: "%",
		find: func(f *figures) []seen { return f.flat() }},
	{what: "from a packet's end to its line, 99 of 100, all hooks", bound: 0.2, unit: "s",
		find: func(f *figures) []seen { return f.bench(siteCluster, loadCalm, wayAll, lineTime) },
		why:  "a packet is finished when nothing was heard of it for 0.1 s, rings are read every 20 ms while packets come, and its line waits for what began before it and has not ended, up to 0.3 s; data for a connection that is not accepted yet waits 0.5 s"},
	{what: "from a packet's end to its line, 99 of 100, tracepoints", bound: 0.2, unit: "s",
		find: func(f *figures) []seen { return f.bench(sitePair, loadCalm, wayAll, lineTime) },
		why:  "a packet is finished when nothing was heard of it for 0.1 s, and rings are read every 20 ms. The kernel frees what a receiver took 60 to 80 ms later where the processor that it came by is idle (counted), and the lines of what began meanwhile wait for that one"},
	{what: "a recording", bound: 12, unit: "bytes/event",
		find: func(f *figures) []seen {
			return append(f.bench(siteCluster, loadKept, wayRecord, bytesEvent), f.bench(sitePair, loadKept, wayRecord, bytesEvent)...)
		}},
	{what: "a report of 100,000 traversals", bound: 2, unit: "s",
		find: func(f *figures) []seen { return f.goBench("stackhop.Report", "ns/op", seconds) },
		floor: func(f *figures) []seen {
			return f.goBench("stackhop.Floors/stitch", "cpu-ns/event", func(ns float64) float64 { return reportEvents * ns / 1e9 })
		},
		why: "that is from the file on: it has 7.6 M events, and the floor is what stitching those alone takes of a processor (BenchmarkFloors); the page comes behind it on the same goroutine"},
}

var errNoFigures = errors.New("there is nothing that make bench, bench-growth or bench-go has left")
