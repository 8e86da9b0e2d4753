// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"testing"
)

func TestCheck(t *testing.T) {
	refused, err := findCase("7")
	if err != nil {
		t.Fatal(err)
	}
	same, err := findCase("same-node/external-ip")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		c    testCase
		r    result
		ok   bool
	}{
		{"refused as it should be", refused, result{Err: "connection refused", refused: true}, true},
		{"timeout instead of refused", refused, result{Err: "i/o timeout"}, false},
		{"answer instead of refused", refused, result{Server: "nginx1a", SawClient: "172.23.96.23:1"}, false},
		{"masqueraded to cni0", same, result{Server: "nginx1a", SawClient: "172.23.96.129:31"}, true},
		{"not masqueraded", same, result{Server: "nginx1a", SawClient: "172.23.96.164:31"}, false},
		{"wrong server", same, result{Server: "nginx1b", SawClient: "172.23.96.129:31"}, false},
		{"no answer", same, result{Err: "i/o timeout"}, false},
		{"no client seen", same, result{Server: "nginx1a"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.c.check(tt.r); (err == nil) != tt.ok {
				t.Errorf("check: %v, want ok=%v", err, tt.ok)
			}
		})
	}
}

// TestCasesAreTheTen: ids 1 to 10 come first, in order, and no id is there twice.
func TestCasesAreTheTen(t *testing.T) {
	want := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}
	seen := map[string]bool{}
	for i, c := range cases {
		if i < ten && c.id != want[i] {
			t.Errorf("case %d has id %s", i, c.id)
		}
		if seen[c.id] || seen[c.slug] {
			t.Errorf("case %s (%s) is there twice", c.id, c.slug)
		}
		seen[c.id], seen[c.slug] = true, true
	}
}

// TestConverse runs client and server against each other, on the loopback device.
func TestConverse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go serveHTTP(l, "nginx")
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go serveDNS(u, "dns")
	tests := []struct{ network, addr, server string }{
		{"tcp", l.Addr().String(), "nginx"},
		{"udp", u.LocalAddr().String(), "dns"},
	}
	for _, tt := range tests {
		t.Run(tt.network, func(t *testing.T) {
			r := result{Dialed: tt.addr, Seq: 42}
			if err := converse(tt.network, &r); err != nil {
				t.Fatal(err)
			}
			if r.Server != tt.server || r.SawClient != r.ClientLocal {
				t.Errorf("server %q saw %q, the client was %q", r.Server, r.SawClient, r.ClientLocal)
			}
		})
	}
}

// TestRefusedHasPort: the packets of a refused connection must be findable.
func TestRefusedHasPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	r := connect(testCase{id: "x", dial: addr}, 1)
	if !r.refused {
		t.Fatalf("error %q, want connection refused", r.Err)
	}
	if host, port, err := net.SplitHostPort(r.ClientLocal); err != nil || host != "127.0.0.1" || port == "0" {
		t.Errorf("client's address is %q", r.ClientLocal)
	}
}

func TestDNSAnswer(t *testing.T) {
	question := func(qtype byte) []byte {
		return append([]byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 3, 'f', 'o', 'o', 0, 0, qtype, 0, 1)
	}
	tests := []struct {
		name    string
		query   []byte
		answers int // -1: no answer at all
	}{
		{"address", question(1), 1},
		{"IPv6 address", question(28), 0},
		{"empty", nil, -1},
		{"cut off", question(1)[:16], -1},
		{"a response", append([]byte{0, 0, 0x80, 0, 0, 1}, make([]byte, 20)...), -1},
		{"label beyond the end", append(question(1)[:12], 63, 'a', 0, 0, 1, 0, 1), -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := dnsAnswer(tt.query)
			if tt.answers < 0 {
				if got != nil {
					t.Errorf("answered % x", got)
				}
				return
			}
			if len(got) < 12 || got[0] != 0x12 || got[2]&0x80 == 0 || int(got[7]) != tt.answers {
				t.Errorf("answer % x, want %d records", got, tt.answers)
			}
		})
	}
}
