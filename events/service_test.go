// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// cluster is the lab with names as an API server tells them.
type cluster struct {
	*lab
	names    map[string]AddressNames // by address, or address and port
	services map[string]ServiceFacts // by address, port, protocol and node
	pods     map[uint32]string       // by process
	asked    []string
}

var (
	_ ServiceNames = (*cluster)(nil)
	_ ProcessNames = (*cluster)(nil)
)

func (c *cluster) Address(ip string, port uint16) AddressNames {
	if n, ok := c.names[fmt.Sprintf("%s:%d", ip, port)]; ok {
		return n
	}
	return c.names[ip]
}

func (c *cluster) Service(ip string, port uint16, proto uint8, node string) (ServiceFacts, bool) {
	q := fmt.Sprintf("%s:%d %s %s", ip, port, ProtoName(proto), node)
	c.asked = append(c.asked, q)
	f, ok := c.services[q]
	return f, ok
}

func (c *cluster) PodOfProcess(pid uint32) string { return c.pods[pid] }

func newCluster() *cluster {
	return &cluster{
		lab: newLab(), services: map[string]ServiceFacts{}, pods: map[uint32]string{},
		names: map[string]AddressNames{
			"172.23.96.23":        {Pod: "default/centos", Node: "n1"},
			"172.23.96.24":        {Pod: "default/nginx", Node: "n1"},
			"172.23.96.163":       {Pod: "default/nginx1a", Node: "n2"},
			"10.0.0.180":          {Node: "n1"},
			"10.0.1.206":          {Node: "n2"},
			"10.0.1.206:32580":    {Service: "default/nginx1-local", Node: "n2"},
			"172.23.96.1":         {Node: "n1"},
			"192.168.13.23:80":    {Service: "default/nginx1"},
			"192.168.13.24:80":    {Service: "default/nginx"},
			"8.219.164.113:80":    {Service: "default/nginx1-local"},
			"8.219.164.114:80":    {Service: "default/nginx1-cluster"},
			"8.219.164.114:40932": {Pod: "not/this-one"},
		},
	}
}

// stitch returns the traversals of a script.
func (c *cluster) stitch(t *testing.T, reply bool, text string) []*Traversal {
	t.Helper()
	sc := c.script(t)
	sc.reply = reply
	out, _ := stitch(c.lab, sc.add(text).events, func(cfg *Config) { cfg.Names = c })
	checkSchema(t, out...)
	return out
}

// TestNamesOfCases: the names of the ends that were translated, and of the pods
// visited, in the ten cases.
func TestNamesOfCases(t *testing.T) {
	masq, masq1 := "snat pod= node=n1 svc=", "dnat pod=default/centos node= svc="
	want := map[string][]string{
		"2": {"dnat pod=default/nginx node= svc=default/nginx"}, "2r": {"snat pod= node= svc=default/nginx"},
		"3":  {"dnat pod=default/nginx node= svc=default/nginx1-cluster", masq},
		"3r": {masq1, "snat pod= node= svc=default/nginx1-cluster"},
		"5":  {"dnat pod=default/nginx1a node= svc=default/nginx1"}, "5r": {},
		"6":  {"dnat pod=default/nginx1a node= svc=default/nginx1-cluster", masq},
		"6r": {masq1, "snat pod= node= svc=default/nginx1-cluster"},
		"8":  {"dnat pod=default/nginx1a node= svc=default/nginx1-local"}, "8r": {"snat pod= node=n2 svc=default/nginx1-local"},
		"9": {"dnat pod=default/nginx1a node= svc=", masq}, "9r": {"dnat pod= node= svc=", "snat pod= node=n1 svc="},
	}
	seen := 0
	for _, tt := range labCases() {
		names, ok := want[tt.name]
		if !ok {
			continue
		}
		seen++
		got := newCluster().stitch(t, tt.reply, tt.script)[0]
		list := []string{}
		for _, n := range got.NAT {
			list = append(list, fmt.Sprintf("%s pod=%s node=%s svc=%s", n.Kind, n.Pod, n.Node, n.Service))
		}
		if !slices.Equal(list, names) {
			t.Errorf("case %s: %q, want %q", tt.name, list, names)
		}
		for _, v := range got.Visits {
			if want := map[bool]string{true: "default/" + v.Name}[v.Kind == KindPod]; v.Pod != want {
				t.Errorf("case %s: the visit of %s is in pod %q", tt.name, v.Name, v.Pod)
			}
		}
	}
	if seen != len(want) {
		t.Errorf("%d cases, not %d", seen, len(want))
	}
}

