// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapng"
	"github.com/stackhop/stackhop/events/record"
)

func (a *app) exportCommand() *cli.Command {
	return &cli.Command{
		Name:               "export",
		Usage:              "make a pcapng of recordings, for Wireshark",
		ArgsUsage:          "FILE... -o FILE.pcapng [PCAP-FILTER]",
		CustomHelpTemplate: exportHelp,
		Flags:              slices.Concat(choosingFlags(), rangeFlags(), fileFlags("pcapng")),
		Action:             a.export,
	}
}

// fileFlags are those of commands that write a file.
func fileFlags(kind string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Category: writing, Usage: "the " + kind + " is `FILE`, which must not be there yet; - is standard output"},
		boolFlag("force", writing, "replace FILE if it is there"),
	}
}

// writeFile lets write fill the file that -o names. What is not finished does
// not stay. The files in are read from, and so are not replaced.
func (a *app) writeFile(c *cli.Context, in []string, write func(io.Writer) error) error {
	path := c.String("output")
	switch {
	case path == "":
		return fmt.Errorf("say where to: %s %s -o FILE", c.Command.HelpName, c.Command.ArgsUsage)
	case path == "-" && a.sys.terminal:
		return errors.New("-o -: standard output is a terminal: write to a file, or into a pipe")
	case path == "-":
		switch err := write(a.sys.stdout); {
		case closedPipe(err): // whoever read has seen enough
			return nil
		case errors.Is(err, context.Canceled):
			return errors.New("interrupted")
		default:
			return err
		}
	}
	if err := notAmong(in, path); err != nil {
		return fmt.Errorf("-o: %w", err)
	}
	f, err := record.CreateFile(path, c.Bool("force"))
	if err != nil {
		return fmt.Errorf("-o: %w", err)
	}
	if err = a.sys.own(f); err == nil {
		err = write(f)
	}
	closeErr := f.Close()
	if _, damaged := errors.AsType[damagedError](err); (err == nil || damaged) && closeErr == nil {
		return err
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	return errors.Join(err, closeErr, os.Remove(path))
}

// notAmong refuses a path that is one of the files, by whatever name.
func notAmong(files []string, path string) error {
	out, err := os.Stat(path)
	if err != nil {
		return nil //nolint:nilerr // then it is none of them
	}
	for _, file := range files {
		if in, err := os.Stat(file); err == nil && os.SameFile(in, out) {
			return fmt.Errorf("%s is a file that is read: choose another name", quoted(path))
		}
	}
	return nil
}

// export is the command.
func (a *app) export(c *cli.Context) error {
	o, err := a.replayOptions(c)
	if err != nil {
		return err
	}
	ctx, stop := a.sys.interruptible(c.Context)
	defer stop()
	return a.writeFile(c, o.files(), func(w io.Writer) error {
		read := &readings{sources: o.sources}
		in := pcapng.Input{Tool: "stackhop " + versionText()}
		ahead := make([]time.Duration, len(o.sources)) // of the first node's clock
		for i, s := range o.sources {
			in.Sources = append(in.Sources, s.packets(ctx, &ahead[i]))
		}
		in.Traversals = func(tell func(int, *events.Traversal)) (err error) {
			o.wires = true
			read, err = a.readAll(ctx, o, func(t *events.Traversal) error {
				tell(o.sourceOf(t.Node), t)
				return ctx.Err()
			})
			for i, got := range read.each {
				if got == nil {
					continue // it was not even begun
				}
				in.Sources[i].Lost = got.lost
				if got.end != nil {
					in.Sources[i].Matched, in.Sources[i].Delivered = got.end.Packets, got.end.Delivered
				}
				ahead[i] = read.ahead(i)
			}
			return err
		}
		st, err := pcapng.Export(w, in)
		if err != nil {
			return err
		}
		a.say("%s on %s written", plural(uint64(st.Packets), "packet"), plural(uint64(st.Interfaces), "interface"))
		if st.NoHeaders > 0 {
			a.say("%s left out: their headers were lost", plural(uint64(st.NoHeaders), "packet"))
		}
		return a.conclude(read, read.outcome(int(read.stats.Traversals))) //nolint:gosec // a count
	})
}

// ahead is by how much the clock of a source is ahead of the first one's.
func (r *readings) ahead(i int) time.Duration {
	if r.merged == nil {
		return 0
	}
	for _, o := range r.merged.Offsets {
		if o.From == r.sources[0].node() && o.To == r.sources[i].node() {
			return time.Duration(o.OffsetNS)
		}
	}
	return 0
}

// packets is the source as the export reads it. Its clock is ahead by so much.
func (s *source) packets(ctx context.Context, ahead *time.Duration) pcapng.Source {
	meta := s.meta()
	names := &switchedNames{}
	cfg := s.parts[0].config(s.hooks, names)
	told := cfg.Wall
	cfg.Wall = func(mono uint64) time.Time { return told(mono).Add(-*ahead) }
	return pcapng.Source{
		Config: cfg, Kernel: meta.Kernel, Arch: meta.Arch, Filter: meta.Filter,
		Replay: func(sink pcapng.Sink) error {
			for _, p := range s.parts {
				f, r, err := openRecording(p.path, ctx.Err)
				if err != nil {
					return err
				}
				names.Names = r.Names()
				_ = r.Run(sink) // damage is told where traversals are read
				if err := errors.Join(f.Close(), ctx.Err()); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
