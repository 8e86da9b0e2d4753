// SPDX-License-Identifier: Apache-2.0

package events

import (
	"slices"
	"strings"
	"testing"
)

const (
	client   = "198.51.100.9:5555>172.23.97.9:53,udp"
	toFirst  = "172.23.97.2:53>198.51.100.9:5555,udp"
	toSecond = "172.23.97.3:53>198.51.100.9:5555,udp"
	confirm  = "real/eth0 nf_hook_slow nf=4\nreal/eth0 __nf_conntrack_confirm\n"
	nfDrops  = "real/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow"
	nfDrops0 = "real/eth0 kfree_skb site=nf_hook_slow" // 5.10
)

// query is a datagram to a service that conntrack has translated to one of its
// endpoints.
func query(reply string) string {
	return "real/eth0 netif_receive_skb h=" + client + "\nreal/eth0 ip_rcv_core\nreal/eth0 nf_hook_slow nf=0\nreal/eth0 nf_conntrack_in\n" +
		"real/eth0 ipt_do_table nf=2 ct=" + client + "|" + reply + "\n"
}

// TestConntrackRefuses: what conntrack refuses, and what only looks so.
func TestConntrackRefuses(t *testing.T) {
	lookUp := fromEth + "real/eth0 nf_hook_slow nf=0\nreal/eth0 nf_conntrack_in\n"
	for _, tt := range []struct {
		name, script  string
		where, reason string
		summary       string // a part of it
	}{
		{"table full", lookUp + "real/eth0 early_drop\n" + nfDrops,
			"conntrack", "table-full", "0.5 stacks, terminated in conntrack: the conntrack table of real is full: there is no room for a new connection to 172.23.97.2:81"},
		{"table full, 5.10", lookUp + "real/eth0 early_drop\n" + nfDrops0, "conntrack", "table-full", "is full"},
		{"refused for another reason", lookUp + nfDrops, "conntrack", "refused", "conntrack refused it in netfilter PREROUTING"},
		{"evicted, then dropped by a rule", lookUp + "real/eth0 early_drop\nreal/eth0 ipt_do_table nf=2\n" + nfDrops, "netfilter", "rule-drop", ""},

		{"invalid", lookUp + "real/eth0 ipt_do_table nf=2\n" + nfDrops + " no-entry", "netfilter", "invalid-drop", "conntrack knows no connection that it belongs to (INVALID), and a rule in netfilter FORWARD (ipt_do_table) dropped it"},
		{"invalid, 5.10", lookUp + "real/eth0 nft_do_chain nf=2\n" + nfDrops0 + " no-entry", "netfilter", "invalid-drop", "(nft_do_chain)"},
		{"untracked", lookUp + "real/eth0 ipt_do_table nf=2\n" + nfDrops, "netfilter", "rule-drop", ""},
		{"before conntrack", fromEth + "real/eth0 nf_hook_slow nf=0\nreal/eth0 ipt_do_table nf=0\n" + nfDrops + " no-entry", "netfilter", "rule-drop", ""},
		{"invalid, but rejected", lookUp + "real/eth0 ipt_do_table nf=2\nreal/eth0 nf_send_reset\n" + nfDrops + " no-entry", "netfilter", "rule-reject", ""},

		{"race lost", query(toSecond) + confirm + "real/eth0 nf_ct_resolve_clash ct=" + client + "|" + toFirst + " others=0\n" + nfDrops,
			"conntrack", "clash-lost", "lost a race: another packet of 198.51.100.9:5555→172.23.97.9:53 was entered first, on its way to 172.23.97.2:53 (this one: to 172.23.97.3:53)"},
		{"race lost, 5.10", query(toSecond) + confirm + "real/eth0 nf_ct_resolve_clash ct=" + client + "|" + toFirst + " others=0\n" + nfDrops0, "conntrack", "clash-lost", ""},
		{"race lost behind a queue", query(toSecond) + confirm + "real/eth0 nf_ct_resolve_clash ct=" + client + "|" + toFirst + " others=0\nreal/eth0 kfree_skb site=nfqnl_reinject", "conntrack", "clash-lost", ""},
		{"translation taken", query("172.23.97.2:53>10.0.0.1:4000,udp") + confirm + "real/eth0 nf_ct_resolve_clash ct=198.51.100.8:7777>172.23.97.9:53,udp|172.23.97.2:53>10.0.0.1:4000,udp others=1\n" + nfDrops,
			"conntrack", "nat-exhausted", "no free translation: 10.0.0.1:4000→172.23.97.2:53, the only translation left for it, belongs to the connection of 198.51.100.8:7777→172.23.97.9:53"},
		{"clash without translation", query("172.23.97.9:53>198.51.100.9:5555,udp") + confirm + "real/eth0 nf_ct_resolve_clash ct=172.23.97.9:53>198.51.100.9:5555,udp|" + client + " others=0\n" + nfDrops, "conntrack", "confirm-failed", "its new entry clashed with another one"},
		{"confirm fails without a clash", query(toFirst) + confirm + nfDrops, "conntrack", "confirm-failed", "a hash chain is too long for it, or another entry was there first"},
		{"nobody takes the queue", lookUp + "real/eth0 ipt_do_table nf=2\nreal/eth0 kfree_skb site=nf_queue", "netfilter", "no-queue", "a rule in netfilter FORWARD (ipt_do_table) queued it for a process (NFQUEUE), and none takes it"},
		{"the queue's reader says drop", lookUp + "real/eth0 nft_do_chain nf=2\nreal/eth0 kfree_skb site=nfqnl_reinject", "netfilter", "queue-drop", "queued for a process (NFQUEUE) in netfilter FORWARD, and dropped when that had answered"},
		{"the queue's reader says drop, 5.10", lookUp + "real/eth0 ipt_do_table nf=2\nreal/eth0 kfree_skb site=nf_reinject", "netfilter", "queue-drop", ""},
		{"accepted, and dropped behind the queue", lookUp + "real/eth0 nft_do_chain nf=2\nreal/eth0 nft_do_chain_ret ret=0\nreal/eth0 kfree_skb site=nfqnl_reinject", "netfilter", "rule-drop", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			out, _ := stitch(l, l.script(t).add(tt.script).events, nil)
			if len(out) != 1 {
				t.Fatalf("%d traversals, want 1", len(out))
			}
			if got := out[0]; got.Where != tt.where || got.Reason != tt.reason || !strings.Contains(got.Summary, tt.summary) {
				t.Errorf("%s/%s %q, want %s/%s %q", got.Where, got.Reason, got.Summary, tt.where, tt.reason, tt.summary)
			}
		})
	}
}

