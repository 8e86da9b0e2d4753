// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/tracer"
)

func (a *app) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:               "doctor",
		Usage:              "what is missing to trace on this machine, and the way out",
		CustomHelpTemplate: doctorHelp,
		Flags:              []cli.Flag{outputFlag("", "text", "json")},
		Action:             a.plainAction(false, a.doctor),
	}
}

// doctor exits with 0 if trace would work here, in whichever hook set.
func (a *app) doctor(c *cli.Context) error {
	k, err := a.sys.probe()
	if err != nil {
		return fmt.Errorf("look at this kernel: %w", err)
	}
	write := writeDoctor
	if c.String("output") == "json" {
		write = writeDoctorJSON
	}
	if err := write(a.sys.stdout, k); err != nil && !closedPipe(err) {
		return fmt.Errorf("write to standard output: %w", err)
	}
	if !k.CanTrace && !k.CanTracepoints {
		return exitStatus(exitError)
	}
	return nil
}

func writeDoctor(w io.Writer, k *tracer.Kernel) error {
	var b strings.Builder
	fmt.Fprintf(&b, "kernel %s %s\n", k.Release, k.Arch)
	width := 0
	for _, c := range k.Checks {
		width = max(width, len(c.Name))
	}
	for _, c := range k.Checks {
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-8s  %-*s  %s", c.Status, width, c.Name, c.Detail), " "))
		if c.WayOut != "" && c.Status != "ok" {
			fmt.Fprintf(&b, "\n%*s→ %s", 8+2+width+2, "", c.WayOut)
		}
		b.WriteByte('\n')
	}
	switch {
	case k.CanTrace:
		b.WriteString("stackhop trace works here, with all hooks\n")
	case k.CanTracepoints:
		b.WriteString("stackhop trace works here with --hooks tracepoints only: devices, namespaces and drops are observed; IPVS, conntrack, netfilter, IP and sockets are not\n")
	default:
		b.WriteString("stackhop trace does not work here\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeDoctorJSON(w io.Writer, k *tracer.Kernel) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(k)
}
