// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"testing"
	"time"
)

// TestSend: both ways to end, over both protocols, and an echo that is wrong.
func TestSend(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go newEchoer(udp, nil).run()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	go echoTCP(tcp, nil)
	liar, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	go func() {
		conn, err := liar.Accept()
		if err == nil {
			conn.Write([]byte("message X"))
			conn.Close()
		}
	}()
	tests := []struct {
		name string
		plan sendPlan
		ok   bool
	}{
		{"udp, counted", sendPlan{network: "udp", addr: udp.LocalAddr().String(), count: 3}, true},
		{"udp, for a time", sendPlan{network: "udp", addr: udp.LocalAddr().String(), lasts: 5 * time.Millisecond}, true},
		{"tcp, counted", sendPlan{network: "tcp", addr: tcp.Addr().String(), count: 2}, true},
		{"another answer", sendPlan{network: "tcp", addr: liar.Addr().String(), count: 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.plan.every = time.Millisecond
			if err := tt.plan.send(); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSendArguments(t *testing.T) {
	for _, args := range [][]string{
		{}, {"udp"}, {"sctp", "127.0.0.1:7"}, {"-count", "0", "udp", "127.0.0.1:7"}, {"-every", "0s", "udp", "127.0.0.1:7"},
	} {
		if err := cmdSend(args); err == nil {
			t.Errorf("lab send %q: no error", args)
		}
	}
}
