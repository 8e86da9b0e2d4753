// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"strings"
	"time"
)

// Rules in the shapes that implementations of NetworkPolicy write: {pod} is the
// pod that the policy is about, {from} a client that is allowed, {port} what it is
// allowed to ask for, {list} the set and {name} what makes chains unique. Each has
// one pod: the policies of others are other chains.
const (
	// kubeRouterRules are kube-router's: what a policy allows is marked 0x10000, and
	// what is not marked behind all policies is rejected. It does not clear the mark
	// before, which others may have set: the one that the packet came with decides.
	kubeRouterRules = `*filter
:KUBE-ROUTER-FW-{name} - [0:0]
:KUBE-POD-FW-{name} - [0:0]
:KUBE-NWPLCY-{name} - [0:0]
-I FORWARD -m comment --comment "kube-router netpol" -j KUBE-ROUTER-FW-{name}
-A KUBE-ROUTER-FW-{name} -d {pod} -m comment --comment "rule to jump traffic destined to POD name:nginx1a namespace: default to chain KUBE-POD-FW-{name}" -j KUBE-POD-FW-{name}
-A KUBE-POD-FW-{name} -m comment --comment "rule for stateful firewall for pod" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-POD-FW-{name} -m comment --comment "run through nw policy only-client" -j KUBE-NWPLCY-{name}
-A KUBE-POD-FW-{name} -p tcp -m comment --comment "rule to REJECT traffic destined for POD name:nginx1a namespace: default" -m multiport --dports {port} -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with icmp-port-unreachable
-A KUBE-POD-FW-{name} -j MARK --set-xmark 0x0/0x10000
-A KUBE-NWPLCY-{name} -p tcp -m comment --comment "rule to ACCEPT traffic from source pods to dest pods selected by policy name only-client" -m set --match-set {list} src -m multiport --dports {port} -j MARK --set-xmark 0x10000/0x10000
-A KUBE-NWPLCY-{name} -m mark --mark 0x10000/0x10000 -j RETURN
COMMIT
`
	// calicoRules are Calico's: what is accepted has the mark 0x10000, and what has
	// passed no policy of a tier is dropped at its end.
	calicoRules = `*filter
:cali-FW-{name} - [0:0]
:cali-tw-{name} - [0:0]
:cali-pi-{name} - [0:0]
-I FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FW-{name}
-A cali-FW-{name} -p tcp -d {pod} -m multiport --dports {port} -m comment --comment "cali:to-wl" -j cali-tw-{name}
-A cali-tw-{name} -m comment --comment "cali:est" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-tw-{name} -m comment --comment "cali:inv" -m conntrack --ctstate INVALID -j DROP
-A cali-tw-{name} -m comment --comment "cali:clear" -j MARK --set-xmark 0x0/0x30000
-A cali-tw-{name} -m comment --comment "cali:pi" -m mark --mark 0x0/0x20000 -j cali-pi-{name}
-A cali-tw-{name} -m comment --comment "cali:ok Return if policy accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-{name} -m comment --comment "cali:end Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP
-A cali-pi-{name} -p tcp -m comment --comment "cali:allow" -m set --match-set {list} src -m multiport --dports {port} -j MARK --set-xmark 0x10000/0x10000
-A cali-pi-{name} -m mark --mark 0x10000/0x10000 -j RETURN
COMMIT
`
	// calicoEgressRules are Calico's for what a pod sends, which ends in a goto.
	calicoEgressRules = `*filter
:cali-FE-{name} - [0:0]
:cali-fw-{name} - [0:0]
:cali-po-{name} - [0:0]
-I FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FE-{name}
-A cali-FE-{name} -m comment --comment "cali:mark" -j MARK --set-xmark 0x0/0xe0000
-A cali-FE-{name} -i cni0 -s {pod} -m comment --comment "cali:from-wl" -g cali-fw-{name}
-A cali-fw-{name} -m comment --comment "cali:est" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-{name} -m comment --comment "cali:inv" -m conntrack --ctstate INVALID -j DROP
-A cali-fw-{name} -m comment --comment "cali:clear" -j MARK --set-xmark 0x0/0x10000
-A cali-fw-{name} -p udp -m comment --comment "cali:vxlan Drop VXLAN encapped packets originating in workloads" -m multiport --dports 4789 -j DROP
-A cali-fw-{name} -p 4 -m comment --comment "cali:ipip Drop IPinIP encapped packets originating in workloads" -j DROP
-A cali-fw-{name} -p tcp -m multiport ! --dports {port} -m comment --comment "cali:others" -j RETURN
-A cali-fw-{name} -m comment --comment "cali:tier Start of policies" -j MARK --set-xmark 0x0/0x20000
-A cali-fw-{name} -m comment --comment "cali:po" -m mark --mark 0x0/0x20000 -j cali-po-{name}
-A cali-fw-{name} -m comment --comment "cali:ok Return if policy accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-fw-{name} -m comment --comment "cali:end Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP
-A cali-po-{name} -p tcp -m comment --comment "cali:allow" -m set --match-set {list} dst -m multiport --dports {port} -j MARK --set-xmark 0x10000/0x10000
-A cali-po-{name} -m mark --mark 0x10000/0x10000 -j RETURN
COMMIT
`
	// egressRules reject what a pod sends, but for what its policy's set has.
	egressRules = `*filter
:NETPOL-EGRESS-{name} - [0:0]
:NETPOL-POD-{name} - [0:0]
-I FORWARD -s {pod} -m comment --comment "policies of default/centos" -j NETPOL-EGRESS-{name}
-A NETPOL-EGRESS-{name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A NETPOL-EGRESS-{name} -p tcp -m tcp --dport {port} -j NETPOL-POD-{name}
-A NETPOL-POD-{name} -m set --match-set {list} dst -m comment --comment "policy web-only" -j RETURN
-A NETPOL-POD-{name} -m comment --comment "egress of default/centos: no policy allows it" -j REJECT --reject-with icmp-port-unreachable
COMMIT
`
	// nftPolicyRules refuse what a pod sends, as an egress policy in nftables does.
	nftPolicyRules = `table inet {list} {
 set allowed-{name} {
  type ipv4_addr . inet_service
  elements = { {from} . {port} }
 }
 chain pod-{name} {
  ct state established,related accept
  ip daddr . tcp dport @allowed-{name} accept comment "policy web-only"
  tcp dport {port} counter reject comment "egress of default/centos: no policy allows it"
 }
 chain egress {
  type filter hook forward priority 1;
  ip saddr {pod} jump pod-{name}
 }
}
`
)

