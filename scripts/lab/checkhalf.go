// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

const (
	capacityPackets = 10_000      // of the run that finds out what the tool takes
	halfTime        = time.Minute // at half of that
)

// half: at half of the packets a second that the tool takes, with all hooks, it loses no
// event in a minute, and sheds no packet.
func (c *checker) half() error {
	report, cost, err := c.loaded(capacityPackets, 0)
	if err != nil {
		return err
	}
	taken := float64(cost.Packets) / float64(cost.Packets+cost.Shed)
	rate := int(report.Rate * taken / 2)
	c.fact("as fast as it goes: %.0f packets a second, of which the tool takes %.0f %%; %d events lost", report.Rate, 100*taken, cost.Lost)
	if rate < 1 {
		return fmt.Errorf("the tool took %d packets and shed %d", cost.Packets, cost.Shed)
	}
	report, cost, err = c.loaded(rate*int(halfTime/time.Second), rate)
	if err != nil {
		return err
	}
	c.fact("%d a second for %.0f s: %d of %d events lost, %d packets shed, %d hook runs left out", rate, report.Seconds, cost.Lost, cost.Events, cost.Shed, cost.NotRun)
	if cost.Lost > 0 || cost.Shed > 0 || report.Received < report.Sent {
		return fmt.Errorf("at half of its capacity: %d events lost, %d packets shed; %d of %d packets arrived", cost.Lost, cost.Shed, report.Received, report.Sent)
	}
	return nil
}

// loaded traces so many packets, of so many a second (0: as fast as they go).
func (c *checker) loaded(packets, rate int) (report churnReport, cost benchCost, err error) {
	s, err := c.tool.start("udp and host 172.23.96.163 and port 9")
	if err != nil {
		return report, cost, err
	}
	text, err := output(c.me, "churn", "-totals", "-from", "centos", "-to", "nginx1a", "-dst", "172.23.96.163:9", "-flows", "8",
		"-packets", strconv.Itoa(packets), "-rate", strconv.Itoa(rate))
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil {
		return report, cost, err
	}
	if err := s.interrupt(); err != nil {
		return report, cost, err
	}
	return report, cost, cost.parseSummary(s.stderr.String())
}
