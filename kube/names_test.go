// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// ownNames are what a run knows by itself.
type ownNames struct {
	spaces  map[uint32]events.Namespace
	devices map[[2]uint32]events.Device
	addrs   map[string]events.AddressNames
}

func (o *ownNames) Device(netns, ifindex uint32) (events.Device, bool) {
	d, ok := o.devices[[2]uint32{netns, ifindex}]
	return d, ok
}
func (o *ownNames) Namespace(netns uint32) events.Namespace { return o.spaces[netns] }
func (o *ownNames) Address(ip string, _ uint16) events.AddressNames {
	return o.addrs[ip]
}
func (*ownNames) Process(inode uint32) (string, uint32, bool) { return "curl", inode + 1, true }
func (*ownNames) Symbol(uint64) string                        { return "kfree_skb" }
func (*ownNames) DropReason(uint32) string                    { return "NETFILTER_DROP" }

// ownServices are a run's names that know of services, as a replay's do.
type ownServices struct{ ownNames }

func (*ownServices) Service(ip string, _ uint16, _ uint8, _ string) (events.ServiceFacts, bool) {
	return events.ServiceFacts{Name: "recorded/one"}, ip == "10.96.0.1"
}

const (
	nodeNS = iota + 1
	podNS
	namedNS
	otherNS
	networkNS
	fileNS
)

// world is an index with two pods, and a run that knows namespaces of all kinds.
func world() (*Index, *ownNames) {
	x := newClock().index(Current, Current)
	x.PutPod(FromAPI, testPod("shop", "web", "10.0.0.1", "fd00::1"))
	x.PutPod(FromAPI, testPod("shop", "cart", "10.0.0.2"))
	host := testPod("kube-system", "proxy", "192.168.0.1")
	host.HostNetwork = true
	x.PutPod(FromAPI, host)
	x.PutNode(&Node{"n1", ips("192.168.0.1"), nil})
	device := func(addrs ...string) events.Device { return events.Device{Name: "eth0", Addrs: ips(addrs...)} }
	return x, &ownNames{
		spaces: map[uint32]events.Namespace{
			nodeNS:    {Name: "host", Kind: events.KindNode, Node: "host"},
			podNS:     {Kind: events.KindPod},
			namedNS:   {Name: "centos", Kind: events.KindPod, Node: "host"},
			otherNS:   {},
			networkNS: {Name: "vpc", Kind: events.KindNetwork},
			fileNS:    {Name: "x", Kind: events.KindPod, Pod: "file/x"},
		},
		devices: map[[2]uint32]events.Device{
			{nodeNS, 2}: device("192.168.0.1"), {nodeNS, 3}: device("10.0.0.1"),
			{podNS, 1}: device("127.0.0.1", "::1"), {podNS, 2}: device("fe80::1", "10.0.0.1"),
			{namedNS, 2}: device("10.0.0.2"), {otherNS, 2}: device("192.168.0.1"), {networkNS, 2}: device("10.0.0.1"),
			{fileNS, 2}: device("10.0.0.1"), {podNS, 3}: {Name: "veth1"},
		},
		addrs: map[string]events.AddressNames{"10.0.0.2": {Pod: "file/cart"}, "10.0.0.3": {Stale: true}},
	}
}

