// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/events/redact"
)

func (a *app) redactCommand() *cli.Command {
	return &cli.Command{
		Name:               "redact",
		Usage:              "replace what identifies a cluster in a recording by pseudonyms",
		ArgsUsage:          "FILE -o FILE",
		CustomHelpTemplate: redactHelp,
		Flags: append(fileFlags("redacted recording"),
			&cli.StringFlag{Name: "key", Category: recording, DefaultText: "one that is forgotten", Usage: "the pseudonyms are made with the key in `KEYFILE`, which is made if it is not there"},
			boolFlag("redact-ports", recording, "ports too")),
		Action: a.redact,
	}
}

// redactor makes the redactor for a key file; without one the key is forgotten.
func (a *app) redactor(path string, ports bool) (*redact.Redactor, error) {
	key := redact.NewKey()
	if path != "" {
		var err error
		key, err = redact.ReadKey(path)
		if errors.Is(err, fs.ErrNotExist) {
			key = redact.NewKey()
			if err = redact.WriteKey(path, key, a.sys.own); err == nil {
				a.say("made the key %s: use it on every node, and keep it to yourself", quoted(path))
			}
		}
		if err != nil {
			return nil, err
		}
	}
	r := redact.New(key)
	r.Ports = ports
	return r, nil
}

// redact is the command.
func (a *app) redact(c *cli.Context) error {
	if c.NArg() != 1 {
		return fmt.Errorf("name one recording: %s FILE -o FILE", c.Command.HelpName)
	}
	if a.command != nil {
		return errNoCommand(c)
	}
	path := c.Args().First()
	meta, _, err := readMeta(path)
	switch {
	case err != nil:
		return err
	case meta.Redacted:
		return fmt.Errorf("%s: %w", quoted(path), redact.ErrRedacted)
	}
	ctx, stop := a.sys.interruptible(c.Context)
	defer stop()
	keep := []string{path}
	if key := c.String("key"); key != "" {
		keep = append(keep, key)
	}
	return a.writeFile(c, keep, func(w io.Writer) error {
		r, err := a.redactor(c.String("key"), c.Bool("redact-ports"))
		if err != nil {
			return err
		}
		return a.redactFile(ctx, path, w, r)
	})
}

// redactFile writes a recording in pseudonyms. If it is damaged, what is whole of
// it is written.
func (a *app) redactFile(ctx context.Context, path string, w io.Writer, r *redact.Redactor) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b := bufio.NewWriterSize(w, 1<<20)
	damage := redact.Copy(&stoppable{f, ctx.Err}, b, r)
	if err := cmp.Or(ctx.Err(), b.Flush()); err != nil {
		return err
	}
	if _, ok := errors.AsType[*record.Damage](damage); ok {
		return a.tellDamage(places(path, damage))
	}
	if damage != nil {
		return fmt.Errorf("%s: %w", quoted(path), damage)
	}
	return nil
}
