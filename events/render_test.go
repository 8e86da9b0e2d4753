// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
)

var updateRendered = flag.Bool("update-rendered", false, "rewrite the golden outputs of the renderers")

// examples are traversals with every part that a renderer shows.
func examples() []*Traversal {
	at := time.Date(2026, 1, 2, 15, 4, 5, 123456789, time.UTC)
	client := Endpoint{IP: "172.23.96.23", Port: 33290, Pod: "default/centos", Process: "curl", PID: 541}
	clientVisit := Visit{
		Netns: 4026532544, Name: "centos", Kind: KindPod, Node: "n1", Pod: "default/centos", Entered: ViaSocket, Left: ViaDevice, Stacks: 1,
		Labels: "app=centos,tier=front", Devices: []string{"eth0"}, EndNS: 31000,
		Hooks: []HookVisit{{Hook: "__ip_local_out"}, {Hook: "net_dev_queue", NS: 12400, Device: "eth0"}, {Hook: "veth_xmit", NS: 31000, Device: "eth0"}},
	}
	refused := &Traversal{
		Time: at, ID: "7f3a", Node: "n1", Flow: "a91c", Direction: "request", Proto: "tcp", TCPFlags: "S", Length: 60,
		Src: client, Dst: Endpoint{IP: "8.219.164.113", Port: 80, Service: "default/nginx1"},
		Stacks: 1.5, L3Stacks: 1.5, Verdict: Terminated, Where: "ipvs", Reason: "no-destination",
		Summary:  "1.5 stacks, terminated in IPVS: 8.219.164.113:80 has no destination on this node",
		DataLink: []string{"centos eth0", "vethcentos", "cni0"},
		Visits: []Visit{clientVisit, {
			Netns: 4026532345, Name: "n1", Kind: KindNode, Node: "n1", Entered: ViaDevice, Left: ViaTerminated, Stacks: 0.5,
			Devices: []string{"vethcentos", "cni0"}, StartNS: 31500, EndNS: 112000,
			Hooks: []HookVisit{
				{Hook: "netif_receive_skb", NS: 31500, Device: "vethcentos", Station: StationReceive},
				{Hook: "br_pass_frame_up", NS: 43000, Device: "cni0", Station: StationBridgeUp},
				{Hook: "ip_local_deliver", NS: 60000, Device: "cni0", Detail: "LOCAL_IN", Station: StationLocalDeliver},
				{Hook: "ip_vs_leave", NS: 1200000, Station: StationIPVSLeave, Evidence: true},
			},
		}},
		Conntrack: &CTSummary{Original: "172.23.96.23:33290→8.219.164.113:80", Reply: "8.219.164.113:80→172.23.96.23:33290", State: "new"},
		Service:   &ServiceFacts{Name: "default/nginx1", Port: "http", Type: "LoadBalancer", Policy: PolicyLocal, Affinity: true, Elsewhere: 2, Terminating: 1, Stale: true, Endpoints: endpoints()},
		Notes:     []string{"policy Local, 2 endpoints on other nodes, none here; 1 terminating, by what the API server last said"},
		Causes:    []string{"80bd"}, CausesText: []string{"icmp 3/3 reply 8.219.164.113 → 172.23.96.23, delivered"}, Complete: true,
	}
	answer := &Traversal{
		Time: at.Add(90 * time.Microsecond), ID: "80bd", Node: "n1", Flow: "a91c", Direction: "reply", Proto: "icmp", ICMP: "3/3", Length: 88,
		Src: Endpoint{IP: "8.219.164.113"}, Dst: Endpoint{IP: "172.23.96.23", Port: 7, Pod: "default/centos", Stale: true},
		Stacks: 1.5, L3Stacks: 1.5, Verdict: Delivered, Summary: "1.5 stacks, delivered to curl (541)",
		DataLink: []string{"cni0", "vethcentos", "centos eth0"}, CausedBy: "7f3a", CausedByText: "tcp S 172.23.96.23:33290 → 8.219.164.113:80, terminated", Complete: true,
	}
	dnat := NAT{By: "ipvs", Kind: "dnat", Hook: "ip_vs_nat_xmit", NS: 40000, From: "172.23.96.23:40932→192.168.13.23:80", To: "172.23.96.23:40932→172.23.96.163:80", Service: "default/nginx1", Pod: "default/nginx1a"}
	snat := NAT{By: "conntrack", Kind: "snat", Hook: "nf_nat_manip_pkt", NS: 41000, From: "172.23.96.23:40932→172.23.96.163:80", To: "10.0.0.180:1024→172.23.96.163:80", Masquerade: true, Mark: "0x4000", Node: "n1", Stale: true}
	translated := &Traversal{
		Time: at.Add(time.Second), ID: "c0de", Node: "n1", Flow: "b22d", Direction: "request", Proto: "tcp", TCPFlags: "SA", Length: 60,
		Src: client, Dst: Endpoint{IP: "192.168.13.23", Port: 80, Service: "default/nginx1"},
		Stacks: 2, L3Stacks: 2, Verdict: LeftNode, Summary: "2 stacks, left the node by eth0",
		DataLink: []string{"centos eth0", "vethcentos", "cni0", "eth0"}, NAT: []NAT{dnat, snat},
		Visits: []Visit{clientVisit, {
			Netns: 4026532345, Name: "n1", Kind: KindNode, Node: "n1", Entered: ViaDevice, Left: ViaDevice, Stacks: 1,
			Devices: []string{"vethcentos", "cni0", "eth0"}, NAT: []NAT{dnat, snat}, StartNS: 31500, EndNS: 2_500_000_000,
			Hooks: []HookVisit{
				{Hook: "ip_vs_nat_xmit", NS: 40000, Device: "cni0", Detail: "172.23.96.163:80"},
				{Hook: "nf_nat_manip_pkt", NS: 41000, Device: "eth0", Detail: "POSTROUTING"},
				{Hook: "net_dev_start_xmit", NS: 2_500_000_000, Device: "eth0"},
			},
		}},
		Notes: []string{"client address lost: the server sees 10.0.0.180"}, Complete: true,
	}
	bridged := &Traversal{
		Time: at.Add(2 * time.Second), ID: "b41d", Node: "n1", Flow: "c33e", Direction: "reply", Proto: "udp", Length: 1,
		Src: Endpoint{IP: "2001:db8::1", Port: 53, Node: "n1"}, Dst: Endpoint{IP: "2001:db8::2", Port: 40000},
		Stacks: 3, L3Stacks: 2, Verdict: Incomplete, Summary: "incomplete: 2 events lost in n1", KernelReason: "NETFILTER_DROP", Location: "nf_hook_slow",
		DataLink: []string{"nginx eth0", "vethnginx", "vethcentos", "centos eth0"}, NAT: []NAT{dnat},
		Visits: []Visit{{
			Netns: 4026532345, Entered: ViaUnknown, Left: ViaUnknown, Stacks: 1, Bridged: true, BridgeNF: true,
			Hooks: []HookVisit{{Hook: "br_forward", NS: 100}, {Hook: "veth_xmit", NS: 50}},
		}},
		Causes: []string{"f00d"}, Lost: 2,
	}
	return []*Traversal{refused, answer, translated, bridged, {Proto: "tcp", Verdict: InFlight, Summary: "in flight"}, hostile()}
}

