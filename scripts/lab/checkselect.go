// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stackhop/stackhop/events"
)

// runTraced makes the traffic of cases with the tool around them, and returns
// what both say. The cases are in the order asked for.
func (c *checker) runTraced(args []string, ids ...string) ([]*verified, []*events.Traversal, *session, error) {
	dir, err := os.MkdirTemp("", "lab-check-")
	if err != nil {
		return nil, nil, nil, err
	}
	defer os.RemoveAll(dir)
	results := filepath.Join(dir, "results")
	command := append([]string{c.me, "cases", "-json", "-o", results}, ids...)
	s, all, err := c.tool.around(args, command...)
	if err != nil {
		return nil, nil, nil, err
	}
	list, err := readResults(results)
	return list, all, s, err
}

// selections: by whatever end of case 5 the user chooses, the same traversals
// come, whole, in both directions.
func (c *checker) selections() error {
	ways := []struct{ name, arg string }{
		{"client", "host 172.23.96.23"},
		{"virtual address", "host " + vipNginx1},
		{"backend", "host 172.23.96.163"},
		{"port", "tcp port 80"},
	}
	var first map[string]string
	var faults []string
	for _, way := range ways {
		list, all, _, err := c.runTraced([]string{way.arg}, "5")
		if err != nil {
			return fmt.Errorf("by %s: %w", way.name, err)
		}
		left := assign(list, all)
		list[0].compare()
		for _, f := range list[0].faults() {
			faults = append(faults, fmt.Sprintf("by %s: %s", way.name, f))
		}
		for _, t := range left {
			if t.Proto == "tcp" {
				faults = append(faults, fmt.Sprintf("by %s: also %s → %s: %s", way.name, address(t.Src), address(t.Dst), t.Summary))
			}
		}
		c.fact("case 5 by %s (%s): %d traversals", way.name, way.arg, len(list[0].packet))
		seen, err := normalised(list[0])
		if err != nil {
			return err
		}
		if first == nil {
			first = seen
			continue
		}
		faults = append(faults, difference("by "+way.name, first, seen)...)
	}
	return faultsError(faults)
}

// normalised maps each kind of packet to its JSON without what differs from run
// to run: identifiers, times, ports, processes, and which hooks a packet passed
// by the chance of timing.
func normalised(v *verified) (map[string]string, error) {
	out := map[string]string{}
	var ports []string // the second is that of the node, where it masquerades
	for _, at := range []string{v.r.ClientLocal, v.r.SawClient} {
		if port := portOf(at); port != "" {
			ports = append(ports, ":"+port, ":PORT", fmt.Sprintf(`"port":%s,`, port), `"port":PORT,`)
		}
	}
	anonymous := strings.NewReplacer(ports...)
	for _, t := range v.packet {
		n := *t
		n.ID, n.Flow, n.CausedBy, n.Causes = "", "", "", nil
		n.Length, n.LostInRun = 0, nil // each run's own
		n.Src.Process, n.Src.PID, n.Dst.Process, n.Dst.PID = "", 0, "", 0
		n.Notes = slices.DeleteFunc(slices.Clone(n.Notes), func(s string) bool {
			// A machine that is slow sends again what had arrived.
			return strings.Contains(s, "cop") || strings.HasPrefix(s, "waited ") || discarded(s)
		})
		n.Conntrack = nil
		n.Time = time.Time{}
		n.NAT = timeless(n.NAT)
		n.Visits = slices.Clone(n.Visits)
		for i := range n.Visits {
			n.Visits[i].NAT = timeless(n.Visits[i].NAT)
			n.Visits[i].StartNS, n.Visits[i].EndNS, n.Visits[i].Hooks = 0, 0, steadyHooks(n.Visits[i].Hooks)
		}
		text, err := json.Marshal(&n)
		if err != nil {
			return nil, err
		}
		out[v.at(t)] = anonymous.Replace(ofProcess.ReplaceAllString(string(text), ""))
	}
	return out, nil
}

// ofProcess is how a summary tells whose socket it was. Of a socket that only listens
// that is known as soon as its process was looked for, which takes its time.
var ofProcess = regexp.MustCompile(` \(lab \d+\)`)

// timeless is a list of translations without their times.
func timeless(list []events.NAT) []events.NAT {
	list = slices.Clone(list)
	for i := range list {
		list[i].NS = 0
	}
	return list
}

// steadyHooks leaves out the hooks that depend on timing: a socket that is in
// use takes a packet through its backlog, a queue that is full restarts, and a
// buffer is freed by whoever is last. What remains must be the same.
func steadyHooks(hooks []events.HookVisit) []events.HookVisit {
	var out []events.HookVisit
	for _, h := range hooks {
		switch h.Hook {
		case "tcp_add_backlog", "tcp_rcv_state_process", "tcp_rcv_established", "kfree_skb", "consume_skb", "__kfree_skb", "skb_release_data":
			continue
		}
		out = append(out, events.HookVisit{Hook: h.Hook, Device: h.Device})
	}
	return out
}

