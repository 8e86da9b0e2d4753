// SPDX-License-Identifier: Apache-2.0

package record

import "github.com/stackhop/stackhop/events"

// VirtualName is an events.VirtualFacts, about the packets that were refused at
// one moment.
type VirtualName struct {
	Netns uint32 `json:"netns"`
	IP    Text   `json:"ip"`
	Port  uint16 `json:"port"`
	Proto uint8  `json:"proto"` // IPPROTO_*
	// Time of the refusal, in ns on the kernel's monotonic clock; 0: of any, which is
	// how earlier versions told of it, and when it was read is not known.
	Time uint64 `json:"time,omitempty"`
	// Pending says that the table was just being read, Gone that nothing is known of
	// the service any longer. Nothing else is said then.
	Pending bool `json:"pending,omitempty"`
	Gone    bool `json:"gone,omitempty"`
	VirtualCounts
	LateNS uint64       `json:"late,omitempty"`   // how long after Time they were read
	Before *VirtualPast `json:"before,omitempty"` // nil: not read shortly before
}

// VirtualCounts is an events.VirtualState.
type VirtualCounts struct {
	Absent       bool   `json:"absent,omitempty"`
	Destinations uint16 `json:"destinations,omitempty"`
	Idle         uint16 `json:"idle,omitempty"`
	Full         uint16 `json:"full,omitempty"`
}

// VirtualPast is what was read before a refusal.
type VirtualPast struct {
	VirtualCounts
	AgeNS uint64 `json:"age,omitempty"` // how long before
}

// virtualKey is what is asked about a virtual service.
type virtualKey struct {
	netns uint32
	ip    string
	port  uint16
	proto uint8
	time  uint64
}

var (
	_ events.VirtualNames = (*book)(nil)
	_ events.VirtualNames = (*NamesRecorder)(nil)
)

func virtualKeyOf(q *events.VirtualQuery) virtualKey {
	return virtualKey{q.Netns, q.Service.Addr().String(), q.Service.Port(), q.Proto, q.Time}
}

// facts are what is said of a refusal at a time, in ns.
func (v *VirtualName) facts(time uint64) events.VirtualFacts {
	f := events.VirtualFacts{Pending: v.Pending}
	if v.Pending || v.Gone {
		return f
	}
	f.After = v.state(0)
	if v.Time != 0 {
		f.After.At = time + v.LateNS
	}
	if b := v.Before; b != nil {
		f.Before = b.state(max(time-min(b.AgeNS, time), 1))
	}
	return f
}

func (c *VirtualCounts) state(at uint64) events.VirtualState {
	return events.VirtualState{At: at, Absent: c.Absent, Destinations: int(c.Destinations), Idle: int(c.Idle), Full: int(c.Full)}
}

// take takes in what is known.
func (v *VirtualName) take(f *events.VirtualFacts) {
	v.Pending = f.Pending
	if f.Pending {
		return
	}
	v.VirtualCounts = countsOf(&f.After)
	v.LateNS = f.After.At - min(f.After.At, v.Time)
	if f.Before.At != 0 {
		v.Before = &VirtualPast{countsOf(&f.Before), v.Time - min(f.Before.At, v.Time)}
	}
}

func countsOf(s *events.VirtualState) VirtualCounts {
	return VirtualCounts{s.Absent, counted(s.Destinations), counted(s.Idle), counted(s.Full)}
}

func (b *book) putVirtual(v *VirtualName) {
	key := virtualKey{v.Netns, string(v.IP), v.Port, v.Proto, v.Time}
	b.virtuals[key] = *v
	if v.Gone {
		delete(b.virtuals, key)
	}
}

func (b *book) Virtual(q *events.VirtualQuery) (events.VirtualFacts, bool) {
	return b.virtual(virtualKeyOf(q))
}

func (b *book) virtual(key virtualKey) (events.VirtualFacts, bool) {
	v, ok := b.virtuals[key]
	if !ok { // as earlier versions told it
		always := key
		always.time = 0
		v, ok = b.virtuals[always]
	}
	if !ok {
		return events.VirtualFacts{}, false
	}
	return v.facts(key.time), true
}

// Virtual implements events.VirtualNames, for names that do not, too.
func (r *NamesRecorder) Virtual(q *events.VirtualQuery) (events.VirtualFacts, bool) {
	if r.w.err != nil {
		return events.VirtualOf(r.inner, q)
	}
	key := virtualKeyOf(q)
	if _, asked := r.askedVirtuals[key]; !asked {
		r.askedVirtuals[key] = struct{}{}
		n := VirtualName{Netns: key.netns, IP: Text(key.ip), Port: key.port, Proto: key.proto, Time: key.time, Gone: true}
		if f, ok := events.VirtualOf(r.inner, q); ok {
			n.Gone = false
			n.take(&f)
		}
		if was, known := r.book.virtual(key); known == n.Gone || was != n.facts(key.time) {
			r.say(Name{Virtual: &n})
		}
	}
	return r.book.virtual(key)
}
