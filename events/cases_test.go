// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/json"
	"strings"
	"testing"
)

// Pieces of a packet's way, as kernels of today report them.

// podOut sends from a pod to the host end of its veth pair.
func podOut(pod, node, veth, first string) string {
	return replace(`
		POD/eth0 __ip_local_out FIRST
		POD/eth0 ip_output
		POD/eth0 ip_finish_output2
		POD/eth0 tc_egress
		POD/eth0 net_dev_queue
		POD/eth0 net_dev_start_xmit
		POD/eth0 veth_xmit
		`+portIn, "POD", pod, "NODE", node, "VETH", veth, "FIRST", first)
}

// portIn comes in by a port of the bridge, with netfilter called from it.
const portIn = `
		NODE/VETH netif_receive_skb
		NODE/VETH tc_ingress
		NODE/VETH br_nf_pre_routing
		NODE/VETH nf_hook_slow nf=0
		NODE/VETH nf_conntrack_in
		NODE/VETH ipt_do_table nf=0
		NODE/VETH br_handle_frame_finish CHANGED
`

func ipIn(node string) string {
	return replace(`
		NODE/VETH br_pass_frame_up
		NODE/cni0 netif_receive_skb
		NODE/cni0 ip_rcv_core
	`, "NODE", node, "VETH", map[string]string{"n1": "vethcentos", "n2": "vethnginx1a"}[node])
}

// ethOut leaves a node by eth0 and comes to another one through the router.
func ethOut(from, to, change string) string {
	return replace(`
		FROM/eth0 ip_output
		FROM/eth0 nf_hook_slow nf=4
		FROM/eth0 ipt_do_table nf=4
		FROM/eth0 __nf_conntrack_confirm CHANGE
		FROM/eth0 ip_finish_output2
		FROM/eth0 tc_egress
		FROM/eth0 net_dev_queue
		FROM/eth0 net_dev_start_xmit
		FROM/eth0 veth_xmit
		vpc/FROM netif_receive_skb
		vpc/FROM ip_rcv_core
		vpc/FROM ip_forward
		vpc/TO ip_output
		vpc/TO net_dev_queue
		vpc/TO net_dev_start_xmit
		vpc/TO veth_xmit
	`+ethIn, "FROM", from, "TO", to, "CHANGE", change, "NODE", to)
}

const ethIn = `
		NODE/eth0 netif_receive_skb
		NODE/eth0 tc_ingress
		NODE/eth0 ip_rcv_core
		NODE/eth0 nf_hook_slow nf=0
		NODE/eth0 nf_conntrack_in
`

// cniOut sends through the bridge to a pod, and into its stack.
func cniOut(node, veth, pod, change string) string {
	return replace(`
		NODE/cni0 ip_output
		NODE/cni0 nf_hook_slow nf=4
		NODE/cni0 ipt_do_table nf=4
		NODE/cni0 __nf_conntrack_confirm CHANGE
		NODE/cni0 ip_finish_output2
		NODE/cni0 net_dev_queue
		NODE/cni0 net_dev_start_xmit
		NODE/cni0 br_dev_xmit
		NODE/VETH __br_forward
	`+portOut, "NODE", node, "VETH", veth, "POD", pod, "CHANGE", change)
}

const portOut = `
		NODE/VETH tc_egress
		NODE/VETH net_dev_queue
		NODE/VETH net_dev_start_xmit
		NODE/VETH veth_xmit
		POD/eth0 netif_receive_skb
		POD/eth0 ip_rcv_core
		POD/eth0 ip_local_deliver
`

// ipvs is LOCAL_IN with IPVS finding a real server for a new connection.
func ipvs(node, dev, backend, changed string) string {
	return replace(`
		NODE/DEV ip_local_deliver
		NODE/DEV nf_hook_slow nf=1
		NODE/DEV ipt_do_table nf=1
		NODE/DEV ip_vs_in_hook
		NODE/DEV ip_vs_schedule
		NODE/DEV ip_vs_conn_new backend=BACKEND
		NODE/DEV ip_vs_nat_xmit
		NODE/DEV nf_hook_slow nf=3 CHANGED
	`, "NODE", node, "DEV", dev, "BACKEND", backend, "CHANGED", changed)
}

func socketIn(pod, task string) string {
	return replace(`
		POD/eth0 tcp_v4_rcv
		POD tcp_v4_do_rcv TASK
		POD consume_skb
	`, "POD", pod, "TASK", task)
}

