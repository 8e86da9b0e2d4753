// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kubetest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/scripts/internal/apitest"
)

// what tells a packet of the test from others.
func what(t *events.Traversal) string {
	return fmt.Sprintf("%s:%d > %s:%d %d", t.Src.IP, t.Src.Port, t.Dst.IP, t.Dst.Port, t.Length)
}

func whats(all []*events.Traversal) (list []string) {
	for _, t := range all {
		list = append(list, what(t))
	}
	slices.Sort(list)
	return list
}

// Names select what their addresses select, are in every line, follow the
// endpoints of a service, and outlive the server. A recording keeps those that
// its packets touched, and no others.
func testTrace(t *testing.T, c *apitest.Cluster) {
	k := c.Client(t)
	pods := startPods(t, "client", "cart-a", "cart-b", "other")
	for _, name := range []string{"client", "cart-a", "cart-b"} {
		apitest.CreatePod(t, k, "shop", name, "n1", pods[name].ip)
	}
	apitest.CreateNamespace(t, k, "test")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	apitest.CreateNode(t, k, host, "10.2.0.0/24", "192.0.2.2") // where the tool runs
	apitest.CreatePod(t, k, "test", "other", "n1", pods["other"].ip)
	udp := func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }
	vip := apitest.CreateService(t, k, "shop", "cart", udp).Spec.ClusterIP
	endpoint := apitest.NewEndpoint(pods["cart-a"].ip, "n1", "cart-a")
	endpoint.Zone = apitest.Ptr("zone-a")
	slice := apitest.NewSlice("shop", "cart", endpoint, discoveryv1.Endpoint{
		Addresses: []string{"10.201.0.200"}, NodeName: apitest.Ptr("n2"), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "cart-far"},
		Conditions: discoveryv1.EndpointConditions{Ready: apitest.Ptr(false), Serving: apitest.Ptr(true), Terminating: apitest.Ptr(true)},
	})
	slice.Ports[0].Protocol = apitest.Ptr(corev1.ProtocolUDP)
	slice = apitest.CreateSlice(t, k, slice)
	apitest.CreateService(t, k, "test", "unseen", udp)
	apitest.CreateSlice(t, k, apitest.NewSlice("test", "unseen", apitest.NewEndpoint(pods["other"].ip, "n1", "other")))
	pods["client"].leadTo(t, vip, pods["cart-a"])

	config := c.Kubeconfig(t, c.URL(), "", apitest.Token(apitest.AdminToken))
	file := filepath.Join(t.TempDir(), "x.hop")
	byName := startRun(t, "record", "-w", file, "--print", "--kubeconfig", config, "--from", "pod/shop/client", "--to", "svc/shop/cart:80")
	byAddress := startRun(t, "trace", "--no-kube", fmt.Sprintf("udp and host %s and host %s and port 8080", pods["client"].ip, pods["cart-a"].ip))

	client, other := pods["client"].listen(t, 0), pods["other"].listen(t, 0)
	send(t, client, pods["cart-a"], 8080, 100, 5)
	send(t, pods["cart-a"].server, pods["client"], port(client.LocalAddr().String()), 200, 5)
	send(t, client, pods["cart-a"], 9090, 300, 3)
	send(t, client, pods["other"], 8080, 400, 3)
	send(t, other, pods["cart-a"], 8080, 500, 3)
	defer func() {
		if t.Failed() {
			t.Logf("by name %q\nby address %q", whats(byName.seen()), whats(byAddress.seen()))
		}
	}()
	apitest.Eventually(t, "both see the ten packets", func() bool { return len(byName.seen()) >= 10 && len(byAddress.seen()) >= 10 })
	if names, addresses := whats(byName.seen()), whats(byAddress.seen()); !slices.Equal(names, addresses) || len(names) != 10 {
		t.Errorf("by name %q\nby address %q", names, addresses)
	}
	byAddress.stop()
	for _, one := range byName.seen() {
		ends := []string{one.Src.Pod, one.Dst.Pod}
		slices.Sort(ends)
		if !slices.Equal(ends, []string{"shop/cart-a", "shop/client"}) || one.Src.Stale || one.Dst.Stale {
			t.Errorf("%s is from %+v to %+v", what(one), one.Src, one.Dst)
		}
	}

	toService(t, byName, client, vip, pods["cart-a"].ip+":8080 on n1 in zone-a ready; 10.201.0.200:8080 on n2 terminating, still serving")
	settled(t, byName, client, vip)
	followed(t, c, byName, pods, slice)
	toService(t, byName, client, vip, pods["cart-b"].ip+":8080 on n1 ready")
	killed(t, c, byName, pods)
	replayed(t, byName, pods, file)
	membersTold(t, file, pods)
}

