// SPDX-License-Identifier: Apache-2.0

package events

import (
	"strconv"
	"strings"
)

// Words of ServiceFacts.Policy.
const (
	PolicyLocal   = "Local"
	PolicyCluster = "Cluster"
)

// ServiceOf asks names about a virtual service, see ServiceNames; names that know
// of none say no.
func ServiceOf(n Names, ip string, port uint16, proto uint8, node string) (ServiceFacts, bool) {
	if s, ok := n.(ServiceNames); ok {
		return s.Service(ip, port, proto, node)
	}
	return ServiceFacts{}, false
}

// PodOfProcess asks names for the pod of a process, see ProcessNames; names that
// know of none answer as if there were no such process.
func PodOfProcess(n Names, pid uint32) string {
	if p, ok := n.(ProcessNames); ok && pid != 0 {
		return p.PodOfProcess(pid)
	}
	return ""
}

// service puts beside a request what is known of the service that it was sent to,
// and says it where the request did not get through.
func (b *builder) service(t *Traversal, r *run) {
	h := firstHeader(r.hops)
	if h == nil || t.Direction != directionRequest || !hasPorts(h) {
		return
	}
	f, ok := ServiceOf(b.s.names, t.Dst.IP, t.Dst.Port, h.Proto, t.translator())
	if !ok {
		return
	}
	t.Service = &f
	if t.Verdict != Delivered && t.Verdict != LeftNode {
		t.Notes = append(t.Notes, f.String())
	}
}

// translator is the node that translated the destination of a request, or
// should have: the last one that it visited under the address it was sent to.
func (t *Traversal) translator() string {
	node := ""
	for i := range t.Visits {
		v := &t.Visits[i]
		if v.Kind != KindNode {
			continue
		}
		if v.Node != "" {
			node = v.Node
		}
		for j := range v.NAT {
			if v.NAT[j].Kind == kindDNAT {
				return node
			}
		}
	}
	if node == "" {
		return t.Node
	}
	return node
}

// String says in one sentence where packets to the service may go.
func (f *ServiceFacts) String() string {
	s := "policy " + f.Policy + ", " + f.endpoints()
	if f.Stale {
		s += ", by what the API server last said"
	}
	return s
}

// endpoints counts the real servers: first those that packets may go to.
func (f *ServiceFacts) endpoints() string {
	var others []string
	if f.Terminating > 0 {
		others = append(others, strconv.Itoa(f.Terminating)+" terminating")
	}
	if f.NotReady > 0 {
		others = append(others, strconv.Itoa(f.NotReady)+" not ready")
	}
	rest := strings.Join(others, ", ")
	ready := f.Here + f.Elsewhere
	switch {
	case ready == 0 && rest == "":
		return "no endpoint"
	case ready == 0:
		return "no ready endpoint: " + rest
	case rest != "":
		rest = "; " + rest
	}
	return f.readyWords(ready) + rest
}

func (f *ServiceFacts) readyWords(ready int) string {
	if f.Policy == PolicyLocal {
		if f.Elsewhere == 0 {
			return plural(f.Here, "endpoint") + " here"
		}
		elsewhere := plural(f.Elsewhere, "endpoint") + " on " + otherNodes(f.Elsewhere)
		if f.Here == 0 {
			return elsewhere + ", none here"
		}
		return elsewhere + ", " + strconv.Itoa(f.Here) + " here"
	}
	here := strconv.Itoa(f.Here) + " of them"
	switch {
	case f.Here == 0:
		here = "none"
	case f.Elsewhere == 0 && ready == 1:
		here = "that one"
	case f.Elsewhere == 0:
		here = "all of them"
	}
	return plural(ready, "endpoint") + ", " + here + " here"
}

// otherNodes is where so many endpoints are that are not here. It is not known
// whether they share a node.
func otherNodes(n int) string {
	if n == 1 {
		return "another node"
	}
	return "other nodes"
}
