// SPDX-License-Identifier: Apache-2.0

package record

import (
	"net/netip"

	"github.com/stackhop/stackhop/events"
)

// ServiceName is an events.ServiceFacts.
type ServiceName struct {
	IP    Text   `json:"ip"`
	Port  uint16 `json:"port"`
	Proto uint8  `json:"proto"`        // IPPROTO_*
	On    Text   `json:"on,omitempty"` // the node whose packets it is about
	// Gone says that nothing is known of it any longer.
	Gone        bool   `json:"gone,omitempty"`
	Name        Text   `json:"name,omitempty"`
	PortName    Text   `json:"port_name,omitempty"`
	Type        Text   `json:"type,omitempty"`
	Policy      Text   `json:"policy,omitempty"`
	Affinity    bool   `json:"affinity,omitempty"`
	Here        uint16 `json:"here,omitempty"`
	Elsewhere   uint16 `json:"elsewhere,omitempty"`
	Terminating uint16 `json:"terminating,omitempty"`
	NotReady    uint16 `json:"not_ready,omitempty"`
	Stale       bool   `json:"stale,omitempty"`
	// Endpoints are what these counts count, see events.ServiceEndpoints; nil: not
	// known. At most events.MaxEndpoints of them are read.
	Endpoints *EndpointNames `json:"endpoints,omitempty"`
}

// EndpointNames are an events.ServiceEndpoints.
type EndpointNames struct {
	List    []EndpointName `json:"list,omitempty"`
	LeftOut uint32         `json:"left_out,omitempty"`
}

// EndpointName is an events.ServiceEndpoint.
type EndpointName struct {
	Addr        netip.AddrPort `json:"addr"`
	Node        Text           `json:"node,omitempty"`
	Zone        Text           `json:"zone,omitempty"`
	Ready       bool           `json:"ready,omitempty"`
	Serving     bool           `json:"serving,omitempty"`
	Terminating bool           `json:"terminating,omitempty"`
}

// told are the endpoints as they were told, as far as they are taken.
func (v *EndpointNames) told() *events.ServiceEndpoints {
	if v == nil {
		return nil
	}
	n := min(len(v.List), events.MaxEndpoints)
	out := &events.ServiceEndpoints{LeftOut: int(min(v.LeftOut, 1<<30)) + len(v.List) - n}
	for i := range v.List[:n] {
		e := &v.List[i]
		out.List = append(out.List, events.ServiceEndpoint{
			Addr: e.Addr, Node: string(e.Node), Zone: string(e.Zone), Ready: e.Ready, Serving: e.Serving, Terminating: e.Terminating,
		})
	}
	return out
}

// endpointNames are endpoints in the form of a recording, as many as are read.
func endpointNames(f *events.ServiceEndpoints) *EndpointNames {
	if f == nil {
		return nil
	}
	n := min(len(f.List), events.MaxEndpoints)
	v := &EndpointNames{LeftOut: uint32(min(max(f.LeftOut, 0)+len(f.List)-n, 1<<30))} //nolint:gosec // bounded
	for i := range f.List[:n] {
		e := &f.List[i]
		v.List = append(v.List, EndpointName{
			Addr: e.Addr, Node: Text(e.Node), Zone: Text(e.Zone), Ready: e.Ready, Serving: e.Serving, Terminating: e.Terminating,
		})
	}
	return v
}

// cost is what endpoints take of maxNames: their texts, and 96 each.
func (v *EndpointNames) cost() (size int) {
	if v == nil {
		return 0
	}
	for i := range v.List {
		size += 96 + len(v.List[i].Node) + len(v.List[i].Zone)
	}
	return size
}

// TaskName says which pod a process belongs to.
type TaskName struct {
	PID uint32 `json:"pid"`
	Pod Text   `json:"pod,omitempty"`
}

// serviceKey is what is asked about a service.
type serviceKey struct {
	ip    string
	port  uint16
	proto uint8
	on    string
}

