// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/urfave/cli/v2"
)

func (a *app) traceCommand() *cli.Command {
	return &cli.Command{
		Name:               "trace",
		Usage:              "show where packets go and how they end, live",
		ArgsUsage:          "[PCAP-FILTER] [-- COMMAND...]",
		CustomHelpTemplate: traceHelp,
		Flags: slices.Concat(choosingFlags(), showingFlags("line", "tree", "json"), liveFlags(), []cli.Flag{
			&cli.StringFlag{Name: "capture", Hidden: true, Usage: "write every event to `FILE`, for the project's own tests"},
		}),
		Action: a.trace,
	}
}

// trace is the command.
func (a *app) trace(c *cli.Context) error {
	o, err := a.liveOptions(c)
	if err != nil {
		return err
	}
	defer o.close()
	o.show = newShowing(c)
	if o.capture, err = newCapture(c.String("capture"), a.sys.own); err != nil {
		return err
	}
	return a.live(c.Context, o)
}
