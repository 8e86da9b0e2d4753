// SPDX-License-Identifier: Apache-2.0

package events

import (
	"slices"
	"strings"
	"testing"
)

// The packet of a pod on another node comes in one of that node's, and goes out
// in one of this node's.
const (
	outerIn = `
		real/eth0 netif_receive_skb h=10.0.0.180:40000>10.0.0.13:8472,udp,S inner=172.23.96.23:555>172.23.97.2:80
		real/eth0 ip_rcv_core
		real/eth0 nf_conntrack_in ct=10.0.0.180:40000>10.0.0.13:8472,udp|10.0.0.13:8472>10.0.0.180:40000,udp
		`
	unpacked = outerIn + `
		real/eth0 ip_local_deliver
		real/eth0 udp_rcv
		real/flannel.1 netif_receive_skb h=172.23.96.23:555>172.23.97.2:80,S
		real/flannel.1 ip_rcv_core
		real/flannel.1 ip_forward
		real/cni0 net_dev_queue
		real/vethpod net_dev_start_xmit
		pod/eth0 netif_receive_skb
		pod/eth0 ip_local_deliver
		pod tcp_v4_do_rcv task=nginx:512
		`
	fromPod = `
		pod __ip_local_out h=172.23.97.2:80>172.23.96.23:555,A task=nginx:512
		pod/eth0 net_dev_start_xmit
		real/vethpod netif_receive_skb
		real/vethpod br_handle_frame_finish
		real/cni0 br_pass_frame_up
		real/cni0 ip_rcv_core
		real/cni0 ip_forward
		real/cni0 nf_conntrack_in ct=172.23.97.2:80>172.23.96.23:555|172.23.96.23:555>172.23.97.2:80
		`
	packed = `
		real __ip_local_out h=10.0.0.13:40001>10.0.0.180:8472,udp,A inner=INNER
		real nf_conntrack_in ct=10.0.0.13:40001>10.0.0.180:8472,udp|10.0.0.180:8472>10.0.0.13:40001,udp
		real/eth0 tc_egress
		real/eth0 net_dev_start_xmit
		real/eth0 consume_skb
		`
)

