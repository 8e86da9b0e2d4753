// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// A churnRun is one run of numbered packets through a virtual service to
// another node, past every kind of hook. Packet N of a flow has a length of its
// own, which the JSON has too: what is not one packet's way from end to end has
// a length too often, and another one not at all.
type churnRun struct {
	proto   string
	flows   int
	packets int
	offload bool // segmentation and receive offloads
	rate    int  // packets a second; 0: as fast as they go
}

// churnSessions: the runs of one session of the tool, with 20,000 datagrams in
// all (each is echoed), 100,000 on the five kernels. In the first one the tool
// keeps up under emulation, so nothing should be lost; in the second it does
// not, and what it lost must be counted, and nothing mixed up for it.
var churnSessions = [][]churnRun{
	{
		{"udp", 1, 1250, true, 60},
		{"udp", 64, 1250, false, 60},
		// Of a stream only the bytes can be counted: its packets are cut and merged.
		{"tcp", 1, 100, true, 20},
		{"tcp", 1, 100, false, 20},
		{"tcp", 64, 128, true, 20},
		{"tcp", 64, 128, false, 20},
	},
	{
		{"udp", 64, 3750, true, 0},
		{"udp", 1, 3750, false, 0},
	},
}

const (
	churnSize    = 64
	churnVary    = 1300
	churnMessage = 4000 // bytes of a TCP message: several segments
	// ipUDP and ipTCP are the headers in front of a payload. All TCP packets
	// of an established connection carry timestamps.
	ipUDP = 20 + 8
	ipTCP = 20 + 20 + 12
)

func (r churnRun) String() string {
	offload := "off"
	if r.offload {
		offload = "on"
	}
	return fmt.Sprintf("%s, %d flows, GSO/GRO %s", r.proto, r.flows, offload)
}

func (r churnRun) plan() churnPlan {
	p := churnPlan{from: "centos", proto: r.proto, flows: r.flows, packets: r.packets, rate: r.rate, window: 16,
		to: "dns", dst: vipDNS + ":53", size: churnSize, vary: churnVary}
	if r.proto == "tcp" {
		p.to, p.dst, p.size, p.vary = "nginx1a", vipNginx1+":80", churnMessage, 0
	}
	return p
}

// cmdChurnSession makes the traffic of one session; the tool runs around it.
func cmdChurnSession(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var reports []churnReport
	for i, r := range churnSessions[n] {
		if err := errors.Join(switchOffloads(r.offload), ownPorts("centos", i)); err != nil {
			return err
		}
		p := r.plan()
		if err := p.check(); err != nil {
			return err
		}
		report, err := churn(p)
		if err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
		reports = append(reports, report)
	}
	return errors.Join(switchOffloads(true), localPorts("centos", "32768\t60999"), writeJSON(args[1], reports))
}

// ownPorts gives run n of a session local ports that no other run has: they tell
// its traversals from theirs.
func ownPorts(netns string, n int) error {
	const each = 4096
	return localPorts(netns, fmt.Sprintf("%d\t%d", 32768+n*each, 32768+(n+1)*each-1))
}

func localPorts(netns, between string) error {
	return inNetns(netns, func() error {
		return setSysctls(map[string]string{"net.ipv4.ip_local_port_range": between})
	})
}

// churn: every packet that arrived has one traversal, and none has another's.
func (c *checker) churn() (err error) {
	if err := slowTCP(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, quickTCP()) }()
	var faults []string
	packets := 0
	for n := range churnSessions {
		seen, bad, err := c.churnSession(n)
		if err != nil {
			return err
		}
		packets += seen
		faults = append(faults, bad...)
	}
	c.fact("%d packets with numbers arrived in all", packets)
	return faultsError(faults)
}

