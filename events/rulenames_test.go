// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// ruled is the lab with rules. It answers from a list, the last answer for ever.
type ruled struct {
	*lab
	answers []RuleFacts
	asked   []RuleQuery
}

var _ RuleNames = (*ruled)(nil)

func (r *ruled) Rule(q *RuleQuery) (RuleFacts, bool) {
	r.asked = append(r.asked, *q)
	if len(r.answers) == 0 {
		return RuleFacts{}, false
	}
	f := r.answers[0]
	if len(r.answers) > 1 {
		r.answers = r.answers[1:]
	}
	return f, true
}

// dropped is a packet that iptables drops in FORWARD.
const dropped = fromEth + `
	real/eth0 nf_hook_slow nf=0
	real/eth0 nf_conntrack_in
	real/eth0 nf_hook_slow nf=2 mark=16384 ct=198.51.100.9:5555>172.23.97.2:81|172.23.97.2:81>198.51.100.9:5555
	real/eth0 ipt_do_table nf=2 mark=0
	real/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow
`

// rejected is one that nftables rejects in INPUT, and whose mark nobody knows.
const rejected = fromEth + `
	real/eth0 nf_hook_slow nf=0
	real/eth0 nft_do_chain
	real/eth0 nf_hook_slow nf=1
	real/eth0 nft_do_chain
	real/eth0 __icmp_send icmp=3/3
	real/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow
`

func TestRuleNamed(t *testing.T) {
	iptables := RuleFacts{Engine: EngineIPTables, Family: "ip", Table: "filter", Chain: "KUBE-FIREWALL", Comment: "block incoming localnet connections", Text: "-j DROP", Sure: true}
	nft := RuleFacts{Engine: EngineNFTables, Family: "ip", Table: "kube-proxy", Chain: "reject-chain", Handle: 57, Comment: "default/empty:p", Sure: true}
	bare, policy, unsure, strange := iptables, iptables, iptables, nft
	bare.Comment = ""
	policy.Policy, policy.Comment, policy.Text, policy.Chain = true, "", "", "FORWARD"
	unsure.Sure, unsure.Others, unsure.Candidates, unsure.Why = false, 3, []string{"rule A", "rule B"}, "undecided: the mark"
	strange.Comment, strange.Chain = "a\x1b[31m\n", strings.Repeat("x", 100)
	for _, tt := range []struct {
		name, script  string
		facts         RuleFacts
		summary, note string
	}{
		{"iptables", dropped, iptables, `0.5 stacks, terminated in netfilter: dropped by rule KUBE-FIREWALL "block incoming localnet connections" (iptables filter, FORWARD)`, ""},
		{"no comment", dropped, bare, `dropped by rule KUBE-FIREWALL "-j DROP" (iptables filter, FORWARD)`, ""},
		{"policy", dropped, policy, `dropped by the policy of chain FORWARD (iptables filter, FORWARD)`, ""},
		{"nftables", rejected, nft, `rejected by rule handle 57 in ip kube-proxy reject-chain "default/empty:p" (nftables, INPUT), answered with ICMP 3/3`, ""},
		{"not sure", dropped, unsure, "dropped by a rule in netfilter FORWARD (ipt_do_table)",
			`rule candidates: rule KUBE-FIREWALL "block incoming localnet connections" (iptables filter, FORWARD); rule A; rule B; and 1 other; undecided: the mark`},
		{"escaped", rejected, strange, `reject` + `ed by rule handle 57 in ip kube-proxy ` + strings.Repeat("x", 63) + `… "a\x1b[31m\n" (nftables, INPUT)`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &ruled{lab: newLab(), answers: []RuleFacts{tt.facts}}
			out, _ := stitch(r.lab, r.script(t).add(tt.script).events, func(c *Config) { c.Names = r })
			checkSchema(t, out...)
			if len(out) != 1 || !strings.Contains(out[0].Summary, tt.summary) || out[0].Rule == nil || len(r.asked) != 1 {
				t.Fatalf("asked %d times: %+v", len(r.asked), out[0])
			}
			if got := strings.Join(out[0].Notes, "|"); got != tt.note {
				t.Errorf("notes: %s", got)
			}
			var b bytes.Buffer
			if err := (&LineRenderer{W: &b}).Render(out[0]); err != nil || strings.Contains(b.String(), "\x1b") ||
				strings.Contains(b.String(), "\n    rule: -j DROP\n") != (tt.name == "iptables") {
				t.Errorf("%q, %v", b.String(), err)
			}
		})
	}
}

