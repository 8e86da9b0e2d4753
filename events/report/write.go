// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
)

//go:embed page
var files embed.FS

// scripts are run in this order, as one.
var scripts = []string{"model.js", "words.js", "stack.js", "link.js", "path.js", "packet.js", "filter.js", "main.js"}

// Write makes the page. It reads all traversals before it writes anything.
func Write(w io.Writer, in Input) error {
	c := newCollector()
	if in.Traversals != nil {
		for t := range in.Traversals {
			c.add(t)
		}
	}
	var facts Facts
	if in.Facts != nil {
		facts = in.Facts()
	}
	if in.Title == "" {
		in.Title = "Where the packets went"
	}
	out := bufio.NewWriterSize(w, 1<<16)
	c.write(out, in.Title, &facts)
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// write writes the page; the first error stays with the writer.
func (c *collector) write(w *bufio.Writer, title string, facts *Facts) {
	details, left := c.pick()
	style, script := page("style.css"), ""
	for _, name := range scripts {
		script += page(name)
	}
	script = "'use strict';\n(() => {\n" + script + "})();\n"
	shell := page("page.html")
	before, rest, _ := strings.Cut(shell, "{{data}}")
	middle, after, _ := strings.Cut(rest, "{{script}}")
	before = strings.NewReplacer(
		"{{title}}", html.EscapeString(text(title)),
		"{{style-hash}}", hash(style), "{{script-hash}}", hash(script),
		"{{style}}", style,
	).Replace(before)

	_, _ = w.WriteString(before)
	data(w, "data", c.data(title, facts, left))
	c.writeRows(w)
	for i, list := range details {
		if len(list) > 0 {
			writeDetails(w, i, list)
		}
	}
	_, _ = w.WriteString(middle)
	_, _ = w.WriteString(script)
	_, _ = w.WriteString(after)
}

func page(name string) string {
	b, err := files.ReadFile("page/" + name)
	if err != nil {
		panic("report: " + err.Error()) // it was embedded
	}
	return string(b)
}

// hash names a script or style in a content security policy.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// data writes an element that holds JSON.
func data(w *bufio.Writer, id string, json []byte) {
	_, _ = w.WriteString(`<script type="application/json" id="` + id + `">`)
	_, _ = w.Write(json)
	_, _ = w.WriteString("</script>\n")
}

func writeDetails(w *bufio.Writer, group int, list []detail) {
	_, _ = fmt.Fprintf(w, `<script type="application/json" id="d%d">{`, group)
	for i, d := range list {
		if i > 0 {
			_ = w.WriteByte(',')
		}
		_, _ = fmt.Fprintf(w, "\"%d\":%s", d.row, d.json)
	}
	_, _ = w.WriteString("}</script>\n")
}

// writeRows writes the listed packets, column by column.
func (c *collector) writeRows(w *bufio.Writer) {
	r := &c.rows
	_, _ = w.WriteString(`<script type="application/json" id="rows">{`)
	for _, column := range []struct {
		name   string
		values []byte
	}{
		{"group", r.group}, {"time", r.time}, {"took", r.took}, {"src", r.src}, {"dst", r.dst}, {"words", r.words},
		{"summary", r.summary}, {"flow", r.flow}, {"length", r.len}, {"id", r.id},
	} {
		_, _ = w.WriteString(`"` + column.name + `":[`)
		_, _ = w.Write(column.values[:max(0, len(column.values)-1)]) // without the last comma
		_, _ = w.WriteString("],")
	}
	_, _ = w.Write(appendJSON([]byte(`"because":`), r.because))
	_, _ = w.Write(appendJSON([]byte(`,"therefore":`), r.therefore))
	_, _ = w.WriteString("}</script>\n")
}

// pick chooses the details that the file has room for: round by round one of
// each path, the bad ones first, and then the terminated ones that are left.
// It returns them by path, and how many packets are listed without.
func (c *collector) pick() (byGroup [][]detail, left int) {
	byGroup = make([][]detail, len(c.groups))
	room, taken := maxDetails, map[int]bool{}
	take := func(g *group, d detail) {
		if d.json == nil || taken[d.row] || len(d.json) > room {
			return
		}
		taken[d.row] = true
		room -= len(d.json)
		byGroup[g.id] = append(byGroup[g.id], d)
	}
	order := slices.Clone(c.groups)
	slices.SortStableFunc(order, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.severity(), b.severity()), cmp.Compare(b.count, a.count))
	})
	for round := range maxSamples {
		for _, g := range order {
			if round < len(g.kept) {
				take(g, g.kept[round])
			}
			if round < len(g.samples) {
				take(g, g.samples[round])
			}
			if round == 0 {
				take(g, g.slowest)
			}
		}
	}
	for _, g := range order {
		for i := maxSamples; i < len(g.kept); i++ {
			take(g, g.kept[i])
		}
	}
	return byGroup, c.rows.n - len(taken)
}
