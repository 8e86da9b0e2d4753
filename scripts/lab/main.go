// SPDX-License-Identifier: Apache-2.0

// Command lab builds the reference cluster out of network namespaces, makes the
// traffic of the test cases in it, and tells the truth about that traffic. It
// runs as root in the lab's virtual machines; `pair`, `bench -pair`, `growth`,
// `churn`, `gso` and `snapshot` also on a machine of its own, where they touch
// nothing but the namespaces that they made.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/stackhop/stackhop/tracer"
)

// commands are the program's verbs, in the order of the usage text.
var commands = []struct {
	name, usage string
	run         func(args []string) error
}{
	{"up", "up [-iptables legacy|nft] [-backend host-gw|vxlan] [-proxy MODE]: build the cluster, and " + namesFile, cmdUp},
	{"down", "down: remove the cluster", func([]string) error { return clusterDown() }},
	{"serve", "serve [-detach] [-ready-file FILE]: run the servers of all pods until told to end", cmdServe},
	{"case", "case [-count N] ID: make the traffic of one case; status 0 if all went as the scenarios say", cmdCase},
	{"cases", "cases [-all] [-json] [-o FILE] [ID...]: make the traffic of the ten cases (and the extras), and print a table", cmdCases},
	{"oddities", "oddities [-o FILE] [NAME...]: make the traffic that the cases have none of: refusals, rules, fragments, bulk", cmdOddities},
	{"verdicts", "verdicts [-list] [-o FILE] [-run PATTERN] [GROUP...]: make every failure happen that the tool has a verdict for", cmdVerdicts},
	{"healthy", "healthy [-for TIME] [-o FILE]: traffic of every kind in which nothing fails", cmdHealthy},
	{"verify", "verify [-all] [-packets] [-tool PATH]: trace the cases, and compare with what the scenarios say", cmdVerify},
	{"check", "check [-o FOLDER] [-seed N] [-run PATTERN] [-tool PATH] [NAME...]: check the tool against the lab; without names: all checks", cmdCheck},
	{"capture", "capture [-tool PATH] FOLDER: record the events of the ten cases, a file each", cmdCapture},
	{"bench", "bench [-pair] [flags]: how much traffic there is with and without the tool, and what it costs (without serve)", cmdBench},
	{"growth", "growth [flags] FOLDER: pictures of how the tool's cost grows with traffic, flows, devices and time, on a pair", cmdGrowth},
	{"targets", "targets FOLDER: each bound of what the tool may cost, beside what the benchmarks have left in the folder", cmdTargets},
	{"plot", "plot FILE...: draw such pictures again, from their points", cmdPlot},
	{"churn", "churn -from NETNS -to NETNS -dst ADDR:PORT [flags]: numbered packets, and what became of them", cmdChurn},
	{"pair", "pair up|down [ID]: two pods and a node, without services, under names of their own", cmdPair},
	{"gso", "gso on|off NETNS DEV: segmentation and receive offloads of a device (all: of every device)", cmdGSO},
	{"runtime", "runtime up | pod | exec | rm: pods of a real container runtime (scripts/runtime); without more: how", cmdRuntime},
	{"send", "send [flags] tcp|udp ADDR:PORT: messages to an echo server, each of which must come back", cmdSend},
	{"exec", "exec NETNS COMMAND...: run a command in a namespace", cmdExec},
	{"manifest", "manifest [-proxy]: print what an API server would know of the cluster", cmdManifest},
	{"snapshot", "snapshot: print what of the kernel's state a tracer could leave behind", func([]string) error { return snapshot(os.Stdout) }},
	{"pause", "", pause},
	{"inside", "", insideNode},
	{"inside-init", "", insideInit},
	{"serve-proxy", "", func(args []string) error { return serveProxy(args[0]) }},
	{"serve-pod", "", func(args []string) error { return servePod(args[0]) }},
	{"client", "", cmdClient},
	{"drain", "", cmdDrain},
	{"bare", "", cmdBare},
	{"churn-session", "", cmdChurnSession},
}

// The first thread stays in the namespace that the program was started in: it is
// the one by which /proc and other tools tell where a process is.
func init() { runtime.LockOSThread() }

