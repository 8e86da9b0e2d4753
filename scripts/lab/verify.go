// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/stackhop/stackhop/events"
)

// everything selects all that the lab does, but for what it does not test: the
// neighbours' discovery of each other.
const everything = "tcp or udp or icmp or icmp6"

func cmdVerify(args []string) error {
	fs := flags("verify")
	path := fs.String("tool", "", "stackhop's program (default: beside this one, or on PATH)")
	all := fs.Bool("all", false, "also what is not of the ten cases: DNS, IPv6")
	packets := fs.Bool("packets", false, "show every packet of each case")
	capture := fs.String("capture", "", "let the tool write its events to `FILE`")
	if _, err := parse(fs, args, 0, "[-all] [-packets] [-tool PATH]"); err != nil {
		return err
	}
	t, err := findTool(*path)
	if err != nil {
		return err
	}
	v := verification{tool: t, all: *all, packets: *packets, capture: *capture, out: os.Stdout}
	return v.run()
}

// A verification compares what the tool says of the cases with the scenarios.
type verification struct {
	tool    tool
	all     bool
	packets bool
	capture string
	out     io.Writer

	list    []*verified
	left    []*events.Traversal
	summary []string
}

func (v *verification) run() error {
	if err := v.trace(); err != nil {
		return err
	}
	for _, c := range v.list {
		c.compare()
		if err := v.show(c); err != nil {
			return err
		}
	}
	return v.table()
}

// trace runs the cases with the tool around them.
func (v *verification) trace() error {
	dir, err := os.MkdirTemp("", "lab-verify-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	me, err := os.Executable()
	if err != nil {
		return err
	}
	results := filepath.Join(dir, "results")
	command := []string{me, "cases", "-json", "-o", results}
	if v.all {
		command = append(command, "-all")
	}
	args := []string{everything}
	if v.capture != "" {
		args = append(args, "--capture", v.capture)
	}
	fmt.Fprintf(os.Stderr, "lab: tracing the cases with %s\n", v.tool.path)
	s, traversals, err := v.tool.around(args, command...)
	if err != nil {
		return err
	}
	v.summary = s.summary()
	if v.list, err = readResults(results); err != nil {
		return err
	}
	v.left = assign(v.list, traversals)
	return nil
}

// readResults reads what the oracle says of the connections.
func readResults(path string) ([]*verified, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	over, err := overVXLAN()
	if err != nil {
		return nil, err
	}
	var list []*verified
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		c := &verified{}
		if err := json.Unmarshal([]byte(line), &c.r); err != nil {
			return nil, fmt.Errorf("read the results of the cases: %w", err)
		}
		if c.c, err = findCase(c.r.Case); err != nil {
			return nil, err
		}
		if c.want, err = expectationOf(c.c.id); err != nil {
			return nil, err
		}
		if over {
			c.c, c.want = c.c.overVXLAN(), c.want.overVXLAN()
		}
		list = append(list, c)
	}
	return list, nil
}

func expectationOf(id string) (expectation, error) {
	want := slices.Concat(expectations, extraExpectations, proxyExpectations(proxyMode()))
	i := slices.IndexFunc(want, func(e expectation) bool { return e.id == id })
	if i < 0 {
		return expectation{}, fmt.Errorf("case %s has no expectation", id)
	}
	return want[i], nil
}

// show prints the tool's own lines about a case: of each kind of packet the
// first, unless all are wanted.
func (v *verification) show(c *verified) error {
	fmt.Fprintf(v.out, "\n== case %s: %s (%s → %s)\n", c.c.id, c.c.slug, c.r.ClientLocal, c.r.Dialed)
	lines := &events.LineRenderer{W: v.out}
	shown := map[string]bool{}
	for _, t := range c.packet {
		kind := strings.Join([]string{t.Direction, visitsText(t.Visits), string(t.Verdict), strings.Join(t.DataLink, " ")}, "|")
		if shown[kind] && !v.packets {
			continue
		}
		shown[kind] = true
		if err := lines.Render(t); err != nil {
			return err
		}
	}
	if rest := len(c.packet) - len(shown); rest > 0 && !v.packets {
		fmt.Fprintf(v.out, "    and %d more packets of this connection, on the same ways\n", rest)
	}
	return nil
}

// table prints what was expected against what was seen.
func (v *verification) table() error {
	fmt.Fprintln(v.out)
	w := tabwriter.NewWriter(v.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CASE\tSLUG\tEXPECTED\tSEEN\tREQUEST\tVERDICT\tDATA LINK\tREPLY\tNAT\tPACKETS")
	good, extras := 0, 0
	for _, c := range v.list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.c.id, c.c.slug, expectedText(c.want.request, c.want.reply),
			c.seenText(), mark(c.request), mark(c.verdict), mark(c.link), mark(c.reply), mark(c.nat), mark(c.rest))
		if len(c.faults()) > 0 {
			continue
		}
		if slices.ContainsFunc(cases[:ten], func(t testCase) bool { return t.id == c.c.id }) {
			good++
		} else {
			extras++
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return v.conclude(good, extras)
}

// conclude prints what differs, and the last line; the error has what differs, too.
func (v *verification) conclude(good, extras int) error {
	var wrong []string
	for _, c := range v.list {
		for _, f := range slices.Compact(c.faults()) {
			wrong = append(wrong, fmt.Sprintf("case %s: %s", c.c.id, f))
		}
	}
	for _, t := range v.left {
		if t.Proto == "tcp" || t.Proto == "udp" {
			wrong = append(wrong, fmt.Sprintf("of no case: %s %s → %s: %s", t.Proto, address(t.Src), address(t.Dst), t.Summary))
		}
	}
	for _, line := range wrong {
		fmt.Fprintln(v.out, "  "+line)
	}
	for _, line := range v.summary {
		fmt.Fprintln(v.out, line)
		// A hook that this kernel has and that could not be attached is a warning.
		if strings.Contains(line, "LOST") || strings.HasPrefix(line, "warning: ") {
			wrong = append(wrong, line)
		}
	}
	fmt.Fprintf(v.out, "%s of ten cases are as the scenarios say", inWords(good))
	if v.all {
		fmt.Fprintf(v.out, ", %d of %d extras", extras, len(cases)-ten)
	}
	fmt.Fprintln(v.out)
	if len(wrong) > 0 || good != ten || v.all && extras != len(cases)-ten {
		return fmt.Errorf("%w: %s", errNotAsExpected, strings.Join(wrong, "; "))
	}
	return nil
}

func inWords(n int) string {
	words := []string{"none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"}
	return words[n]
}

func mark(faults []string) string {
	if len(faults) == 0 {
		return "ok"
	}
	return "DIFFERS"
}

var errNotAsExpected = errors.New("what was seen is not what was expected")

// expectedText is the short form of what must be seen.
func expectedText(request, reply leg) string {
	return fmt.Sprintf("%s %s, %s back", number(request.stacks), request.verdict, number(reply.stacks))
}

// seenText is the same of what was seen.
func (v *verified) seenText() string {
	var request, reply []string
	for _, t := range v.packet {
		text := number(t.Stacks)
		switch {
		case t.Direction == "request":
			request = append(request, text+" "+string(t.Verdict))
		case t.Proto != "icmp" || t.ICMP == v.want.reply.icmp:
			reply = append(reply, text+" back")
		}
	}
	slices.Sort(request)
	slices.Sort(reply)
	return strings.Join(slices.Concat(slices.Compact(request), slices.Compact(reply)), ", ")
}
