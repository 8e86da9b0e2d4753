// SPDX-License-Identifier: Apache-2.0

package events

import (
	"strings"
	"testing"
)

// toItself is the first packet of a pod to itself through a service of its node:
// translated by IPVS, and masqueraded in POSTROUTING.
const toItself = `nginx/eth0 __ip_local_out h=172.23.96.24:40932>192.168.13.24:80,S
nginx/eth0 net_dev_start_xmit
nginx/eth0 veth_xmit
n1/vethnginx netif_receive_skb
n1/cni0 ip_rcv_core
n1/cni0 nf_hook_slow nf=1
n1/cni0 ip_vs_nat_xmit
n1/cni0 ip_output h=172.23.96.24:40932>172.23.96.24:80,S
n1/cni0 nf_hook_slow nf=4 mark=0 ct=172.23.96.24:40932>192.168.13.24:80|172.23.96.24:80>172.23.96.24:40932
n1/cni0 ipt_do_table nf=4
n1/cni0 nf_nat_manip_pkt
n1/vethnginx net_dev_start_xmit h=172.23.96.1:1024>172.23.96.24:80,S
n1/vethnginx veth_xmit
nginx/eth0 netif_receive_skb
nginx/eth0 ip_rcv_core
nginx/eth0 tcp_v4_rcv
nginx/eth0 tcp_v4_do_rcv
`

// TestHairpinRule: who masquerades a pod that reaches itself is asked of the rules,
// for the first packet of the connection, and of no other masquerade.
func TestHairpinRule(t *testing.T) {
	sure := RuleFacts{
		Engine: EngineIPTables, Family: "ip", Table: "nat", Chain: "KUBE-POSTROUTING", Sure: true,
		Comment: "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
	}
	unsure := sure
	unsure.Sure, unsure.Others = false, 1
	words := func(s string) string { return "by conntrack (masquerade" + s + ")" }
	named := words(`, by rule KUBE-POSTROUTING "Kubernetes endpoints dst ip:port, source ip for solving hairpin…" of iptables nat, POSTROUTING`)
	for _, tt := range []struct {
		name, script string
		facts        RuleFacts
		change       func(*Event)
		asked        int
		want         string
	}{
		{"sure", toItself, sure, nil, 1, named},
		{"not sure", toItself, unsure, nil, 1, words("")},
		{"to another pod", strings.ReplaceAll(toItself, "172.23.96.24:80", "172.23.96.25:80"), sure, nil, 0, words("")},
		{"a later packet", toItself, sure, func(e *Event) { e.CT.Info = 0 }, 0, words("")},
		{"sent again", toItself, sure, func(e *Event) { e.CT.Status |= CTConfirmed }, 0, words("")},
		{"to another source than the device's", strings.ReplaceAll(toItself, "172.23.96.1:", "172.23.96.9:"), sure, nil, 0, "by conntrack"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &ruled{lab: newLab(), answers: []RuleFacts{tt.facts}}
			all := r.script(t).add(tt.script).events
			for i := range all {
				if tt.change != nil && all[i].Ext == ExtConntrack {
					tt.change(&all[i])
				}
			}
			out, _ := stitch(r.lab, all, func(c *Config) { c.Names = r })
			checkSchema(t, out...)
			if len(out) != 1 || out[0].Rule != nil || len(out[0].NAT) != 2 || len(r.asked) != tt.asked {
				t.Fatalf("asked %d times: %+v", len(r.asked), out[0])
			}
			n := out[0].NAT[1]
			if got := n.String(); !strings.HasSuffix(got, tt.want) || n != out[0].Visits[1].NAT[1] || (n.Rule != nil) != (tt.asked > 0) {
				t.Errorf("%s\nwant … %s", got, tt.want)
			}
			for _, q := range r.asked {
				if q.Netns != r.netns["n1"] || q.Hook != natHook || !q.Masquerade || q.Out != "cni0" || q.Engine != EngineIPTables ||
					tupleWords(q.Header.Tuple, true) != n.From || q.CT == nil || !q.MarkKnown {
					t.Errorf("asked %+v", q)
				}
			}
		})
	}
}
