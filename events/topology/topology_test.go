// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/internal/cpubound"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// forms are all ways to write a topology.
var forms = []struct {
	name  string
	write func(*Topology, io.Writer) error
}{
	{"txt", (*Topology).WriteText},
	{"json", (*Topology).WriteJSON},
	{"dot", (*Topology).WriteDot},
	{"svg", (*Topology).WriteSVG},
}

// read reads a topology in JSON, which must have no field that is not known.
func read(t *testing.T, path string) *Topology {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out Topology
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s; got:\n%s", path, got)
	}
}

// TestGolden: the lab, as it was read there, and a busy node.
func TestGolden(t *testing.T) {
	for name, top := range map[string]*Topology{
		"lab":  lab(t),
		"n1":   only(lab(t), "n1"),
		"busy": busy(),
	} {
		for _, f := range forms {
			t.Run(name+"."+f.name, func(t *testing.T) {
				var first, second bytes.Buffer
				if err := errors.Join(f.write(top, &first), f.write(top, &second)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(first.Bytes(), second.Bytes()) {
					t.Error("twice is not the same")
				}
				checkForm(t, f.name, first.Bytes())
				if f.name == "txt" {
					checkLines(t, first.String())
				}
				golden(t, filepath.Join("testdata", name+"."+f.name), first.Bytes())
			})
		}
	}
}

// lab is what was read in the lab, with a few things more that it has none of.
func lab(t *testing.T) *Topology {
	t.Helper()
	top := read(t, "testdata/lab.json")
	top.SetNames(noNames{})
	return top
}

// noNames knows nothing.
type noNames struct{}

func (noNames) Namespace(uint32) events.Namespace          { return events.Namespace{} }
func (noNames) Address(string, uint16) events.AddressNames { return events.AddressNames{} }

func only(t *Topology, node string) *Topology {
	t.Only(node)
	return t
}

// checkForm holds what was written to what must be true of the form, whatever is in it.
func checkForm(t *testing.T, form string, got []byte) {
	t.Helper()
	for i, r := range string(got) {
		if r == utf8.RuneError || r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r == '\u202e' {
			t.Fatalf("character %q at %d is not for a terminal", r, i)
		}
	}
	switch form {
	case "json":
		if !json.Valid(got) || bytes.Contains(got, []byte("null")) {
			t.Error("not JSON, or a list is null")
		}
	case "svg":
		for dec := xml.NewDecoder(bytes.NewReader(got)); ; {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("not XML: %v", err)
			}
		}
	case "dot":
		checkDot(t, string(got))
	}
}

// checkLines: no line is longer than a terminal is wide, or has blanks at its end.
func checkLines(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(line) - 1; n > columns {
			t.Errorf("%d columns: %s", n, line)
		}
		if strings.HasSuffix(line, " \n") {
			t.Errorf("blanks at the end of %q", line)
		}
	}
}

// checkDot: quotation marks are paired, and so are braces outside of them; each
// edge joins nodes that there are.
func checkDot(t *testing.T, text string) {
	t.Helper()
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '\n' && quoted:
			t.Fatalf("a string goes over the end of its line before %.60q", text[i:])
		case c == '{' && !quoted:
			depth++
		case c == '}' && !quoted:
			depth--
		}
	}
	if depth != 0 || quoted {
		t.Errorf("braces or quotation marks are not paired")
	}
	var nodes []string
	for line := range strings.Lines(text) {
		if id, _, ok := strings.Cut(strings.TrimSpace(line), " ["); ok && !strings.Contains(id, "--") {
			nodes = append(nodes, id)
		}
	}
	for line := range strings.Lines(text) {
		if a, b, ok := strings.Cut(strings.TrimSpace(line), " -- "); ok && !strings.Contains(line, "label=") {
			b, _, _ = strings.Cut(strings.TrimSuffix(b, ";"), " ")
			if !slices.Contains(nodes, a) || !slices.Contains(nodes, b) {
				t.Errorf("an edge joins what is not there: %s", line)
			}
		}
	}
}

