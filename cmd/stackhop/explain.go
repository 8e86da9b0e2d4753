// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
)

func (a *app) explainCommand() *cli.Command {
	return &cli.Command{
		Name:               "explain",
		Usage:              "what a reason means: the evidence for it, what to check next, and what would disprove it",
		ArgsUsage:          "[REASON]",
		CustomHelpTemplate: explainHelp,
		Flags:              []cli.Flag{outputFlag("", "text", "json")},
		Action:             a.explain,
		BashComplete: func(c *cli.Context) {
			for _, reason := range reasons(events.Findings()) {
				_, _ = fmt.Fprintln(c.App.Writer, reason)
			}
		},
	}
}

func (a *app) explain(c *cli.Context) error {
	if a.command != nil {
		return errNoCommand(c)
	}
	if c.NArg() > 1 {
		return fmt.Errorf("explain takes one reason: %s", quoted(c.Args().Get(1)))
	}
	found, short := events.Findings(), true
	if reason := c.Args().First(); reason != "" {
		all := reasons(found)
		found, short = events.FindingsOf(reason), false
		if len(found) == 0 {
			return fmt.Errorf("no finding has the reason %s%s\n  %s explain lists all; a reason that is not there is the kernel's own word, in lower case",
				quoted(reason), didYouMean(reason, all), a.name)
		}
	}
	var b bytes.Buffer
	switch {
	case c.String("output") == "json":
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		for i := range found {
			if err := enc.Encode(&found[i]); err != nil {
				return err
			}
		}
	case short:
		listFindings(&b, found)
	default:
		for i := range found {
			if i > 0 {
				b.WriteByte('\n')
			}
			writeFinding(&b, &found[i])
		}
	}
	if _, err := a.sys.stdout.Write(b.Bytes()); err != nil && !closedPipe(err) {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// reasons are the words that explain takes.
func reasons(found []events.Finding) []string {
	var all []string
	for i := range found {
		if !slices.Contains(all, found[i].Reason) {
			all = append(all, found[i].Reason)
		}
	}
	return all
}

func listFindings(w io.Writer, found []events.Finding) {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	writeRow(tw, []string{"WHERE", "REASON", "MEANS"})
	for i := range found {
		writeRow(tw, []string{found[i].Where, found[i].Reason, found[i].Title})
	}
	_ = tw.Flush() // into memory
}

func writeFinding(w *bytes.Buffer, f *events.Finding) {
	fmt.Fprintf(w, "%s (%s): %s\n", f.Reason, f.Where, f.Title)
	for _, part := range []struct {
		head  string
		lines []string
	}{
		{"The line says", f.Says},
		{"Evidence, each by itself enough", f.Evidence},
		{"Check next", []string{f.Advice}},
		{"It is something else if", []string{f.Unless}},
	} {
		fmt.Fprintf(w, "\n%s:\n", part.head)
		for _, line := range part.lines {
			w.WriteString("  " + line + "\n")
		}
	}
}