func main() {
	if tracer.IsCleaner() { // of `lab drain`
		os.Exit(tracer.RunCleaner())
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) > 0 {
		for _, c := range commands {
			if c.name != args[0] {
				continue
			}
			err := c.run(args[1:])
			if err == nil || errors.Is(err, flag.ErrHelp) {
				return 0
			}
			fmt.Fprintf(os.Stderr, "lab %s: %v\n", c.name, err)
			return 1
		}
	}
	fmt.Fprintln(os.Stderr, "usage: lab COMMAND")
	for _, c := range commands {
		if c.usage != "" {
			fmt.Fprintln(os.Stderr, "  "+c.usage)
		}
	}
	return 1
}

// parse reads a command's flags and checks how many arguments follow them.
func parse(fs *flag.FlagSet, args []string, want int, usage string) ([]string, error) {
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() != want {
		return nil, errors.New("usage: lab " + fs.Name() + " " + usage)
	}
	return fs.Args(), nil
}

func flags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ContinueOnError) }

func cmdUp(args []string) error {
	fs := flags("up")
	iptables := fs.String("iptables", "legacy", "the variant of iptables for the nodes' rules: legacy or nft")
	backend := fs.String("backend", backendRoutes, "Flannel's backend: host-gw (the network routes the pods' addresses) or vxlan")
	proxy := fs.String("proxy", "", "let a real kube-proxy on each node write the rules, in this `MODE`: ipvs, iptables or nftables (of a guest with an API server)")
	if _, err := parse(fs, args, 0, "[-iptables legacy|nft] [-backend host-gw|vxlan] [-proxy MODE]"); err != nil {
		return err
	}
	if *backend != backendRoutes && *backend != backendVXLAN {
		return fmt.Errorf("-backend %s: want %s or %s", *backend, backendRoutes, backendVXLAN)
	}
	if *proxy != "" && !slices.Contains(proxyModes, *proxy) {
		return fmt.Errorf("-proxy %s: kube-proxy has the modes %s", *proxy, strings.Join(proxyModes, ", "))
	}
	start := time.Now()
	if err := clusterUp(plan{iptables: *iptables, backend: *backend, bare: *proxy != ""}); err != nil {
		return err
	}
	if *proxy != "" {
		if err := detach("kube-proxy", "serve-proxy", *proxy); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "lab: the cluster is up after %.1f s\n", time.Since(start).Seconds())
	return nil
}

func cmdServe(args []string) error {
	fs := flags("serve")
	ready := fs.String("ready-file", "", "write this file once all servers listen")
	detach := fs.Bool("detach", false, "go on in the background, and return once all servers listen")
	if _, err := parse(fs, args, 0, "[-detach] [-ready-file FILE]"); err != nil {
		return err
	}
	if *detach {
		return serveDetached(*ready)
	}
	return serve(*ready)
}

func cmdManifest(args []string) error {
	fs := flags("manifest")
	proxy := fs.Bool("proxy", false, "with the services that only a real kube-proxy has")
	if _, err := parse(fs, args, 0, "[-proxy]"); err != nil {
		return err
	}
	known := services
	if *proxy {
		known = slices.Concat(services, proxyServices)
	}
	m, err := clusterManifest(known)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(m)
}

// cmdCase starts the client as a process of its pod; its output is this command's.
func cmdCase(args []string) error {
	fs := flags("case")
	count := fs.Int("count", 1, "how many connections, one after the other")
	rest, err := parse(fs, args, 1, "[-count N] ID")
	if err != nil {
		return err
	}
	c, err := findCase(rest[0])
	if err != nil {
		return err
	}
	return startCase(c, *count, os.Stdout)
}

func cmdCases(args []string) error {
	fs := flags("cases")
	all := fs.Bool("all", false, "also what is not of the ten: DNS, IPv6")
	asJSON := fs.Bool("json", false, "one object a line instead of a table")
	file := fs.String("o", "", "write to `FILE` instead of standard output")
	if err := fs.Parse(args); err != nil {
		return err
	}
	chosen := cases
	if !*all {
		chosen = cases[:ten]
	}
	if fs.NArg() > 0 {
		chosen = nil
	}
	for _, id := range fs.Args() {
		c, err := findCase(id)
		if err != nil {
			return err
		}
		chosen = append(chosen, c)
	}
	if *file == "" {
		return runCases(chosen, *asJSON, os.Stdout)
	}
	out, err := os.Create(*file)
	if err != nil {
		return err
	}
	return errors.Join(runCases(chosen, *asJSON, out), out.Close())
}