func replace(text string, pairs ...string) string {
	text = strings.NewReplacer(pairs...).Replace(text)
	return strings.NewReplacer("CHANGED", "", "CHANGE", "", "TASK", "").Replace(text)
}

const (
	c  = "172.23.96.23:40932"
	s1 = "172.23.96.24:80"  // nginx, on the client's node
	s2 = "172.23.96.163:80" // nginx1a, on another
)

type labCase struct {
	name    string
	reply   bool
	script  string
	stacks  float64
	l3      float64
	verdict Verdict
	link    string
	nat     []string // by kind hook
	note    string
}

// labCases are the ten cases of the scenarios, request and reply.
func labCases() []labCase {
	curl, nginx := " task=curl:541", " task=nginx:512"
	e := "203.0.113.7:5555"
	outside := func(dst, node string) string {
		return replace(`
			outside/eth0 __ip_local_out h=E>DST,S task=curl:900
			outside/eth0 ip_output
			outside/eth0 net_dev_start_xmit
			outside/eth0 veth_xmit
			vpc/out netif_receive_skb
			vpc/out ip_rcv_core
			vpc/out ip_forward
			vpc/NODE ip_output
			vpc/NODE net_dev_start_xmit
			vpc/NODE veth_xmit
		`+ethIn, "E", e, "DST", dst, "NODE", node)
	}
	toOutside := func(node, changed string) string {
		return replace(`
			NODE/eth0 ip_output CHANGED
			NODE/eth0 net_dev_start_xmit
			NODE/eth0 veth_xmit
			vpc/NODE netif_receive_skb
			vpc/NODE ip_forward
			vpc/out net_dev_start_xmit
			vpc/out veth_xmit
			outside/eth0 netif_receive_skb
			outside/eth0 ip_rcv_core
		`, "NODE", node, "CHANGED", changed) + socketIn("outside", " task=curl:900")
	}
	forward := func(node, dev, changed string) string {
		return replace(`
			NODE/DEV ip_forward CHANGED
			NODE/DEV nf_hook_slow nf=2
			NODE/DEV ipt_do_table nf=2
		`, "NODE", node, "DEV", dev, "CHANGED", changed)
	}
	response := func(node, dev string) string { return node + "/" + dev + " handle_response\n" }
	bridgedTo := func(veth, pod, changed string) string {
		return replace("NODE/"+veth+" __br_forward CHANGED\n"+portOut, "NODE", "n1", "VETH", veth, "POD", pod, "CHANGED", changed)
	}
	h := func(src, dst string) string { return "h=" + src + ">" + dst }
	v4, v5, v3 := "192.168.13.24:80", "192.168.13.23:80", "8.219.164.114:80"
	m1, m2 := "172.23.96.1:40932", "10.0.0.180:40932"
	same := "centos eth0 vethcentos cni0 cni0 vethnginx nginx eth0"
	cross := "centos eth0 n1 vethcentos n1 cni0 n1 eth0 [vpc] n2 eth0 n2 cni0 n2 vethnginx1a nginx1a eth0"
	back := "nginx1a eth0 n2 vethnginx1a n2 cni0 n2 eth0 [vpc] n1 eth0 n1 cni0 n1 vethcentos centos eth0"
	ipvsNAT, masq := "ipvs dnat ip_vs_nat_xmit", "conntrack snat ipt_do_table masquerade"
	out9 := "[outside] [vpc] n1 eth0 n1 eth0 [vpc] n2 eth0 n2 cni0 n2 vethnginx1a nginx1a eth0"
	return []labCase{
		{"1", false, podOut("centos", "n1", "vethcentos", h(c, s1)+",S"+curl) + bridgedTo("vethnginx", "nginx", "") + socketIn("nginx", nginx),
			3, 2, Delivered, "centos eth0 vethcentos (cni0) vethnginx nginx eth0", nil, ""},
		{"1r", true, podOut("nginx", "n1", "vethnginx", h(s1, c)+",SA") + bridgedTo("vethcentos", "centos", "") + socketIn("centos", curl),
			3, 2, Delivered, "nginx eth0 vethnginx (cni0) vethcentos centos eth0", nil, ""},
		{"2", false, podOut("centos", "n1", "vethcentos", h(c, v4)+",S"+curl) + ipIn("n1") + ipvs("n1", "cni0", s1, h(c, s1)) + cniOut("n1", "vethnginx", "nginx", "") + socketIn("nginx", nginx),
			3, 3, Delivered, same, []string{ipvsNAT}, ""},
		{"2r", true, podOut("nginx", "n1", "vethnginx", h(s1, c)+",SA") + "n1/vethnginx nf_hook_slow nf=2\n" + response("n1", "vethnginx") + bridgedTo("vethcentos", "centos", h(v4, c)) + socketIn("centos", curl),
			3, 2, Delivered, "nginx eth0 vethnginx (cni0) vethcentos centos eth0", []string{"ipvs snat handle_response"}, ""},
		{"3", false, podOut("centos", "n1", "vethcentos", h(c, v3)+",S"+curl) + ipIn("n1") + ipvs("n1", "cni0", s1, h(c, s1)) + cniOut("n1", "vethnginx", "nginx", h(m1, s1)) + socketIn("nginx", nginx),
			3, 3, Delivered, same, []string{ipvsNAT, masq}, "client address lost: 172.23.96.24 sees 172.23.96.1 instead of 172.23.96.23"},
		{"3r", true, strings.Replace(podOut("nginx", "n1", "vethnginx", h(s1, m1)+",SA"), "br_handle_frame_finish", "br_handle_frame_finish "+h(s1, c), 1) + "n1/vethnginx nf_hook_slow nf=2\n" + response("n1", "vethnginx") + bridgedTo("vethcentos", "centos", h(v3, c)) + socketIn("centos", curl),
			3, 2, Delivered, "nginx eth0 vethnginx (cni0) vethcentos centos eth0", []string{"conntrack dnat ipt_do_table", "ipvs snat handle_response"}, ""},
		// As 6.12 does it: br_netfilter sends what it translated through the bridge's own device.
		{"3r, through the device", true, strings.Replace(podOut("nginx", "n1", "vethnginx", h(s1, m1)+",SA"), "n1/vethnginx br_handle_frame_finish", "n1/vethnginx nf_nat_manip_pkt\nn1/cni0 tc_egress "+h(s1, c)+"\nn1/cni0 net_dev_queue\nn1/cni0 br_dev_xmit\nn1/vethnginx br_handle_frame_finish", 1) + "n1/vethnginx nf_hook_slow nf=2\n" + response("n1", "vethnginx") + bridgedTo("vethcentos", "centos", h(v3, c)) + socketIn("centos", curl),
			3, 2, Delivered, "nginx eth0 vethnginx cni0 vethcentos centos eth0", []string{"conntrack dnat nf_nat_manip_pkt", "ipvs snat handle_response"}, ""},
		{"4", false, podOut("centos", "n1", "vethcentos", h(c, s2)+",S"+curl) + ipIn("n1") + forward("n1", "cni0", "") + ethOut("n1", "n2", "") + forward("n2", "eth0", "") + cniOut("n2", "vethnginx1a", "nginx1a", "") + socketIn("nginx1a", nginx),
			4, 4, Delivered, cross, nil, ""},
		{"4r", true, podOut("nginx1a", "n2", "vethnginx1a", h(s2, c)+",SA") + ipIn("n2") + forward("n2", "cni0", "") + ethOut("n2", "n1", "") + forward("n1", "eth0", "") + cniOut("n1", "vethcentos", "centos", "") + socketIn("centos", curl),
			4, 4, Delivered, back, nil, ""},
		{"5", false, podOut("centos", "n1", "vethcentos", h(c, v5)+",S"+curl) + ipIn("n1") + ipvs("n1", "cni0", s2, h(c, s2)) + ethOut("n1", "n2", "") + forward("n2", "eth0", "") + cniOut("n2", "vethnginx1a", "nginx1a", "") + socketIn("nginx1a", nginx),
			4, 4, Delivered, cross, []string{ipvsNAT}, ""},
		{"5r", true, podOut("nginx1a", "n2", "vethnginx1a", h(s2, c)+",SA") + ipIn("n2") + forward("n2", "cni0", "") + ethOut("n2", "n1", "") + forward("n1", "eth0", "") + response("n1", "eth0") + cniOut("n1", "vethcentos", "centos", "") + socketIn("centos", curl),
			4, 4, Delivered, back, nil, ""},
		{"6", false, podOut("centos", "n1", "vethcentos", h(c, v3)+",S"+curl) + ipIn("n1") + ipvs("n1", "cni0", s2, h(c, s2)) + ethOut("n1", "n2", h(m2, s2)) + forward("n2", "eth0", "") + cniOut("n2", "vethnginx1a", "nginx1a", "") + socketIn("nginx1a", nginx),
			4, 4, Delivered, cross, []string{ipvsNAT, masq}, "client address lost: 172.23.96.163 sees 10.0.0.180 instead of 172.23.96.23"},
		{"6r", true, podOut("nginx1a", "n2", "vethnginx1a", h(s2, m2)+",SA") + ipIn("n2") + forward("n2", "cni0", "") + ethOut("n2", "n1", "") + forward("n1", "eth0", h(s2, c)) + response("n1", "eth0") + strings.Replace(cniOut("n1", "vethcentos", "centos", ""), "ip_output", "ip_output "+h(v3, c), 1) + socketIn("centos", curl),
			4, 4, Delivered, back, []string{"conntrack dnat nf_conntrack_in", "ipvs snat handle_response"}, ""},
		{"8", false, outside("10.0.1.206:32580", "n2") + ipvs("n2", "eth0", s2, h(e, s2)) + cniOut("n2", "vethnginx1a", "nginx1a", "") + socketIn("nginx1a", nginx),
			2, 2, Delivered, "[outside] [vpc] eth0 cni0 vethnginx1a nginx1a eth0", []string{ipvsNAT}, ""},
		{"8r", true, podOut("nginx1a", "n2", "vethnginx1a", h(s2, e)+",SA") + ipIn("n2") + forward("n2", "cni0", "") + response("n2", "cni0") + toOutside("n2", h("10.0.1.206:32580", e)),
			2, 2, Delivered, "nginx1a eth0 vethnginx1a cni0 eth0 [vpc] [outside]", []string{"ipvs snat handle_response"}, ""},
		{"9", false, outside("10.0.0.180:30875", "n1") + ipvs("n1", "eth0", s2, h(e, s2)) + ethOut("n1", "n2", h(m2, s2)) + forward("n2", "eth0", "") + cniOut("n2", "vethnginx1a", "nginx1a", "") + socketIn("nginx1a", nginx),
			3, 3, Delivered, out9, []string{ipvsNAT, masq}, "client address lost: 172.23.96.163 sees 10.0.0.180 instead of 203.0.113.7"},
		{"9r", true, podOut("nginx1a", "n2", "vethnginx1a", h(s2, m2)+",SA") + ipIn("n2") + forward("n2", "cni0", "") + ethOut("n2", "n1", "") + forward("n1", "eth0", h(s2, e)) + response("n1", "eth0") + toOutside("n1", h("10.0.0.180:30875", e)),
			3, 3, Delivered, "nginx1a eth0 n2 vethnginx1a n2 cni0 n2 eth0 [vpc] n1 eth0 n1 eth0 [vpc] [outside]", []string{"conntrack dnat nf_conntrack_in", "ipvs snat handle_response"}, ""},
		{"10", false, outside("10.0.1.206:30875", "n2") + ipvs("n2", "eth0", s2, h(e, s2)) + cniOut("n2", "vethnginx1a", "nginx1a", h("172.23.96.129:5555", s2)) + socketIn("nginx1a", nginx),
			2, 2, Delivered, "[outside] [vpc] eth0 cni0 vethnginx1a nginx1a eth0", []string{ipvsNAT, masq}, "client address lost: 172.23.96.163 sees 172.23.96.129 instead of 203.0.113.7"},
		{"10r", true, strings.Replace(podOut("nginx1a", "n2", "vethnginx1a", h(s2, "172.23.96.129:5555")+",SA"), "br_handle_frame_finish", "br_handle_frame_finish "+h(s2, e), 1) + ipIn("n2") + forward("n2", "cni0", "") + response("n2", "cni0") + toOutside("n2", h("10.0.1.206:30875", e)),
			2, 2, Delivered, "nginx1a eth0 vethnginx1a cni0 eth0 [vpc] [outside]", []string{"conntrack dnat ipt_do_table", "ipvs snat handle_response"}, ""},
		{"7", false, case7, 1.5, 1.5, Terminated, "centos eth0 vethcentos cni0", nil, ""},
	}
}