// TestMasqueradeToPod: a new source that is a pod's is no masquerading, although
// the pod's node is known.
func TestMasqueradeToPod(t *testing.T) {
	c := newCluster()
	c.devices[11][0].Addrs, c.devices[11][1].Addrs = nil, nil // so that only names tell
	for _, tt := range labCases() {
		if tt.name != "6" {
			continue
		}
		got := c.stitch(t, false, tt.script)[0]
		other := c.stitch(t, false, strings.ReplaceAll(tt.script, "10.0.0.180", "172.23.96.24"))[0]
		if !got.NAT[1].Masquerade || other.NAT[1].Masquerade || other.NAT[1].Pod != "default/nginx" || other.NAT[1].Node != "" {
			t.Errorf("%+v, %+v", got.NAT[1], other.NAT[1])
		}
	}
}

// TestStaleNames: a name that may be out of date says so, and only that.
func TestStaleNames(t *testing.T) {
	script := labCases()[2].script // case 2
	for _, tt := range []struct {
		name     string
		stale    string
		src, dst bool
		nat      bool
		header   string
		nats     string
	}{
		{"none", "", false, false, false, "172.23.96.23:40932 (default/centos, node n1, curl 541) → 192.168.13.24:80 (svc default/nginx, nginx 512)",
			"dnat 192.168.13.24:80 (svc default/nginx) → 172.23.96.24:80 (default/nginx) by ipvs"},
		{"sender", "172.23.96.23", true, false, false, "172.23.96.23:40932 (default/centos, node n1, perhaps no longer, curl 541) → 192.168.13.24:80 (svc default/nginx, nginx 512)",
			"dnat 192.168.13.24:80 (svc default/nginx) → 172.23.96.24:80 (default/nginx) by ipvs"},
		{"service", "192.168.13.24:80", false, true, true, "→ 192.168.13.24:80 (svc default/nginx, perhaps no longer, nginx 512)",
			"(svc default/nginx, perhaps no longer) → 172.23.96.24:80 (default/nginx, perhaps no longer) by ipvs"},
		{"endpoint", "172.23.96.24", false, false, true, "→ 192.168.13.24:80 (svc default/nginx, nginx 512)", "(default/nginx, perhaps no longer) by ipvs"},
		{"no name", "172.23.96.24", false, false, false, "(svc default/nginx, nginx 512)", "(svc default/nginx) → 172.23.96.24:80 by ipvs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster()
			n := c.names[tt.stale]
			if n.Stale = true; tt.name == "no name" {
				n = AddressNames{Stale: true}
			}
			c.names[tt.stale] = n
			tr := c.stitch(t, false, script)[0]
			if tr.Src.Stale != tt.src || tr.Dst.Stale != tt.dst || tr.NAT[0].Stale != tt.nat {
				t.Errorf("src %v, dst %v, nat %v", tr.Src.Stale, tr.Dst.Stale, tr.NAT[0].Stale)
			}
			var b bytes.Buffer
			if err := (&LineRenderer{W: &b, Location: time.UTC}).Render(tr); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(b.String(), tt.header) || !strings.Contains(b.String(), tt.nats) {
				t.Errorf("%s", b.String())
			}
		})
	}
}