// nftPolicy6Rules drop likewise what a pod sends over IPv6.
var nftPolicy6Rules = strings.NewReplacer("ip saddr", "ip6 saddr", "ip daddr", "ip6 daddr", "ipv4_addr", "ipv6_addr",
	"counter reject", "counter drop").Replace(nftPolicyRules)

// policyRules are a policy's rules on n1, there as long as the tool runs.
func policyRules(tool, rules, name, pod, from, port string) []fedChange {
	fill := strings.NewReplacer("{name}", name, "{pod}", pod, "{from}", from, "{port}", port, "{list}", "pods-"+name).Replace
	if tool == "nft" {
		return []fedChange{{"n1", "nft -f -", fill(rules), "nft -f -", fill("delete table inet {list}\n")}}
	}
	family := " family inet"
	if strings.HasPrefix(tool, "ip6") {
		family = " family inet6"
	}
	return []fedChange{
		{"n1", "ipset restore", fill("create {list} hash:ip" + family + "\nadd {list} {from}\n"), "ipset destroy " + fill("{list}"), ""},
		{"n1", tool + " --noflush", fill(rules), tool + " --noflush", fill(undone(rules))},
	}
}

// undone takes back rules in the form of iptables-save: what they added to chains that
// were there (-I), then their own chains.
func undone(rules string) string {
	var takeOut, empty, remove strings.Builder
	for line := range strings.Lines(rules) {
		if chain, ok := strings.CutPrefix(line, ":"); ok {
			chain, _, _ = strings.Cut(chain, " ")
			empty.WriteString("-F " + chain + "\n")
			remove.WriteString("-X " + chain + "\n")
		} else if rule, ok := strings.CutPrefix(line, "-I "); ok {
			takeOut.WriteString("-D " + rule)
		}
	}
	return "*filter\n" + takeOut.String() + empty.String() + remove.String() + "COMMIT\n"
}

// A fedChange is a change of a namespace by what a command reads.
type fedChange struct{ netns, do, text, undo, undoText string }

func (f *fedChange) make() error { return feedLine(f.netns, f.text, f.do) }

