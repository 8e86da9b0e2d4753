// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
)

// proxyMode is the mode of the kube-proxies that run here; empty: none do.
func proxyMode() string {
	mode, err := os.ReadFile(proxyModeFile)
	if err != nil {
		return "" // the lab's own rules
	}
	return string(mode)
}

// proxyCases are connections to services that a real kube-proxy serves.
func proxyCases(mode string) []testCase {
	if mode == "" {
		return nil
	}
	return []testCase{
		{id: "nginx", slug: "proxy/same-node/clusterip", from: "centos", dial: vipNginx + ":80",
			servers: []string{"nginx"}, saw: "172.23.96.23"},
		{id: "nginx1", slug: "proxy/cross-node/clusterip", from: "centos", dial: vipNginx1 + ":80",
			servers: []string{"nginx1a"}, saw: "172.23.96.23"},
		// Today's kube-proxy takes all endpoints for clients in the cluster.
		{id: "nginx1-local", slug: "proxy/in-cluster/external-ip-local", from: "centos", dial: vipLocal + ":80",
			servers: []string{"nginx1a", "nginx1b", "nginx1c"}, saw: "172.23.96.23"},
		{id: "nginx1-cluster", slug: "proxy/cross-node/external-ip", from: "centos", dial: vipCluster + ":80",
			servers: []string{"nginx1a"}, saw: "10.0.0.180"},
		{id: "nginx1-cluster-same", slug: "proxy/same-node/external-ip", from: "nginx1b", dial: vipCluster + ":80",
			servers: []string{"nginx1a"}, saw: "172.23.96.129"},
		// The first packet that is dropped has the node's rules read.
		{id: "itp-local", slug: "proxy/internal-local", from: "centos", dial: vipITPLocal + ":80", silent: mode != "ipvs"},
		{id: "empty", slug: "proxy/no-endpoints", from: "centos", dial: vipEmpty + ":80"},
		// The node's rules are known by now: there is but one packet of which they tell.
		{id: "hairpin", slug: "proxy/hairpin", from: "nginx", dial: vipNginx + ":80",
			servers: []string{"nginx"}, saw: "172.23.96.1"},
		{id: "sticky", slug: "proxy/affinity", from: "centos", dial: vipSticky + ":80",
			servers: []string{"nginx1a", "nginx1c"}, saw: "172.23.96.23"},
		{id: "kube-dns", slug: "proxy/dns", from: "centos", network: "udp", dial: vipDNS + ":53",
			servers: []string{"dns"}, saw: "172.23.96.23"},
		{id: "outside-local", slug: "proxy/outside/external-ip-local", from: "outside", dial: vipLocal + ":80",
			lb: map[string]string{vipLocal: "n2"}, servers: []string{"nginx1a", "nginx1b"}, saw: outsideIP},
		{id: "outside-cluster", slug: "proxy/outside/external-ip-cluster-elsewhere", from: "outside", dial: vipCluster + ":80",
			lb: map[string]string{vipCluster: "n1"}, servers: []string{"nginx1a"}, saw: "10.0.0.180"},
		{id: "outside-cluster-here", slug: "proxy/outside/external-ip-cluster-here", from: "outside", dial: vipCluster + ":80",
			lb: map[string]string{vipCluster: "n2"}, servers: []string{"nginx1a"}, saw: "172.23.96.129"},
	}
}

// proxyExpectations are what must be seen of them. The modes go the same ways, but
// for those that translate in PREROUTING: br_netfilter runs it before the bridge
// knows where to, so what is for a pod of the same node stays on the bridge.
func proxyExpectations(mode string) []expectation {
	if mode == "" {
		return nil
	}
	w := proxyWays{mode: mode, by: "conntrack"}
	if mode == "ipvs" {
		w.by = "ipvs"
	}
	list := []expectation{
		w.sameNode("nginx", "n1", "centos", vipNginx, ""),
		w.crossNode("nginx1", vipNginx1, ""),
		w.crossNode("nginx1-local", vipLocal, ""),
		w.crossNode("nginx1-cluster", vipCluster, "n1"),
		w.sameNode("nginx1-cluster-same", "n2", "nginx1b", vipCluster, "n2"),
		w.hairpin("hairpin", vipNginx),
		w.refused("itp-local", vipITPLocal),
		w.refused("empty", vipEmpty),
		w.crossNode("sticky", vipSticky, ""),
		w.crossNode("kube-dns", vipDNS, ""),
	}
	return append(list, w.fromOutside()...)
}