// busy is a node as they are: 30 pods at two bridges and without one, some with
// several devices, many services.
func busy() *Topology {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	node := Namespace{
		Inode: 1, Name: "worker-7", Kind: events.KindNode, Node: "worker-7",
		Devices: []Device{
			{Ifindex: 1, Name: "lo", Kind: "loopback", Up: true, State: "unknown", MTU: 65536, Addresses: []netip.Prefix{prefix("127.0.0.1/8")}},
			{Ifindex: 2, Name: "eth0", Up: true, State: "up", MTU: 1500, MAC: "52:54:00:00:00:01", Addresses: []netip.Prefix{prefix("10.0.0.7/24"), prefix("fe80::1/64")}},
			{Ifindex: 3, Name: "eth1", Up: true, State: "down", MTU: 1500, Master: "br-storage"},
			{Ifindex: 4, Name: "cni0", Kind: "bridge", Up: true, State: "up", MTU: 1450, Addresses: []netip.Prefix{prefix("10.244.7.1/24")}},
			{Ifindex: 5, Name: "br-storage", Kind: "bridge", Up: true, State: "up", MTU: 9000},
			{Ifindex: 6, Name: "docker0", Kind: "bridge", Up: true, State: "down", MTU: 1500, Addresses: []netip.Prefix{prefix("172.17.0.1/16")}},
			{Ifindex: 7, Name: "flannel.1", Kind: "vxlan", Up: true, State: "unknown", MTU: 1450, Addresses: []netip.Prefix{prefix("10.244.7.0/32")},
				Lower: &End{Netns: 1, Ifindex: 2, Device: "eth0"}, Tunnel: &Tunnel{ID: 1, Port: 8472, Local: addr("10.0.0.7")}},
			{Ifindex: 8, Name: "tunl0", Kind: "ipip", State: "down", MTU: 1480, Tunnel: &Tunnel{Remote: addr("192.0.2.1")}},
		},
		Routes: []Route{
			{Dst: prefix("0.0.0.0/0"), Proto: "dhcp", Metric: 100, Src: addr("10.0.0.7"), Hops: []Hop{{Via: addr("10.0.0.1"), Device: "eth0"}}},
			{Dst: prefix("10.244.8.0/24"), Proto: "static", Hops: []Hop{{Via: addr("10.244.8.0"), Device: "flannel.1", Onlink: true}}},
			{Dst: prefix("10.244.9.0/24"), Proto: "bird", Hops: []Hop{{Via: addr("10.0.0.9"), Device: "eth0", Weight: 1}, {Via: addr("10.0.0.10"), Device: "eth0", Weight: 2}}},
			{Dst: prefix("10.244.7.64/26"), Type: "blackhole", Proto: "bird"},
		},
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "net.ipv4.vs.conntrack": "0"},
	}
	ipvs := Device{Ifindex: 9, Name: "kube-ipvs0", Kind: "dummy", State: "down", MTU: 1500}
	for i := range 40 {
		vip := addr(fmt.Sprintf("10.96.0.%d", i+1))
		ipvs.Addresses = append(ipvs.Addresses, netip.PrefixFrom(vip, 32))
		s := Service{Proto: "tcp", IP: vip, Port: 80, Scheduler: "rr", Persistent: uint32(i%7) * 1800}
		for j := range i % 5 {
			s.Destinations = append(s.Destinations, Destination{IP: addr(fmt.Sprintf("10.244.7.%d", 2+j)), Port: 8080, Weight: 1, Active: i, Inactive: j, Forward: "nat"})
		}
		node.Services = append(node.Services, s)
	}
	node.Services = append(node.Services, Service{FWMark: 7, Scheduler: "wlc", Destinations: []Destination{{IP: addr("2001:db8::1"), Port: 80, Forward: "route"}}})
	node.Devices = append(node.Devices, ipvs)
	out := &Topology{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Node: "worker-7", Missing: []string{"IPVS of web: it has vanished"}}
	for i := range 30 {
		pod := Namespace{
			Inode: uint32(100 + i), Name: fmt.Sprintf("cni-%04x", i*4099), Kind: events.KindPod, Node: "worker-7", Pod: fmt.Sprintf("shop/cart-7d9c5b%05d-x%d", i, i*i),
			Devices: []Device{{Ifindex: 1, Name: "lo", Kind: "loopback", Up: true, State: "unknown", MTU: 65536}},
		}
		join := func(name, master, ip string) {
			own, index := uint32(2+len(pod.Devices)), uint32(20+len(node.Devices))
			pod.Devices = append(pod.Devices, Device{Ifindex: own, Name: fmt.Sprintf("eth%d", len(pod.Devices)-1), Kind: "veth", Up: true, State: "up", MTU: 1450,
				Addresses: []netip.Prefix{prefix(ip)}, Peer: &End{Netns: 1, Ifindex: index, Device: name}})
			node.Devices = append(node.Devices, Device{Ifindex: index, Name: name, Kind: "veth", Up: true, State: "up", MTU: 1450, Master: master,
				Peer: &End{Netns: pod.Inode, Ifindex: own, Device: pod.Devices[len(pod.Devices)-1].Name}})
		}
		switch {
		case i == 29: // only lo
		case i%9 == 8:
			join(fmt.Sprintf("cali%08x", i), "", fmt.Sprintf("10.244.7.%d/32", i+2))
		default:
			join(fmt.Sprintf("veth%08x", i), "cni0", fmt.Sprintf("10.244.7.%d/24", i+2))
		}
		if i%10 == 3 {
			join(fmt.Sprintf("stor%04x", i), "br-storage", fmt.Sprintf("192.168.7.%d/24", i+2))
		}
		out.Namespaces = append(out.Namespaces, pod)
	}
	lost := Namespace{Inode: 999, Devices: []Device{{Ifindex: 2, Name: "eth0", Kind: "veth", Up: true, State: "up", MTU: 1500, Peer: &End{Ifindex: 77}}}}
	out.Namespaces = append(out.Namespaces, node, lost)
	out.SetNames(someNames{})
	return out
}