// takeBack waits for a set that is in use: nf_tables lets go of what a rule's match
// held only some time after the rule is gone (nf_tables_trans_destroy_work).
func (f *fedChange) takeBack() error {
	end := time.Now().Add(dialTimeout)
	for {
		err := feedLine(f.netns, f.undoText, f.undo)
		if err == nil || !strings.HasPrefix(f.undo, "ipset destroy ") || time.Now().After(end) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func feedLine(netns, text, line string) error {
	argv := strings.Fields(line)
	return feed(netns, text, argv[0], argv[1:]...)
}

// insistent tries again while the tool may still be reading the rules, or hold for
// new (tracer's rulesFresh, 10 s) what it read before the case made its own.
func insistent(once func(*play) error) func(*play) error {
	const times, apart = 9, 1500 * time.Millisecond
	return func(p *play) error {
		for range times - 1 {
			if err := once(p); err != nil {
				return err
			}
			time.Sleep(apart)
		}
		return once(p)
	}
}

// hearsOf is a connection that is refused with an ICMP error or, for a firewall that
// rejects so, is forbidden.
func hearsOf(network, addr string) func(*play) error {
	return func(p *play) error {
		conn, err := p.dial(network, addr, dialTimeout)
		if err == nil {
			return errors.Join(errors.New("it was not refused"), conn.Close())
		}
		if timeout := (net.Error)(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return err
		}
		return nil
	}
}

// policyVerdicts: what NetworkPolicies do, in the shapes of their implementations.
var policyVerdicts = []verdictCase{
	{name: "policy-kube-router", finding: "netfilter/rule-reject", group: "policy", from: "centos",
		fed:     policyRules("iptables-legacy-restore", kubeRouterRules, "RTR1", "172.23.96.163", "172.23.96.24", "4070"),
		traffic: insistent(hearsOf("tcp", "172.23.96.163:4070")),
		want: []verdictWant{
			{kind: "request tcp S", where: "netfilter", reason: "rule-reject", line: `*rejected by rule KUBE-POD-FW-RTR1 "rule to REJECT traffic destined for POD name:nginx1a namespace:…" (iptables filter, FORWARD), answered with ICMP 3/3`},
			{kind: "reply icmp 3/3", verdict: delivered, because: "request tcp S"},
		}},
	{name: "policy-kube-router-allowed", finding: "netfilter/rule-reject", similar: true, group: "policy", from: "centos",
		fed:     policyRules("iptables-legacy-restore", kubeRouterRules, "RTR2", "172.23.96.163", "172.23.96.23", "7"),
		traffic: echoes("tcp", "172.23.96.163:7", 100),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},
	{name: "policy-calico", finding: "netfilter/rule-drop", group: "policy", from: "centos",
		fed:     policyRules("iptables-nft-restore", calicoRules, "cali1", "172.23.96.163", "172.23.96.24", "4072"),
		traffic: insistent(unanswered("tcp", "172.23.96.163:4072")),
		want: []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "rule-drop",
			line: `*dropped by rule cali-tw-cali1 "cali:end Drop if no policies passed packet" (iptables-nft filter, FORWARD)`}}},
	{name: "policy-calico-allowed", finding: "netfilter/rule-drop", similar: true, group: "policy", from: "centos",
		fed:     policyRules("iptables-nft-restore", calicoRules, "cali2", "172.23.96.163", "172.23.96.23", "7"),
		traffic: echoes("tcp", "172.23.96.163:7", 100),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},
	{name: "policy-egress-nft", finding: "netfilter/rule-reject", group: "policy", from: "centos",
		fed:     policyRules("nft", nftPolicyRules, "np1", "172.23.96.23", "172.23.96.24", "4074"),
		traffic: insistent(hearsOf("tcp", "172.23.96.163:4074")),
		want: []verdictWant{
			{kind: "request tcp S", where: "netfilter", reason: "rule-reject", line: `*in inet pods-np1 pod-np1 "egress of default/centos: no policy allows it" (nftables, FORWARD), answered with ICMP 3/3`},
			{kind: "reply icmp 3/3", verdict: delivered, because: "request tcp S"},
		}},
	{name: "policy-egress-nft-allowed", finding: "netfilter/rule-reject", similar: true, group: "policy", from: "centos",
		fed:     policyRules("nft", nftPolicyRules, "np2", "172.23.96.23", "172.23.96.163", "7"),
		traffic: echoes("tcp", "172.23.96.163:7", 100),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},
	{name: "policy-egress-iptables", finding: "netfilter/rule-reject", group: "policy", from: "centos",
		fed:     policyRules("iptables-nft-restore", egressRules, "eg1", "172.23.96.23", "172.23.96.24", "4171"),
		traffic: insistent(hearsOf("tcp", "172.23.96.163:4171")),
		want: []verdictWant{
			{kind: "request tcp S", where: "netfilter", reason: "rule-reject",
				line: `*rejected by rule NETPOL-POD-eg1 "egress of default/centos: no policy allows it" (iptables-nft filter, FORWARD), answered with ICMP 3/3`},
			{kind: "reply icmp 3/3", verdict: delivered, because: "request tcp S"},
		}},
	{name: "policy-egress-iptables-allowed", finding: "netfilter/rule-reject", similar: true, group: "policy", from: "centos",
		fed:     policyRules("iptables-nft-restore", egressRules, "eg2", "172.23.96.23", "172.23.96.163", "7"),
		traffic: echoes("tcp", "172.23.96.163:7", 100),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},
	{name: "policy-egress-calico", finding: "netfilter/rule-drop", group: "policy", from: "centos",
		fed:     policyRules("iptables-nft-restore", calicoEgressRules, "cali3", "172.23.96.23", "172.23.96.24", "4173"),
		traffic: insistent(unanswered("tcp", "172.23.96.163:4173")),
		want: []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "rule-drop",
			line: `*dropped by rule cali-fw-cali3 "cali:end Drop if no policies passed packet" (iptables-nft filter, FORWARD)`}}},
	{name: "policy-egress-calico-allowed", finding: "netfilter/rule-drop", similar: true, group: "policy", from: "centos",
		fed:     policyRules("iptables-nft-restore", calicoEgressRules, "cali4", "172.23.96.23", "172.23.96.163", "7"),
		traffic: echoes("tcp", "172.23.96.163:7", 100),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},
	{name: "policy-v6", finding: "netfilter/rule-drop", group: "policy6", from: "centos",
		fed:     policyRules("ip6tables-nft-restore", calicoRules, "six1", "fd00:10:96:2::163", "fd00:10:96:1::24", "4076"),
		traffic: insistent(unanswered("tcp", "[fd00:10:96:2::163]:4076")),
		want: []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "rule-drop",
			line: `*dropped by rule cali-tw-six1 "cali:end Drop if no policies passed packet" (iptables-nft filter, FORWARD)`}}},
	{name: "policy-v6-allowed", finding: "netfilter/rule-drop", similar: true, group: "policy6", from: "centos",
		fed:     policyRules("ip6tables-nft-restore", calicoRules, "six2", "fd00:10:96:2::163", "fd00:10:96:1::23", "7"),
		traffic: echoes("tcp", "[fd00:10:96:2::163]:7", 100),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},
	{name: "policy-v6-egress-nft", finding: "netfilter/rule-drop", group: "policy6", from: "centos",
		fed:     policyRules("nft", nftPolicy6Rules, "six3", "fd00:10:96:1::23", "fd00:10:96:1::24", "4077"),
		traffic: insistent(unanswered("tcp", "[fd00:10:96:2::163]:4077")),
		want: []verdictWant{{kind: "request tcp S", where: "netfilter", reason: "rule-drop",
			line: `*in inet pods-six3 pod-six3 "egress of default/centos: no policy allows it" (nftables, FORWARD)`}}},
	{name: "policy-v6-egress-nft-allowed", finding: "netfilter/rule-drop", similar: true, group: "policy6", from: "centos",
		fed:     policyRules("nft", nftPolicy6Rules, "six4", "fd00:10:96:1::23", "fd00:10:96:2::163", "7"),
		traffic: echoes("tcp", "[fd00:10:96:2::163]:7", 100),
		want:    []verdictWant{{kind: "request tcp S", verdict: delivered}}},
	{name: "policy-v6-kube-router", finding: "netfilter/rule-reject", group: "policy6", from: "centos",
		fed: policyRules("ip6tables-legacy-restore", strings.ReplaceAll(kubeRouterRules, "icmp-port", "icmp6-port"),
			"RTR6", "fd00:10:96:2::163", "fd00:10:96:1::24", "4078"),
		traffic: insistent(hearsOf("tcp", "[fd00:10:96:2::163]:4078")),
		want: []verdictWant{
			{kind: "request tcp S", where: "netfilter", reason: "rule-reject",
				line: `*rejected by rule KUBE-POD-FW-RTR6 "rule to REJECT traffic destined for POD name:nginx1a namespace:…" (iptables filter, FORWARD), answered with ICMP 1/4`},
			{kind: "reply icmp6 1/4", verdict: delivered, because: "request tcp S"},
		}},
}