// toService sends datagrams to a service until its endpoints are as they should be.
func toService(t *testing.T, r *run, conn *net.UDPConn, vip, want string) {
	t.Helper()
	last := ""
	apitest.Eventually(t, "a packet to the service, with its endpoints", func() bool {
		if _, err := conn.WriteTo(make([]byte, 50), &net.UDPAddr{IP: net.ParseIP(vip), Port: 80}); err != nil {
			t.Fatal(err)
		}
		for _, one := range r.seen() {
			if one.Dst.Service == "shop/cart" && one.Service != nil {
				last = one.Service.Endpoints.String()
			}
		}
		return last == want
	})
}

// settled sends datagrams to a service until the members of its set have been the
// same for so long that a recording tells which they were when it began.
func settled(t *testing.T, r *run, conn *net.UDPConn, vip string) {
	t.Helper()
	apitest.Eventually(t, "a packet long after the first one", func() bool {
		if _, err := conn.WriteTo(make([]byte, 50), &net.UDPAddr{IP: net.ParseIP(vip), Port: 80}); err != nil {
			t.Fatal(err)
		}
		seen := r.seen()
		return seen[len(seen)-1].Time.Sub(seen[0].Time) > 2*record.SetSettle
	})
}

func port(addr string) int {
	n, _ := strconv.Atoi(addr[strings.LastIndexByte(addr, ':')+1:])
	return n
}

// followed: the service's endpoint becomes another one.
func followed(t *testing.T, c *apitest.Cluster, r *run, pods map[string]*testPod, slice *discoveryv1.EndpointSlice) {
	slice.Endpoints = []discoveryv1.Endpoint{apitest.NewEndpoint(pods["cart-b"].ip, "n1", "cart-b")}
	if _, err := c.Client(t).DiscoveryV1().EndpointSlices("shop").Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	conn := pods["client"].listen(t, 0)
	apitest.Eventually(t, "the new endpoint is followed", func() bool {
		send(t, conn, pods["cart-b"], 8080, 100, 1)
		return slices.ContainsFunc(r.seen(), func(one *events.Traversal) bool { return one.Dst.Pod == "shop/cart-b" })
	})
	// Connections that were followed still are; this one is new.
	late := pods["client"].listen(t, 0)
	send(t, late, pods["cart-a"], 8080, 100, 1)
	send(t, conn, pods["cart-b"], 8080, 150, 1)
	apitest.Eventually(t, "the marker", func() bool {
		return slices.ContainsFunc(r.seen(), func(one *events.Traversal) bool { return one.Length == 150+28 })
	})
	for _, one := range r.seen() {
		if int(one.Src.Port) == port(late.LocalAddr().String()) {
			t.Errorf("the old endpoint is still followed: %s", what(one))
		}
	}
}

// killed: the API server goes, the run goes on.
func killed(t *testing.T, c *apitest.Cluster, r *run, pods map[string]*testPod) {
	const said = "as it last said"
	c.KillAPI()
	defer c.StartAPI(t)
	conn := pods["client"].listen(t, 0)
	apitest.Eventually(t, "the loss is told", func() bool { return strings.Contains(r.process.Tail(), said) })
	const size, n = 600, 300
	send(t, conn, pods["cart-b"], 8080, size, n)
	count := func() (got int, stale bool) {
		stale = true
		for _, one := range r.seen() {
			if int(one.Src.Port) == port(conn.LocalAddr().String()) {
				got++
				stale = stale && one.Dst.Pod == "shop/cart-b" && one.Dst.Stale
			}
		}
		return got, stale
	}
	apitest.Eventually(t, "all packets behind the loss", func() bool { got, _ := count(); return got >= n })
	stderr := r.stop()
	if got, stale := count(); got != n || !stale {
		t.Errorf("%d packets of %d, all with names that may be stale: %t", got, n, stale)
	}
	if n := strings.Count(stderr, "warning:"); n != 1 || strings.Contains(stderr, "LOST") {
		t.Errorf("%d warnings, want one, and nothing lost:\n%s", n, stderr)
	}
}