// TestClashNamesWinner: who lost a race is told which packet won it.
func TestClashNamesWinner(t *testing.T) {
	l := newLab()
	out, _ := stitch(l, l.script(t).add(
		query(toFirst)+confirm+"pkt=2\n"+query(toSecond)+confirm+
			"real/eth0 nf_ct_resolve_clash ct="+client+"|"+toFirst+" others=0\n"+nfDrops).events, nil)
	if len(out) != 2 || out[1].Reason != "clash-lost" {
		t.Fatalf("%d traversals, the last %+v", len(out), out[len(out)-1])
	}
	if !strings.HasSuffix(out[1].Summary, ": "+out[0].ID) {
		t.Errorf("%q does not end with the winner %s", out[1].Summary, out[0].ID)
	}
	if out[1].Conntrack == nil || strings.Contains(out[1].Conntrack.Reply, "172.23.97.2") {
		t.Errorf("the loser's entry is %+v, the winner's", out[1].Conntrack)
	}
}

func TestEnteredIsBounded(t *testing.T) {
	var r entered
	ct := Conntrack{Original: Tuple{SrcPort: 1}}
	for i := range maxEntered + 10 {
		ct.Original.DstPort = uint16(i)
		r.put(&ct, uint64(i)+1)
	}
	ct.Original.DstPort = 9
	if len(r.ring) != maxEntered || r.find(&ct) != 0 {
		t.Errorf("%d entries are kept, the oldest too: %d", len(r.ring), r.find(&ct))
	}
	if ct.Original.DstPort = maxEntered + 9; r.find(&ct) != maxEntered+10 {
		t.Errorf("the newest is %d", r.find(&ct))
	}
}

// TestEvictionNote: room was made for a packet that went on, not for one that
// found none.
func TestEvictionNote(t *testing.T) {
	const note = "conntrack evicted "
	lookUp := "real/eth0 nf_hook_slow nf=0\nreal/eth0 nf_conntrack_in\nreal/eth0 early_drop\n"
	for name, tt := range map[string]struct {
		script string
		want   bool
	}{
		"delivered": {strings.Replace(toPod("S"), "real/eth0 ip_forward", lookUp+"real/eth0 ip_forward", 1) + "pod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv task=nginx:512", true},
		"full":      {fromEth + lookUp + nfDrops, false},
		"not full":  {toPod("S") + "pod/eth0 tcp_v4_rcv\npod tcp_v4_do_rcv task=nginx:512", false},
	} {
		l := newLab()
		out, _ := stitch(l, l.script(t).add(tt.script).events, nil)
		if got := slices.ContainsFunc(out[0].Notes, func(n string) bool { return strings.HasPrefix(n, note) }); got != tt.want {
			t.Errorf("%s: notes are %q", name, out[0].Notes)
		}
	}
}