func TestTunnel(t *testing.T) {
	through := "\nreal/flannel.1 net_dev_queue\nreal/flannel.1 net_dev_start_xmit\n"
	tests := []struct {
		name, script    string
		verdict         Verdict
		src, dst        string
		stacks          float64
		link            string
		notes, nat      []string
		conntrack, wire string
	}{
		{"unpacked", unpacked, Delivered, "172.23.96.23:555", "172.23.97.2:80", 2,
			"eth0 → flannel.1 → cni0 → vethpod → pod eth0",
			[]string{"unpacked from udp 10.0.0.180:40000→10.0.0.13:8472 by flannel.1"}, nil, "", "10.0.0.180"},
		{"dropped before it is unpacked", outerIn + "real/eth0 nf_hook_slow nf=1\nreal/eth0 ipt_do_table nf=1\nreal/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow", Terminated,
			"172.23.96.23:555", "172.23.97.2:80", 0.5, "eth0", nil, nil, "", "10.0.0.180"},
		{"packed", fromPod + through + strings.Replace(packed, "INNER", "172.23.97.2:80>172.23.96.23:555", 1), LeftNode,
			"172.23.97.2:80", "172.23.96.23:555", 2, "pod eth0 → vethpod → cni0 → flannel.1 → eth0",
			[]string{"packed into udp 10.0.0.13:40001→10.0.0.180:8472 by flannel.1"}, nil, "172.23.97.2:80→172.23.96.23:555", "10.0.0.13"},
		{"packed, and cut there", fromPod + through + strings.Replace(strings.Split(packed, "real/eth0 tc_egress")[0], "INNER", "172.23.97.2:80>172.23.96.23:555", 1) + `
			pkt=2
			other=1
			real/eth0 skb_segment h=172.23.97.2:80>172.23.96.23:555,A
			real/eth0 net_dev_start_xmit h=10.0.0.13:40001>10.0.0.180:8472,udp,A inner=172.23.97.2:80>172.23.96.23:555
			real/eth0 consume_skb
			`, LeftNode, "172.23.97.2:80", "172.23.96.23:555", 2, "pod eth0 → vethpod → cni0 → flannel.1 → eth0",
			[]string{"packed into udp 10.0.0.13:40001→10.0.0.180:8472 by flannel.1", "sent as 1 segments"}, nil, "172.23.97.2:80→172.23.96.23:555", "10.0.0.13"},
		{"translated where no hook tells, and packed", fromPod + "real/cni0 nf_hook_slow nf=4" + through + strings.Replace(packed, "INNER", "172.23.97.0:9>172.23.96.23:555", 1), LeftNode,
			"172.23.97.2:80", "172.23.96.23:555", 2, "pod eth0 → vethpod → cni0 → flannel.1 → eth0",
			[]string{"packed into udp 10.0.0.13:40001→10.0.0.180:8472 by flannel.1", "client address lost: 172.23.96.23 sees 172.23.97.0 instead of 172.23.97.2"}, []string{"172.23.97.2:80→172.23.96.23:555 = 172.23.97.0:9→172.23.96.23:555"},
			"172.23.97.2:80→172.23.96.23:555", "10.0.0.13"},
		{"UDP to that port without anything in it", strings.Replace(outerIn, " inner=172.23.96.23:555>172.23.97.2:80", "", 1) + "real/eth0 ip_local_deliver\nreal/eth0 udp_queue_rcv_skb task=dig:512", Delivered,
			"10.0.0.180:40000", "10.0.0.13:8472", 1, "eth0", nil, nil, "10.0.0.180:40000→10.0.0.13:8472", "10.0.0.180"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			l.devices[l.netns["real"]] = append(l.devices[l.netns["real"]], Device{Name: "flannel.1", Kind: "vxlan"})
			out, _ := stitch(l, l.script(t).add(tt.script).events, func(c *Config) { c.Wires = true })
			if len(out) != 1 {
				t.Fatalf("%d traversals", len(out))
			}
			got := out[0]
			if got.Verdict != tt.verdict || got.Stacks != tt.stacks || !got.Complete {
				t.Errorf("%s, %v stacks, complete %v: %s", got.Verdict, got.Stacks, got.Complete, got.Summary)
			}
			if src, dst := addressText(got.Src, "tcp"), addressText(got.Dst, "tcp"); !strings.HasPrefix(src, tt.src) || !strings.HasPrefix(dst, tt.dst) {
				t.Errorf("%s → %s, want %s → %s", src, dst, tt.src, tt.dst)
			}
			if tt.notes != nil && (got.Proto != "tcp" || got.TCPFlags == "") {
				t.Errorf("%s %s", got.Proto, got.TCPFlags)
			}
			if link := strings.Join(got.DataLink, " → "); link != tt.link {
				t.Errorf("data link %q, want %q", link, tt.link)
			}
			if !slices.Equal(got.Notes, tt.notes) && !(len(got.Notes) == 0 && tt.notes == nil) {
				t.Errorf("notes %q, want %q", got.Notes, tt.notes)
			}
			var nat []string
			for _, n := range got.NAT {
				nat = append(nat, n.From+" = "+n.To)
			}
			if !slices.Equal(nat, tt.nat) {
				t.Errorf("nat %q, want %q", nat, tt.nat)
			}
			conntrack := ""
			if got.Conntrack != nil {
				conntrack = got.Conntrack.Original
			}
			if !strings.Contains(conntrack, tt.conntrack) || (tt.conntrack == "") != (conntrack == "") {
				t.Errorf("conntrack %q, want %q", conntrack, tt.conntrack)
			}
			wire := got.In
			if wire == nil {
				wire = got.Out
			}
			if wire == nil || wire.Header.Src.String() != tt.wire {
				t.Errorf("on the wire it is %+v, want one from %s", wire, tt.wire)
			}
		})
	}
}

func TestCarried(t *testing.T) {
	outer := header(t, "10.0.0.180:40000>10.0.0.13:8472,udp,S")
	if outer.Outer() || outer.Carried() != outer {
		t.Error("UDP that carries nothing is taken for a tunnel's")
	}
	inner := header(t, "172.23.96.23:555>172.23.97.2:80")
	outer.Inner, outer.HasInner, outer.Length, outer.IPID = inner.Tuple, true, 110, 77
	if c := outer.Carried(); !outer.Outer() || c.Tuple != inner.Tuple || c.Length != 60 || c.HasInner || c.TCPFlags != 2 || c.IPID != 0 || c.TTL != 0 {
		t.Errorf("carried: %+v", c)
	}
	outer.Length = 20 // of a damaged recording
	if c := outer.Carried(); c.Length != 0 {
		t.Errorf("length %d", c.Length)
	}
	v6 := header(t, "[fd00::1]:40000>[fd00::2]:8472,udp")
	v6.Inner, v6.HasInner, v6.Length, v6.ICMPType = Tuple{Src: inner.Src, Dst: inner.Dst, Proto: protoICMP}, true, 130, 3
	if c := v6.Carried(); c.Length != 60 || !v6.IsICMPError() {
		t.Errorf("carried: %+v, an ICMP error: %v", c, v6.IsICMPError())
	}
}

// TestTunnelThatConsumes: what a tunnel's device took and freed has not left the node.
func TestTunnelThatConsumes(t *testing.T) {
	l := newLab()
	l.devices[l.netns["real"]] = append(l.devices[l.netns["real"]], Device{Name: "flannel.1", Kind: "vxlan"})
	out, _ := stitch(l, l.script(t).add(toEth+"real/flannel.1 net_dev_start_xmit\nreal/flannel.1 consume_skb").events, nil)
	if len(out) != 1 || out[0].Verdict != Incomplete || out[0].Reason != "consumed" || !strings.Contains(out[0].Summary, "freed without a drop or a delivery") {
		t.Errorf("%+v", out)
	}
}
