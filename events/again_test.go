// SPDX-License-Identifier: Apache-2.0

package events

import (
	"slices"
	"strings"
	"testing"
)

// sendOut sends a TCP packet from the pod; it is dropped by a rule on the node.
func sendOut(header string) string {
	return "pod/eth0 __ip_local_out h=" + header + "\npod/eth0 net_dev_queue\npod/eth0 net_dev_start_xmit\nreal/vethpod netif_receive_skb\nreal/cni0 ip_rcv_core\n"
}

const byRule = "real/cni0 nf_hook_slow nf=2\nreal/cni0 ipt_do_table nf=2\nreal/cni0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow\n"

func TestSentAgain(t *testing.T) {
	const pod, server = "172.23.97.2:999", "198.51.100.9:443"
	out := "real/eth0 ip_forward\nreal/eth0 ip_output\nreal/eth0 net_dev_start_xmit\n"
	second := "pkt=2\ntime=1001000000\n"
	for _, tt := range []struct {
		name, script string
		want         string // the note of the second packet; "": none
	}{
		{"SYN", sendOut(pod+">"+server+",S,seq=9") + byRule + second + sendOut(pod+">"+server+",S,seq=9") + out,
			"sent again: 1.0s later; the first copy ended: terminated in netfilter: dropped by a rule in netfilter FORWARD (ipt_do_table)"},
		{"the first copy got through", sendOut(pod+">"+server+",PA,seq=5") + out + second + sendOut(pod+">"+server+",PA,seq=5") + out,
			"sent again: 1.0s later; the first copy ended: left the node by eth0"},
		{"other data", sendOut(pod+">"+server+",PA,seq=5") + byRule + second + sendOut(pod+">"+server+",PA,seq=6") + out, ""},
		{"acknowledgements", sendOut(pod+">"+server+",A,seq=9") + byRule + second + sendOut(pod+">"+server+",A,seq=9") + out, ""},
		{"long, so with data", sendOut(pod+">"+server+",A,seq=9,len=1500") + byRule + second + sendOut(pod+">"+server+",A,seq=9,len=1500") + out, "sent again: 1.0s later; "},
		{"no sequence numbers", sendOut(pod+">"+server+",S") + byRule + second + sendOut(pod+">"+server+",S") + out, ""},
		{"another connection", sendOut(pod+">"+server+",S,seq=9") + byRule + second + sendOut("172.23.97.2:998>"+server+",S,seq=9") + out, ""},
		{"resets", sendOut(pod+">"+server+",RP,seq=9") + byRule + second + sendOut(pod+">"+server+",RP,seq=9") + out, ""},
		{"datagrams", sendOut(pod+">"+server+",udp") + byRule + second + sendOut(pod+">"+server+",udp") + out, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			got, _ := stitch(l, l.script(t).add(tt.script).events, nil)
			if len(got) != 2 || len(got[0].Notes) > 0 {
				t.Fatalf("%d traversals, the first with %q", len(got), got[0].Notes)
			}
			if n := strings.Join(got[1].Notes, "; "); (tt.want == "") != (n == "") || !strings.HasPrefix(n, tt.want) {
				t.Errorf("notes %q, want %q", n, tt.want)
			}
		})
	}
}

// TestSentAgainBounded: what is remembered has an end.
func TestSentAgainBounded(t *testing.T) {
	var s sentSegments
	s.init()
	h := header(t, "10.0.0.1:1>10.0.0.2:2,S")
	for i := range uint32(maxSegments + 10) {
		h.Seq = i + 1
		s.again(&run{hops: []hop{{step: &step{}, hdr: &h}}}, &ending{})
	}
	if len(s.copies.entries) != maxSegments {
		t.Errorf("%d segments are remembered, want %d", len(s.copies.entries), maxSegments)
	}
}

