// SPDX-License-Identifier: Apache-2.0

package events

import (
	"strings"
	"testing"
)

// TestReuse: where the kernel left out both the hook at which a packet is freed
// and the one at which the next packet at that address is made, one life in the
// events is two packets, and neither is given the other's way.
func TestReuse(t *testing.T) {
	answer := toPod("udp") + "pod/eth0 udp_rcv\npod udp_queue_rcv_skb task=dig:512\n"
	request := `
	pod/eth0 ip_output h=172.23.97.2:82>198.51.100.9:53,udp
	pod/eth0 net_dev_queue
	pod/eth0 net_dev_start_xmit
	real/vethpod netif_receive_skb
	real/cni0 ip_rcv_core
	real/eth0 ip_forward
	real/eth0 net_dev_start_xmit
	`
	const delivered, noBeginning = "2 stacks, delivered to default/pod (dig 512)", "incomplete: its beginning was not seen, another packet was at its address before"
	tests := []struct {
		name, script string
		want         []string // the beginning of each summary
	}{
		{"another comes from the socket's namespace", answer + request, []string{delivered, noBeginning}},
		{"the socket was not seen either", toPod("udp") + request, []string{"1.5 stacks so far, in flight", noBeginning}},
		{"another comes from elsewhere", answer + `
			real/eth0 ip_output h=10.0.0.1:83>198.51.100.9:53,udp
			real/eth0 net_dev_start_xmit
			`, []string{delivered, noBeginning}},
		{"another comes by the wire", answer + toPod("udp") + "pod udp_queue_rcv_skb task=dig:512\n", []string{delivered, noBeginning}},
		{"by the wire, behind one that left", answer[:strings.Index(answer, "pod/eth0")] + toPod("udp") + "pod udp_queue_rcv_skb task=dig:512\n",
			[]string{"0.5 stacks so far, in flight", noBeginning}},
		{"IPVS sends on what is for this node", fromEth + `
			real/eth0 ip_local_deliver
			real/eth0 nf_hook_slow nf=1
			real/eth0 ip_vs_in_hook
			real/eth0 ip_vs_nat_xmit h=198.51.100.9:5555>172.23.97.2:80,S
			real/cni0 ip_output
			real/cni0 net_dev_queue
			real/vethpod net_dev_start_xmit
			pod/eth0 netif_receive_skb
			pod/eth0 ip_local_deliver
			pod tcp_v4_do_rcv task=dig:512
			`, []string{delivered}},
		{"a tunnel's socket unwraps", fromEth + `
			real/eth0 ip_local_deliver
			real/eth0 udp_queue_rcv_skb
			real/cni0 netif_receive_skb h=172.23.97.9:81>172.23.97.2:80,udp
			real/cni0 ip_rcv_core
			real/cni0 ip_forward
			real/vethpod net_dev_start_xmit
			pod/eth0 netif_receive_skb
			pod/eth0 ip_local_deliver
			pod udp_queue_rcv_skb task=dig:512
			`, []string{delivered}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			out, _ := stitch(l, l.script(t).add(tt.script).events, nil)
			if len(out) != len(tt.want) {
				t.Fatalf("%d traversals, want %d", len(out), len(tt.want))
			}
			for i, got := range out {
				if !strings.HasPrefix(got.Summary, tt.want[i]) {
					t.Errorf("%d: %q, want %q", i, got.Summary, tt.want[i])
				}
				if got.Complete != strings.Contains(tt.want[i], "delivered") {
					t.Errorf("%d: complete is %v: %s", i, got.Complete, got.Summary)
				}
			}
		})
	}
}