// switchOffloads switches those of all devices of the cluster.
func switchOffloads(on bool) error {
	for _, name := range clusterNetns() {
		if err := setOffloads(name, "all", on); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) churnSession(n int) (packets int, faults []string, err error) {
	dir, err := os.MkdirTemp("", "lab-churn-")
	if err != nil {
		return 0, nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "reports")
	s, all, err := c.tool.around([]string{"tcp or udp"}, c.me, "churn-session", strconv.Itoa(n), file)
	if err != nil {
		return 0, nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, nil, err
	}
	var reports []churnReport
	if err := json.Unmarshal(text, &reports); err != nil {
		return 0, nil, err
	}
	lossCounted := false
	for _, line := range s.summary() {
		lossCounted = lossCounted || strings.Contains(line, "LOST") || strings.Contains(line, leftOut)
		c.fact("%s", line)
	}
	books := map[string]*book{}
	for i, r := range churnSessions[n] {
		b := newBook(r, reports[i])
		b.lossy = lossCounted
		for local := range b.flows {
			books[r.proto+" "+local] = b
		}
	}
	rest := withoutAftermath(all)
	c.fact("%d packets were refused by connections that had ended", len(all)-len(rest))
	unknown := distribute(books, rest)
	seen := map[*book]bool{}
	for _, b := range books {
		if seen[b] {
			continue
		}
		seen[b] = true
		for _, f := range b.close(lossCounted) {
			faults = append(faults, fmt.Sprintf("%s: %s", b.run, f))
		}
		packets += int(b.report.Received + b.report.Echoed)
		c.fact("%s: %d sent, %d received, %d echoed at %.0f a second; %d traversals delivered, %d incomplete, %d conflated, %d missed",
			b.run, b.report.Sent, b.report.Received, b.report.Echoed, b.report.Rate, b.delivered[0]+b.delivered[1], b.incomplete, b.conflated, b.missed)
	}
	for _, t := range unknown {
		// Without its first events a packet has no addresses. It says so.
		if t.Proto == "icmp" && n > 0 {
			continue // the answers to those echoes
		}
		if t.Complete || !lossCounted {
			faults = append(faults, fmt.Sprintf("of no flow: %s %s %s → %s: %s", t.ID, t.Proto, address(t.Src), address(t.Dst), t.Summary))
		}
	}
	c.fact("%d traversals are of no known flow", len(unknown))
	return packets, faults, nil
}

// distribute enters each traversal into its book, by the client's address.
func distribute(books map[string]*book, all []*events.Traversal) (unknown []*events.Traversal) {
	for _, t := range all {
		b, reply := books[t.Proto+" "+address(t.Src)], false
		if b == nil {
			b, reply = books[t.Proto+" "+address(t.Dst)], true
		}
		if b == nil {
			unknown = append(unknown, t)
			continue
		}
		b.enter(t, reply)
	}
	return unknown
}

// A packetKey is what one packet of a flow has, and another has not.
type packetKey struct {
	flow   int
	reply  bool
	length int
}

// A book holds what was sent against what was seen.
type book struct {
	lossy                         bool // the tool counted a loss in this session
	run                           churnRun
	report                        churnReport
	want                          expectation
	flows                         map[string]int // by the client's address
	open                          map[packetKey]int
	bytes                         map[packetKey]int64 // of a stream; length is 0
	delivered                     [2]int              // request, reply
	incomplete, conflated, missed int
	faults                        []string
}

func newBook(r churnRun, report churnReport) *book {
	b := &book{run: r, report: report, flows: map[string]int{}, open: map[packetKey]int{}, bytes: map[packetKey]int64{}}
	id := "dns"
	if r.proto == "tcp" {
		id = "5"
	}
	b.want, _ = expectationOf(id) // the table's test knows that it is there
	for _, f := range report.Flows {
		for _, local := range f.Locals {
			b.flows[local] = f.Flow
		}
		if r.proto == "tcp" {
			continue
		}
		plan := r.plan()
		for seq := range int(f.Sent) {
			for _, reply := range []bool{false, true} {
				b.open[packetKey{f.Flow, reply, plan.length(seq) + ipUDP}]++
			}
		}
	}
	return b
}

// enter takes one traversal of one of the flows.
func (b *book) enter(t *events.Traversal, reply bool) {
	flow, want := b.flows[address(t.Src)], b.want.request
	if reply {
		flow, want = b.flows[address(t.Dst)], b.want.reply
	}
	// Where a loss was counted, a traversal may lack its beginning or its end. It
	// says so and claims nothing, and is counted as missed below.
	if !t.Complete && (b.lossy || t.Verdict == events.Incomplete && t.Lost > 0) {
		b.incomplete++
		return
	}
	// Faster than the receiver reads, datagrams do end at its full buffer or at a CPU's
	// full input queue, and the last echoes at a socket that is closed: the oracle has
	// not got them.
	if b.run.proto == "udp" && b.run.rate == 0 && (t.Where == "socket" || t.Reason == "cpu-backlog") &&
		(t.Verdict == events.Terminated || noteOf(t, "closed unread:") != "") {
		return
	}
	if b.run.proto == "tcp" && t.Verdict == events.Terminated && !strings.Contains(t.TCPFlags, "P") {
		return // the last acknowledgements come to sockets that are gone: answered by a reset
	}
	if t.Verdict != events.Delivered || !t.Complete || t.Lost > 0 {
		b.faults = append(b.faults, fmt.Sprintf("%s is %s (complete %t, lost %d): %s", t.ID, t.Verdict, t.Complete, t.Lost, t.Summary))
		return
	}
	if got := visitsText(t.Visits); got != want.visits || t.Stacks != want.stacks || strings.Join(t.DataLink, " → ") != want.link {
		b.conflate(t, "went "+got+" by "+strings.Join(t.DataLink, " → "))
		return
	}
	b.delivered[side(reply)]++
	if b.run.proto == "tcp" {
		// What was sent again although it had arrived is discarded by the socket. A segment
		// need not be pushed: a full window cuts one in two.
		if !strings.ContainsAny(t.TCPFlags, "SR") && !slices.ContainsFunc(t.Notes, discarded) {
			b.bytes[packetKey{flow, reply, 0}] += int64(t.Length) - ipTCP
		}
		return
	}
	key := packetKey{flow, reply, int(t.Length)}
	b.open[key]--
	if b.open[key] < 0 {
		b.conflate(t, fmt.Sprintf("of %d bytes was seen too often", t.Length))
	}
}

func discarded(note string) bool { return strings.HasPrefix(note, "the socket discarded it") }

func side(reply bool) int {
	if reply {
		return 1
	}
	return 0
}

func (b *book) conflate(t *events.Traversal, what string) {
	b.conflated++
	b.faults = append(b.faults, fmt.Sprintf("%s %s → %s %s: %s", t.ID, address(t.Src), address(t.Dst), what, t.Summary))
}

// close compares the sums. What is missing must be covered by counted loss.
func (b *book) close(lossCounted bool) []string {
	if b.run.proto == "tcp" {
		b.closeStreams(lossCounted)
		return b.faults
	}
	for i, want := range []int64{b.report.Received + b.report.Duplicates, b.report.Echoed} {
		missed := int(want) - b.delivered[i]
		if missed < 0 {
			b.conflated -= missed
		}
		b.missed += max(0, missed)
		if missed != 0 && (missed < 0 || !lossCounted) {
			b.faults = append(b.faults, fmt.Sprintf("%s: %d arrived, %d traversals were delivered, and no loss was counted",
				[]string{"requests", "replies"}[i], want, b.delivered[i]))
		}
	}
	return b.faults
}

// closeStreams: all bytes of a stream are in its packets, once.
func (b *book) closeStreams(lossCounted bool) {
	for _, f := range b.report.Flows {
		for _, reply := range []bool{false, true} {
			want := f.Received * churnMessage
			got := b.bytes[packetKey{f.Flow, reply, 0}]
			if got < want {
				b.missed++
			}
			// A header with acknowledged ranges is longer by 12 bytes or more of 8.
			if got < want && !lossCounted || got > want && (got-want)%4 != 0 {
				b.faults = append(b.faults, fmt.Sprintf("flow %d, reply %t: %d bytes were delivered, %d are in the traversals", f.Flow, reply, want, got))
			}
		}
	}
}
