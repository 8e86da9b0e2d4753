// SPDX-License-Identifier: Apache-2.0

package record

import "github.com/stackhop/stackhop/events"

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

func (v *ServiceName) facts() events.ServiceFacts {
	return events.ServiceFacts{
		Name: string(v.Name), Port: string(v.PortName), Type: string(v.Type), Policy: string(v.Policy), Affinity: v.Affinity,
		Here: int(v.Here), Elsewhere: int(v.Elsewhere), Terminating: int(v.Terminating), NotReady: int(v.NotReady), Stale: v.Stale,
	}
}

// take takes in what was answered. Counts beyond what is written are cut.
func (v *ServiceName) take(f *events.ServiceFacts) {
	v.Name, v.PortName, v.Type, v.Policy = Text(f.Name), Text(f.Port), Text(f.Type), Text(f.Policy)
	v.Affinity, v.Stale = f.Affinity, f.Stale
	v.Here, v.Elsewhere, v.Terminating, v.NotReady = counted(f.Here), counted(f.Elsewhere), counted(f.Terminating), counted(f.NotReady)
}

func counted(n int) uint16 { return uint16(min(max(n, 0), 1<<16-1)) } //nolint:gosec // bounded

func (b *book) putService(v *ServiceName) {
	key := serviceKey{string(v.IP), v.Port, v.Proto, string(v.On)}
	b.services[key] = v.facts()
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
		n := ServiceName{IP: Text(ip), Port: port, Proto: proto, On: Text(node), Gone: true}
		if f, ok := events.ServiceOf(r.inner, ip, port, proto, node); ok {
			n.Gone = false
			n.take(&f)
		}
		if was, known := r.book.Service(ip, port, proto, node); known == n.Gone || was != n.facts() {
			r.say(Name{Service: &n})
		}
	}
	return r.book.Service(ip, port, proto, node)
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
