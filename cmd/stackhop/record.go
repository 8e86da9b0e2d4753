// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/tracer"
)

func (a *app) recordCommand() *cli.Command {
	return &cli.Command{
		Name:               "record",
		Usage:              "write what trace shows into a file, to be replayed anywhere",
		ArgsUsage:          "-w FILE [PCAP-FILTER] [-- COMMAND...]",
		CustomHelpTemplate: recordHelp,
		Flags: slices.Concat(choosingFlags(), []cli.Flag{
			&cli.StringFlag{Name: "write", Aliases: []string{"w"}, Category: recording, Usage: "the recording is `FILE`, which must not be there yet; - is standard output"},
			boolFlag("force", recording, "replace FILE if it is there"),
			&cli.StringFlag{Name: "max-bytes", Category: recording, DefaultText: "no limit", Usage: "end when the recording has `SIZE`, for example 500M"},
			&cli.StringFlag{Name: "ring", Category: recording, DefaultText: "one file", Usage: "keep the last `N×SIZE`, for example 10x64M: FILE.hop becomes FILE.0001.hop and so on, of which the oldest makes room"},
			&cli.GenericFlag{Name: "on-failure", Value: &optional{}, Category: recording, DefaultText: "everything is kept", Usage: "keep only what happened within `T` before and after a traversal that was terminated: --on-failure is 10s, --on-failure=T another time"},
			&cli.UintFlag{Name: "snaplen", Category: recording, DefaultText: "headers only", Usage: "keep `N` bytes of each packet from its network header on, payload included"},
			&cli.GenericFlag{Name: "redact", Value: &optional{}, Category: recording, DefaultText: "real names", Usage: "write pseudonyms for addresses and names; --redact=`KEYFILE` gives the same ones on every node with that key, which is made if it is not there"},
			boolFlag("redact-ports", recording, "with --redact: ports too"),
			boolFlag("print", writing, "show the traversals too, as trace does"),
		}, showingFlags("line", "tree", "json"), liveFlags()),
		Action: a.record,
	}
}

// recordOptions says what to record, and where.
type recordOptions struct {
	files   record.Options
	redact  *optional // --redact
	ports   bool      // --redact-ports
	started time.Time
	args    []string
	filter  string
	words   []string // of the selection, for people
	sets    setLog
}

// record is the command.
func (a *app) record(c *cli.Context) error {
	o, err := a.liveOptions(c)
	if err != nil {
		return err
	}
	defer o.close()
	if o.recording, err = a.recordOptions(c); err != nil {
		return err
	}
	o.config.Record = true
	o.config.SnapLen = int(c.Uint("snaplen"))
	if o.config.Select != nil {
		o.recording.filter, o.recording.words = o.config.Select.String(), o.selection.words()
	}
	if c.Bool("print") {
		if o.recording.files.Stream != nil {
			return errors.New("--print and -w - both want standard output: write to a file")
		}
		o.show = newShowing(c)
	} else if c.Bool("failed") {
		return errors.New("--failed is about what is shown, see --print; to record only what fails there is --on-failure")
	} else if c.Bool("explain") {
		return errors.New("--explain is about what is shown, see --print; replay can explain the recording later")
	}
	return a.live(c.Context, o)
}

// maxSnapLen is the largest packet there is: what GRO and GSO make.
const maxSnapLen = tracer.MaxSnapLen

// defaultAround is how long before and after a failure is recorded, unless it is
// said.
const defaultAround = 10 * time.Second

func (a *app) recordOptions(c *cli.Context) (*recordOptions, error) {
	o := &recordOptions{redact: optionalOf(c, "redact"), ports: c.Bool("redact-ports"), args: a.args}
	path := c.String("write")
	switch {
	case path == "":
		return nil, fmt.Errorf("say where to: %s -w FILE.hop …", c.Command.HelpName)
	case path == "-" && a.sys.terminal:
		return nil, errors.New("-w -: standard output is a terminal, and a recording is not text: write to a file, or into a pipe")
	case path == "-":
		o.files.Stream = a.sys.stdout
	}
	if err := notAmong([]string{o.redact.value, c.String("names")}, path); err != nil {
		return nil, fmt.Errorf("-w: %w", err)
	}
	o.files.Path, o.files.Force, o.files.Own = path, c.Bool("force"), a.sys.own
	var err error
	if s := c.String("max-bytes"); s != "" {
		if o.files.MaxBytes, err = parseSize(s); err != nil {
			return nil, fmt.Errorf("--max-bytes: %w", err)
		}
	}
	if s := c.String("ring"); s != "" {
		if path == "-" {
			return nil, errors.New("--ring needs files, and -w - is a stream")
		}
		if o.files.Parts, o.files.PartBytes, err = parseRing(s); err != nil {
			return nil, fmt.Errorf("--ring: %w", err)
		}
	}
	if f := optionalOf(c, "on-failure"); f.given {
		o.files.OnFailure = defaultAround
		if f.value != "" {
			if o.files.OnFailure, err = time.ParseDuration(f.value); err != nil || o.files.OnFailure <= 0 {
				return nil, fmt.Errorf("--on-failure=%s: give a time such as 30s", f.value)
			}
		}
	}
	if path != "-" {
		// Once more when it is created; but now nothing is attached yet.
		if err := record.Check(&o.files); err != nil {
			return nil, fmt.Errorf("-w: %w", err)
		}
	}
	if n := c.Uint("snaplen"); n > maxSnapLen {
		return nil, fmt.Errorf("--snaplen %d: packets have %d bytes at most", n, maxSnapLen)
	}
	if c.Uint("snaplen") > 0 && o.redact.given {
		return nil, errors.New("--snaplen and --redact contradict each other: there are no pseudonyms for payload, so it would be left out")
	}
	if o.ports && !o.redact.given {
		return nil, errors.New("--redact-ports belongs to --redact")
	}
	return o, nil
}

// maxParts is what the numbers in the names of parts have room for.
const maxParts = 9999

// parseRing reads N×SIZE, also with an x, which is easier to type.
func parseRing(s string) (parts int, size int64, err error) {
	n, rest, ok := strings.Cut(strings.NewReplacer("×", "x", "X", "x", "*", "x").Replace(s), "x")
	parts, err = strconv.Atoi(n)
	if !ok || err != nil || parts < 1 || parts > maxParts {
		return 0, 0, fmt.Errorf("%s is not N×SIZE: give for example 10x64M, at most %d parts", quoted(s), maxParts)
	}
	size, err = parseSize(rest)
	return parts, size, err
}
