// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// The chains and rules that kube-proxy writes in IPVS mode, after a real one's
// output; sets decide, so the rules are the same on every node. The last rule
// of nat POSTROUTING is Flannel's, and {flannel} stands for what flannelRules says.
const nodeRules = `*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT
-A FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:FLANNEL-POSTRTG - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
{flannel}-A KUBE-LOAD-BALANCER -m comment --comment "Kubernetes service load balancer ip + port with externalTrafficPolicy=local" -m set --match-set KUBE-LOAD-BALANCER-LOCAL dst,dst -j RETURN
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port with externalTrafficPolicy=local" -m set --match-set KUBE-NODE-PORT-LOCAL-TCP dst -j RETURN
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES -m comment --comment "Kubernetes service lb portal" -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER
-A KUBE-SERVICES ! -s 172.23.96.0/24 -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
-A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT
COMMIT
`

// cniRules are all there is where a real kube-proxy writes the others.
const cniRules = `*nat
:POSTROUTING ACCEPT [0:0]
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
{flannel}COMMIT
`

// withFlannel puts Flannel's own rules in.
func withFlannel(rules string, n node, backend string) string {
	return strings.Replace(rules, "{flannel}", flannelRules(n, backend), 1)
}

// setTypes are the sets that the rules name, in the order of creation.
var setTypes = []struct{ name, kind string }{
	{"KUBE-CLUSTER-IP", "hash:ip,port"},
	{"KUBE-LOAD-BALANCER", "hash:ip,port"},
	{"KUBE-LOAD-BALANCER-LOCAL", "hash:ip,port"},
	{"KUBE-LOOP-BACK", "hash:ip,port,ip"},
	{"KUBE-NODE-PORT-TCP", "bitmap:port range 0-65535"},
	{"KUBE-NODE-PORT-LOCAL-TCP", "bitmap:port range 0-65535"},
	{"KUBE-IPVS-IPS", "hash:ip"},
}

// ipSets is the node's input for `ipset restore`.
func ipSets(n node) (string, error) {
	var b strings.Builder
	for _, t := range setTypes {
		fmt.Fprintf(&b, "create %s %s\n", t.name, t.kind)
	}
	add := func(set, format string, args ...any) {
		fmt.Fprintf(&b, "add %s "+format+"\n", append([]any{set}, args...)...)
	}
	looped := map[string]bool{}
	for _, s := range services {
		if is6(s.vip) {
			continue
		}
		set := "KUBE-CLUSTER-IP"
		if s.external {
			set = "KUBE-LOAD-BALANCER"
		}
		add(set, "%s,%s:%d", s.vip, s.proto, s.port)
		add("KUBE-IPVS-IPS", "%s", s.vip)
		if s.local {
			add("KUBE-LOAD-BALANCER-LOCAL", "%s,%s:%d", s.vip, s.proto, s.port)
			add("KUBE-NODE-PORT-LOCAL-TCP", "%d", s.nodePort)
		}
		if s.nodePort != 0 {
			add("KUBE-NODE-PORT-TCP", "%d", s.nodePort)
		}
		for _, name := range s.backends {
			p, err := findPod(name)
			if err != nil {
				return "", err
			}
			entry := fmt.Sprintf("%s,%s:%d,%s", p.ip, s.proto, s.port, p.ip)
			if p.node == n.name && !looped[entry] {
				looped[entry] = true
				add("KUBE-LOOP-BACK", "%s", entry)
			}
		}
	}
	return b.String(), nil
}

// loadRules gives a node its sets and rules.
func loadRules(n node, c plan) error {
	sets, err := ipSets(n)
	if err != nil {
		return err
	}
	if err := feed(n.name, sets, "ipset", "restore"); err != nil {
		return err
	}
	return feed(n.name, withFlannel(nodeRules, n, c.backend), restoreTool(c.iptables), "--noflush")
}

func restoreTool(iptables string) string { return "iptables-" + iptables + "-restore" }

// feed runs a command in a namespace with text as its standard input.
func feed(name, text, command string, args ...string) error {
	cmd := exec.Command(command, args...)
	cmd.Stdin = strings.NewReader(text)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := startIn(name, cmd); err != nil {
		return fmt.Errorf("%s: start %s: %w", name, command, err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %s: %w (its message is above)", name, command, err)
	}
	return nil
}

// lbRules are the load balancer's: it sends each external address to the node
// port of one node, and keeps the client's address.
func lbRules(targets map[string]string) (string, error) {
	var b strings.Builder
	b.WriteString("*nat\n:PREROUTING ACCEPT [0:0]\n-F PREROUTING\n")
	for _, s := range services {
		if !s.external {
			continue
		}
		n, err := findNode(targets[s.vip])
		if err != nil {
			return "", fmt.Errorf("load balancer %s: %w", s.vip, err)
		}
		fmt.Fprintf(&b, "-A PREROUTING -d %s/32 -p %s -m %s --dport %d -j DNAT --to-destination %s\n",
			s.vip, s.proto, s.proto, s.port, hostPort(n.ip, s.nodePort))
	}
	b.WriteString("COMMIT\n")
	return b.String(), nil
}

// setLB chooses the node that the load balancer uses for each external address,
// so that each case has one outcome. New connections follow at once.
func setLB(targets map[string]string) error {
	rules, err := lbRules(targets)
	if err != nil {
		return err
	}
	if err := feed("lb", rules, restoreTool("legacy"), "--noflush"); err != nil {
		return err
	}
	return writeJSON(lbFile, targets)
}

// lbFile remembers the load balancer's choice, so that a case changes only what it must.
const lbFile = "/run/stackhop/lb.json"
