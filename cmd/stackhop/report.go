// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/events/report"
)

func (a *app) reportCommand() *cli.Command {
	return &cli.Command{
		Name:               "report",
		Usage:              "make a page of recordings, for the ticket",
		ArgsUsage:          "FILE... -o FILE.html [PCAP-FILTER]",
		CustomHelpTemplate: reportHelp,
		Flags: slices.Concat(choosingFlags(), rangeFlags(), fileFlags("page"), []cli.Flag{
			boolFlag("failed", choosing, "only what was neither delivered nor left the node"),
			&cli.StringFlag{Name: "title", Category: writing, Usage: "the page's `TITLE`"},
		}),
		Action: a.report,
	}
}

// report is the command.
func (a *app) report(c *cli.Context) error {
	o, err := a.replayOptions(c)
	if err != nil {
		return err
	}
	ctx, stop := a.sys.interruptible(c.Context)
	defer stop()
	return a.writeFile(c, o.files(), func(w io.Writer) error {
		var read *readings
		var readErr error
		shown := 0
		o.reuse = true
		in := report.Input{
			Title: c.String("title"),
			Traversals: func(yield func(*events.Traversal) bool) {
				read, readErr = a.readAll(ctx, o, func(t *events.Traversal) error {
					if c.Bool("failed") && !failed(t) {
						return ctx.Err()
					}
					shown++
					if !yield(t) {
						return errEnough
					}
					return ctx.Err()
				})
			},
			Facts: func() report.Facts { return read.facts() },
		}
		if err := report.Write(w, in); err != nil || readErr != nil {
			return errors.Join(err, readErr)
		}
		return a.conclude(read, read.outcome(shown))
	})
}

// facts describe the recordings for a page.
func (r *readings) facts() report.Facts {
	f := report.Facts{Made: time.Now(), Tool: "stackhop " + versionText()}
	for i, s := range r.sources {
		if r.each[i] != nil {
			f.Recordings = append(f.Recordings, s.describe(r.each[i]))
			for _, err := range r.each[i].damage {
				f.Warnings = append(f.Warnings, err.Error())
			}
		}
	}
	if r.merged != nil {
		f.Remarks = r.merged.Lines()
	}
	return f
}

// describe is what a page says of a recording.
func (s *source) describe(got *replayed) report.Recording {
	meta := s.meta()
	var files []string
	for _, p := range s.parts {
		files = append(files, p.path)
	}
	d := report.Recording{
		Name: strings.Join(files, ", "), Node: meta.Node, Kernel: meta.Kernel, Tool: meta.Tool,
		Command: strings.Join(meta.Args, " "), Filter: cmp.Or(strings.Join(meta.Selection, " "), meta.Filter), OnlyNode: meta.OnlyNode,
		Start: meta.Clock.Wall(got.first), End: meta.Clock.Wall(got.last),
		Events: got.stats.Events, Lost: lossesOf(got.lost),
	}
	if got.end != nil {
		d.Matched, d.Packets = got.end.Matched, got.end.Packets
	}
	for _, h := range meta.Hooks {
		if h.How == record.HowAbsent {
			d.Missing = append(d.Missing, strings.TrimSuffix(h.Name+": "+h.Err, ": "))
		}
	}
	if meta.Redacted {
		d.Notes = append(d.Notes, "addresses and names are pseudonyms")
	}
	d.Tables = append(got.told.tables(), factTables(got.facts, got.names)...)
	if got.told.leftOut > 0 {
		d.Notes = append(d.Notes, fmt.Sprintf("of the services, %d more were told than are listed", got.told.leftOut))
	}
	for _, path := range got.endings {
		d.Notes = append(d.Notes, path+" ends without its end: the recorder was killed, or the file is not whole")
	}
	return d
}
