// SPDX-License-Identifier: Apache-2.0

package main

// namesFile is where `lab up` writes the names of what it has built, in the
// format of the tool's --names option.
const namesFile = "/run/stackhop/names.json"

type nameTable struct {
	Netns     []netnsName   `json:"netns"`
	Addresses []addressName `json:"addresses"`
}

type netnsName struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	Node string `json:"node,omitempty"`
	Pod  string `json:"pod,omitempty"`
}

type addressName struct {
	IP      string `json:"ip"`
	Service string `json:"service,omitempty"`
	Pod     string `json:"pod,omitempty"`
	Node    string `json:"node,omitempty"`
}

// podName is the name that Kubernetes would have for the pod.
func podName(name string) string {
	if name == "dns" {
		return "kube-system/" + name
	}
	return "default/" + name
}

// clusterNames derives the names file from the topology and the services that there are.
func clusterNames(backend string, known []service) nameTable {
	var t nameTable
	for _, n := range nodes {
		t.Netns = append(t.Netns, netnsName{Name: n.name, Kind: "node"})
		for _, ip := range []string{n.ip, n.ip6} {
			t.Addresses = append(t.Addresses, addressName{IP: ip, Node: n.name})
		}
		if backend == backendVXLAN {
			for _, v := range n.vteps() {
				t.Addresses = append(t.Addresses, addressName{IP: v.addr, Node: n.name})
			}
		}
	}
	for _, p := range pods {
		t.Netns = append(t.Netns, netnsName{Name: p.name, Kind: "pod", Node: p.node, Pod: podName(p.name)})
		for _, ip := range []string{p.ip, p.ip6} {
			t.Addresses = append(t.Addresses, addressName{IP: ip, Pod: podName(p.name)})
		}
	}
	for _, name := range networks {
		t.Netns = append(t.Netns, netnsName{Name: name, Kind: "network"})
	}
	for _, s := range known {
		t.Addresses = append(t.Addresses, addressName{IP: s.vip, Service: s.name})
	}
	return t
}