// TestNamespaceByDevice: without a container runtime, a pod's address at a device
// tells whose a namespace is; not in a node, and not in its node's network.
func TestNamespaceByDevice(t *testing.T) {
	x, own := world()
	n := NewNames(own, x, nil)
	for _, tt := range []struct {
		name  string
		netns uint32
		see   []uint32
		want  events.Namespace
	}{
		{"nothing seen", podNS, nil, own.spaces[podNS]},
		{"loopback", podNS, []uint32{1}, own.spaces[podNS]},
		{"no address", podNS, []uint32{3, 9}, own.spaces[podNS]},
		{"eth0", podNS, []uint32{2, 1, 3}, events.Namespace{Name: "web", Kind: events.KindPod, Node: "n1", Pod: "shop/web"}},
		{"named", namedNS, []uint32{2}, events.Namespace{Name: "centos", Kind: events.KindPod, Node: "host", Pod: "shop/cart"}},
		{"a node", nodeNS, []uint32{2, 3}, own.spaces[nodeNS]},
		{"a pod in its node's network", otherNS, []uint32{2}, own.spaces[otherNS]},
		{"a network", networkNS, []uint32{2}, own.spaces[networkNS]},
		{"named by a file", fileNS, []uint32{2}, own.spaces[fileNS]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, ifindex := range tt.see {
				d, ok := n.Device(tt.netns, ifindex)
				if want, known := own.Device(tt.netns, ifindex); ok != known || d.Name != want.Name {
					t.Errorf("device %d is %v", ifindex, d)
				}
			}
			if got := n.Namespace(tt.netns); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestNamespaceByDeviceChanges: who was seen in a namespace is remembered, until
// its device has another address.
func TestNamespaceByDeviceChanges(t *testing.T) {
	x, own := world()
	n := NewNames(own, x, nil)
	see := func(ifindex uint32, addrs ...string) func() {
		return func() {
			own.devices[[2]uint32{podNS, ifindex}] = events.Device{Addrs: ips(addrs...)}
			n.Device(podNS, ifindex)
		}
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"seen", see(2, "10.0.0.1"), "shop/web"},
		{"the pod is gone", func() { x.DeletePod(FromAPI, "uid of web in shop") }, "shop/web"},
		{"its address is another's, elsewhere", func() { x.PutPod(FromAPI, testPod("test", "new", "10.0.0.1")); n.Device(podNS, 2) }, "shop/web"},
		{"another device", see(1, "127.0.0.1"), "shop/web"},
		{"another pod", see(2, "10.0.0.2"), "shop/cart"},
		{"one that is not known yet", see(2, "10.0.0.9"), ""},
		{"and now it is", func() { x.PutPod(FromAPI, testPod("test", "late", "10.0.0.9")); n.Device(podNS, 2) }, "test/late"},
		{"the runtime knows better", func() {
			x.PutPod(FromCRI, &Pod{Namespace: "test", Name: "run", UID: "run", Netns: podNS})
		}, "test/run"},
		{"but does not any more", func() { x.DeletePod(FromCRI, "run") }, "test/late"},
	} {
		step.do()
		if got := n.Namespace(podNS).Pod; got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
}

func TestSightingsAreBounded(t *testing.T) {
	x, own := world()
	n := NewNames(own, x, nil)
	for i := range uint32(maxSeen + 2) {
		own.devices = map[[2]uint32]events.Device{{1000 + i, 2}: {Addrs: ips("10.0.0.1")}}
		n.Device(1000+i, 2)
	}
	if len(n.seen) > maxSeen || n.Namespace(1000+maxSeen+1).Pod != "shop/web" {
		t.Errorf("%d sightings, the last one %+v", len(n.seen), n.Namespace(1000+maxSeen+1))
	}
	many := make([]netip.Addr, maxDeviceAddrs, maxDeviceAddrs+1)
	own.devices[[2]uint32{otherNS, 2}] = events.Device{Addrs: append(many, ip("10.0.0.1"))}
	n.Device(otherNS, 2)
	if s := n.Namespace(otherNS); s.Pod != "" {
		t.Errorf("looked at more than %d addresses: %+v", maxDeviceAddrs, s)
	}
}

// TestNamespaceNames: a name made up by a CNI plugin gives way to the pod's, one
// that a person gave does not.
func TestNamespaceNames(t *testing.T) {
	x := newClock().index(Current, Current)
	x.PutPod(FromCRI, &Pod{Namespace: "shop", Name: "web", UID: "u", Node: "n1", Netns: 7})
	for _, tt := range []struct{ own, want string }{
		{"", "web"},
		{"cni-8b13c9a4-7f0e-4b3e-9a51-0c1d2e3f4a5b", "web"},
		{"8B13C9A4-7f0e-4b3e-9a51-0c1d2e3f4a5b", "web"},
		{"centos", "centos"},
		{"cni-x", "cni-x"},
		{"cni-8b13c9a4-7f0e-4b3e-9a51-0c1d2e3f4a5g", "cni-8b13c9a4-7f0e-4b3e-9a51-0c1d2e3f4a5g"},
		{"cni-8b13c9a407f0e-4b3e-9a51-0c1d2e3f4a5b", "cni-8b13c9a407f0e-4b3e-9a51-0c1d2e3f4a5b"},
	} {
		own := &ownNames{spaces: map[uint32]events.Namespace{7: {Name: tt.own, Kind: events.KindPod, Node: "host"}}}
		want := events.Namespace{Name: tt.want, Kind: events.KindPod, Node: "host", Pod: "shop/web"}
		if got := NewNames(own, x, nil).Namespace(7); got != want {
			t.Errorf("%q: %+v, want %+v", tt.own, got, want)
		}
	}
}

// TestNamesAddress: what the run itself knows comes first.
func TestNamesAddress(t *testing.T) {
	x, own := world()
	n := NewNames(own, x, nil)
	for addr, want := range map[string]string{
		"10.0.0.1": "shop/web n1", "::ffff:10.0.0.1": "shop/web n1", "10.0.0.2": "file/cart", "10.0.0.3": "", "10.0.0.4": "", "no address": "",
	} {
		if got := words(n.Address(addr, 80)); got != want {
			t.Errorf("%s is %q, want %q", addr, got, want)
		}
	}
}

func TestNamesService(t *testing.T) {
	x := shop(t)
	for _, tt := range []struct {
		name string
		own  events.Names
		addr string
		want string
	}{
		{"the run's own", &ownServices{}, "10.96.0.1", "recorded/one"},
		{"the index's", &ownServices{}, "10.96.0.2", "shop/inner"},
		{"a run that knows none", &ownNames{}, "10.96.0.2", "shop/inner"},
		{"nobody's", &ownServices{}, "10.96.0.3", ""},
		{"no address", &ownNames{}, "x", ""},
	} {
		f, ok := NewNames(tt.own, x, nil).Service(tt.addr, 8081, tcp, "n1")
		if f.Name != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: %+v, %v; want %q", tt.name, f, ok, tt.want)
		}
	}
}

// TestNamesPass: the rest is as the run says.
func TestNamesPass(t *testing.T) {
	x, own := world()
	n := NewNames(own, x, nil)
	comm, pid, ok := n.Process(41)
	if comm != "curl" || pid != 42 || !ok || n.Symbol(1) != "kfree_skb" || n.DropReason(1) != "NETFILTER_DROP" {
		t.Error("process, symbol or drop reason is not the run's own")
	}
	if p := n.PodOfProcess(42); p != "" {
		t.Errorf("process 42 is %q's", p)
	}
	n = NewNames(own, x, func(pid uint32) string { return map[uint32]string{42: "kube-system/proxy"}[pid] })
	if a, b := n.PodOfProcess(42), n.PodOfProcess(43); a != "kube-system/proxy" || b != "" {
		t.Errorf("processes 42 and 43 are %q's and %q's", a, b)
	}
}

// TestNodeCalled: the host's name need not be the node's; its addresses tell.
func TestNodeCalled(t *testing.T) {
	x, own := world()
	x.PutService(&Service{Namespace: "shop", Name: "cart", ClusterIPs: ips("10.96.0.1"), Ports: []ServicePort{{"http", tcp, 80, 0}}})
	x.PutSlice(&Slice{
		Namespace: "shop", Name: "cart-1", Service: "cart", Ports: []SlicePort{{"http", tcp, 8080}},
		Endpoints: []Endpoint{{ips("10.0.0.2"), "n1", "cart", true, true, false, ""}},
	})
	n := NewNames(own, x, nil)
	if f, ok := n.Service("10.96.0.1", 80, tcp, "host"); ok {
		t.Errorf("facts for a node that is not known: %+v", f)
	}
	n.Device(nodeNS, 2)
	if f, ok := n.Service("10.96.0.1", 80, tcp, "host"); !ok || f.Here != 1 || f.Elsewhere != 0 {
		t.Errorf("%+v, %v; want one endpoint here", f, ok)
	}
}

// TestLabels: a pod's namespace has its labels, as long as it has its name.
func TestLabels(t *testing.T) {
	x := newClock().index(Current, Current)
	n := NewNames(&ownNames{}, x, nil)
	p := testPod("shop", "web", "10.0.0.1")
	p.Netns, p.Labels = 7, "app=web"
	x.PutPod(FromCRI, p)
	labels := func(want string) {
		t.Helper()
		if got := n.Namespace(7); string(got.Labels) != want {
			t.Errorf("%+v, want labels %q", got, want)
		}
	}
	labels("app=web")
	api := testPod("shop", "web", "10.0.0.1")
	x.PutPod(FromAPI, api) // of other nodes it keeps none
	labels("app=web")
	api.Labels = "app=web,version=2"
	x.PutPod(FromAPI, api)
	labels("app=web,version=2")
	x.DeletePod(FromAPI, api.UID)
	labels("app=web")
	x.DeletePod(FromCRI, p.UID)
	labels("app=web") // packets of the dead are still told
	next := testPod("shop", "next", "10.0.0.2")
	next.Netns = 7
	x.PutPod(FromCRI, next)
	labels("")
}

// ownRules are a run's names that know of rules.
type ownRules struct{ ownNames }

func (*ownRules) Rule(q *events.RuleQuery) (events.RuleFacts, bool) {
	return events.RuleFacts{Chain: "INPUT"}, q.Netns == nodeNS
}

// TestRulesOfRun: the run's own names tell of rules, through those of Kubernetes.
func TestRulesOfRun(t *testing.T) {
	x, own := world()
	if f, ok := events.RuleOf(NewNames(&ownRules{*own}, x, nil), &events.RuleQuery{Netns: nodeNS}); !ok || f.Chain != "INPUT" {
		t.Errorf("%+v, %v", f, ok)
	}
	if f, ok := events.RuleOf(NewNames(own, x, nil), &events.RuleQuery{Netns: nodeNS}); ok {
		t.Errorf("%+v of names that know no rules", f)
	}
}