// case7 is a SYN to a virtual service without a destination.
var case7 = podOut("centos", "n1", "vethcentos", "h="+c+">8.219.164.113:80,S task=curl:541") + ipIn("n1") + `
	n1/cni0 ip_local_deliver
	n1/cni0 nf_hook_slow nf=1
	n1/cni0 ipt_do_table nf=1
	n1/cni0 ip_vs_in_hook
	n1/cni0 ip_vs_schedule
	n1/cni0 ip_vs_leave
	n1/cni0 __icmp_send icmp=3/3
	n1/cni0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow
`

// case7icmp is the refusal that it causes.
const case7icmp = `
	pkt=2
	other=1
	n1/cni0 __ip_local_out h=8.219.164.113:0>172.23.96.23:0 icmp=3/3 inner=172.23.96.23:40932>8.219.164.113:80
	n1/cni0 ip_output
	n1/cni0 nf_hook_slow nf=4
	n1/cni0 net_dev_queue
	n1/cni0 net_dev_start_xmit
	n1/cni0 br_dev_xmit
	n1/vethcentos net_dev_queue
	n1/vethcentos net_dev_start_xmit
	n1/vethcentos veth_xmit
	centos/eth0 netif_receive_skb
	centos/eth0 ip_rcv_core
	centos/eth0 ip_local_deliver
	centos/eth0 icmp_rcv
	centos tcp_v4_err
	centos consume_skb
`