// endpoints are a service's: more than are shown.
func endpoints() *ServiceEndpoints {
	e := &ServiceEndpoints{List: []ServiceEndpoint{
		{Addr: netip.MustParseAddrPort("172.23.96.163:80"), Node: "n2", Zone: "b", Ready: true, Serving: true},
		{Addr: netip.MustParseAddrPort("[2001:db8::7]:80"), Node: "n3", Ready: true, Serving: true},
		{Addr: netip.MustParseAddrPort("172.23.96.164:80"), Node: "n2", Serving: true, Terminating: true},
	}}
	for i := range byte(6) {
		e.List = append(e.List, ServiceEndpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), 0), Node: "n1"})
	}
	e.LeftOut = 2
	return e
}

// hostile has text from outside that means to do harm.
func hostile() *Traversal {
	evil := "a\x1b]0;x\a\x1b[31m\nb\u202ec\xff\u009b" + strings.Repeat("z", 4096)
	return &Traversal{
		ID: evil, Node: evil, Flow: evil, Direction: "request", Proto: "tcp", TCPFlags: "S",
		Src:     Endpoint{IP: "10.0.0.1", Port: 1, Pod: evil, Service: evil, Node: evil, Stale: true, Process: evil, PID: 1},
		Dst:     Endpoint{IP: evil, Port: 2},
		Verdict: Terminated, Summary: "terminated: " + evil, KernelReason: "R" + evil, Location: evil,
		DataLink: []string{evil, evil}, NAT: []NAT{{By: "ipvs", Kind: "dnat", Hook: evil, From: evil, To: evil, Service: evil, Pod: evil, Node: evil}},
		Service: &ServiceFacts{
			Name: evil, Port: evil, Type: evil, Policy: evil,
			Endpoints: &ServiceEndpoints{List: []ServiceEndpoint{{Node: evil, Zone: evil}}},
		},
		Visits: []Visit{{
			Name: evil, Kind: KindPod, Node: evil, Pod: evil + "2", Labels: NewLabels(map[string]string{"a": evil, "b": "c"}), Entered: ViaSocket, Left: ViaDevice, Devices: []string{evil},
			Hooks: []HookVisit{{Hook: evil, Device: evil, Detail: evil, Station: StationDrop}, {Hook: "ip_rcv", Device: "eth0", Detail: "x"}},
		}},
		Conntrack: &CTSummary{Original: evil, Reply: evil, State: evil},
		CausedBy:  evil, Causes: []string{evil}, CausedByText: evil, CausesText: []string{evil}, Notes: []string{evil},
	}
}

