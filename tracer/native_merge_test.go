// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Packets that GRO merged are freed with the buffer that they were merged into,
// some kernels say by kfree_skb. They have been delivered: nothing is to be told
// of a drop.
func TestNativeMergedIsNotDropped(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	c.setOffloads(true, false)
	c.setThreaded(c.node, a.host)
	const n, rounds = 100, 50 // as many packets at a time, until GRO has merged some
	r := startRun(t, Config{Select: expression(t, fmt.Sprintf("dst %s and udp port 4600", b.addr)), NamesFile: c.names()}, nil)
	server, client := c.listenUDP(b, 4600), c.dialUDP(a, b, 4600)
	receive := r.hook("netif_receive_skb")
	sent, arrived, ended := 0, map[uint64]bool{}, map[uint64]bool{}
	for round := 0; len(arrived) == sent; round++ {
		if round == rounds {
			t.Fatal("GRO merged nothing: this test saw nothing")
		}
		exchange(t, client, server, n)
		sent += n
		eventually(t, "each packet has arrived, or was freed before", func() bool {
			for _, e := range r.seen() {
				if e.Hook == receive && e.Netns == b.inode {
					arrived[e.Packet] = true
				}
				if e.Flags&events.FlagEnd != 0 {
					ended[e.Packet] = true
				}
			}
			told := len(arrived)
			for id := range ended {
				if !arrived[id] {
					told++
				}
			}
			return told == sent
		})
	}
	r.stop()
	for _, tr := range r.stitch() {
		if tr.Verdict == events.Terminated {
			t.Errorf("delivered, and told of as: %s (%s in %s)", tr.Summary, tr.KernelReason, tr.Location)
		}
	}
}

// exchange sends n datagrams, one right after the other, and receives them.
func exchange(t *testing.T, client, server net.Conn, n int) {
	t.Helper()
	buf := make([]byte, 64)
	for i := range n {
		buf[15] = byte(i)
		if _, err := client.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		server.SetReadDeadline(time.Now().Add(patience))
		if _, err := server.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
}