// TestHostPods: a process in its node's own namespace names its pod; one in a
// pod's does not.
func TestHostPods(t *testing.T) {
	c := newCluster()
	c.pods = map[uint32]string{77: "kube-system/agent", 78: "kube-system/server", 541: "not/asked"}
	host := c.stitch(t, false, `
		n1/cni0 __ip_local_out h=10.0.0.180:1000>172.23.96.1:80,S task=agent:77
		n1/cni0 ip_output
		n1/cni0 tcp_v4_rcv
		n1 tcp_v4_do_rcv task=server:78
	`)[0]
	if host.Src.Pod != "kube-system/agent" || host.Dst.Pod != "kube-system/server" || host.Src.Node != "n1" {
		t.Errorf("src %+v, dst %+v", host.Src, host.Dst)
	}
	delete(c.pods, 77)
	delete(c.names, "172.23.96.23")
	for _, tr := range []*Traversal{
		c.stitch(t, false, `
			n1/cni0 __ip_local_out h=10.0.0.180:1000>172.23.96.1:80,S task=agent:77
		`)[0],
		c.stitch(t, false, `
			outside/eth0 __ip_local_out h=172.23.96.23:1000>172.23.96.1:80,S task=curl:541
		`)[0],
	} {
		if tr.Src.Pod != "" {
			t.Errorf("src %+v", tr.Src)
		}
	}
	if pod := PodOfProcess(c.lab, 78); pod != "" {
		t.Errorf("names that know no processes say %q", pod)
	}
}

// TestServiceFacts: which node is asked, of what, and what is said.
func TestServiceFacts(t *testing.T) {
	local := ServiceFacts{Name: "default/nginx1-local", Port: "http", Type: "LoadBalancer", Policy: PolicyLocal, Elsewhere: 2}
	for _, tt := range []struct {
		name   string
		of     string // case
		change func(string) string
		asked  string
		note   bool
	}{
		{name: "refused", of: "7", asked: "8.219.164.113:80 tcp n1", note: true},
		{name: "delivered", of: "5", asked: "192.168.13.23:80 tcp n1"},
		{name: "node port of another node", of: "8", asked: "10.0.1.206:32580 tcp n2"},
		{name: "translated by the first of two nodes", of: "9", asked: "10.0.0.180:30875 tcp n1"},
		{name: "refused by the second of two nodes", of: "4", asked: "172.23.96.163:80 tcp n2", note: true, change: func(s string) string {
			at := strings.Index(s, "n2/eth0 ip_forward")
			return s[:at] + "n2/eth0 kfree_skb reason=NETFILTER_DROP site=nf_hook_slow\n"
		}},
		{name: "in flight", of: "7", asked: "8.219.164.113:80 tcp n1", note: true, change: func(s string) string {
			return s[:strings.Index(s, "n1/cni0 __icmp_send")]
		}},
		{name: "no node", of: "8", asked: "10.0.1.206:32580 tcp ", note: true, change: func(s string) string {
			return s[:strings.Index(s, "n2/eth0 netif_receive_skb")]
		}},
		{name: "reply", of: "5r"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster()
			c.services[tt.asked] = local
			for _, lc := range labCases() {
				if lc.name != tt.of {
					continue
				}
				if tt.change != nil {
					lc.script = tt.change(lc.script)
				}
				tr := c.stitch(t, lc.reply, lc.script)[0]
				if asked := strings.Join(c.asked, ", "); asked != tt.asked {
					t.Errorf("asked %q, want %q", asked, tt.asked)
				}
				if (tr.Service != nil) != (tt.asked != "") || (tr.Service != nil && *tr.Service != local) {
					t.Errorf("service %+v", tr.Service)
				}
				if said := slices.Contains(tr.Notes, "policy Local, 2 endpoints on other nodes, none here"); said != tt.note {
					t.Errorf("%s: notes %q", tr.Summary, tr.Notes)
				}
			}
		})
	}
}

// TestServiceUnknown: nothing is said of a service that nobody knows.
func TestServiceUnknown(t *testing.T) {
	c := newCluster()
	if tr := c.stitch(t, false, case7)[0]; tr.Service != nil || len(tr.Notes) != 0 || len(c.asked) != 1 {
		t.Errorf("service %+v, notes %q, asked %q", tr.Service, tr.Notes, c.asked)
	}
}

