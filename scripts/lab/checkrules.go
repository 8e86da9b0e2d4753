// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stackhop/stackhop/events"
)

// rulePatience is how long a client tries, and ruleRounds how often: the rules are
// read meanwhile, for which emulated tools take their time.
const (
	rulePatience = 4 * time.Second
	ruleRounds   = 6
)

// A ruleWriter writes rules by one of the three tools: into the chain of a hook
// point a jump to a chain of its own, and there a rule each for a port.
type ruleWriter struct {
	engine string
	base   int // of its ports
	write  func(netns, hook string, rules []labRule) error
	remove func(netns, hook string) error
	list   func(netns string) ([]byte, error)
}

// A labRule is one rule for TCP to a port.
type labRule struct {
	port    int
	comment string
	source  string // empty: any
	limited bool   // it may match
	reject  bool
}

var ruleWriters = []ruleWriter{
	{"iptables", 4100, func(netns, hook string, rules []labRule) error { return writeTables("legacy", netns, hook, rules) },
		func(netns, hook string) error { return removeTables("legacy", netns, hook) },
		func(netns string) ([]byte, error) { return outputIn(netns, "iptables-legacy-save", "-c") }},
	{"iptables-nft", 4200, func(netns, hook string, rules []labRule) error { return writeTables("nft", netns, hook, rules) },
		func(netns, hook string) error { return removeTables("nft", netns, hook) },
		func(netns string) ([]byte, error) { return outputIn(netns, "iptables-nft-save", "-c") }},
	{"nftables", 4300, writeNFT,
		func(netns, hook string) error {
			return feed(netns, "delete table inet lab"+hook+"\n", "nft", "-f", "-")
		},
		func(netns string) ([]byte, error) { return outputIn(netns, "nft", "list", "ruleset") }},
}

func writeTables(variant, netns, hook string, rules []labRule) error {
	var b strings.Builder
	fmt.Fprintf(&b, "*filter\n:LAB-%s - [0:0]\n-I %s -j LAB-%s\n", hook, hook, hook)
	for _, r := range rules {
		fmt.Fprintf(&b, "[5:300] -A LAB-%s", hook)
		if r.source != "" {
			fmt.Fprintf(&b, " -s %s/32", r.source)
		}
		fmt.Fprintf(&b, " -p tcp -m tcp --dport %d", r.port)
		if r.limited {
			b.WriteString(" -m limit --limit 1/hour --limit-burst 1")
		}
		fmt.Fprintf(&b, " -m comment --comment \"%s\" -j %s\n", r.comment, map[bool]string{false: "DROP", true: "REJECT"}[r.reject])
	}
	return feed(netns, b.String()+"COMMIT\n", restoreTool(variant), "--noflush", "-c")
}

func removeTables(variant, netns, hook string) error {
	text := fmt.Sprintf("*filter\n-D %s -j LAB-%s\n-F LAB-%s\n-X LAB-%s\nCOMMIT\n", hook, hook, hook, hook)
	return feed(netns, text, restoreTool(variant), "--noflush")
}

func writeNFT(netns, hook string, rules []labRule) error {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet lab%s {\n chain base {\n  type filter hook %s priority 1;\n  jump LAB-%s\n }\n chain LAB-%s {\n",
		hook, strings.ToLower(hook), hook, hook)
	for _, r := range rules {
		if r.source != "" {
			fmt.Fprintf(&b, "  ip saddr %s", r.source)
		}
		fmt.Fprintf(&b, "  tcp dport %d", r.port)
		if r.limited {
			b.WriteString(" limit rate 1/hour burst 1 packets")
		}
		fmt.Fprintf(&b, " counter packets 5 bytes 300 %s comment \"%s\"\n", map[bool]string{false: "drop", true: "reject"}[r.reject], r.comment)
	}
	return feed(netns, b.String()+" }\n}\n", "nft", "-f", "-")
}

// outputIn is what a command prints in a namespace.
func outputIn(netns, command string, args ...string) (out []byte, err error) {
	err = inNetns(netns, func() error {
		out, err = exec.Command(command, args...).Output()
		return err
	})
	return out, err
}

// A rulePlace is where the rules are, and an address that packets from centos
// reach through there.
type rulePlace struct{ netns, hook, dst string }

var rulePlaces = []rulePlace{
	{"n1", "FORWARD", "172.23.96.163"}, {"n1", "INPUT", "172.23.96.1"}, {"nginx1a", "INPUT", "172.23.96.163"},
}

// rulesOf are the rules of one writer at one place: a drop and a reject, each with
// one that looks like it, and two of which nobody can say which it was.
func rulesOf(w *ruleWriter, place int) []labRule {
	at := w.base + 10*place
	name := func(n int) string { return fmt.Sprintf("lab rule %d", at+n) }
	return []labRule{
		{port: at + 1, comment: "another source", source: "172.23.96.24"},
		{port: at + 1, comment: name(1)},
		{port: at + 2, comment: "another source", source: "172.23.96.24", reject: true},
		{port: at + 2, comment: name(2), reject: true},
		{port: at + 3, comment: name(3), limited: true},
		{port: at + 3, comment: "perhaps this one"},
	}
}

// rules holds the tool's answers to which rule it was against the rules.
func (c *checker) rules() (err error) {
	defer func() { err = errors.Join(err, c.removeRules()) }()
	for i := range ruleWriters {
		for place, p := range rulePlaces {
			if err := ruleWriters[i].write(p.netns, p.hook, rulesOf(&ruleWriters[i], place)); err != nil {
				return err
			}
		}
	}
	before, err := c.rulesNow()
	if err != nil {
		return err
	}
	s, err := c.tool.start("tcp and portrange 4100-4399")
	if err != nil {
		return err
	}
	for range ruleRounds {
		c.knock()
	}
	if err := s.interrupt(); err != nil {
		return err
	}
	all, err := s.traversals()
	if err != nil {
		return err
	}
	var faults []string
	for i := range ruleWriters {
		for place := range rulePlaces {
			faults = append(faults, c.ruleFaults(&ruleWriters[i], place, all)...)
		}
	}
	after, err := c.rulesNow()
	if err != nil {
		return err
	}
	for _, line := range diff(before, after) {
		faults = append(faults, "the tool changed something: "+line)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d faults:\n      %s\n%s", len(faults), strings.Join(faults, "\n      "), lastLines(s.stderr.String(), 12))
	}
	return nil
}

// rulesNow lists what reading rules must not change: modules, and the rules with
// those counters that no packet of the check touches.
func (c *checker) rulesNow() ([]string, error) {
	var v inventory
	if err := addModules(&v); err != nil {
		return nil, err
	}
	for i := range ruleWriters {
		for _, p := range rulePlaces {
			out, err := ruleWriters[i].list(p.netns)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", ruleWriters[i].engine, err)
			}
			for _, line := range strings.Split(string(out), "\n") {
				if strings.Contains(line, "another source") {
					v.add("%s %s: %s", p.netns, ruleWriters[i].engine, strings.TrimSpace(line))
				}
			}
		}
	}
	slices.Sort(v)
	return v, nil
}