// someNames know a service, a pod, a node, and one that is stale.
type someNames struct{}

func (someNames) Namespace(netns uint32) events.Namespace {
	if netns == 100 {
		return events.Namespace{Labels: "app=cart,tier=front"}
	}
	return events.Namespace{}
}

func (someNames) Address(ip string, _ uint16) events.AddressNames {
	return map[string]events.AddressNames{
		"10.96.0.2":  {Service: "shop/cart"},
		"10.96.0.3":  {Service: "shop/gone", Stale: true},
		"10.244.7.2": {Pod: "shop/cart-7d9c5b00000-x0"},
		"10.244.7.3": {Pod: "shop/old", Stale: true},
		"10.0.0.9":   {Node: "worker-9"},
	}[ip]
}

// FuzzForms: whatever names there are, nothing of them reaches a terminal as it
// is, or ends a string or an element.
func FuzzForms(f *testing.F) {
	for _, seed := range []string{"web", "\x1b[31m", `"]; a -- b; "\\`, "</text><script>", "\u202e\xff\x00\n", "]]>", "a  b ", strings.Repeat("x", 300)} {
		f.Add(seed, uint16(5))
	}
	f.Add("", uint16(1))
	f.Add("br", uint16(1))
	f.Fuzz(func(t *testing.T, name string, n uint16) {
		defer cpubound.Run(t)()
		top := hostile(name, int(n%64))
		for _, form := range forms {
			var b bytes.Buffer
			if err := form.write(top, &b); err != nil {
				t.Fatal(err)
			}
			checkForm(t, form.name, b.Bytes())
		}
	})
}

