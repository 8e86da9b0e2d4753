// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The checks hold the tool against what the lab knows. Each runs in a lab that
// is up; those that need the servers say so.
var checks = []check{
	// First those that need the servers' ports for themselves.
	{"churn", false, (*checker).churn},
	{"doctor", false, (*checker).doctor},
	{"cases", true, (*checker).cases},
	{"oddities", true, (*checker).oddities},
	{"recordings", true, (*checker).recordings},
	{"selections", true, (*checker).selections},
	{"only-node", true, (*checker).onlyNode},
	{"nothing", true, (*checker).nothing},
	{"hooks", true, (*checker).hooks},
	{"losses", true, (*checker).losses},
	{"half", true, (*checker).half},
	{"leftovers", true, (*checker).leftovers},
	{"ends", true, (*checker).violentEnds},
	// Behind what compares the kernel with how it was: these load modules.
	{"topology", false, (*checker).topology},
	{"rules", false, (*checker).rules},
	{"privileges", false, (*checker).privileges},
	// The last: it leaves a kernel that lets nothing be traced.
	{"refused", true, (*checker).refused},
}

// apart are checks that need a guest or a time of their own, and run when named only.
var apart = []check{
	// Without the cluster, in a guest that has scripts/runtime's archive.
	{"runtime", false, (*checker).containerRuntime},
	// With the cluster, and an API server that knows it.
	{"names", true, (*checker).apiNames},
	{"many", true, (*checker).manyNames},
	// With lab up -proxy, and an API server that knows all of manifest -proxy.
	{"proxy", true, (*checker).kubeProxy},
	// For its time: it makes every failure there is a case of.
	{"verdicts", true, (*checker).verdicts},
	// Likewise: a minute of traffic.
	{"healthy", true, (*checker).healthy},
	// For its time as well: the kernel makes no difference to it.
	{"nested", true, (*checker).nested},
	// Without the cluster, whose modules it unloads.
	{"modules", false, (*checker).modules},
	// With the tracer's test beside it.
	{"instructions", false, (*checker).instructions},
	{"functions", false, (*checker).functions},
	// It builds a cluster of its own.
	{"vxlan", false, (*checker).vxlan},
}

type check struct {
	name    string
	servers bool
	run     func(*checker) error
}

// leftOut is how the tool's summary begins to tell of hooks that did not run.
const leftOut = "the kernel left out"

// A checkResult is what one check came to.
type checkResult struct {
	Name    string   `json:"name"`
	Seconds float64  `json:"seconds"`
	Error   string   `json:"error,omitempty"`
	Facts   []string `json:"facts"` // figures, for the report
}

// A checker is one run of checks.
type checker struct {
	tool    tool
	me      string // this program
	random  *rand.Rand
	outDir  string // where what is for the caller is left
	pattern string // which cases of verdicts; empty: all
	facts   []string
	before  []string // the inventory before the tool ran for the first time
}

// fact notes a figure.
func (c *checker) fact(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.facts = append(c.facts, text)
	fmt.Println("    " + text)
}

func cmdCheck(args []string) error {
	fs := flags("check")
	path := fs.String("tool", "", "stackhop's program (default: beside this one, or on PATH)")
	seed := fs.Uint64("seed", uint64(time.Now().UnixNano()), "of the random moments")
	outDir := fs.String("o", "", "leave there what the checks write: the `FOLDER`")
	pattern := fs.String("run", "", "of the check verdicts, only cases whose name matches the regular expression `PATTERN`")
	list := fs.Bool("list", false, "print the names of the checks")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *list {
		fmt.Println(strings.Join(checkNames(checks), "\n"))
		return nil
	}
	c := &checker{random: rand.New(rand.NewPCG(*seed, 0)), outDir: *outDir, pattern: *pattern}
	var err error
	if c.tool, err = findTool(*path); err != nil {
		return err
	}
	if c.me, err = os.Executable(); err != nil {
		return err
	}
	for _, name := range fs.Args() {
		if all := checkNames(slices.Concat(checks, apart)); !slices.Contains(all, name) {
			return fmt.Errorf("no check %q: there are %s", name, strings.Join(all, ", "))
		}
	}
	// Before all runs: what one of them leaves behind is not to be taken for
	// something that was there.
	if c.before, err = inventoryText(); err != nil {
		return err
	}
	fmt.Printf("lab check: seed %d\n", *seed)
	return c.runAll(fs.Args())
}

func checkNames(list []check) []string {
	var names []string
	for _, check := range list {
		names = append(names, check.name)
	}
	return names
}

// runAll runs the named checks, or all. One that fails does not keep the
// others from running.
func (c *checker) runAll(names []string) error {
	failed, ran, serving := 0, 0, false
	if len(names) == 0 {
		names = checkNames(checks)
	}
	for _, check := range slices.Concat(checks, apart) {
		if !slices.Contains(names, check.name) {
			continue
		}
		if check.servers && !serving {
			if err := serveDetached(""); err != nil {
				return err
			}
			serving = true
		}
		fmt.Printf("=== %s\n", check.name)
		start := time.Now()
		c.facts = nil
		err := check.run(c)
		if err != nil && strings.Contains(err.Error(), "was not seen") {
			// On preemptible kernels a hook is left out when its program was
			// interrupted on that CPU. The tool says so; once is bad luck.
			fmt.Printf("    again, a packet's beginning was not seen: %v\n", err)
			err = check.run(c)
		}
		r := checkResult{Name: check.name, Seconds: time.Since(start).Seconds(), Facts: c.facts}
		verdict := "ok"
		if err != nil {
			verdict, r.Error = "FAILED: "+err.Error(), err.Error()
			failed++
		}
		fmt.Printf("--- %s (%.1f s) %s\n", check.name, r.Seconds, verdict)
		ran++
		// One line for a program that reads this, as soon as it is known: a hang
		// later does not hide what there is.
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Printf("result %s\n", text)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, ran)
	}
	return nil
}

// cases is `lab verify`.
func (c *checker) cases() error {
	v := verification{tool: c.tool, all: true, out: os.Stdout}
	err := v.run()
	packets := 0
	for _, one := range v.list {
		packets += len(one.packet)
	}
	c.fact("%d cases, %d packets compared", len(v.list), packets)
	c.facts = append(c.facts, v.summary...)
	return err
}

// output runs a command to its end, and returns its standard output.
func output(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return out, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, lastLines(string(exit.Stderr), 8))
	}
	return out, err
}
