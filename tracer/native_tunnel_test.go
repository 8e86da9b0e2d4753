// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

const vxlanPort = 8472

// frameOf is what a VXLAN packet carries: its own header, an Ethernet header and a
// TCP or UDP packet without data.
func frameOf(flags byte, etherType uint16, t events.Tuple) []byte {
	b := append(make([]byte, 0, 90), flags, 0, 0, 0, 0, 0, 1, 0)
	b = binary.BigEndian.AppendUint16(append(b, make([]byte, 12)...), etherType)
	if t.Src.Is4() {
		b = append(b, 0x45, 0, 0, 40, 0, 7, 0, 0, 64, t.Proto, 0, 0)
	} else {
		b = append(b, 0x60, 0, 0, 0, 0, 20, t.Proto, 64)
	}
	b = append(append(b, t.Src.AsSlice()...), t.Dst.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, t.SrcPort)
	b = binary.BigEndian.AppendUint16(b, t.DstPort)
	return append(b, 0, 0, 3, 232, 0, 0, 0, 5, 0x50, 0x12, 1, 0, 0, 0, 0, 0) // seq 1000, ack 5, SYN ACK
}

// innerID is where frameOf has the lower half of the IPv4 identification.
const innerID = 8 + 14 + 5

func tcp(src, dst string) events.Tuple {
	a, b := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return events.Tuple{Src: a.Addr(), Dst: b.Addr(), SrcPort: a.Port(), DstPort: b.Port(), Proto: 6}
}

// A packet in a tunnel's is selected by what it carries, though no hook has seen it
// alone, and told with it.
func TestNativeTunnel(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	inner := tcp("192.0.2.1:4000", "192.0.2.2:80")
	inner6 := tcp("[2001:db8::1]:4000", "[2001:db8::2]:80")
	tests := []struct {
		name, expr string
		port       int
		frame      []byte
		want       bool
		inner      events.Tuple
	}{
		{"by its inner address", "host 192.0.2.1", vxlanPort, frameOf(8, 0x0800, inner), true, inner},
		{"IANA's port", "host 192.0.2.1", 4789, frameOf(8, 0x0800, inner), true, inner},
		{"by its inner port", "tcp src port 4000 and dst 192.0.2.2", vxlanPort, frameOf(8, 0x0800, inner), true, inner},
		{"IPv6 in it", "host 2001:db8::2", vxlanPort, frameOf(8, 0x86dd, inner6), true, inner6},
		{"by its outer address", "udp and dst " + b.addr.String(), vxlanPort, frameOf(8, 0x0800, inner), true, inner},
		{"half by the inner, half by the outer headers", "tcp and host " + b.addr.String(), vxlanPort, frameOf(8, 0x0800, inner), false, inner},
		{"another inner address", "host 192.0.2.3", vxlanPort, frameOf(8, 0x0800, inner), false, inner},
		{"another port", "host 192.0.2.1", 8473, frameOf(8, 0x0800, inner), false, inner},
		{"without a network number", "host 192.0.2.1", vxlanPort, frameOf(0, 0x0800, inner), false, inner},
		{"not IP", "host 192.0.2.1", vxlanPort, frameOf(8, 0x0806, inner), false, inner},
		{"cut", "host 192.0.2.1", vxlanPort, frameOf(8, 0x0800, inner)[:20], false, inner},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := startRun(t, Config{Select: expression(t, tt.expr), Record: i%2 == 0}, nil)
			sendTo(t, c, a, b, tt.port, tt.frame)
			eventually(t, "what matches has arrived", func() bool {
				lives, arrived := r.arrivals(b)
				return lives == arrived && (lives > 0) == tt.want
			})
			if s := r.stop(); (s.Matched > 0) != tt.want || s.Lost["read-failed"] != 0 {
				t.Fatalf("%q: counters %+v", tt.expr, s)
			}
			for _, e := range r.seen() {
				if h := &e.Header; e.Ext == events.ExtHeader && (!h.Outer() || h.Inner != tt.inner || h.DstPort != uint16(tt.port) || h.Seq != 1000 || h.Ack != 5 || h.TCPFlags != 0x12) {
					t.Errorf("%+v, want what carries %+v", h, tt.inner)
				}
			}
		})
	}
}

// sendTo sends a datagram and waits until it has arrived.
func sendTo(t *testing.T, c *cluster, from, to *pod, port int, data []byte) {
	t.Helper()
	server, client := c.listenUDP(to, port), c.dialUDP(from, to, port)
	defer server.Close()
	defer client.Close()
	if _, err := client.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := server.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, len(data))); err != nil {
		t.Fatal(err)
	}
}

// Connections that go through one tunnel are not mixed up: the outer addresses and
// ports are the same, and the other direction's have nothing to do with them.
func TestNativeTunnelFlows(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	r := startRun(t, Config{Select: expression(t, "src 192.0.2.1")}, nil)
	one, two := tcp("192.0.2.1:4000", "192.0.2.2:80"), tcp("192.0.2.1:4001", "192.0.2.2:80")
	client, server := c.dialUDP(a, b, vxlanPort), c.listenUDP(b, vxlanPort)
	for i, inner := range []events.Tuple{one, two, one, tcp("192.0.2.9:4000", "192.0.2.2:80")} {
		frame := frameOf(8, 0x0800, inner)
		// As a sender numbers its packets: tracepoints alone do not tell of each free, and
		// the next one at the same address must not look the same.
		frame[innerID] = byte(i)
		if _, err := client.Write(frame); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	sendTo(t, c, b, a, vxlanPort, frameOf(8, 0x0800, one.Reverse()))
	eventually(t, "three packets and an answer have arrived", func() bool {
		lives, arrived := r.arrivals(a, b)
		return lives == 4 && arrived == 4
	})
	r.stop()
	flows := map[events.Tuple]map[uint64]bool{}
	for _, e := range r.seen() {
		if e.Ext != events.ExtHeader {
			continue
		}
		inner := e.Header.Inner
		if reply := inner == one.Reverse(); reply != (e.Flags&events.FlagReply != 0) {
			t.Errorf("reply: %v, of %+v", !reply, inner)
		} else if reply {
			inner = one
		}
		if flows[inner] == nil {
			flows[inner] = map[uint64]bool{}
		}
		flows[inner][e.Flow] = true
	}
	if len(flows) != 2 || len(flows[one]) != 1 || len(flows[two]) != 1 {
		t.Errorf("flows %v, want one for each connection", flows)
	}
	for id := range flows[one] {
		if flows[two][id] {
			t.Error("both connections are one flow")
		}
	}
}
