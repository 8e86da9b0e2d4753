// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/events/report"
)

// factTables are the tables of a page about how the node was set up. Facts are
// told more than once; the last holds.
func factTables(f *record.Facts, names events.Names) []report.Table {
	if f == nil {
		return nil
	}
	var out []report.Table
	for _, t := range []report.Table{serviceTable(f, names), conntrackTable(f, names), sysctlTable(f, names)} {
		if len(t.Rows) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func serviceTable(f *record.Facts, names events.Names) report.Table {
	rows := map[string][]string{}
	for i := range f.Services {
		s := &f.Services[i]
		what := fmt.Sprintf("%s %s", events.ProtoName(s.Proto), s.Addr)
		if s.FWMark != 0 {
			what = fmt.Sprintf("mark %#x", s.FWMark)
		}
		var to []string
		for _, d := range s.Destinations {
			to = append(to, fmt.Sprintf("%s (weight %d, %d active, %d inactive)", d.Addr, d.Weight, d.Active, d.Inactive))
		}
		if to == nil {
			to = []string{"none"}
		}
		row := []string{netnsText(names, s.Netns), what, s.Scheduler, strings.Join(to, ", ")}
		rows[row[0]+" "+what] = row
	}
	return report.Table{Title: "IPVS services", Head: []string{"namespace", "service", "scheduler", "destinations"}, Rows: sortedRows(rows)}
}

func conntrackTable(f *record.Facts, names events.Names) report.Table {
	rows := map[string][]string{}
	for _, e := range f.Conntrack {
		row := []string{
			netnsText(names, e.Netns), fmt.Sprintf("%s %s → %s", events.ProtoName(e.Original.Proto), e.Original.Src, e.Original.Dst),
			fmt.Sprintf("%s → %s", e.Reply.Src, e.Reply.Dst), fmt.Sprintf("%ds", e.Timeout),
		}
		rows[row[0]+" "+row[1]] = row
	}
	return report.Table{Title: "Conntrack entries at the end", Head: []string{"namespace", "original", "reply", "expires in"}, Rows: sortedRows(rows)}
}

func sysctlTable(f *record.Facts, names events.Names) report.Table {
	rows := map[string][]string{}
	for _, s := range f.Sysctls {
		row := []string{netnsText(names, s.Netns), s.Name, s.Value}
		rows[row[0]+" "+s.Name] = row
	}
	return report.Table{Title: "Settings", Head: []string{"namespace", "name", "value"}, Rows: sortedRows(rows)}
}

func sortedRows(rows map[string][]string) [][]string {
	return slices.SortedFunc(maps.Values(rows), func(a, b []string) int {
		return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1]))
	})
}

func netnsText(names events.Names, netns uint32) string {
	if name := names.Namespace(netns).Name; name != "" {
		return name
	}
	return strconv.FormatUint(uint64(netns), 10)
}