// difference names the kinds of packets of which two runs say different things.
func difference(what string, want, got map[string]string) (faults []string) {
	for kind, w := range want {
		g, ok := got[kind]
		// Pure acknowledgements come or are left out as the timers have it.
		if !ok && !strings.HasSuffix(kind, " A: ") {
			faults = append(faults, fmt.Sprintf("%s: no %s", what, strings.TrimSuffix(kind, ": ")))
		}
		if ok && g != w {
			at := 0
			for at < min(len(g), len(w)) && g[at] == w[at] {
				at++
			}
			from := max(0, at-60)
			faults = append(faults, fmt.Sprintf("%s: %sis …%.160s, want …%.160s", what, kind, g[from:], w[from:]))
		}
	}
	slices.Sort(faults)
	return faults
}

// faultsError makes one error of a list; nil of an empty one. What differs in
// identifiers only is said once, with how often.
func faultsError(faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	times := map[string]int{}
	var kinds []string
	for _, f := range faults {
		kind := identifier.ReplaceAllString(f, "…")
		if times[kind]++; times[kind] == 1 {
			kinds = append(kinds, f)
		}
	}
	for i, f := range kinds {
		if n := times[identifier.ReplaceAllString(f, "…")]; n > 1 {
			kinds[i] = fmt.Sprintf("%s (%d like this)", f, n)
		}
	}
	return fmt.Errorf("%d faults:\n      %s", len(faults), strings.Join(kinds[:min(len(kinds), 25)], "\n      "))
}

// identifier matches a traversal's, and a client's port.
var identifier = regexp.MustCompile(`\b[0-9a-f]{16}\b|:[0-9]{5}\b`)

// nodeLegs is what one node alone sees of cases 4, 5, 6 and 9: half of the way.
var nodeLegs = map[string][2]leg{
	"n1": {
		{visits: "socket>centos | n1", stacks: 2, l3: 2, verdict: "left-node", link: "centos eth0 → vethcentos → cni0 → eth0"},
		{visits: "n1 | centos>socket", stacks: 2, l3: 2, verdict: delivered, link: "eth0 → cni0 → vethcentos → centos eth0"},
	},
	"n2": {
		{visits: "n2 | nginx1a>socket", stacks: 2, l3: 2, verdict: delivered, link: "eth0 → cni0 → vethnginx1a → nginx1a eth0"},
		{visits: "socket>nginx1a | n2", stacks: 2, l3: 2, verdict: "left-node", link: "nginx1a eth0 → vethnginx1a → cni0 → eth0"},
	},
}

// nodeTransit is what n1 alone sees of case 9, which only passes it.
var nodeTransit = leg{visits: "n1", stacks: 1, l3: 1, verdict: "left-node", link: "eth0 → eth0"}

// onlyNode: with --only-node the tool sees what it would see on that node.
func (c *checker) onlyNode() (err error) {
	if err := slowTCP(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, quickTCP()) }()
	var faults []string
	for _, name := range []string{"n1", "n2"} {
		list, all, _, err := c.runTraced([]string{"--only-node", name, "tcp"}, "4", "5", "6")
		if err != nil {
			return fmt.Errorf("--only-node %s: %w", name, err)
		}
		faults = append(faults, compareNode(name, list, all)...)
		c.fact("--only-node %s: %d traversals of cases 4, 5, 6", name, len(all))
	}
	return faultsError(faults)
}

// compareNode compares all that one node saw with its part of the cases.
func compareNode(name string, list []*verified, all []*events.Traversal) (faults []string) {
	packets := map[string]int{}
	for _, t := range withoutAftermath(all) {
		v := caseOf(list, t)
		if v == nil {
			faults = append(faults, fmt.Sprintf("%s: of no case: %s → %s: %s", name, address(t.Src), address(t.Dst), t.Summary))
			continue
		}
		packets[v.c.id+" "+t.Direction]++
		faults = append(faults, compareOnNode(name, v, t)...)
	}
	for _, v := range list {
		for _, direction := range []string{"request", "reply"} {
			if n := packets[v.c.id+" "+direction]; n < 3 {
				faults = append(faults, fmt.Sprintf("%s: case %s has %d packets of direction %s", name, v.c.id, n, direction))
			}
		}
	}
	return faults
}

// caseOf finds the case by the client's address before or behind the masquerade.
func caseOf(list []*verified, t *events.Traversal) *verified {
	for _, v := range list {
		for _, end := range []string{address(t.Src), address(t.Dst)} {
			if end == v.r.ClientLocal || end == v.r.SawClient {
				return v
			}
		}
	}
	return nil
}

func compareOnNode(name string, v *verified, t *events.Traversal) []string {
	request, full := t.Src.Port != 80, v.want.reply
	want := nodeLegs[name][1]
	if request {
		want, full = nodeLegs[name][0], v.want.request
	}
	if name == "n1" {
		if v.c.from == "outside" {
			want = nodeTransit
		}
		want.nat, want.note = withoutNetwork(full).nat, full.note // all of it is made on n1
	}
	want = want.aloneOverVXLAN(full)
	if want.verdict != delivered {
		want.where, want.reason = t.Where, t.Reason // free
	}
	one := &verified{c: v.c, r: v.r}
	one.compareLeg(t, want, &one.request)
	if t.Node != name {
		one.rest = append(one.rest, fmt.Sprintf("node is %q", t.Node))
	}
	if (t.Direction == "request") != request {
		one.rest = append(one.rest, fmt.Sprintf("direction is %q", t.Direction))
	}
	var faults []string
	for _, f := range one.faults() {
		faults = append(faults, fmt.Sprintf("%s: case %s: %s", name, v.c.id, f))
	}
	return faults
}
