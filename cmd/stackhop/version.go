// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// Set by the linker: -ldflags "-X main.version=… -X main.commit=…".
var version, commit string

func (a *app) versionCommand() *cli.Command {
	return &cli.Command{
		Name:               "version",
		Usage:              "version, commit, Go release and platform",
		CustomHelpTemplate: shortHelp,
		Action: a.plainAction(false, func(*cli.Context) error {
			_, err := fmt.Fprintln(a.sys.stdout, "stackhop", versionText())
			return err
		}),
	}
}

// versionText says what this binary was built from. Where the linker was not
// told, Go's own stamp does.
func versionText() string {
	v, c := version, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && c == "" {
				c = s.Value
			}
		}
	}
	if v == "" {
		v = "(devel)"
	}
	if c == "" {
		c = "unknown"
	}
	return fmt.Sprintf("%s (commit %.12s) %s %s/%s", v, c, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
