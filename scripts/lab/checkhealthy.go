// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// warnings are the notes that tell of something wrong, by their beginnings.
// Each must be true of healthy traffic as well.
var warnings = []string{
	clientLost, sentAgain, "reply not translated back: ", "wrong server: ", "conntrack evicted ",
}

const (
	clientLost = "client address lost: "
	sentAgain  = "sent again: "
	timeWait   = "to a connection in TIME_WAIT"
)

// healthy holds what the tool says of healthy traffic against the ends of that
// traffic, and the kernel's own count of what it sent again.
func (c *checker) healthy() error {
	dir, err := os.MkdirTemp("", "lab-healthy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "connections")
	if err := slowTCP(); err != nil {
		return err
	}
	before, err := retransmissions()
	if err != nil {
		return err
	}
	s, all, err := c.tool.around([]string{everything}, c.me, "healthy", "-o", file)
	if err != nil {
		return err
	}
	after, err := retransmissions()
	if err != nil {
		return err
	}
	lost, err := readHealthy(file)
	if err != nil {
		return err
	}
	h := newHealth(lost, all)
	var context []string
	for _, t := range all {
		before := len(h.faults)
		if h.look(t); len(h.faults) > before && context == nil {
			context = connectionOf(t, all)
		}
	}
	h.compare(after-before, hooksLeftOut(s.summary()))
	for _, line := range s.summary() {
		if strings.Contains(line, "LOST") {
			h.faults = append(h.faults, line)
		}
	}
	c.fact("%d connections and questions, %d packets: %v; %d hook runs left out", len(lost), len(all), h.verdicts, hooksLeftOut(s.summary()))
	c.fact("warnings: %v; the kernel sent %d segments again; %d redirects and late segments refused", h.notes, after-before, h.excused)
	// All of the first one's connection: a fault that comes once in a hundred runs must be found by it.
	for _, line := range context {
		c.fact("%s", line)
	}
	return faultsError(h.faults)
}

// health is what was seen of healthy traffic.
type health struct {
	lost     map[string]bool // by connection, whether the server saw another client
	verdicts map[events.Verdict]int
	notes    map[string]int
	late     aftermath
	excused  int      // packets that ended, as they do in healthy traffic too
	open     []string // packets of which the end was not seen
	faults   []string
}

func newHealth(lost map[string]bool, all []*events.Traversal) *health {
	return &health{lost: lost, verdicts: map[events.Verdict]int{}, notes: map[string]int{}, late: newAftermath(all)}
}

// excuses says whether a packet may end: a router's advice of a better way, which NAT
// keeps for itself, and what a connection refuses that has ended.
func (h *health) excuses(t *events.Traversal) bool {
	return t.Where == "conntrack" && t.Reason == "nat-redirect" || h.late.refused(t)
}

func connKey(src, dst string) string { return src + " → " + dst }

// readHealthy reads what `lab healthy` wrote.
func readHealthy(path string) (map[string]bool, error) {
	conns, err := readLines[healthyConn](path)
	if err != nil {
		return nil, err
	}
	lost := map[string]bool{}
	for _, conn := range conns {
		lost[connKey(conn.Local, conn.Dialed)] = conn.Lost
	}
	if len(lost) == 0 {
		return nil, errors.New("`lab healthy` made no connection")
	}
	return lost, nil
}

// look takes in one packet.
func (h *health) look(t *events.Traversal) {
	h.verdicts[t.Verdict]++
	packet := fmt.Sprintf("%s %s: %s", kindOf(t), connKey(address(t.Src), address(t.Dst)), t.Summary)
	switch {
	case t.Verdict == events.Delivered:
	case t.Verdict != events.Terminated:
		h.open = append(h.open, packet)
	case h.excuses(t):
		h.excused++
	default:
		h.faults = append(h.faults, packet)
	}
	for _, prefix := range warnings {
		note := noteOf(t, prefix)
		if note == "" {
			continue
		}
		h.notes[prefix]++
		if prefix != sentAgain && (prefix != clientLost || !h.lost[connKey(address(t.Src), address(t.Dst))]) {
			h.faults = append(h.faults, fmt.Sprintf("%s: it has the note %q", packet, note))
		}
	}
	if h.lost[connKey(address(t.Src), address(t.Dst))] && t.Direction == "request" && t.Verdict == events.Delivered && noteOf(t, clientLost) == "" {
		h.faults = append(h.faults, packet+": it has no note of the client's address, which its server did not see")
	}
}

// connectionOf tells of the packets of a packet's connection, for whoever has to find out
// why it ended: of a long one those around it.
func connectionOf(t *events.Traversal, all []*events.Traversal) (lines []string) {
	const around = 12
	at := 0
	for _, o := range all {
		if o.Flow != t.Flow {
			continue
		}
		if o == t {
			at = len(lines)
		}
		lines = append(lines, fmt.Sprintf("  %s %s: %s %q", o.Time.Format("05.000000"), kindOf(o), o.Summary, o.Notes))
	}
	return lines[max(0, at-around):min(len(lines), at+around)]
}

// compare looks at the counts. runsLeftOut is how many hook runs the kernel says it has
// left out, as preemptible ones do now and then: each may cost one packet its end.
func (h *health) compare(resent, runsLeftOut int) {
	if n := h.notes[sentAgain]; n > resent {
		h.faults = append(h.faults, fmt.Sprintf("%d segments are said to have been sent again, the kernel has sent %d", n, resent))
	}
	if n := len(h.open); n > runsLeftOut {
		h.faults = append(h.faults, fmt.Sprintf("%d packets were not delivered, %d hook runs were left out: %v", n, runsLeftOut, h.verdicts))
		h.faults = append(h.faults, h.open[:min(n, 10)]...)
	}
}

var leftOutRuns = regexp.MustCompile(leftOut + ` (\d+) hook run`)

// hooksLeftOut is how many hook runs a summary says were left out.
func hooksLeftOut(summary []string) int {
	for _, line := range summary {
		if m := leftOutRuns.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1]) // digits; too many of them are as good as none
			return n
		}
	}
	return 0
}

// retransmissions is how many TCP segments all namespaces have sent again.
func retransmissions() (total int, err error) {
	for _, name := range clusterNetns() {
		err := inNetns(name, func() error {
			text, err := os.ReadFile("/proc/thread-self/net/snmp")
			if err != nil {
				return err
			}
			n, err := snmpValue(string(text), "Tcp:", "RetransSegs")
			total += n
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	return total, nil
}

// snmpValue finds a counter in /proc/net/snmp: a line of names, then one of values.
func snmpValue(text, group, name string) (int, error) {
	at := -1
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != group {
			continue
		}
		if at < 0 {
			if at = slices.Index(fields, name); at < 0 {
				break
			}
			continue
		}
		if at < len(fields) {
			return strconv.Atoi(fields[at])
		}
	}
	return 0, fmt.Errorf("no counter %s %s", group, name)
}
