// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// say sends n datagrams of one size from one pod to another and waits until all
// have arrived.
func say(t *testing.T, c *cluster, from, to *pod, port, n, size int) {
	t.Helper()
	server, client := c.listenUDP(to, port), c.dialUDP(from, to, port)
	defer server.Close()
	buf := make([]byte, size)
	for i := range n {
		buf[0] = byte(i)
		if _, err := client.Write(buf); err != nil {
			t.Fatal(err)
		}
		server.SetReadDeadline(time.Now().Add(patience))
		if _, err := server.Read(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNativeSelection(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	const n = 5
	tests := []struct {
		name, expr string
		want       int
	}{
		{"address", fmt.Sprintf("udp and host %s", b.addr), n},
		{"source", fmt.Sprintf("udp and src %s", a.addr), n},
		{"port", fmt.Sprintf("dst %s and udp port 4100", b.addr), n},
		{"port range", fmt.Sprintf("dst %s and portrange 4000-4200", b.addr), n},
		{"bytes, and what follows on the connection", fmt.Sprintf("dst %s and udp[8] = 3", b.addr), 2},
		{"other port", fmt.Sprintf("dst %s and udp port 4101", b.addr), 0},
		{"other protocol", fmt.Sprintf("host %s and tcp", b.addr), 0},
		{"direction", fmt.Sprintf("udp and src %s", b.addr), 0},
		{"too long", fmt.Sprintf("host %s and greater 1000", b.addr), 0},
		{"nowhere", "host 192.0.2.1", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := startRun(t, Config{Select: expression(t, tt.expr)}, nil)
			say(t, c, a, b, 4100, n, 100)
			eventually(t, "what matches has arrived", func() bool {
				lives, arrived := r.arrivals(b)
				return lives >= tt.want && lives == arrived
			})
			s := r.stop()
			lives, _ := r.arrivals(b)
			if lives != tt.want || int(s.Packets) != tt.want {
				t.Errorf("%q: %d packets, %d in the counters, want %d", tt.expr, lives, s.Packets, tt.want)
			}
			if tt.want == 0 && s.Matched != 0 {
				t.Errorf("%q: %d events, want none", tt.expr, s.Matched)
			}
		})
	}
}

func TestNativeTwoTracers(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	one := startRun(t, Config{Select: expression(t, fmt.Sprintf("dst %s and udp port 4201", b.addr))}, nil)
	two := startRun(t, Config{Select: expression(t, fmt.Sprintf("dst %s and udp port 4202", b.addr))}, nil)
	say(t, c, a, b, 4201, 3, 64)
	say(t, c, a, b, 4202, 4, 64)
	runs := []struct {
		r    *run
		port uint16
		n    int
	}{{one, 4201, 3}, {two, 4202, 4}}
	for _, x := range runs {
		eventually(t, "all have arrived", func() bool { _, arrived := x.r.arrivals(b); return arrived >= x.n })
	}
	one.stop()
	// The other one goes on undisturbed.
	say(t, c, a, b, 4202, 1, 64)
	eventually(t, "one more has arrived", func() bool { _, arrived := two.arrivals(b); return arrived >= 5 })
	two.stop()
	runs[1].n = 5
	for _, x := range runs {
		if lives, arrived := x.r.arrivals(b); lives != x.n || arrived != x.n {
			t.Errorf("port %d: %d packets, %d arrived, want %d", x.port, lives, arrived, x.n)
		}
		for _, e := range x.r.seen() {
			if e.Ext == events.ExtHeader && e.Header.DstPort != x.port {
				t.Errorf("the tracer of port %d saw port %d", x.port, e.Header.DstPort)
			}
		}
	}
}