// hostile is a node with n pods in which everything has one name.
func hostile(name string, n int) *Topology {
	addr := netip.MustParseAddr("192.0.2.1")
	device := Device{Ifindex: 2, Name: name, Kind: name, Up: true, State: name, MAC: name, Peer: &End{Netns: 1, Name: name, Ifindex: 2, Device: name}}
	top := &Topology{Node: name, Missing: []string{name}, Namespaces: []Namespace{{
		Inode: 1, Name: name, Kind: events.KindNode, Node: name,
		Devices:  []Device{device, {Ifindex: 1, Name: "br", Kind: "bridge"}, {Ifindex: 3, Name: name + "p", Master: "br", Lower: &End{Netns: 1, Ifindex: 2, Device: name}}},
		Routes:   []Route{{Dst: netip.PrefixFrom(addr, 24), Type: name, Proto: name, Hops: []Hop{{Device: name, Node: name}}}},
		Services: []Service{{Proto: name, IP: addr, Name: name, Scheduler: name, Destinations: []Destination{{IP: addr, Name: name, Forward: name}}}},
		Sysctls:  map[string]string{name: name},
	}}}
	for i := range n {
		top.Namespaces = append(top.Namespaces, Namespace{Inode: uint32(i + 2), Name: name, Kind: events.KindPod, Node: name, Pod: name, Devices: []Device{device}})
		top.Namespaces[0].Devices = append(top.Namespaces[0].Devices,
			Device{Ifindex: uint32(i + 10), Name: name, Master: "br", Kind: "veth", Peer: &End{Netns: uint32(i + 2), Ifindex: 2, Device: name}})
	}
	top.Namespaces = append(top.Namespaces, Namespace{Inode: 99, Kind: name, Devices: []Device{device}})
	top.Sort()
	return top
}

// TestNamesKeepClear: no line crosses the name of a node, network or pod in whose
// frame devices stand, where there is room beside it.
func TestNamesKeepClear(t *testing.T) {
	top := func(name string) *Topology { return renamed(only(lab(t), "n1"), name) }
	for what, top := range map[string]*Topology{
		"lab": lab(t), "busy": busy(), "n1": top("n1"), "a long name": top("ip-10-0-0-180.eu-central-1"),
	} {
		var b bytes.Buffer
		if err := top.WriteSVG(&b); err != nil {
			t.Fatal(err)
		}
		lines := pathPoints(t, b.String())
		names := regexp.MustCompile(`class="name (?:node|network|pod)-name" x="(\d+)" y="(\d+)">([^<]*)<`).FindAllStringSubmatch(b.String(), -1)
		if len(lines) < 100 || len(names) == 0 {
			t.Fatalf("%s: %d points of lines, %d names", what, len(lines), len(names))
		}
		for _, n := range names {
			x, y := number(t, n[1]), number(t, n[2])
			for _, p := range lines {
				if p[0] > x-2 && p[0] < x+float64(len(n[3]))*char && p[1] > y-float64(line)+4 && p[1] < y+3 {
					t.Errorf("%s: a line crosses %q at %.0f,%.0f", what, n[3], p[0], p[1])
					break
				}
			}
		}
	}
}

// renamed calls a topology's node otherwise.
func renamed(top *Topology, name string) *Topology {
	for i := range top.Namespaces {
		if ns := &top.Namespaces[i]; ns.Kind == events.KindNode {
			ns.Name = name
		}
	}
	return top
}

// pathPoints are points of all lines of a picture, closely side by side.
func pathPoints(t *testing.T, svg string) (out [][2]float64) {
	t.Helper()
	for _, path := range regexp.MustCompile(`<path [^>]*d="([^"]*)"`).FindAllStringSubmatch(svg, -1) {
		var at [2]float64
		for _, step := range regexp.MustCompile(`([MVHC])([-0-9 ]*)`).FindAllStringSubmatch(path[1], -1) {
			var n []float64
			for _, word := range strings.Fields(step[2]) {
				n = append(n, number(t, word))
			}
			b := [4][2]float64{at, at, at, at}
			switch step[1] {
			case "M":
				at = [2]float64{n[0], n[1]}
				continue
			case "V":
				b[2], b[3] = [2]float64{at[0], n[0]}, [2]float64{at[0], n[0]}
			case "H":
				b[2], b[3] = [2]float64{n[0], at[1]}, [2]float64{n[0], at[1]}
			case "C":
				b[1], b[2], b[3] = [2]float64{n[0], n[1]}, [2]float64{n[2], n[3]}, [2]float64{n[4], n[5]}
			}
			for i := range 401 {
				s := float64(i) / 400
				r := 1 - s
				out = append(out, [2]float64{
					r*r*r*b[0][0] + 3*r*r*s*b[1][0] + 3*r*s*s*b[2][0] + s*s*s*b[3][0],
					r*r*r*b[0][1] + 3*r*r*s*b[1][1] + 3*r*s*s*b[2][1] + s*s*s*b[3][1],
				})
			}
			at = b[3]
		}
	}
	return out
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
