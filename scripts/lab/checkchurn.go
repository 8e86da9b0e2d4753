// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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
}

// churnPackets are sent by each UDP run, and echoed: 20,000 packets a kernel.
const churnPackets = 2500

var churnRuns = []churnRun{
	{"udp", 1, churnPackets, true},
	{"udp", 64, churnPackets, true},
	{"udp", 1, churnPackets, false},
	{"udp", 64, churnPackets, false},
	// Of a stream only the bytes can be counted: its packets are cut and merged.
	{"tcp", 1, 200, true},
	{"tcp", 64, 192, true},
	{"tcp", 1, 200, false},
	{"tcp", 64, 192, false},
}

const (
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

func (r churnRun) args(report string) []string {
	args := []string{"churn", "-proto", r.proto, "-from", "centos", "-flows", fmt.Sprint(r.flows),
		"-packets", fmt.Sprint(r.packets), "-o", report}
	if r.proto == "udp" {
		return append(args, "-to", "dns", "-dst", vipDNS+":53", "-size", "64", "-vary", fmt.Sprint(churnVary))
	}
	return append(args, "-to", "nginx1a", "-dst", vipNginx1+":80", "-size", fmt.Sprint(churnMessage))
}

// churn: every packet that arrived has one traversal, and none has another's.
func (c *checker) churn() error {
	var faults []string
	packets := 0
	for _, r := range churnRuns {
		if err := switchOffloads(r.offload); err != nil {
			return err
		}
		seen, bad, err := c.churnOnce(r)
		if err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
		packets += seen
		for _, f := range bad {
			faults = append(faults, fmt.Sprintf("%s: %s", r, f))
		}
	}
	c.fact("%d packets with numbers in all", packets)
	if err := switchOffloads(true); err != nil {
		return err
	}
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

func (c *checker) churnOnce(r churnRun) (packets int, faults []string, err error) {
	dir, err := os.MkdirTemp("", "lab-churn-")
	if err != nil {
		return 0, nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "report")
	s, all, err := c.tool.around([]string{r.proto}, append([]string{c.me}, r.args(file)...)...)
	if err != nil {
		return 0, nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, nil, err
	}
	var report churnReport
	if err := json.Unmarshal(text, &report); err != nil {
		return 0, nil, err
	}
	lost := 0
	for _, line := range s.summary() {
		if strings.Contains(line, "LOST") {
			lost++
			c.fact("%s: %s", r, line)
		}
	}
	b := newBook(r, report)
	for _, t := range all {
		b.enter(t)
	}
	faults = b.close(lost > 0)
	c.fact("%s: %d sent, %d received, %d echoed at %.0f a second; %d traversals, %d conflated, %d missed", r, report.Sent,
		report.Received, report.Echoed, report.Rate, len(all), b.conflated, b.missed)
	return int(report.Received + report.Echoed), faults, nil
}

// A packetKey is what one packet of a flow has, and another has not.
type packetKey struct {
	flow   int
	reply  bool
	length int
}

// A book holds what was sent against what was seen.
type book struct {
	run       churnRun
	report    churnReport
	want      expectation
	flows     map[string]int // by the client's address
	open      map[packetKey]int
	bytes     map[packetKey]int64 // of a stream; length is 0
	delivered [2]int              // request, reply
	conflated int
	missed    int
	faults    []string
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
		plan := churnPlan{size: 64, vary: churnVary}
		for seq := range int(f.Sent) {
			for _, reply := range []bool{false, true} {
				b.open[packetKey{f.Flow, reply, plan.length(seq) + ipUDP}]++
			}
		}
	}
	return b
}

// enter takes one traversal.
func (b *book) enter(t *events.Traversal) {
	reply := t.Direction == "reply"
	client, want := address(t.Src), b.want.request
	if reply {
		client, want = address(t.Dst), b.want.reply
	}
	flow, ok := b.flows[client]
	if !ok {
		b.conflate(t, "is of no flow")
		return
	}
	if t.Verdict != events.Delivered {
		if t.Verdict != events.Incomplete || t.Complete {
			b.faults = append(b.faults, fmt.Sprintf("%s is %s: %s", client, t.Verdict, t.Summary))
		}
		return // an incomplete one is counted as missed below
	}
	if got := visitsText(t.Visits); got != want.visits || t.Stacks != want.stacks || strings.Join(t.DataLink, " → ") != want.link {
		b.conflate(t, "went "+got+", not "+want.visits)
		return
	}
	if b.run.proto == "tcp" {
		if !strings.Contains(t.TCPFlags, "S") {
			b.bytes[packetKey{flow, reply, 0}] += int64(t.Length) - ipTCP
		}
		return
	}
	key := packetKey{flow, reply, int(t.Length)}
	b.open[key]--
	if b.open[key] < 0 {
		b.conflate(t, fmt.Sprintf("of %d bytes was seen too often", t.Length))
	}
	if reply {
		b.delivered[1]++
	} else {
		b.delivered[0]++
	}
}

func (b *book) conflate(t *events.Traversal, what string) {
	b.conflated++
	b.faults = append(b.faults, fmt.Sprintf("%s %s → %s %s: %s", t.ID, address(t.Src), address(t.Dst), what, t.Summary))
}

// close compares the sums. What is missing must be covered by counted loss.
func (b *book) close(lossCounted bool) []string {
	if b.run.proto == "tcp" {
		b.closeStreams()
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
func (b *book) closeStreams() {
	for _, f := range b.report.Flows {
		for _, reply := range []bool{false, true} {
			want := f.Received * churnMessage
			if got := b.bytes[packetKey{f.Flow, reply, 0}]; got != want {
				b.missed++
				b.faults = append(b.faults, fmt.Sprintf("flow %d, reply %t: %d bytes were delivered, %d are in the traversals", f.Flow, reply, want, got))
			}
		}
	}
}
