// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// TestProxyTables: every connection has one expectation in every mode, whose
// counts are those of its visits, and no id of the lab's own cases.
func TestProxyTables(t *testing.T) {
	for _, mode := range proxyModes {
		list, want := proxyCases(mode), proxyExpectations(mode)
		if len(list) != len(want) {
			t.Errorf("%s: %d expectations of %d cases", mode, len(want), len(list))
		}
		for _, c := range list {
			i := slices.IndexFunc(want, func(e expectation) bool { return e.id == c.id })
			if i < 0 {
				t.Errorf("%s: case %s has no expectation", mode, c.id)
				continue
			}
			e := want[i]
			for _, l := range []leg{e.request, e.reply} {
				if stacks, l3 := countStacks(l.visits); l.visits != "" && (stacks != l.stacks || l3 != l.l3) {
					t.Errorf("%s: case %s: %s is %v stacks and %v, not %v and %v", mode, c.id, l.visits, stacks, l3, l.stacks, l.l3)
				}
			}
			answered := len(c.servers) > 0
			if answered != (e.request.verdict == delivered) || c.silent && e.reply.visits != "" || answered && len(e.reply.nat) == 0 {
				t.Errorf("%s: case %s is answered: %t, silent: %t, and is expected to be %+v", mode, c.id, answered, c.silent, e)
			}
			if slices.ContainsFunc(cases, func(o testCase) bool { return o.id == c.id || o.slug == c.slug }) {
				t.Errorf("%s: case %s (%s) is one of the lab's own", mode, c.id, c.slug)
			}
		}
	}
	if got := len(proxyCases("")) + len(proxyExpectations("")); got != 0 {
		t.Errorf("%d cases and expectations without a kube-proxy", got)
	}
}

// TestProxyTranslators: who translates, in each mode.
func TestProxyTranslators(t *testing.T) {
	for mode, want := range map[string]string{
		"ipvs":     "n1: ipvs dnat {client}→192.168.13.23:80 = {client}→{backend}:80",
		"iptables": "n1: conntrack dnat {client}→192.168.13.23:80 = {client}→{backend}:80",
		"nftables": "n1: conntrack dnat {client}→192.168.13.23:80 = {client}→{backend}:80",
	} {
		i := slices.IndexFunc(proxyExpectations(mode), func(e expectation) bool { return e.id == "nginx1" })
		if got := strings.Join(proxyExpectations(mode)[i].request.nat, "; "); got != want {
			t.Errorf("%s: %s, want %s", mode, got, want)
		}
	}
}

// TestForward: what a node says comes to the address behind, and back.
func TestForward(t *testing.T) {
	behind, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	go func() {
		for {
			conn, err := behind.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	near, far := net.Pipe()
	go forward(far, behind.Addr().String())
	if _, err := near.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(near, got); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	near.Close()

	near, far = net.Pipe()
	behind.Close()
	go forward(far, behind.Addr().String())
	if _, err := near.Read(got); err != io.EOF {
		t.Errorf("nobody is behind, and the connection ends with %v, want EOF", err)
	}
}

// TestManifestWithProxy: the services of the expectations are told to the API server.
func TestManifestWithProxy(t *testing.T) {
	m, err := clusterManifest(slices.Concat(services, proxyServices))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range m.Services {
		switch s.Name {
		case "itp-local":
			seen[s.Name] = s.InternalLocal && !s.Sticky && len(s.Endpoints) == 1
		case "sticky":
			seen[s.Name] = s.Sticky && !s.InternalLocal && len(s.Endpoints) == 2
		case "empty":
			seen[s.Name] = len(s.Endpoints) == 0
		default:
			if s.InternalLocal || s.Sticky {
				t.Errorf("%+v", s)
			}
		}
	}
	if !seen["itp-local"] || !seen["sticky"] || !seen["empty"] {
		t.Errorf("as they should be are %v", seen)
	}
}