func (c *checker) removeRules() (err error) {
	for i := range ruleWriters {
		for _, p := range rulePlaces {
			err = errors.Join(err, ruleWriters[i].remove(p.netns, p.hook))
		}
	}
	return err
}

// knock tries to connect to every port that has a rule.
func (c *checker) knock() {
	var wg sync.WaitGroup
	for i := range ruleWriters {
		for place, p := range rulePlaces {
			for n := 1; n <= 3; n++ {
				addr := net.JoinHostPort(p.dst, fmt.Sprint(ruleWriters[i].base+10*place+n))
				wg.Go(func() {
					// That it fails is the point.
					_ = inNetns("centos", func() error {
						conn, err := net.DialTimeout("tcp", addr, rulePatience)
						if err == nil {
							conn.Close()
						}
						return err
					})
				})
			}
		}
	}
	wg.Wait()
}

// ruleFaults compares what was said of one writer's rules at one place.
func (c *checker) ruleFaults(w *ruleWriter, place int, all []*events.Traversal) (faults []string) {
	for n := 1; n <= 3; n++ {
		port := w.base + 10*place + n
		what := fmt.Sprintf("%s, %s of %s, port %d", w.engine, rulePlaces[place].hook, rulePlaces[place].netns, port)
		var last *events.Traversal
		for _, t := range all {
			if int(t.Dst.Port) == port && t.Verdict == events.Terminated {
				if r := t.Rule; r != nil && (r.Comment == "another source" || r.Sure && (n == 3 || r.Comment != fmt.Sprintf("lab rule %d", port))) {
					faults = append(faults, what+": another rule was named: "+t.Summary)
				}
				// A slow guest may need several tries to read all rules.
				if last == nil || t.Rule != nil && (last.Rule == nil || !last.Rule.Sure) {
					last = t
				}
			}
		}
		if last == nil {
			faults = append(faults, what+": no packet ended there")
			continue
		}
		if fault := w.fault(last, n, port, place); fault != "" {
			faults = append(faults, fmt.Sprintf("%s: %s: %s %q %+v", what, fault, last.Summary, last.Notes, last.Rule))
			continue
		}
		c.fact("%s: %s %s", what, last.Summary, strings.Join(last.Notes, "; "))
	}
	return faults
}

// fault says what is wrong with what was said of a packet; empty: nothing.
func (w *ruleWriter) fault(t *events.Traversal, n, port, place int) string {
	r := t.Rule
	comment := fmt.Sprintf("lab rule %d", port)
	switch {
	case r == nil:
		return "no rule"
	case r.Engine != w.engine || r.Chain != "LAB-"+rulePlaces[place].hook || r.Comment != comment:
		return "another rule"
	case w.engine != "iptables" && r.Handle == 0:
		return "no handle"
	case n == 3 && (r.Sure || r.Others != 1 || !slices.ContainsFunc(t.Notes, func(s string) bool { return strings.HasPrefix(s, "rule candidates: ") })):
		return "two candidates, and it is sure"
	case n != 3 && (!r.Sure || !strings.Contains(t.Summary, `"`+comment+`"`)):
		return "not sure, or not in the sentence"
	}
	verb := map[bool]string{false: "dropped by ", true: "rejected by "}[n == 2]
	if !strings.Contains(t.Summary, verb) {
		return "not " + verb
	}
	return ""
}
