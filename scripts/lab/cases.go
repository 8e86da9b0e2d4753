// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A testCase is one connection of the scenarios and what becomes of it.
type testCase struct {
	id      string
	slug    string
	from    string // the client's namespace
	network string
	dial    string
	lb      map[string]string // what the load balancer must do first

	servers []string // who may answer; none: the connection is refused
	silent  bool     // or rather: nobody answers at all
	saw     string   // the client's address as the server sees it
}

// cases are the ten of the scenarios, then what else the lab can show.
var cases = []testCase{
	{id: "1", slug: "same-node/pod-ip", from: "centos", dial: "172.23.96.24:80",
		servers: []string{"nginx"}, saw: "172.23.96.23"},
	{id: "2", slug: "same-node/clusterip", from: "centos", dial: vipNginx + ":80",
		servers: []string{"nginx"}, saw: "172.23.96.23"},
	{id: "3", slug: "same-node/external-ip", from: "nginx1b", dial: vipCluster + ":80",
		servers: []string{"nginx1a"}, saw: "172.23.96.129"},
	{id: "4", slug: "cross-node/pod-ip", from: "centos", dial: "172.23.96.163:80",
		servers: []string{"nginx1a"}, saw: "172.23.96.23"},
	{id: "5", slug: "cross-node/clusterip", from: "centos", dial: vipNginx1 + ":80",
		servers: []string{"nginx1a"}, saw: "172.23.96.23"},
	{id: "6", slug: "cross-node/external-ip", from: "centos", dial: vipCluster + ":80",
		servers: []string{"nginx1a"}, saw: "10.0.0.180"},
	{id: "7", slug: "in-cluster/external-ip-local", from: "centos", dial: vipLocal + ":80"},
	{id: "8", slug: "outside/external-ip-local", from: "outside", dial: vipLocal + ":80",
		lb: map[string]string{vipLocal: "n2"}, servers: []string{"nginx1a", "nginx1b"}, saw: outsideIP},
	{id: "9", slug: "outside/external-ip-cluster-elsewhere", from: "outside", dial: vipCluster + ":80",
		lb: map[string]string{vipCluster: "n1"}, servers: []string{"nginx1a"}, saw: "10.0.0.180"},
	{id: "10", slug: "outside/external-ip-cluster-here", from: "outside", dial: vipCluster + ":80",
		lb: map[string]string{vipCluster: "n2"}, servers: []string{"nginx1a"}, saw: "172.23.96.129"},

	{id: "dns", slug: "extra/dns-clusterip", from: "centos", network: "udp", dial: vipDNS + ":53",
		servers: []string{"dns"}, saw: "172.23.96.23"},
	{id: "local-n3", slug: "extra/external-ip-local-n3", from: "outside", dial: vipLocal + ":80",
		lb: map[string]string{vipLocal: "n3"}, servers: []string{"nginx1c"}, saw: outsideIP},
	{id: "v6-same", slug: "extra/v6-same-node-pod-ip", from: "centos", dial: "[fd00:10:96:1::24]:80",
		servers: []string{"nginx"}, saw: "fd00:10:96:1::23"},
	{id: "v6-cross", slug: "extra/v6-cross-node-pod-ip", from: "centos", dial: "[fd00:10:96:2::163]:80",
		servers: []string{"nginx1a"}, saw: "fd00:10:96:1::23"},
	{id: "v6-clusterip-same", slug: "extra/v6-same-node-clusterip", from: "nginx1b", dial: "[" + vip6Nginx1 + "]:80",
		servers: []string{"nginx1a"}, saw: "fd00:10:96:2::164"},
	{id: "v6-clusterip-cross", slug: "extra/v6-cross-node-clusterip", from: "centos", dial: "[" + vip6Nginx1 + "]:80",
		servers: []string{"nginx1a"}, saw: "fd00:10:96:1::23"},
}

// ten is how many of the cases are the scenarios' own.
const ten = 10

func findCase(id string) (testCase, error) {
	all := slices.Concat(cases, proxyCases(proxyMode()))
	for _, c := range all {
		if c.id == id || c.slug == id {
			return c, nil
		}
	}
	var ids []string
	for _, c := range all {
		ids = append(ids, c.id)
	}
	return testCase{}, fmt.Errorf("no case %q: there are %s", id, strings.Join(ids, ", "))
}

// prepareCase makes the load balancer do what the case needs, if it does not yet.
func prepareCase(c testCase) error {
	if len(c.lb) == 0 {
		return nil
	}
	text, err := os.ReadFile(lbFile)
	if err != nil {
		return fmt.Errorf("%w (build the lab with 'lab up')", err)
	}
	targets := map[string]string{}
	if err := json.Unmarshal(text, &targets); err != nil {
		return fmt.Errorf("read %s: %w", lbFile, err)
	}
	changed := false
	for vip, node := range c.lb {
		if targets[vip] != node {
			targets[vip], changed = node, true
		}
	}
	if !changed {
		return nil
	}
	return setLB(targets)
}