func TestCases(t *testing.T) {
	for _, tt := range labCases() {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab()
			sc := l.script(t)
			sc.reply = tt.reply
			out, _ := stitch(l, sc.add(tt.script).events, nil)
			if len(out) != 1 {
				t.Fatalf("%d traversals, want 1", len(out))
			}
			checkCase(t, &tt, out[0])
		})
	}
}

func checkCase(t *testing.T, tt *labCase, got *Traversal) {
	t.Helper()
	if got.Stacks != tt.stacks || got.L3Stacks != tt.l3 || got.Verdict != tt.verdict || !got.Complete {
		t.Errorf("stacks %v, l3 %v, %s, complete %v; want %v, %v, %s, true", got.Stacks, got.L3Stacks, got.Verdict, got.Complete, tt.stacks, tt.l3, tt.verdict)
	}
	if link := strings.Join(got.DataLink, " "); link != tt.link {
		t.Errorf("data link\n%s, want\n%s", link, tt.link)
	}
	if want := map[bool]string{false: "request", true: "reply"}[tt.reply]; got.Direction != want {
		t.Errorf("direction %s, want %s", got.Direction, want)
	}
	var nats []string
	for _, n := range got.NAT {
		w := n.By + " " + n.Kind + " " + n.Hook
		if n.Masquerade {
			w += " masquerade"
		}
		nats = append(nats, w)
	}
	if strings.Join(nats, ";") != strings.Join(tt.nat, ";") {
		t.Errorf("NAT %q, want %q", nats, tt.nat)
	}
	if notes := strings.Join(got.Notes, ";"); notes != tt.note {
		t.Errorf("notes %q, want %q", notes, tt.note)
	}
	if t.Failed() {
		j, _ := json.MarshalIndent(got, "", " ")
		t.Logf("%s", j)
	}
}