// TestRuleQuery: what is asked is the packet as it was at that hook point.
func TestRuleQuery(t *testing.T) {
	tuple := "198.51.100.9:5555>172.23.97.2:81"
	for _, tt := range []struct{ name, script, want string }{
		{"iptables", dropped, "real ip FORWARD iptables false " + tuple + " in=eth0 out= new ct=true mark=0x4000 true"},
		{"nftables", rejected, "real ip INPUT nftables true " + tuple + " in=eth0 out=  ct=false mark=0x0 false"},
		{"no entry", strings.Replace(dropped, " ct="+tuple+"|172.23.97.2:81>198.51.100.9:5555", "", 1), "real ip FORWARD iptables false " + tuple + " in=eth0 out= none ct=false mark=0x4000 true"},
		{"by a port of a bridge", strings.ReplaceAll(strings.ReplaceAll(dropped, "real/eth0 nf_hook", "real/vethpod nf_hook"), "real/eth0 ipt", "real/vethpod ipt"),
			"real ip FORWARD iptables false " + tuple + " in=cni0 out=cni0 new ct=true mark=0x4000 true"},
		{"in another namespace than it was tracked in", strings.ReplaceAll(dropped, "real/eth0 ipt", "pod/eth0 nf_hook_slow nf=1\npod/eth0 ipt"),
			""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &ruled{lab: newLab()}
			stitch(r.lab, r.script(t).add(tt.script).events, func(c *Config) { c.Names = r })
			got := ""
			for _, q := range r.asked {
				got += fmt.Sprintf("%s %s %s %s %v %s:%d>%s:%d in=%s out=%s %s ct=%v mark=%#x %v", r.spaces[q.Netns].Name,
					map[uint8]string{2: "ip", 10: "ip6"}[q.Family], strings.TrimPrefix(chainWords(int(q.Hook)), "netfilter "), q.Engine, q.Reject,
					q.Header.Src, q.Header.SrcPort, q.Header.Dst, q.Header.DstPort, q.In, q.Out, q.CTState, q.CT != nil, q.Header.Mark, q.MarkKnown)
			}
			if tt.want != "" && got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
			if tt.want == "" && slices.ContainsFunc(r.asked, func(q RuleQuery) bool { return q.CT != nil }) {
				t.Errorf("the entry of another namespace: %s", got)
			}
		})
	}
}

// TestRulePending: while the rules are read a traversal waits, but not for ever,
// and the others do not wait with it.
func TestRulePending(t *testing.T) {
	pending, sure := RuleFacts{Pending: true}, RuleFacts{Engine: EngineIPTables, Chain: "C", Table: "filter", Sure: true}
	for _, tt := range []struct {
		name    string
		answers []RuleFacts
		want    string
		late    bool
	}{
		{"read in time", []RuleFacts{pending, pending, sure}, "dropped by rule C", false},
		{"never read", []RuleFacts{pending}, "dropped by a rule in netfilter FORWARD", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &ruled{lab: newLab(), answers: tt.answers}
			var out []*Traversal
			s := NewStitcher(Config{Hooks: r.hooks, Names: r, HasFunctions: true}, func(tr *Traversal) { out = append(out, tr) })
			sc := r.script(t).add(dropped)
			now := sc.time
			for i := range sc.events {
				s.Add(&sc.events[i])
			}
			waited := uint64(0)
			for ; len(out) == 0 && waited < uint64(10*time.Second); waited += uint64(50 * time.Millisecond) {
				s.Advance(now + waited)
			}
			if len(out) != 1 || !strings.Contains(out[0].Summary, tt.want) || (waited > uint64(5*time.Second)) != tt.late || waited > uint64(6*time.Second) || s.Waiting() != 0 {
				t.Errorf("after %v: %d traversals, %+v", time.Duration(waited), len(out), out)
			}
		})
	}
	r := &ruled{lab: newLab(), answers: []RuleFacts{pending}}
	out, _ := stitch(r.lab, r.script(t).add(dropped).events, func(c *Config) { c.Names = r })
	if len(out) != 1 || out[0].Rule != nil {
		t.Errorf("at the end: %+v", out)
	}
}

// TestManyPending: however many wait for an answer, the others do not wait with them,
// and nobody is asked again and again at one time.
func TestManyPending(t *testing.T) {
	const waiting = 3*maxAtOnce + 1
	r := &ruled{lab: newLab(), answers: []RuleFacts{{Pending: true}}}
	out := 0
	s := NewStitcher(Config{Hooks: r.hooks, Names: r, HasFunctions: true}, func(*Traversal) { out++ })
	sc := r.script(t).add(dropped)
	now := uint64(0)
	for i := range uint64(waiting) {
		for _, e := range sc.events {
			e.Packet, e.Time = i+1, e.Time+i
			now = e.Time
			s.Add(&e)
		}
	}
	end := r.script(t).add("real/eth0 __ip_local_out h=172.23.97.1:1>198.51.100.9:4,S\nreal/eth0 kfree_skb\n").events
	for _, e := range end {
		e.Packet, e.Time = waiting+1, now
		s.Add(&e)
	}
	advance := func(at uint64) {
		for n := 0; s.Advance(at); n++ {
			if n > 10*waiting/maxAtOnce {
				t.Fatal("there is more to be done again and again")
			}
		}
	}
	now += uint64(time.Second)
	advance(now)
	if out != 1 || s.Waiting() != waiting {
		t.Fatalf("%d given out, %d wait", out, s.Waiting())
	}
	asked := len(r.asked)
	if advance(now + askAgain/2); len(r.asked) != asked {
		t.Errorf("asked %d times again", len(r.asked)-asked)
	}
	if advance(now + askAgain); len(r.asked) != asked+waiting {
		t.Errorf("asked %d times again, want %d", len(r.asked)-asked, waiting)
	}
	if advance(now + askPatience); out != waiting+1 {
		t.Errorf("%d given out in the end", out)
	}
	checkEmpty(t, s)
}