func TestRenderGolden(t *testing.T) {
	forms := map[string]func(io.Writer) Renderer{
		"line":          func(w io.Writer) Renderer { return &LineRenderer{W: w, Location: time.UTC} },
		"line-color":    func(w io.Writer) Renderer { return &LineRenderer{W: w, Color: true, Location: time.UTC} },
		"tree":          func(w io.Writer) Renderer { return &TreeRenderer{W: w, Location: time.UTC} },
		"tree-color":    func(w io.Writer) Renderer { return &TreeRenderer{W: w, Color: true, Location: time.UTC} },
		"json":          func(w io.Writer) Renderer { return &JSONRenderer{W: w} },
		"line-explain":  func(w io.Writer) Renderer { return &LineRenderer{W: w, Location: time.UTC, Explain: true} },
		"tree-explain":  func(w io.Writer) Renderer { return &TreeRenderer{W: w, Location: time.UTC, Explain: true} },
		"json-explain":  func(w io.Writer) Renderer { return &JSONRenderer{W: w, Explain: true} },
		"summary":       func(w io.Writer) Renderer { return &SummaryRenderer{W: w, Location: time.UTC} },
		"summary-color": func(w io.Writer) Renderer { return &SummaryRenderer{W: w, Color: true, Location: time.UTC} },
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			r := form(&b)
			for _, e := range examples() {
				if err := r.Render(e); err != nil {
					t.Fatal(err)
				}
			}
			if s, ok := r.(*SummaryRenderer); ok {
				if err := s.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			compareGolden(t, filepath.Join("testdata", "render", name+".golden"), b.Bytes())
		})
	}
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *updateRendered {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update-rendered writes it)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s; got:\n%s\nwant:\n%s", path, got, want)
	}
}

// TestRenderHostile holds the text forms against what workloads may call
// themselves: one line stays one line, and nothing reaches the terminal.
func TestRenderHostile(t *testing.T) {
	var line, tree, js bytes.Buffer
	for _, r := range []Renderer{&LineRenderer{W: &line}, &TreeRenderer{W: &tree, Explain: true}, &JSONRenderer{W: &js, Explain: true}} {
		if err := r.Render(hostile()); err != nil {
			t.Fatal(err)
		}
	}
	for name, out := range map[string]string{"line": line.String(), "tree": tree.String(), "json": js.String()} {
		for _, r := range out {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%s: %U in %q", name, r, out)
				break
			}
		}
	}
	if n := strings.Count(line.String(), "\n"); n != 6 {
		t.Errorf("%d lines, want header, data link, drop reason, note and two links:\n%s", n, line.String())
	}
	if n := strings.Count(js.String(), "\n"); n != 1 {
		t.Errorf("JSON has %d lines", n)
	}
}

type failingWriter struct{}

var errFull = errors.New("full")

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }

func TestRenderReportsWriteErrors(t *testing.T) {
	for _, r := range []Renderer{&LineRenderer{W: failingWriter{}}, &TreeRenderer{W: failingWriter{}}, &JSONRenderer{W: failingWriter{}}} {
		if err := r.Render(examples()[0]); !errors.Is(err, errFull) {
			t.Errorf("%T: error %v", r, err)
		}
	}
}