func TestCase7Chain(t *testing.T) {
	l := newLab()
	out, _ := stitch(l, l.script(t).add(case7).add(case7icmp).events, nil)
	if len(out) != 2 {
		t.Fatalf("%d traversals, want 2", len(out))
	}
	syn, icmp := out[0], out[1]
	const want = "1.5 stacks, terminated in IPVS: 8.219.164.113:80 has no destination on this node"
	if syn.Summary != want || syn.Where != "ipvs" || syn.Reason != "no-destination" || syn.KernelReason != "NETFILTER_DROP" || syn.Location != "nf_hook_slow" {
		t.Errorf("SYN: %q %s/%s %s %s", syn.Summary, syn.Where, syn.Reason, syn.KernelReason, syn.Location)
	}
	if len(syn.Causes) != 1 || syn.Causes[0] != icmp.ID || icmp.CausedBy != syn.ID {
		t.Errorf("causes %v, caused by %s; ids %s, %s", syn.Causes, icmp.CausedBy, syn.ID, icmp.ID)
	}
	if icmp.Stacks != 1.5 || icmp.Verdict != Delivered || icmp.Direction != "reply" || icmp.ICMP != "3/3" {
		t.Errorf("ICMP: %v %s %s %s", icmp.Stacks, icmp.Verdict, icmp.Direction, icmp.ICMP)
	}
	if v := icmp.Visits[0]; v.Entered != ViaKernel || v.Stacks != 0.5 {
		t.Errorf("ICMP's first visit: entered %s, %v", v.Entered, v.Stacks)
	}
	if icmp.Dst.Process != "curl" || icmp.Dst.PID != 541 {
		t.Errorf("ICMP is told to %s %d, want curl 541", icmp.Dst.Process, icmp.Dst.PID)
	}
	if want := "1.5 stacks, delivered to default/centos (curl 541): ICMP 3/3, port unreachable"; icmp.Summary != want {
		t.Errorf("ICMP: %q, want %q", icmp.Summary, want)
	}
}
