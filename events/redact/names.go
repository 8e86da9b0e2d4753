// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"net/netip"
	"slices"

	"github.com/stackhop/stackhop/events"
)

// names answers about pseudonyms with pseudonyms.
type names struct {
	r       *Redactor
	inner   events.Names
	devices cache[[2]uint32, answered]
	// What was made of the endpoints that were told last, by service and port.
	endpoints map[string]toldEndpoints
}

var (
	_ events.Names        = (*names)(nil)
	_ events.ServiceNames = (*names)(nil)
	_ events.ProcessNames = (*names)(nil)
	_ events.RuleNames    = (*names)(nil)
)

// answered is what the inner names said of a device, and what was made of it.
type answered struct{ was, is events.Device }

// toldEndpoints are endpoints, and what was made of them.
type toldEndpoints struct{ was, is *events.ServiceEndpoints }

// maxTold is for how many services these are kept.
const maxTold = 64

// Names wraps the names of a run for a stitcher, or a recorder, that gets its
// redacted events (see Event). It is asked by the numbers and addresses that
// these hold, asks inner by the originals, and answers in pseudonyms: behind it
// there is nothing original. Like the Redactor it is for one goroutine.
func (r *Redactor) Names(inner events.Names) events.Names {
	return &names{r: r, inner: inner, endpoints: map[string]toldEndpoints{}}
}

func (n *names) Device(netns, ifindex uint32) (events.Device, bool) {
	d, ok := n.inner.Device(n.r.originalNetns(netns), ifindex)
	if !ok {
		return events.Device{}, false
	}
	key := [2]uint32{netns, ifindex}
	if a, seen := n.devices[key]; seen && sameDevice(&a.was, &d) {
		return a.is, true
	}
	a := answered{was: d, is: n.r.Device(d)}
	a.was.Addrs = slices.Clone(d.Addrs)
	n.devices.put(key, a)
	return a.is, true
}

func sameDevice(a, b *events.Device) bool {
	return a.Name == b.Name && a.Kind == b.Kind && a.Master == b.Master &&
		a.PeerNetns == b.PeerNetns && a.PeerIfindex == b.PeerIfindex && slices.Equal(a.Addrs, b.Addrs)
}

func (n *names) Namespace(netns uint32) events.Namespace {
	return n.r.Namespace(n.inner.Namespace(n.r.originalNetns(netns)))
}

func (n *names) Address(ip string, port uint16) events.AddressNames {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return events.AddressNames{}
	}
	return n.r.AddressNames(n.inner.Address(n.r.original(a).String(), n.r.originalPort(port)))
}

func (n *names) Process(inode uint32) (comm string, pid uint32, ok bool) {
	comm, pid, ok = n.inner.Process(n.r.originalInode(inode))
	if !ok {
		return "", 0, false
	}
	return n.r.Process(comm), n.r.PID(pid), true
}

func (n *names) Symbol(addr uint64) string {
	return n.r.Symbol(n.inner.Symbol(n.r.originalLocation(addr)))
}

func (n *names) DropReason(reason uint32) string { return n.inner.DropReason(reason) }

// Service implements events.ServiceNames. The node is one that Namespace named, or
// Object made a word for, before.
func (n *names) Service(ip string, port uint16, proto uint8, node string) (events.ServiceFacts, bool) {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return events.ServiceFacts{}, false
	}
	f, ok := events.ServiceOf(n.inner, n.r.original(a).String(), n.r.originalPort(port), proto, n.r.originalObject(node))
	if !ok {
		return events.ServiceFacts{}, false
	}
	key := f.Name + " " + f.Port + " " + ip
	told := n.endpoints[key]
	if told.was != f.Endpoints { // there may be many of them, and packets
		told = toldEndpoints{f.Endpoints, n.r.Endpoints(f.Endpoints)}
		if len(n.endpoints) >= maxTold {
			clear(n.endpoints)
		}
		n.endpoints[key] = told
	}
	f.Endpoints = nil
	f = n.r.ServiceFacts(f)
	f.Endpoints = told.is
	return f, true
}

// Virtual implements events.VirtualNames. Counts stay.
func (n *names) Virtual(q *events.VirtualQuery) (events.VirtualFacts, bool) {
	was := *q
	was.Netns = n.r.originalNetns(q.Netns)
	was.Service = netip.AddrPortFrom(n.r.original(q.Service.Addr()), n.r.originalPort(q.Service.Port()))
	return events.VirtualOf(n.inner, &was)
}

// PodOfProcess implements events.ProcessNames.
func (n *names) PodOfProcess(pid uint32) string {
	return n.r.Object(events.PodOfProcess(n.inner, n.r.originalPID(pid)))
}

// Rule implements events.RuleNames. Rules are found by the original packet.
func (n *names) Rule(q *events.RuleQuery) (events.RuleFacts, bool) {
	was := *q
	was.Netns = n.r.originalNetns(q.Netns)
	was.Header.Tuple = n.r.originalTuple(q.Header.Tuple)
	was.In, was.Out = n.originalDevice(q.Netns, q.In), n.originalDevice(q.Netns, q.Out)
	if q.CT != nil {
		ct := *q.CT
		ct.Original, ct.Reply = n.r.originalTuple(ct.Original), n.r.originalTuple(ct.Reply)
		was.CT = &ct
	}
	f, ok := events.RuleOf(n.inner, &was)
	return n.r.RuleFacts(f), ok
}

