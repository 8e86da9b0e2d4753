// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/topology"
	"github.com/stackhop/stackhop/tracer"
)

func (a *app) topologyCommand() *cli.Command {
	return &cli.Command{
		Name:               "topology",
		Usage:              "what is on this node: namespaces, devices and their pairs, routes, IPVS services",
		CustomHelpTemplate: topologyHelp,
		Flags: append(clusterFlags(),
			&cli.StringFlag{Name: "names", Category: naming, Usage: "names for namespaces and addresses, from `FILE`"},
			&cli.StringFlag{Name: "only-node", Category: naming, Usage: "show the node `NAME` of the names file (without one: this host's name) alone"},
			outputFlag(writing, "text", "json", "svg", "dot"),
		),
		Action: a.plainAction(false, a.topology),
	}
}

func (a *app) topology(c *cli.Context) error {
	var cfg tracer.Config
	names, err := readNames(c.String("names"), &cfg)
	if err != nil {
		return err
	}
	only := c.String("only-node")
	if err := a.checkOnlyNode(only, names); err != nil {
		return err
	}
	cl, err := a.openCluster(c, func(text string) { a.say("warning: %s", text) })
	if err != nil {
		return err
	}
	t, missing, err := a.sys.readTopology(cfg.NamesFile)
	if cl != nil {
		defer cl.Close()
		if err == nil {
			a.settle(cl)
			nameTopology(t, names, cl)
		}
	}
	if err != nil {
		return err
	}
	if only != "" {
		t.Only(only)
	}
	a.warnMissing(c, missing)
	write := map[string]func(*topology.Topology) error{
		"text": func(t *topology.Topology) error { return t.WriteText(a.sys.stdout) },
		"json": func(t *topology.Topology) error { return t.WriteJSON(a.sys.stdout) },
		"svg":  func(t *topology.Topology) error { return t.WriteSVG(a.sys.stdout) },
		"dot":  func(t *topology.Topology) error { return t.WriteDot(a.sys.stdout) },
	}[c.String("output")]
	if err := write(t); err != nil && !closedPipe(err) {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// shownMissing is how many of the things that could not be read the warning names.
const shownMissing = 3

// warnMissing says in one warning what could not be read, and the way out.
func (a *app) warnMissing(c *cli.Context, missing []error) {
	if len(missing) == 0 {
		return
	}
	text := "not everything could be read:"
	for _, err := range missing[:min(len(missing), shownMissing)] {
		text += "\n  " + events.SafeSentence(err.Error())
	}
	if more := len(missing) - shownMissing; more > 0 {
		text += fmt.Sprintf("\n  and %d more, which -o json has", more)
	}
	if errors.Is(errors.Join(missing...), os.ErrPermission) {
		text += fmt.Sprintf("\n  run it as root on the node (sudo %s): it takes CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_SYS_PTRACE", c.Command.HelpName)
	}
	a.say("warning: %s", text)
}
