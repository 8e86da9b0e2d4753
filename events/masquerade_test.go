// SPDX-License-Identifier: Apache-2.0

package events

import (
	"net/netip"
	"testing"
)

// onBridge is a SYN to a virtual address of a node without IPVS: br_netfilter
// translates both its ends, and the frame stays on the bridge.
const onBridge = `centos/eth0 __ip_local_out h=172.23.96.23:40932>8.219.164.114:80,S
centos/eth0 net_dev_start_xmit
centos/eth0 veth_xmit
n1/vethcentos netif_receive_skb
n1/vethcentos br_nf_pre_routing
n1/cni0 nf_nat_manip_pkt
n1/vethcentos br_handle_frame_finish h=172.23.96.23:40932>172.23.96.24:80,S
n1/vethnginx __br_forward
n1/cni0 nf_nat_manip_pkt
n1/vethnginx net_dev_start_xmit h=`

const intoPod = `:1024>172.23.96.24:80,S
n1/vethnginx veth_xmit
nginx/eth0 netif_receive_skb
nginx/eth0 ip_rcv_core
nginx/eth0 tcp_v4_rcv
nginx/eth0 tcp_v4_do_rcv
`

// TestMasqueradeOnBridge: a masquerade has the address of the bridge that the
// port belongs to, and is kube-proxy's where its mark was seen before.
func TestMasqueradeOnBridge(t *testing.T) {
	for _, tt := range []struct {
		name, source string
		mark         uint32
		masquerade   bool
		want         string
	}{
		{"kube-proxy's", "172.23.96.1", 0x4000, true, "0x4000"},
		{"with other bits", "172.23.96.1", 0x14001, true, "0x4000"},
		{"another's", "172.23.96.1", 0, true, ""},
		{"another's mark", "172.23.96.1", 0x8000, true, ""},
		{"no address of the bridge's", "172.23.96.77", 0x4000, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			// As ports have them where IPv6 is on.
			l.devices[11][3].Addrs = []netip.Addr{netip.MustParseAddr("fe80::1")}
			all := l.script(t).add(onBridge + tt.source + intoPod).events
			for i := range all {
				if h := &all[i].Header; h.Dst.String() == "172.23.96.24" && h.Src.String() == "172.23.96.23" {
					h.Mark = tt.mark
				}
			}
			got, _ := stitch(l, all, nil)
			if len(got) != 1 || len(got[0].NAT) != 2 {
				t.Fatalf("%d traversals, want one with two translations", len(got))
			}
			if n := got[0].NAT[1]; n.By != byConntrack || n.Masquerade != tt.masquerade || n.Mark != tt.want || got[0].NAT[0].Mark != "" {
				t.Errorf("%+v, want masquerade %t for mark %q", got[0].NAT, tt.masquerade, tt.want)
			}
			if v := got[0].Visits[1]; got[0].Stacks != 3 || !v.Bridged || got[0].L3Stacks != 2 {
				t.Errorf("%v stacks, %v of them with IP, want 3 and 2", got[0].Stacks, got[0].L3Stacks)
			}
		})
	}
}
