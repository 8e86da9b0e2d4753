// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestVirtuals checks what the scenarios say of each node's IPVS table.
func TestVirtuals(t *testing.T) {
	tests := []struct {
		node, addr string
		want       []string
	}{
		{"n1", "8.219.164.113:80", nil}, // policy Local, no backend on n1: case 7
		{"n1", "10.0.0.180:32580", nil},
		{"n2", "8.219.164.113:80", []string{"172.23.96.163:80", "172.23.96.164:80"}},
		{"n3", "8.219.164.113:80", []string{"172.23.96.82:80"}},
		{"n3", "172.23.96.65:32580", []string{"172.23.96.82:80"}},
		{"n1", "8.219.164.114:80", []string{"172.23.96.163:80"}},
		{"n3", "10.0.1.216:30875", []string{"172.23.96.163:80"}},
		{"n2", "192.168.13.24:80", []string{"172.23.96.24:80"}},
		{"n1", "192.168.0.10:53", []string{"172.23.96.165:53"}},
		{"n1", "[fd00:10:96:ff::13]:80", []string{"[fd00:10:96:2::163]:80"}},
	}
	for _, tt := range tests {
		t.Run(tt.node+" "+tt.addr, func(t *testing.T) {
			n, err := findNode(tt.node)
			if err != nil {
				t.Fatal(err)
			}
			all, err := virtuals(n)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(all, func(v virtual) bool { return v.addr.String() == tt.addr })
			if i < 0 {
				t.Fatalf("no virtual service %s on %s", tt.addr, tt.node)
			}
			var got []string
			for _, r := range all[i].reals {
				got = append(got, r.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("real servers %v, want %v", got, tt.want)
			}
		})
	}
}

// TestAddressesLieInTheirNodes guards the tables against slips: a pod outside
// its node's CIDR would be routed elsewhere, and every case would look odd.
func TestAddressesLieInTheirNodes(t *testing.T) {
	for _, p := range pods {
		n, err := findNode(p.node)
		if err != nil {
			t.Fatal(err)
		}
		for prefix, ip := range map[string]string{n.cidr: p.ip, n.net6: p.ip6, podCIDR: p.ip} {
			if got := netip.MustParsePrefix(prefix); is6(prefixIP(prefix)) == is6(ip) && !got.Contains(netip.MustParseAddr(ip)) {
				t.Errorf("pod %s: %s is not in %s", p.name, ip, prefix)
			}
		}
	}
}

func TestIPSets(t *testing.T) {
	tests := []struct {
		node string
		has  []string
		not  []string
	}{
		{"n1",
			[]string{
				"create KUBE-NODE-PORT-TCP bitmap:port range 0-65535",
				"add KUBE-CLUSTER-IP 192.168.0.10,udp:53",
				"add KUBE-LOAD-BALANCER 8.219.164.113,tcp:80",
				"add KUBE-LOAD-BALANCER-LOCAL 8.219.164.113,tcp:80",
				"add KUBE-NODE-PORT-LOCAL-TCP 32580",
				"add KUBE-NODE-PORT-TCP 30875",
				"add KUBE-LOOP-BACK 172.23.96.24,tcp:80,172.23.96.24",
			},
			[]string{"add KUBE-LOAD-BALANCER-LOCAL 8.219.164.114", "add KUBE-LOOP-BACK 172.23.96.163", "fd00:"}},
		{"n2",
			[]string{"add KUBE-LOOP-BACK 172.23.96.163,tcp:80,172.23.96.163", "add KUBE-LOOP-BACK 172.23.96.165,udp:53,172.23.96.165"},
			[]string{"add KUBE-LOOP-BACK 172.23.96.24"}},
	}
	for _, tt := range tests {
		n, _ := findNode(tt.node)
		sets, err := ipSets(n)
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Split(sets, "\n")
		for _, want := range tt.has {
			if !slices.Contains(all, want) {
				t.Errorf("%s: no line %q in\n%s", tt.node, want, sets)
			}
		}
		for _, bad := range tt.not {
			if strings.Contains(sets, bad) {
				t.Errorf("%s: %q should not be in\n%s", tt.node, bad, sets)
			}
		}
		// `ipset restore` stops at an entry that it has already.
		slices.Sort(all)
		if len(slices.Compact(all)) != strings.Count(sets, "\n")+1 {
			t.Errorf("%s: a line twice in\n%s", tt.node, sets)
		}
	}
}

// TestRulesNameOnlySetsThatExist: iptables-restore refuses all rules for one unknown set.
func TestRulesNameOnlySetsThatExist(t *testing.T) {
	known := map[string]bool{}
	for _, s := range setTypes {
		known[s.name] = true
	}
	fields := strings.Fields(nodeRules)
	for i, f := range fields {
		if f == "--match-set" && !known[fields[i+1]] {
			t.Errorf("rules match set %s, which is not made", fields[i+1])
		}
	}
}

func TestLBRules(t *testing.T) {
	rules, err := lbRules(map[string]string{vipLocal: "n3", vipCluster: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"-A PREROUTING -d 8.219.164.113/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.1.216:32580\n",
		"-A PREROUTING -d 8.219.164.114/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.180:30875\n",
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("no %q in\n%s", want, rules)
		}
	}
	if _, err := lbRules(map[string]string{vipLocal: "n9", vipCluster: "n1"}); err == nil {
		t.Error("a node that does not exist was accepted")
	}
}

func TestClusterNames(t *testing.T) {
	names := clusterNames(backendRoutes, services)
	for _, want := range []netnsName{
		{Name: "n1", Kind: "node"},
		{Name: "centos", Kind: "pod", Node: "n1", Pod: "default/centos"},
		{Name: "vpc", Kind: "network"},
	} {
		if !slices.Contains(names.Netns, want) {
			t.Errorf("no %+v in the names file", want)
		}
	}
	for _, want := range []addressName{
		{IP: "8.219.164.113", Service: "default/nginx1-local"},
		{IP: "192.168.0.10", Service: "kube-system/kube-dns"},
		{IP: "172.23.96.23", Pod: "default/centos"},
	} {
		if !slices.Contains(names.Addresses, want) {
			t.Errorf("no %+v in the names file", want)
		}
	}
}