var (
	_ events.ServiceNames = (*book)(nil)
	_ events.ProcessNames = (*book)(nil)
	_ events.ServiceNames = (*NamesRecorder)(nil)
	_ events.ProcessNames = (*NamesRecorder)(nil)
)

// Facts is what the name says of the service.
func (v *ServiceName) Facts() events.ServiceFacts {
	return events.ServiceFacts{
		Name: string(v.Name), Port: string(v.PortName), Type: string(v.Type), Policy: string(v.Policy), Affinity: v.Affinity,
		Here: int(v.Here), Elsewhere: int(v.Elsewhere), Terminating: int(v.Terminating), NotReady: int(v.NotReady), Stale: v.Stale,
		Endpoints: v.Endpoints.told(),
	}
}

// take takes in what was answered. Counts beyond what is written are cut.
func (v *ServiceName) take(f *events.ServiceFacts) {
	v.Name, v.PortName, v.Type, v.Policy = Text(f.Name), Text(f.Port), Text(f.Type), Text(f.Policy)
	v.Affinity, v.Stale = f.Affinity, f.Stale
	v.Here, v.Elsewhere, v.Terminating, v.NotReady = counted(f.Here), counted(f.Elsewhere), counted(f.Terminating), counted(f.NotReady)
	v.Endpoints = endpointNames(f.Endpoints)
}

func counted(n int) uint16 { return uint16(min(max(n, 0), 1<<16-1)) } //nolint:gosec // bounded

func (b *book) putService(v *ServiceName) {
	key := serviceKey{string(v.IP), v.Port, v.Proto, string(v.On)}
	b.services[key] = v.Facts()
	if v.Gone {
		delete(b.services, key)
	}
}

func (b *book) Service(ip string, port uint16, proto uint8, node string) (events.ServiceFacts, bool) {
	f, ok := b.services[serviceKey{ip, port, proto, node}]
	return f, ok
}

func (b *book) PodOfProcess(pid uint32) string { return b.tasks[pid] }

// Service implements events.ServiceNames, for names that do not, too.
func (r *NamesRecorder) Service(ip string, port uint16, proto uint8, node string) (events.ServiceFacts, bool) {
	if r.w.err != nil {
		return events.ServiceOf(r.inner, ip, port, proto, node)
	}
	if r.first(question{of: askService, n: uint64(port), m: uint64(proto), ip: ip, node: node}) {
		r.askService(ip, port, proto, node)
	}
	return r.book.Service(ip, port, proto, node)
}

// askService asks the run's own names, and says what is new. Most of the time
// they answer with the same endpoints as before, which need no look then.
func (r *NamesRecorder) askService(ip string, port uint16, proto uint8, node string) {
	f, ok := events.ServiceOf(r.inner, ip, port, proto, node)
	was, known := r.book.Service(ip, port, proto, node)
	if ok == known && (!ok || f == was) {
		return
	}
	n := ServiceName{IP: Text(ip), Port: port, Proto: proto, On: Text(node), Gone: !ok}
	if ok {
		n.take(&f)
	}
	if facts := n.Facts(); ok != known || !facts.SameFacts(&was) {
		r.say(Name{Service: &n})
	}
	key := serviceKey{ip, port, proto, node}
	if now, known := r.book.services[key]; known && ok && now.SameFacts(&f) {
		r.book.services[key] = f
	}
}

// PodOfProcess implements events.ProcessNames, for names that do not, too.
func (r *NamesRecorder) PodOfProcess(pid uint32) string {
	if r.w.err != nil {
		return events.PodOfProcess(r.inner, pid)
	}
	if r.first(question{of: askTask, n: uint64(pid)}) {
		if pod := events.PodOfProcess(r.inner, pid); pod != r.book.PodOfProcess(pid) {
			r.say(Name{Task: &TaskName{pid, Text(pod)}})
		}
	}
	return r.book.PodOfProcess(pid)
}
