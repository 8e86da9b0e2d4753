// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/urfave/cli/v2"

	"github.com/stackhop/stackhop/tracer"
)

// Categories of flags; help texts sort them by name.
const (
	choosing  = "Choosing packets:"
	bounding  = "Bounding the cost:"
	ending    = "Ending:"
	naming    = "Names:"
	writing   = "Output:"
	recording = "Recording:"
	running   = "Running:"
)

// choosingFlags choose packets, live or from a recording.
func choosingFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "from", Category: choosing, Usage: "connections with an end at `T`; with --to, those between the two"},
		&cli.StringSliceFlag{Name: "to", Category: choosing, Usage: "connections with an end at `T`; with --from, those between the two"},
		&cli.StringSliceFlag{Name: "with", Category: choosing, Usage: "connections with an end at `T`, beside what --from and --to say"},
		&cli.StringFlag{Name: "namespace", Aliases: []string{"n"}, Category: choosing, Usage: "Kubernetes namespace `NS` of the pods and services above; alone: everything that begins or ends in it"},
	}
}

// showingFlags say what is written about traversals, and how.
func showingFlags(forms ...string) []cli.Flag {
	return []cli.Flag{
		boolFlag("failed", choosing, "show only what was neither delivered nor left the node"),
		outputFlag(writing, forms...),
		boolFlag("explain", writing, "below each traversal: the chain of evidence, what to check next, and what would disprove it"),
		boolFlag("no-color", writing, "no colours, as with NO_COLOR set or without a terminal"),
	}
}

// liveFlags are those of every command that observes the kernel.
func liveFlags() []cli.Flag {
	return append(clusterFlags(), []cli.Flag{
		boolFlag("all", choosing, "every packet but those of this session's own connections; costs the node more than a selection"),
		&cli.DurationFlag{Name: "for", Category: ending, DefaultText: "until Ctrl-C", Usage: "end after a `TIME` such as 30s"},
		&cli.IntFlag{Name: "count", Category: ending, DefaultText: "no limit", Usage: "end after `N` traversals shown"},
		&cli.StringFlag{Name: "sample", Category: bounding, DefaultText: "1/1", Usage: "follow only `1/N` of the connections, each whole"},
		&cli.UintFlag{Name: "rate", Category: bounding, DefaultText: "no limit", Usage: "about `N` events a second: beyond it no further packet is followed for the rest of a tenth of a second; those are counted, the others sent whole"},
		boolFlag("exit-status", ending, "exit with 2 if events were lost or packets shed for want of room, 3 if a traversal was terminated, 4 if nothing matched"),
		&cli.StringFlag{Name: "names", Category: naming, Usage: "names for namespaces and addresses, from `FILE`"},
		&cli.StringFlag{Name: "only-node", Category: naming, Usage: "observe the node `NAME` of the names file (without one: this host's name) alone, as if this ran on it"},
		&cli.StringFlag{Name: "hooks", Category: running, Value: string(tracer.HooksAll), Usage: "`SET` of hooks: all, or tracepoints on kernels that refuse function hooks (no IPVS, conntrack, netfilter, IP and sockets then)"},
		keepFlag(running),
		&cli.StringFlag{Name: "ready-file", Category: running, Usage: "write `PATH` once everything is attached"},
	}...)
}

// boolFlag is a switch; "(default: false)" behind each would tell nothing.
func boolFlag(name, category, usage string) *cli.BoolFlag {
	return &cli.BoolFlag{Name: name, Category: category, Usage: usage, DisableDefaultText: true}
}
