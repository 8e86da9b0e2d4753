// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// file reads a file of testdata.
func file(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kubeProxy is what a real kube-proxy wrote in one of its modes.
func kubeProxy(t testing.TB, mode string) *Ruleset {
	t.Helper()
	r := New()
	switch mode {
	case "iptables":
		must(t, r.AddIPTables(file(t, "iptables-n1.txt"), false, events.EngineIPTables))
	case "ipvs":
		must(t, r.AddIPSets(file(t, "ipvs-n1-sets.txt")))
		must(t, r.AddIPTables(file(t, "ipvs-n1.txt"), false, events.EngineIPTables))
	case "nftables":
		must(t, r.AddNFTables(file(t, "nftables-n1.json"), NFTTexts(file(t, "nftables-n1.txt"))))
	case "mixed":
		must(t, r.AddNFTables(file(t, "mixed.json"), NFTTexts(file(t, "mixed.txt"))))
		must(t, r.AddIPTables(file(t, "mixed-iptables.txt"), false, events.EngineIPTablesNFT))
		must(t, r.AddIPTables(file(t, "mixed-ip6tables.txt"), true, events.EngineIPTablesNFT))
	case "lab":
		must(t, r.AddNFTables(file(t, "mixed.json"), NFTTexts(file(t, "mixed.txt"))))
		r.remove(r.chains[chainKey{false, "ip", "filter", "FORWARD"}])
	default:
		t.Fatalf("no mode %q", mode)
	}
	return r
}

// query reads a packet: HOOK PROTO SRC:PORT>DST:PORT [key=value…].
func query(t testing.TB, text string) *events.RuleQuery {
	t.Helper()
	f := strings.Fields(text)
	src, dst, _ := strings.Cut(f[2], ">")
	from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	q := &events.RuleQuery{Family: nfprotoIPv4, Hook: builtinHooks[f[0]], CTState: events.CTStateNew, MarkKnown: true}
	if from.Addr().Is6() {
		q.Family = nfprotoIPv6
	}
	q.Header.Tuple = events.Tuple{Src: from.Addr(), Dst: to.Addr(), SrcPort: from.Port(), DstPort: to.Port(), Proto: uint8(protocols[f[1]])}
	q.CT = &events.Conntrack{Original: q.Header.Tuple, Reply: q.Header.Reverse(), Info: 2}
	for _, kv := range f[3:] {
		key, val, _ := strings.Cut(kv, "=")
		switch key {
		case "in":
			q.In = val
		case "out":
			q.Out = val
		case "state":
			if q.CTState = val; val == events.CTStateNone || val == "" {
				q.CT = nil
			}
		case "mark":
			_, err := fmt.Sscanf(val, "%v", &q.Header.Mark)
			must(t, err)
		case "nomark":
			q.MarkKnown = false
		case "masquerade":
			q.Masquerade = true
		case "reject":
			q.Reject = true
		case "dnat":
			q.CT.Status |= events.CTDstNAT
		case "engine":
			q.Engine = val
		case "flags":
			_, err := fmt.Sscanf(val, "%v", &q.Header.TCPFlags)
			must(t, err)
		case "icmp":
			_, err := fmt.Sscanf(val, "%d/%d", &q.Header.ICMPType, &q.Header.ICMPCode)
			must(t, err)
		default:
			t.Fatalf("query: %s?", kv)
		}
	}
	return q
}

// n1 is what node n1's addresses are.
var n1 = Env{Local: func(a addr) bool {
	switch a.String() {
	case "10.0.0.180", "172.23.96.1", "192.168.13.23", "192.168.13.24", "8.219.164.113":
		return true
	}
	return false
}}

// answer is facts as a test names them.
func answer(f events.RuleFacts, ok bool) string {
	if !ok {
		return "none"
	}
	s := f.Engine + " " + f.Family + " " + f.Table + " " + f.Chain
	if f.Handle != 0 {
		s += fmt.Sprintf(" #%d", f.Handle)
	}
	if f.Policy {
		s += " policy"
	}
	if f.Comment != "" {
		s += " " + f.Comment
	}
	if !f.Sure {
		s += fmt.Sprintf(" ?%d", f.Others)
		if f.Why != "" {
			s += " (" + f.Why + ")"
		}
	}
	return s
}

func TestFind(t *testing.T) {
	const centos = "172.23.96.23:4000>"
	for _, tt := range []struct{ mode, packet, want string }{
		{"iptables", "FORWARD tcp " + centos + "192.168.13.27:80 nomark", "iptables ip filter KUBE-SERVICES default/itp-local:p has no local endpoints"},
		{"iptables", "FORWARD tcp " + centos + "192.168.13.28:80 nomark reject", "iptables ip filter KUBE-SERVICES default/empty:p has no endpoints"},
		{"iptables", "FORWARD tcp " + centos + "192.168.13.28:81 nomark reject", "none"},
		{"iptables", "FORWARD tcp " + centos + "192.168.13.28:80 nomark", "iptables ip filter KUBE-SERVICES default/empty:p has no endpoints ?0 (it rejects, and no answer was seen)"},
		{"iptables", "FORWARD udp " + centos + "192.168.13.27:80", "none"},
		{"iptables", "FORWARD tcp " + centos + "192.168.13.27:80 state=established", "none"},
		{"iptables", "FORWARD tcp " + centos + "172.23.96.163:80 state=none", "iptables ip filter KUBE-FORWARD"},
		{"iptables", "FORWARD tcp " + centos + "172.23.96.163:80 state=", "iptables ip filter KUBE-FORWARD ?0 (undecided: conntrack state)"},
		{"iptables", "INPUT tcp 10.0.0.9:4000>10.0.0.180:32580", "iptables ip filter KUBE-EXTERNAL-SERVICES default/nginx1-local:p has no local endpoints"},
		{"iptables", "INPUT tcp 10.0.0.9:4000>10.0.0.77:32580", "none"},
		{"iptables", "INPUT tcp 10.0.0.9:4000>127.0.0.1:80", "iptables ip filter KUBE-FIREWALL block incoming localnet connections"},
		{"iptables", "INPUT tcp 10.0.0.9:4000>127.0.0.1:80 dnat", "none"},
		{"iptables", "OUTPUT tcp 127.0.0.1:4000>127.0.0.1:80", "none"},
		{"iptables", "FORWARD tcp " + centos + "192.168.13.27:80 engine=nftables", "none"},

		{"ipvs", "INPUT tcp " + centos + "192.168.13.24:81 reject", "iptables ip filter KUBE-IPVS-FILTER"},
		{"ipvs", "INPUT udp " + centos + "192.168.0.10:54 reject", "iptables ip filter KUBE-IPVS-FILTER"},
		{"ipvs", "INPUT icmp " + centos + "192.168.13.24:4000 icmp=8/0 reject", "iptables ip filter KUBE-IPVS-FILTER"},
		{"ipvs", "INPUT tcp " + centos + "192.168.13.24:80 reject", "none"},
		{"ipvs", "INPUT tcp " + centos + "10.0.0.180:81 reject", "none"},
		{"ipvs", "INPUT tcp " + centos + "192.168.13.24:30136 reject", "none"}, // the health check's port

		{"nftables", "FORWARD tcp " + centos + "192.168.13.27:80", "nftables ip kube-proxy service-endpoints-check #48 default/itp-local:p"},
		{"nftables", "FORWARD tcp " + centos + "192.168.13.28:80 reject", "nftables ip kube-proxy reject-chain #57 default/empty:p"},
		{"nftables", "FORWARD tcp " + centos + "192.168.13.28:81 reject", "nftables ip kube-proxy cluster-ips-check #55 Reject traffic to invalid ports of ClusterIPs"},
		{"nftables", "FORWARD icmp " + centos + "192.168.13.28:81 icmp=8/0 reject", "nftables ip kube-proxy cluster-ips-check #55 Reject traffic to invalid ports of ClusterIPs"},
		{"nftables", "OUTPUT udp 10.0.0.180:4000>192.168.99.1:53", "nftables ip kube-proxy cluster-ips-check #56 Drop traffic to unallocated ClusterIPs"},
		{"nftables", "FORWARD tcp " + centos + "192.168.13.27:80 state=established", "none"},
		{"nftables", "INPUT tcp 10.0.0.9:4000>10.0.0.180:32580", "nftables ip kube-proxy nodeport-endpoints-check #47 default/nginx1-local:p"},
		{"nftables", "FORWARD tcp " + centos + "172.23.96.163:80", "none"},

		// Who gives a pod that reaches itself another source.
		{"iptables", "POSTROUTING tcp 172.23.96.24:4000>172.23.96.24:80 out=cni0 mark=0x4000 dnat masquerade", "iptables ip nat KUBE-POSTROUTING kubernetes service traffic requiring SNAT"},
		{"iptables", "POSTROUTING tcp 172.23.96.24:4000>172.23.96.24:80 out=cni0 dnat masquerade", "none"},
		{"iptables", "POSTROUTING tcp 172.23.96.24:4000>172.23.96.24:80 out=cni0 nomark dnat masquerade", "iptables ip nat KUBE-POSTROUTING kubernetes service traffic requiring SNAT ?1 (undecided: the mark)"},
		{"iptables", "POSTROUTING tcp 172.23.96.24:4000>172.23.96.24:80 out=cni0 mark=0x4000 dnat", "none"},
		{"iptables", "POSTROUTING tcp 172.23.96.24:4000>172.23.96.24:80 out=cni0 mark=0x4000 state=established masquerade", "none"},
		{"iptables", "FORWARD tcp " + centos + "192.168.13.27:80 masquerade", "none"},
		{"ipvs", "POSTROUTING tcp 172.23.96.24:4000>172.23.96.24:80 out=cni0 masquerade", "iptables ip nat KUBE-POSTROUTING Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"},
		{"ipvs", "POSTROUTING tcp 172.23.96.24:4000>172.23.96.24:81 out=cni0 masquerade", "none"},
		{"nftables", "POSTROUTING tcp 172.23.96.24:4000>172.23.96.24:80 out=cni0 dnat masquerade", "nftables ip kube-proxy masquerading #54"},
		{"nftables", "POSTROUTING tcp 172.23.96.24:4000>172.23.96.24:80 out=cni0 masquerade", "none"},
		{"nftables", "POSTROUTING tcp 172.23.96.24:4000>172.23.96.24:80 out=cni0 mark=0x4000 dnat masquerade", "nftables ip kube-proxy masquerading #53"},

		// Tables of iptables-nft: the rules are those that iptables-save shows, the handles nft's.
		{"mixed", "INPUT tcp 10.0.0.9:4000>127.0.0.1:80 in=eth0", `iptables-nft ip filter KUBE-FIREWALL #4 block "incoming" localnet`},
		{"mixed", "INPUT tcp 10.0.0.9:4000>10.0.0.180:446 in=eth0 reject", "iptables-nft ip filter INPUT #5"},
		{"mixed", "INPUT tcp 10.0.0.9:4000>10.0.0.180:451 in=eth0 reject", "none"},
		{"mixed", "INPUT icmp 10.0.0.9:1>10.0.0.180:1 icmp=8/0", "iptables-nft ip filter INPUT #6"},
		{"mixed", "INPUT tcp 10.0.0.9:4000>10.0.0.180:22 flags=2", "iptables-nft ip filter INPUT #7 ?0 (undecided: -m limit)"},
		{"mixed", "INPUT udp 10.0.0.9:4000>10.0.0.180:22 in=eth1 mark=0x501", "iptables-nft ip filter INPUT #8"},
		{"mixed", "INPUT udp 10.0.0.9:4000>10.0.0.180:22 mark=0x501", "iptables-nft ip filter INPUT #8 ?0 (undecided: -i eth+)"},
		{"mixed", "INPUT udp 10.0.0.9:4000>10.0.0.180:53 in=eth1 mark=0x501", "none"},
		{"mixed", "INPUT udp 10.0.0.9:4000>10.0.0.180:22 in=cni0 mark=0x501", "none"},
		{"mixed", "INPUT tcp [fd00::9]:4000>[fd00::1]:99 reject", "iptables-nft ip6 filter INPUT #2"},
		// The table's policy drops all; a rule of the other table would come later.
		{"mixed", "FORWARD tcp 10.1.1.1:4000>10.0.0.180:80 engine=nftables", "iptables-nft ip filter FORWARD policy"},
		{"mixed", "FORWARD tcp 10.1.1.1:4000>10.0.0.180:80 engine=iptables", "none"},
		{"lab", "FORWARD tcp 10.1.1.1:4000>10.0.0.180:80 reject", "nftables inet lab f #4 no web"},
		{"lab", "FORWARD tcp 192.168.1.77:4000>10.0.0.180:8044 reject", "nftables inet lab f #4 no web"},
		{"lab", "FORWARD tcp 192.168.1.78:4000>10.0.0.180:8044 reject", "none"},
		{"lab", "FORWARD tcp 9.9.9.9:4000>10.0.0.180:22 state=none", "nftables inet lab f #6"},
		{"lab", "FORWARD tcp 9.9.9.9:4000>10.0.0.180:22 flags=2 in=eth0 out=cni0", "nftables inet lab f #8 ?2 (undecided: limit)"},
		{"lab", "FORWARD icmp 9.9.9.9:0>10.0.0.180:0 icmp=8/0 in=x out=x mark=0", "nftables inet lab f #13"},
		{"lab", "FORWARD udp 9.9.9.9:1>10.0.0.180:53 in=x out=x", "none"},
		{"lab", "FORWARD udp 9.9.9.9:1>10.0.0.180:54 in=x out=eth0 dnat", "nftables inet lab f #16 ?0 (undecided: fib oif)"},
		{"lab", "FORWARD tcp [fd00::9]:1>[fd00::1]:23 in=x out=x flags=16 mark=0", "nftables inet lab f #16 ?1 (undecided: fib oif)"},
		{"lab", "FORWARD udp 1.1.1.1:1>10.0.0.180:54 in=x out=eth0", "nftables inet lab f #16 ?1 (undecided: fib oif)"},
	} {
		t.Run(tt.mode+" "+tt.packet, func(t *testing.T) {
			f, _, ok := kubeProxy(t, tt.mode).Find(query(t, tt.packet), n1, 1<<20)
			if got := answer(f, ok); got != tt.want {
				t.Errorf("%s\nwant %s\n%+v", got, tt.want, f)
			}
		})
	}
}