// replayed: the same names without the cluster, and none that no packet had.
func replayed(t *testing.T, r *run, pods map[string]*testPod, file string) {
	binary, err := stackhop()
	if err != nil {
		t.Fatal(err)
	}
	again, err := exec.Command(binary, "replay", file, "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	live, err := os.ReadFile(r.stdout)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(live, again) {
		t.Error("the replay is not what was live")
	}
	var names named
	readInto(t, file, &names)
	slices.Sort(names)
	if got, want := slices.Compact(names), []string{"shop/cart", "shop/cart-a", "shop/cart-b", "shop/client"}; !slices.Equal(got, want) {
		t.Errorf("the recording names %q, want %q", got, want)
	}
	var ends endpointsTold
	readInto(t, file, &ends)
	want := []string{
		fmt.Sprintf("shop/cart http %s:8080 n1 zone-a ready", pods["cart-a"].ip),
		"shop/cart http 10.201.0.200:8080 n2  terminating, still serving",
		fmt.Sprintf("shop/cart http %s:8080 n1  ready", pods["cart-b"].ip),
	}
	slices.Sort(ends)
	slices.Sort(want)
	if got := slices.Compact(ends); !slices.Equal(got, want) {
		t.Errorf("the recording has the endpoints %q, want %q", got, want)
	}
	for _, untouched := range []string{"cart-far", "unseen", pods["other"].ip} {
		for _, line := range ends {
			if strings.Contains(line, untouched) {
				t.Errorf("the recording has %s: %s", untouched, line)
			}
		}
	}
}

// readInto gives a recording to sink.
func readInto(t *testing.T, file string, sink record.Sink) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in, err := record.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Run(sink); err != nil {
		t.Fatal(err)
	}
}

// endpointsTold are all endpoints that a recording tells of.
type endpointsTold []string

func (*endpointsTold) Event(*events.Event) {}
func (*endpointsTold) Tick(uint64)         {}
func (e *endpointsTold) Name(name *record.Name) {
	if name.Service == nil {
		return
	}
	f := name.Service.Facts()
	if f.Endpoints == nil {
		return
	}
	for i := range f.Endpoints.List {
		at := &f.Endpoints.List[i]
		*e = append(*e, fmt.Sprintf("%s %s %s %s %s %s", f.Name, f.Port, at.Addr, at.Node, at.Zone, at.Condition()))
	}
}

// membersTold: the recording tells which endpoints the service had, and when.
func membersTold(t *testing.T, file string, pods map[string]*testPod) {
	var m members
	readInto(t, file, &m)
	for when, at := range map[string]uint64{"cart-a": m.first, "cart-b": m.last} {
		from, ok := m.At("--from", at, at)
		to, also := m.At("--to", at, at)
		if !ok || !also {
			t.Errorf("while it was %s: known %t and %t", when, ok, also)
			continue
		}
		if client := netip.MustParseAddr(pods["client"].ip); !from.Has(netip.AddrPortFrom(client, 0)) {
			t.Errorf("while it was %s the client was not the client", when)
		}
		for _, name := range []string{"cart-a", "cart-b"} {
			if to.Has(netip.AddrPortFrom(netip.MustParseAddr(pods[name].ip), 8080)) != (name == when) {
				t.Errorf("while it was %s, %s is not told right", when, name)
			}
		}
	}
}

// members are what a recording tells of the selection's sets.
type members struct {
	record.SetHistory
	first, last uint64
}

func (m *members) Event(*events.Event) {}
func (m *members) Tick(now uint64) {
	if m.first == 0 {
		m.first = now
	}
	m.last = now
}
func (m *members) SetChange(c *record.SetChange) { m.Put(c) }

// named collects the pods and services that a recording names.
type named []string

func (n *named) Event(*events.Event) {}
func (n *named) Tick(uint64)         {}
func (n *named) Name(name *record.Name) {
	var all []record.Text
	if a := name.Address; a != nil {
		all = append(all, a.Pod, a.Service)
	}
	if ns := name.Namespace; ns != nil {
		all = append(all, ns.Pod)
	}
	if s := name.Service; s != nil {
		all = append(all, s.Name)
	}
	for _, text := range all {
		if text != "" {
			*n = append(*n, string(text))
		}
	}
}

// A large cluster costs the tool little.
func testTraceMany(t *testing.T, c *apitest.Cluster) {
	const limit = 100 << 10 // KiB
	r := startRun(t, "trace", "--kubeconfig", c.Kubeconfig(t, c.URL(), "", apitest.Token(apitest.AdminToken)), "--with", "svc/many/service-00007")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.process.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	for line := range strings.Lines(string(text)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(kib)[0])
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("at most %.1f MiB of memory", float64(n)/1024)
			if n > limit {
				t.Errorf("more than %d MiB", limit>>10)
			}
			return
		}
	}
	t.Error("the kernel does not say how much memory it took")
}