func TestServiceSentence(t *testing.T) {
	for want, f := range map[string]ServiceFacts{
		"policy Local, 2 endpoints on other nodes, none here":                                        {Policy: PolicyLocal, Elsewhere: 2},
		"policy Local, 1 endpoint on another node, none here":                                        {Policy: PolicyLocal, Elsewhere: 1},
		"policy Local, 1 endpoint on another node, 3 here":                                           {Policy: PolicyLocal, Elsewhere: 1, Here: 3},
		"policy Local, 1 endpoint here":                                                              {Policy: PolicyLocal, Here: 1},
		"policy Local, 2 endpoints on other nodes, none here; 1 terminating":                         {Policy: PolicyLocal, Elsewhere: 2, Terminating: 1},
		"policy Local, no endpoint":                                                                  {Policy: PolicyLocal},
		"policy Cluster, no endpoint, by what the API server last said":                              {Policy: PolicyCluster, Stale: true},
		"policy Cluster, no ready endpoint: 1 terminating, 2 not ready":                              {Policy: PolicyCluster, Terminating: 1, NotReady: 2},
		"policy Cluster, no ready endpoint: 2 not ready":                                             {Policy: PolicyCluster, NotReady: 2},
		"policy Cluster, 3 endpoints, 1 of them here":                                                {Policy: PolicyCluster, Here: 1, Elsewhere: 2},
		"policy Cluster, 3 endpoints, all of them here":                                              {Policy: PolicyCluster, Here: 3},
		"policy Cluster, 3 endpoints, none here":                                                     {Policy: PolicyCluster, Elsewhere: 3},
		"policy Cluster, 1 endpoint, none here":                                                      {Policy: PolicyCluster, Elsewhere: 1},
		"policy Cluster, 1 endpoint, that one here":                                                  {Policy: PolicyCluster, Here: 1},
		"policy Cluster, 3 endpoints, 1 of them here; 4 not ready, by what the API server last said": {Policy: PolicyCluster, Here: 1, Elsewhere: 2, NotReady: 4, Stale: true},
	} {
		if got := f.String(); got != want {
			t.Errorf("%+v: %q, want %q", f, got, want)
		}
	}
}

// TestJoinNames: what one node knows better, and what only one knows.
func TestJoinNames(t *testing.T) {
	facts := &ServiceFacts{Name: "a/s"}
	for _, tt := range []struct {
		name           string
		first, last, j Endpoint
	}{
		{"current wins", Endpoint{IP: "1", Pod: "a/old", Node: "n1", Stale: true}, Endpoint{IP: "1", Pod: "a/new"}, Endpoint{IP: "1", Pod: "a/new"}},
		{"stale is better than none", Endpoint{IP: "1"}, Endpoint{IP: "1", Pod: "a/old", Stale: true}, Endpoint{IP: "1", Pod: "a/old", Stale: true}},
		{"stale changes nothing", Endpoint{IP: "1", Pod: "a/new"}, Endpoint{IP: "1", Pod: "a/old", Stale: true}, Endpoint{IP: "1", Pod: "a/new"}},
		{"both stale", Endpoint{IP: "1", Pod: "a/b", Stale: true}, Endpoint{IP: "1", Pod: "a/c", Stale: true}, Endpoint{IP: "1", Pod: "a/b", Stale: true}},
		{"nothing known there", Endpoint{IP: "1", Pod: "a/b", Stale: true}, Endpoint{IP: "1"}, Endpoint{IP: "1", Pod: "a/b", Stale: true}},
		{"another address", Endpoint{IP: "1", Pod: "a/b", Stale: true}, Endpoint{IP: "2", Pod: "a/c"}, Endpoint{IP: "1", Pod: "a/b", Stale: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first := &Traversal{Src: tt.first, Verdict: LeftNode, Notes: []string{facts.String()}}
			last := &Traversal{Src: tt.last, Verdict: Delivered, Service: facts}
			j := Join([]*Traversal{first, last}, make([]time.Time, 2))
			if j.Src != tt.j || j.Service != facts {
				t.Errorf("src %+v, want %+v; service %v", j.Src, tt.j, j.Service)
			}
		})
	}
}
