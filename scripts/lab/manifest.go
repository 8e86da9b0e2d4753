// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	"github.com/stackhop/stackhop/scripts/internal/manifest"
)

// clusterManifest derives from the topology what an API server knows of such a
// cluster with these services.
func clusterManifest(known []service) (manifest.Cluster, error) {
	var m manifest.Cluster
	for _, n := range nodes {
		m.Nodes = append(m.Nodes, manifest.Node{Name: n.name, PodCIDR: n.cidr, IPs: []string{n.ip, n.ip6}})
	}
	for _, p := range pods {
		namespace, name, _ := strings.Cut(podName(p.name), "/")
		m.Pods = append(m.Pods, manifest.Pod{Namespace: namespace, Name: name, Node: p.node, IPs: []string{p.ip, p.ip6}})
	}
	for _, s := range known {
		namespace, name, _ := strings.Cut(s.name, "/")
		same := func(o manifest.Service) bool { return o.Namespace == namespace && o.Name == name }
		// Two families of a service are two lines of the table.
		if i := slices.IndexFunc(m.Services, same); i >= 0 {
			m.Services[i].ClusterIPs = append(m.Services[i].ClusterIPs, s.vip)
			continue
		}
		one := manifest.Service{Namespace: namespace, Name: name, NodePort: s.nodePort, Local: s.local, Protocol: s.proto, Port: s.port,
			InternalLocal: s.internalLocal, Sticky: s.sticky}
		if s.external {
			one.Ingress = s.vip
		} else {
			one.ClusterIPs = []string{s.vip}
		}
		for _, backend := range s.backends {
			p, err := findPod(backend)
			if err != nil {
				return m, err
			}
			one.Endpoints = append(one.Endpoints, manifest.Endpoint{Pod: p.name, Node: p.node, IPs: []string{p.ip, p.ip6}})
		}
		m.Services = append(m.Services, one)
	}
	return m, nil
}
