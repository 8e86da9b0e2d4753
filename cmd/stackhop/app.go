// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/events"
)

// Exit statuses. Those above exitError need --exit-status.
const (
	exitDone       = 0
	exitError      = 1 // usage or system error
	exitLost       = 2 // events were lost
	exitTerminated = 3 // a traversal was terminated
	exitNothing    = 4 // nothing matched
)

// exitStatus ends the program with a status and without a message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// app is one invocation.
type app struct {
	sys *system
	// errw is standard error, for the use of several goroutines.
	errw *lockedWriter
	// name is how the user calls the program.
	name string
	// args is the command line as it was given.
	args []string
	// command is what stands behind "--"; nil: there was none.
	command []string
}

// run runs the program and returns its exit status. args[0] is its name.
func run(sys *system, args []string) int {
	if filepath.Base(args[0]) == kubectlComplete {
		return completeForKubectl(sys, args[1:])
	}
	a := &app{sys: sys, errw: &lockedWriter{w: sys.stderr}, name: programName(args[0]), args: args}
	words, command, dashes := splitCommand(args[1:])
	if dashes && args[len(args)-1] == askCompletion {
		return exitDone // the shell knows better how to complete COMMAND
	}
	a.command = command
	c := a.cli()
	err := errors.New(`no command stands behind "--"`)
	if !dashes || len(command) > 0 {
		err = c.Run(append([]string{args[0]}, flagsFirst(c, words)...))
	}
	if err == nil {
		return exitDone
	}
	if status, ok := errors.AsType[exitStatus](err); ok {
		return int(status)
	}
	a.say("%v", err)
	return exitError
}

// say writes a message to standard error.
func (a *app) say(format string, args ...any) {
	// Nobody is left to be told if standard error is gone.
	_, _ = io.WriteString(a.errw, events.SafeMessage("stackhop: "+fmt.Sprintf(format, args...))+"\n")
}

// programName is the name to show in help texts: kubectl runs a plugin under
// the name kubectl-stackhop.
func programName(arg0 string) string {
	base := strings.TrimSuffix(filepath.Base(arg0), ".exe")
	if rest, ok := strings.CutPrefix(base, "kubectl-"); ok {
		return "kubectl " + rest
	}
	return "stackhop"
}

func (a *app) cli() *cli.App {
	c := &cli.App{
		Name:                 a.name,
		HelpName:             a.name,
		Usage:                "follow each packet through every kernel stack that it visits, and say where it ended and why",
		Version:              versionText(),
		HideHelpCommand:      true,
		EnableBashCompletion: true,
		BashComplete:         completeCommands,
		Reader:               a.sys.stdin,
		Writer:               a.sys.stdout,
		ErrWriter:            a.errw,
		ExitErrHandler:       func(*cli.Context, error) {}, // run decides
		OnUsageError:         a.usageError,
		Action:               a.noCommand,
		Commands: []*cli.Command{
			a.traceCommand(), a.recordCommand(), a.replayCommand(), a.reportCommand(), a.exportCommand(), a.redactCommand(),
			a.explainCommand(), a.topologyCommand(), a.hooksCommand(), a.doctorCommand(), a.completionCommand(), a.versionCommand(),
		},
		CustomAppHelpTemplate: appHelp,
	}
	for _, cmd := range c.Commands {
		cmd.HideHelpCommand = true
		cmd.OnUsageError = a.usageError
		if cmd.BashComplete == nil {
			cmd.BashComplete = completeFlags(cmd)
		}
	}
	return c
}

// noCommand is what runs without a command, or with one that there is not.
func (a *app) noCommand(c *cli.Context) error {
	if !c.Args().Present() {
		return cli.ShowAppHelp(c)
	}
	var known []string
	for _, cmd := range c.App.Commands {
		known = append(known, cmd.Name)
	}
	return fmt.Errorf("unknown command %s%s\n  see: %s --help", quoted(c.Args().First()), didYouMean(c.Args().First(), known), a.name)
}

// usageError explains a flag that is wrong.
func (a *app) usageError(c *cli.Context, err error, _ bool) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		var known []string
		for _, f := range c.Command.Flags {
			known = append(known, "--"+f.Names()[0])
		}
		name = "--" + strings.TrimLeft(name, "-")
		text = "unknown flag " + events.Safe(name) + didYouMean(name, known)
	}
	return fmt.Errorf("%s\n  see: %s --help", text, c.Command.HelpName)
}

// plainAction is the action of a command that takes no arguments; withCommand
// says whether it may be followed by "-- COMMAND".
func (a *app) plainAction(withCommand bool, f cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Args().Present() {
			return fmt.Errorf("%s takes no arguments: %s", c.Command.Name, quoted(c.Args().First()))
		}
		if a.command != nil && !withCommand {
			return errNoCommand(c)
		}
		return f(c)
	}
}

// errNoCommand refuses "-- COMMAND".
func errNoCommand(c *cli.Context) error {
	return fmt.Errorf(`%s runs no command: remove "--" and what follows it`, c.Command.Name)
}

// outputFlag is -o with the given forms, of which the first is the default.
func outputFlag(category string, forms ...string) *cli.StringFlag {
	return &cli.StringFlag{
		Name: "output", Aliases: []string{"o"}, Category: category, Value: forms[0],
		Usage: "write `FORM`: " + strings.Join(forms, ", "),
		Action: func(_ *cli.Context, form string) error {
			for _, f := range forms {
				if f == form {
					return nil
				}
			}
			return fmt.Errorf("-o %s: there are %s%s", events.Safe(form), strings.Join(forms, ", "), didYouMean(form, forms))
		},
	}
}
