// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	payload := func(flow, seq uint64) []byte {
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, flow), seq)
	}
	tally := newTally(2, 100)
	for _, p := range [][]byte{
		payload(0, 0), payload(0, 99), payload(0, 99), payload(1, 64), payload(1, 63),
		payload(2, 0), payload(0, 1<<40), payload(0, 3)[:15], nil, // not ours
	} {
		tally.got(p)
	}
	for flow, want := range [][2]int64{{2, 1}, {2, 0}} {
		if received, duplicates := tally.result(flow); received != want[0] || duplicates != want[1] {
			t.Errorf("flow %d: %d received, %d duplicates, want %v", flow, received, duplicates, want)
		}
	}
}

func TestPlanCheck(t *testing.T) {
	good := churnPlan{from: "a", to: "b", proto: "udp", dst: "10.0.0.1:9", packets: 10, flows: 2, size: 64, window: 4}
	tests := []struct {
		name string
		edit func(*churnPlan)
		ok   bool
	}{
		{"good", func(*churnPlan) {}, true},
		{"no destination", func(p *churnPlan) { p.dst = "" }, false},
		{"unknown protocol", func(p *churnPlan) { p.proto = "icmp" }, false},
		{"more flows than packets", func(p *churnPlan) { p.flows = 11 }, false},
		{"payload too small for the numbers", func(p *churnPlan) { p.size = 8 }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := good
			tt.edit(&p)
			if err := p.check(); (err == nil) != tt.ok {
				t.Errorf("check: %v, want ok=%v", err, tt.ok)
			}
		})
	}
}

// TestPair builds a pair on this machine, sends numbered packets through it,
// and checks that all arrive and that nothing stays behind.
func TestPair(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces need root: run make test as root")
	}
	before := inventoryOf(t)
	p := pairOf("test")
	if err := p.build(); err != nil {
		pairDown(p.ID)
		t.Fatal(err)
	}
	down := func() {
		if err := pairDown(p.ID); err != nil {
			t.Error(err)
		}
	}
	defer func() {
		if down != nil {
			down()
		}
	}()
	if err := setOffloads(p.A, "eth0", false); err != nil {
		t.Error(err)
	}
	for _, proto := range []string{"udp", "tcp"} {
		plan := churnPlan{from: p.A, to: p.B, proto: proto, dst: p.AddrB + ":9000", packets: 2000, flows: 7, size: 64, window: 16, perConn: 100}
		if err := plan.check(); err != nil {
			t.Fatal(err)
		}
		r, err := churn(plan)
		if err != nil {
			t.Fatal(err)
		}
		if r.Sent != 2000 || r.Received != 2000 || r.Echoed != 2000 || r.Duplicates != 0 {
			t.Errorf("%s: %+v", proto, r)
		}
	}
	if during := inventoryOf(t); slices.Equal(before, during) {
		t.Error("the inventory does not show the pair")
	}
	down()
	down = nil
	if after := inventoryOf(t); !slices.Equal(before, after) {
		t.Errorf("left behind:\nbefore %s\nafter %s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// inventoryOf is the part of the snapshot that is about this test: others on
// this machine may load BPF programs meanwhile.
func inventoryOf(t *testing.T) []string {
	t.Helper()
	var b bytes.Buffer
	if err := snapshot(&b); err != nil {
		t.Fatal(err)
	}
	var own []string
	for _, line := range strings.Split(b.String(), "\n") {
		if strings.HasPrefix(line, "netns shp-test-") || strings.HasPrefix(line, "module ") {
			own = append(own, line)
		}
	}
	return own
}