// proxyWays makes the legs of one mode. by is who translates the addresses of a
// service.
type proxyWays struct{ mode, by string }

// nats are the translations of a request to a service on a node, and of its reply.
// masq is empty where nobody masquerades.
func (w proxyWays) nats(node, vip, port, masq string) (request, reply []string) {
	fill := strings.NewReplacer("NODE", node, "VIP", vip+":"+port, "BACKEND", "{backend}:"+backendPort(vip)).Replace
	request = []string{fill("NODE: " + w.by + " dnat {client}→VIP = {client}→BACKEND")}
	reply = []string{fill("NODE: " + w.by + " snat BACKEND→{client} = VIP→{client}")}
	if masq != "" {
		request = append(request, fill("NODE: conntrack snat masquerade {client}→BACKEND = {seen}→BACKEND"))
		reply = append([]string{fill("NODE: conntrack dnat BACKEND→{seen} = BACKEND→{client}")}, reply...)
	}
	return request, reply
}

func backendPort(vip string) string {
	if vip == vipDNS {
		return "53"
	}
	return "80"
}

// crossNode is from centos on n1 to a pod on another node.
func (w proxyWays) crossNode(id, vip, masq string) expectation {
	e := expectation{id: id,
		request: leg{visits: "socket>centos | n1 | vpc | {node} | {server}>socket", stacks: 4, l3: 4, verdict: delivered,
			link: "centos eth0 → n1 vethcentos → n1 cni0 → n1 eth0 → [vpc] → {node} eth0 → {node} cni0 → {node} veth{server} → {server} eth0"},
		reply: leg{visits: "socket>{server} | {node} | vpc | n1 | centos>socket", stacks: 4, l3: 4, verdict: delivered,
			link: "{server} eth0 → {node} veth{server} → {node} cni0 → {node} eth0 → [vpc] → n1 eth0 → n1 cni0 → n1 vethcentos → centos eth0"},
	}
	e.request.nat, e.reply.nat = w.nats("n1", vip, backendPort(vip), masq)
	if masq != "" {
		e.request.note = "client address lost: 172.23.96.163 sees 10.0.0.180 instead of 172.23.96.23"
	}
	return e
}

// sameNode is from a pod to another one of its node.
func (w proxyWays) sameNode(id, node, client, vip, masq string) expectation {
	fill := strings.NewReplacer("NODE", node, "CLIENT", client).Replace
	e := expectation{id: id,
		request: leg{visits: fill("socket>CLIENT | NODE | {server}>socket"), stacks: 3, l3: 3, verdict: delivered,
			link: fill("CLIENT eth0 → vethCLIENT → cni0 → cni0 → veth{server} → {server} eth0")},
		reply: leg{visits: fill("socket>{server} | NODE bridged | CLIENT>socket"), stacks: 3, l3: 2, verdict: delivered,
			link:   fill("{server} eth0 → veth{server} → (cni0) → vethCLIENT → CLIENT eth0"),
			orLink: fill("{server} eth0 → veth{server} → cni0 → vethCLIENT → CLIENT eth0")},
	}
	if w.mode != "ipvs" {
		e.request.visits, e.request.l3 = fill("socket>CLIENT | NODE bridged | {server}>socket"), 2
		// By the bridge's neighbour code, see case 3.
		e.request.link = fill("CLIENT eth0 → vethCLIENT → (cni0) → veth{server} → {server} eth0")
		e.request.orLink = fill("CLIENT eth0 → vethCLIENT → cni0 → veth{server} → {server} eth0")
	}
	e.request.nat, e.reply.nat = w.nats(node, vip, "80", masq)
	if masq != "" {
		e.request.note = "client address lost: 172.23.96.163 sees 172.23.96.129 instead of 172.23.96.164"
	}
	return e
}

// hairpin is from a pod of n1 to itself. Whom IPVS sends there is not marked: a set
// of the endpoints tells, as in nftables mode.
func (w proxyWays) hairpin(id, vip string) expectation {
	e := w.sameNode(id, "n1", "nginx", vip, "n1")
	e.request.note = "client address lost: 172.23.96.24 sees 172.23.96.1 instead of 172.23.96.24"
	switch w.mode {
	case "ipvs":
		e.request.masquerade = "iptables ip nat KUBE-POSTROUTING Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"
	case "iptables":
		e.request.mark = kubeMark
		e.request.masquerade = "iptables ip nat KUBE-POSTROUTING kubernetes service traffic requiring SNAT"
	default:
		e.request.masquerade = "nftables ip kube-proxy masquerading "
	}
	return e
}