// originalDevice is the name of a device that Device told of lately; empty: not
// known.
func (n *names) originalDevice(netns uint32, name string) string {
	if name == "" {
		return ""
	}
	for key, a := range n.devices {
		if key[0] == netns && a.is.Name == name {
			return a.was.Name
		}
	}
	return ""
}

// originalTuple undoes Tuple.
func (r *Redactor) originalTuple(t events.Tuple) events.Tuple {
	t.Src, t.Dst = r.original(t.Src), r.original(t.Dst)
	if r.Ports || t.Proto == protoICMP || t.Proto == protoICMPv6 {
		for _, p := range []*uint16{&t.SrcPort, &t.DstPort} {
			if *p != 0 {
				*p = uint16(r.perm.back(portNumbers, uint64(*p))) //nolint:gosec // 16 bits
			}
		}
	}
	return t
}

// ruleWords are names of tables and chains that every node has, and engines and
// families.
var ruleWords = wordSet("filter nat mangle raw security kube-proxy PREROUTING INPUT FORWARD OUTPUT POSTROUTING " +
	"KUBE-FIREWALL KUBE-FORWARD KUBE-SERVICES KUBE-EXTERNAL-SERVICES KUBE-NODEPORTS KUBE-NODE-PORT KUBE-PROXY-FIREWALL KUBE-IPVS-FILTER " +
	"KUBE-IPVS-OUT-FILTER KUBE-SOURCE-RANGES-FIREWALL KUBE-POSTROUTING masquerading service-endpoints-check nodeport-endpoints-check cluster-ips-check firewall-check reject-chain " +
	"ip ip6 inet bridge " + events.EngineIPTables + " " + events.EngineIPTablesNFT + " " + events.EngineNFTables)

// RuleFacts returns what is known of a rule in pseudonyms. Its text, its other
// candidates and why it is not sure have addresses and names in them, and are left
// out; its comment, whatever it says, becomes a word.
func (r *Redactor) RuleFacts(f events.RuleFacts) events.RuleFacts {
	for _, s := range []*string{&f.Engine, &f.Family, &f.Table, &f.Chain} {
		if !ruleWords[*s] {
			*s = r.Object(*s)
		}
	}
	if f.Comment != "" {
		f.Comment = r.Object(f.Comment)
	}
	f.Text, f.Why, f.Candidates = "", "", nil
	return f
}

// Device returns what is known of a device in pseudonyms. Its Addrs are new.
func (r *Redactor) Device(d events.Device) events.Device {
	d.Name = r.DeviceName(d.Name)
	d.PeerNetns = r.Netns(d.PeerNetns)
	d.Addrs = slices.Clone(d.Addrs)
	for i, a := range d.Addrs {
		d.Addrs[i] = r.Addr(a)
	}
	return d
}

// Namespace returns what is known of a namespace in pseudonyms. Its kind stays.
func (r *Redactor) Namespace(n events.Namespace) events.Namespace {
	return events.Namespace{Name: r.Object(n.Name), Kind: n.Kind, Node: r.Object(n.Node), Pod: r.Object(n.Pod), Labels: r.Labels(n.Labels)}
}

// Labels returns labels in pseudonyms, their keys too.
func (r *Redactor) Labels(l events.Labels) events.Labels {
	if l == "" {
		return ""
	}
	p := map[string]string{}
	for key, value := range l.Map() {
		p[r.Object(key)] = r.Object(value)
	}
	return events.NewLabels(p)
}

// AddressNames returns the names of an address in pseudonyms.
func (r *Redactor) AddressNames(n events.AddressNames) events.AddressNames {
	return events.AddressNames{Pod: r.Object(n.Pod), Service: r.Object(n.Service), Node: r.Object(n.Node), Stale: n.Stale}
}

// Words of Kubernetes, which name nothing of the user's.
var (
	serviceTypes    = wordSet("ClusterIP NodePort LoadBalancer ExternalName")
	servicePolicies = wordSet(events.PolicyLocal + " " + events.PolicyCluster)
)

// ServiceFacts returns what is known of a service in pseudonyms. Counts, and the
// words that Kubernetes has for its type and policy, stay.
func (r *Redactor) ServiceFacts(f events.ServiceFacts) events.ServiceFacts {
	f.Name, f.Port = r.Object(f.Name), r.ServicePort(f.Port)
	if !serviceTypes[f.Type] {
		f.Type = r.Object(f.Type)
	}
	if !servicePolicies[f.Policy] {
		f.Policy = r.Object(f.Policy)
	}
	f.Endpoints = r.Endpoints(f.Endpoints)
	return f
}

// Endpoints returns endpoints in pseudonyms, in their order.
func (r *Redactor) Endpoints(e *events.ServiceEndpoints) *events.ServiceEndpoints {
	if e == nil {
		return nil
	}
	p := &events.ServiceEndpoints{List: slices.Clone(e.List), LeftOut: e.LeftOut}
	for i := range p.List {
		s := &p.List[i]
		s.Addr, s.Node, s.Zone = r.AddrPort(s.Addr), r.Object(s.Node), r.Object(s.Zone)
	}
	return p
}