func cmdClient(args []string) error {
	fs := flags("client")
	count := fs.Int("count", 1, "connections")
	rest, err := parse(fs, args, 1, "ID")
	if err != nil {
		return err
	}
	c, err := findCase(rest[0])
	if err != nil {
		return err
	}
	if over, err := overVXLAN(); err != nil {
		return err
	} else if over {
		c = c.overVXLAN()
	}
	return runClient(c, *count)
}

func cmdExec(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: lab exec NETNS COMMAND...")
	}
	return execIn(args[0], args[1:])
}

func cmdChurn(args []string) error {
	fs := flags("churn")
	var p churnPlan
	fs.StringVar(&p.from, "from", "", "namespace of the senders")
	fs.StringVar(&p.to, "to", "", "namespace of the receiver")
	fs.StringVar(&p.proto, "proto", "udp", "udp or tcp")
	fs.StringVar(&p.dst, "dst", "", "ADDR:PORT to send to")
	fs.StringVar(&p.listen, "listen", "", "ADDR:PORT of the receiver (default: the port of -dst)")
	fs.IntVar(&p.packets, "packets", 1000, "packets of all flows together")
	fs.IntVar(&p.flows, "flows", 1, "flows side by side")
	fs.IntVar(&p.size, "size", 64, "bytes of payload")
	fs.IntVar(&p.vary, "vary", 0, "lengths: the payload of packet N is size + N modulo this")
	fs.IntVar(&p.window, "window", 16, "packets of a flow that wait for their echo at once; less with many flows")
	fs.IntVar(&p.perConn, "per-conn", 0, "packets of a flow before it takes a new port (0: never)")
	fs.IntVar(&p.rate, "rate", 0, "packets a second of all flows together (0: as fast as they go)")
	quiet := fs.Bool("totals", false, "leave out the list of flows")
	file := fs.String("o", "", "write the report to `FILE` instead of standard output")
	if _, err := parse(fs, args, 0, "-from NETNS -to NETNS -dst ADDR:PORT [flags]"); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	report, err := churn(p)
	if *quiet {
		report.Flows = nil
	}
	if *file != "" {
		return errors.Join(err, writeJSON(*file, report))
	}
	return errors.Join(err, json.NewEncoder(os.Stdout).Encode(report))
}

// check completes a plan and refuses one that cannot be carried out.
func (p *churnPlan) check() error {
	if p.from == "" || p.to == "" || p.dst == "" {
		return errors.New("-from, -to and -dst are needed")
	}
	if p.proto != "udp" && p.proto != "tcp" {
		return fmt.Errorf("-proto %s: want udp or tcp", p.proto)
	}
	if p.flows < 1 || p.packets < p.flows || p.window < 1 {
		return errors.New("want at least one flow, one packet a flow, and a window of one")
	}
	if p.size < minPayload+4 || p.size+p.vary > 60000 {
		return fmt.Errorf("-size %d: want %d to 60000", p.size, minPayload+4)
	}
	if p.vary < 0 || p.vary > 0 && p.proto != "udp" {
		return errors.New("-vary is for udp: in a stream of bytes no message has a length of its own")
	}
	// A CPU's backlog holds 1000 packets; both directions may share one.
	p.window = max(1, min(p.window, 400/p.flows))
	if p.listen == "" {
		p.listen = p.dst[strings.LastIndexByte(p.dst, ':'):]
	}
	return nil
}

func cmdGSO(args []string) error {
	if len(args) != 3 || args[0] != "on" && args[0] != "off" {
		return errors.New("usage: lab gso on|off NETNS DEV")
	}
	return setOffloads(args[1], args[2], args[0] == "on")
}

func cmdPair(args []string) error {
	switch {
	case len(args) >= 1 && len(args) <= 2 && args[0] == "up":
		id := ""
		if len(args) == 2 {
			id = args[1]
		}
		return pairUp(id)
	case len(args) == 2 && args[0] == "down":
		return pairDown(args[1])
	}
	return errors.New("usage: lab pair up [ID] | lab pair down ID")
}