// refused is to a service that has no endpoint for centos. IPVS has the virtual
// service all the same; the other modes have a rule for it.
func (w proxyWays) refused(id, vip string) expectation {
	e := expectation{id: id,
		request: leg{visits: "socket>centos | n1>terminated", stacks: 1.5, l3: 1.5, verdict: "terminated", link: "centos eth0 → vethcentos → cni0"},
		reply: leg{visits: "kernel>n1 | centos>socket", stacks: 1.5, l3: 1.5, verdict: delivered,
			link: "cni0 → vethcentos → centos eth0", icmp: "3/3", destination: "172.23.96.23"},
	}
	switch {
	case w.mode == "ipvs":
		e.request.where, e.request.reason = "ipvs", "no-destination"
		e.request.summary = "1.5 stacks, terminated in IPVS: " + vip + ":80 has no destination on this node"
	case id == "empty":
		e.request.where, e.request.reason = "netfilter", "rule-reject"
		e.request.rule = "iptables ip filter KUBE-SERVICES default/empty:main has no endpoints"
		if w.mode == "nftables" {
			e.request.rule = "nftables ip kube-proxy reject-chain default/empty:main"
		}
		e.reply.source = "172.23.96.1"
	default:
		e.request.where, e.request.reason = "netfilter", "rule-drop"
		e.request.rule = "iptables ip filter KUBE-SERVICES default/itp-local:main has no local endpoints"
		if w.mode == "nftables" {
			e.request.rule = "nftables ip kube-proxy service-endpoints-check default/itp-local:main"
		}
		e.reply = leg{}
	}
	return e
}

// fromOutside are the ways through the load balancer to a node port.
func (w proxyWays) fromOutside() []expectation {
	through := func(e expectation, node, ip, vip, port, masq string) expectation {
		request, reply := w.nats(node, ip, port, masq)
		e.request.verdict, e.reply.verdict = delivered, delivered
		e.request.nat = append([]string{"lb: conntrack dnat {client}→" + vip + ":80 = {client}→" + ip + ":" + port}, request...)
		e.reply.nat = append(reply, "lb: conntrack snat "+ip+":"+port+"→{client} = "+vip+":80→{client}")
		return e
	}
	local := expectation{id: "outside-local",
		request: leg{visits: "socket>outside | vpc | lb | vpc | n2 | {server}>socket", stacks: 2, l3: 2,
			link: "[outside] → [vpc] → [lb] → [vpc] → eth0 → cni0 → veth{server} → {server} eth0"},
		reply: leg{visits: "socket>{server} | n2 | vpc | lb | vpc | outside>socket", stacks: 2, l3: 2,
			link: "{server} eth0 → veth{server} → cni0 → eth0 → [vpc] → [lb] → [vpc] → [outside]"},
	}
	here := local
	here.id = "outside-cluster-here"
	here.request.note = "client address lost: 172.23.96.163 sees 172.23.96.129 instead of 203.0.113.7"
	elsewhere := expectation{id: "outside-cluster",
		request: leg{visits: "socket>outside | vpc | lb | vpc | n1 | vpc | n2 | nginx1a>socket", stacks: 3, l3: 3,
			link: "[outside] → [vpc] → [lb] → [vpc] → n1 eth0 → n1 eth0 → [vpc] → n2 eth0 → n2 cni0 → n2 vethnginx1a → nginx1a eth0",
			note: "client address lost: 172.23.96.163 sees 10.0.0.180 instead of 203.0.113.7"},
		reply: leg{visits: "socket>nginx1a | n2 | vpc | n1 | vpc | lb | vpc | outside>socket", stacks: 3, l3: 3,
			link: "nginx1a eth0 → n2 vethnginx1a → n2 cni0 → n2 eth0 → [vpc] → n1 eth0 → n1 eth0 → [vpc] → [lb] → [vpc] → [outside]"},
	}
	return []expectation{
		through(local, "n2", "10.0.1.206", vipLocal, "32580", ""),
		through(elsewhere, "n1", "10.0.0.180", vipCluster, "30875", "n1"),
		through(here, "n2", "10.0.1.206", vipCluster, "30875", "n2"),
	}
}