// TestReplyUntranslated: a reply that comes to its client from another address
// than the one that it asked, and the RST that it gets.
func TestReplyUntranslated(t *testing.T) {
	const client, vip, real = "172.23.96.23:40932", "192.168.13.23:80", "172.23.96.24:80"
	request := func(pkt, dst string) string {
		return "pkt=" + pkt + "\ncentos/eth0 __ip_local_out h=" + client + ">" + vip + ",S\ncentos/eth0 net_dev_queue\ncentos/eth0 net_dev_start_xmit\n" +
			"n1/vethcentos netif_receive_skb\nn1/cni0 ip_rcv_core\nn1/cni0 nf_conntrack_in\nn1/cni0 ip_forward h=" + client + ">" + dst + ",S\n" +
			"n1/vethnginx net_dev_queue\nn1/vethnginx net_dev_start_xmit\nnginx/eth0 netif_receive_skb\nnginx/eth0 ip_rcv_core\nnginx/eth0 tcp_v4_rcv\nnginx tcp_v4_do_rcv\nnginx tcp_conn_request\n"
	}
	reply := func(arrives string) string {
		return "pkt=2\nother=1\nreply\nnginx/eth0 __ip_local_out h=" + real + ">" + client + ",SA\nnginx/eth0 net_dev_queue\nnginx/eth0 net_dev_start_xmit\n" +
			"n1/vethnginx netif_receive_skb\nn1/vethcentos net_dev_queue " + arrives + "\nn1/vethcentos net_dev_start_xmit\n"
	}
	arrived := "centos/eth0 netif_receive_skb\ncentos/eth0 ip_rcv_core\ncentos/eth0 tcp_v4_rcv\ncentos tcp_v4_send_reset\ncentos kfree_skb reason=NO_SOCKET site=tcp_v4_rcv\n"
	reset := "pkt=3\nother=2\nreply=no\ncentos/eth0 __ip_local_out h=" + client + ">" + real + ",R\ncentos/eth0 net_dev_queue\n"
	for _, tt := range []struct {
		name, script string
		want         []string // the notes of each traversal
	}{
		{"untranslated", request("1", real) + reply("") + arrived + reset, []string{"",
			"reply not translated back: it comes from 172.23.96.24:80, but the client had sent to 192.168.13.23:80",
			"reply not translated back: this refuses what came from 172.23.96.24:80, as the client had sent to 192.168.13.23:80"}},
		{"a copy for the neighbour", request("1", real) + "pkt=8\nother=1\nn1/cni0 skb_clone h=" + client + ">" + real + ",S\nn1/cni0 consume_skb\n" + reply("") + arrived, []string{"",
			"reply not translated back: it comes from 172.23.96.24:80, but the client had sent to 192.168.13.23:80"}},
		{"translated", request("1", real) + reply("h="+vip+">"+client+",SA") + arrived, []string{"", ""}},
		{"lost before it could be", request("1", real) + reply("") + "n1/vethcentos kfree_skb reason=NETFILTER_DROP\n", []string{"", ""}},
		{"nothing to translate", request("1", vip) + reply("") + arrived, []string{"", ""}},
		{"both ways at once", request("1", real) + "pkt=9\ncentos/eth0 __ip_local_out h=" + client + ">" + real + ",A\ncentos/eth0 net_dev_queue\n" + reply("") + arrived, []string{"", "", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			got, _ := stitch(l, l.script(t).add(tt.script).events, nil)
			if len(got) != len(tt.want) {
				t.Fatalf("%d traversals, want %d", len(got), len(tt.want))
			}
			for i, tr := range got {
				if n := strings.Join(tr.Notes, "; "); n != tt.want[i] {
					t.Errorf("traversal %d, %s %s: notes %q, want %q", i, tr.TCPFlags, tr.Summary, n, tt.want[i])
				}
			}
		})
	}
}

// TestTranslatedInOrder: what the client asked is what its packet had first, also where
// another CPU was read before the one on which it began.
func TestTranslatedInOrder(t *testing.T) {
	const client, vip, real = "172.23.96.23:40932", "192.168.13.23:53", "172.23.96.24:53"
	l := newLab()
	sc := l.script(t).add("pkt=1\ncentos/eth0 __ip_local_out h=" + client + ">" + vip + ",udp\nn1/cni0 ip_rcv_core\nn1/cni0 ip_forward h=" + client + ">" + real + ",udp\n" +
		"n1/vethnginx net_dev_start_xmit\nnginx/eth0 netif_receive_skb\nnginx/eth0 ip_rcv_core\nnginx/eth0 udp_rcv\nnginx udp_queue_rcv_skb\nnginx consume_skb\n")
	slices.Reverse(sc.events)
	n := len(sc.events)
	sc.add("pkt=2\nreply\nnginx/eth0 __ip_local_out h=" + real + ">" + client + ",udp\nnginx/eth0 net_dev_start_xmit\nn1/vethnginx netif_receive_skb\n" +
		"n1/vethcentos net_dev_queue h=" + vip + ">" + client + ",udp\nn1/vethcentos net_dev_start_xmit\ncentos/eth0 netif_receive_skb\ncentos/eth0 ip_rcv_core\ncentos/eth0 udp_rcv\ncentos udp_queue_rcv_skb\n")
	for i := range sc.events[n:] {
		sc.events[n+i].Flow = sc.events[0].Flow
	}
	got, _ := stitch(l, sc.events, nil)
	if len(got) != 2 {
		t.Fatalf("%d traversals, want 2", len(got))
	}
	for _, tr := range got {
		if len(tr.Notes) > 0 || tr.Verdict != Delivered {
			t.Errorf("%s %s: %q", tr.Direction, tr.Summary, tr.Notes)
		}
	}
}
