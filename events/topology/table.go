// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"strings"
)

// Bounds of the tables below a node: a drawing of thousands of services helps
// nobody, and the other forms have them all.
const (
	maxDrawnServices     = 200
	maxDrawnDestinations = 10
	maxDrawnRoutes       = 60
	entryWidth           = 510
)

// table is a box of entries, each of a few lines that stay together.
type table struct {
	title   string
	columns [][]entry
}

// entry is one thing in a table. bad says that it does not work.
type entry struct {
	lines []string
	bad   bool
}

// tables are those below a node.
func tables(n *Namespace, width int) []table {
	var out []table
	if len(n.Services) > 0 {
		var list []entry
		for i := range n.Services[:min(len(n.Services), maxDrawnServices)] {
			list = append(list, n.Services[i].entry())
		}
		list = appendMore(list, len(n.Services))
		out = append(out, newTable("IPVS services of "+n.label(), list, width))
	}
	if routes := n.shownRoutes(); len(routes) > 0 {
		var list []entry
		for i := range routes[:min(len(routes), maxDrawnRoutes)] {
			list = append(list, entry{lines: []string{routes[i].text()}})
		}
		list = appendMore(list, len(routes))
		out = append(out, newTable("routes of "+n.label(), list, width))
	}
	return out
}

func appendMore(list []entry, all int) []entry {
	if more := all - len(list); more > 0 {
		return append(list, entry{lines: []string{fmt.Sprintf("… and %d more", more)}})
	}
	return list
}

func (s *Service) entry() entry {
	e := entry{lines: []string{s.text()}, bad: s.dead() != ""}
	for i := range s.Destinations[:min(len(s.Destinations), maxDrawnDestinations)] {
		d := &s.Destinations[i]
		e.lines = append(e.lines, "  "+d.text())
	}
	if more := len(s.Destinations) - maxDrawnDestinations; more > 0 {
		e.lines = append(e.lines, fmt.Sprintf("  … and %d more", more))
	}
	return e
}

// newTable divides entries into as many columns as there is room for.
func newTable(title string, list []entry, width int) table {
	columns := max(1, (width-2*gap)/entryWidth)
	total := 0
	for _, e := range list {
		total += len(e.lines)
	}
	t := table{title: title}
	full := (total + columns - 1) / columns
	used := full
	for _, e := range list {
		if used >= full {
			t.columns = append(t.columns, nil)
			used = 0
		}
		last := &t.columns[len(t.columns)-1]
		*last = append(*last, e)
		used += len(e.lines)
	}
	return t
}

func (t table) height() int {
	tall := 0
	for _, column := range t.columns {
		n := 0
		for _, e := range column {
			n += len(e.lines)
		}
		tall = max(tall, n)
	}
	return padding + line + gap/2 + tall*line + padding
}

func (d *drawing) drawTable(t table, x, y, width int) {
	b := &d.front
	fmt.Fprintf(b, `<g><rect class="table" x="%d" y="%d" width="%d" height="%d"/>`, x, y, width, t.height())
	d.text(b, "name", x+gap, y+padding, width-2*gap, t.title)
	each := (width - 2*gap) / len(t.columns)
	for c, column := range t.columns {
		top := y + padding + line + gap/2
		for _, e := range column {
			fmt.Fprintf(b, "<g><title>%s</title>", escape(strings.Join(e.lines, "\n")))
			for i, text := range e.lines {
				class := "dim"
				switch {
				case i == 0 && e.bad:
					class = "bad"
				case i == 0:
					class = "plain"
				}
				d.text(b, class, x+gap+c*each, top, each-gap, text)
				top += line
			}
			b.WriteString("</g>\n")
		}
	}
	b.WriteString("</g>\n")
}
