// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// ErrRedacted is the error of Copy for a recording that is redacted already:
// pseudonyms of pseudonyms would not be those of the key.
var ErrRedacted = errors.New("the recording is redacted already")

// Copy reads a recording and writes it redacted. If the recording is damaged, all
// that can be read is copied, and the damage is the error, see
// record.Reader.Run. A recording that was not closed stays so.
func Copy(in io.Reader, out io.Writer, r *Redactor) error {
	rd, err := record.NewReader(in)
	if err != nil {
		return err
	}
	if rd.Meta().Redacted {
		return ErrRedacted
	}
	m := r.Meta(*rd.Meta())
	w, err := record.NewWriter(out, &m)
	if err != nil {
		return err
	}
	c := copier{r: r, w: w, sets: map[record.Text]bool{}}
	damage := rd.Run(&c)
	if damage != nil {
		c.doubtSets()
	}
	if end := rd.End(); end != nil {
		e := *end
		e.Reason = r.Text(e.Reason)
		err = w.Close(&e)
	} else {
		err = w.Flush()
	}
	if err = errors.Join(c.err, err); err != nil {
		return fmt.Errorf("redact: %w", err)
	}
	return damage
}

// copier hands on what a recording holds, in its order.
type copier struct {
	r *Redactor
	w *record.Writer
	e events.Event
	// sets are those that were told of.
	sets map[record.Text]bool
	err  error
}

var (
	_ record.Sink       = (*copier)(nil)
	_ record.NameSink   = (*copier)(nil)
	_ record.FactsSink  = (*copier)(nil)
	_ record.StatusSink = (*copier)(nil)
	_ record.SetSink    = (*copier)(nil)
)

// Event hands on an event. The reader's own is what it tells the next from.
func (c *copier) Event(e *events.Event) {
	c.e = *e
	c.r.Event(&c.e)
	c.w.Event(&c.e)
}

// Tick hands on a moment.
func (c *copier) Tick(now uint64) { c.w.Tick(now) }

// Name hands on a name.
func (c *copier) Name(n *record.Name) {
	if p, ok := c.r.Name(*n); ok {
		c.w.Name(&p)
	}
}

// Facts hands on facts.
func (c *copier) Facts(f *record.Facts) { c.keep(c.w.Facts(c.r.Facts(f))) }

// Status hands on counts.
func (c *copier) Status(s *record.Status) { c.keep(c.w.Status(s)) }

// SetChange hands on which members a set has.
func (c *copier) SetChange(s *record.SetChange) {
	p := *s
	p.Set = record.Text(c.r.token(string(s.Set))) // as in Filter
	p.Add, p.Del = c.r.members(s.Add), c.r.members(s.Del)
	if len(c.sets) < maxCopiedSets {
		c.sets[p.Set] = true
	}
	c.keep(c.w.SetChange(&p))
}

// maxCopiedSets is more than a selection has.
const maxCopiedSets = 1000

// doubtSets says that nothing is known of the sets: what could not be read may have
// been of them, and the copy will not say that anything is missing.
func (c *copier) doubtSets() {
	for name := range c.sets {
		c.keep(c.w.SetChange(&record.SetChange{Set: name, Untold: true}))
	}
}

func (r *Redactor) members(list []record.Member) []record.Member {
	out := make([]record.Member, len(list))
	for i, m := range list {
		out[i] = record.Member(r.AddrPort(netip.AddrPort(m)))
	}
	return out
}

// keep keeps the first error.
func (c *copier) keep(err error) {
	if c.err == nil {
		c.err = err
	}
}

// Meta returns the description of a run in pseudonyms.
func (r *Redactor) Meta(m record.Meta) record.Meta {
	m.Node, m.OnlyNode = r.Object(m.Node), r.Object(m.OnlyNode)
	m.BootID, m.RunID = r.ID(m.BootID), r.ID(m.RunID)
	m.Args, m.Filter, m.Selection = r.Args(m.Args), r.Filter(m.Filter), r.selection(m.Selection)
	m.SnapLen, m.Redacted = 0, true
	m.Hooks = slices.Clone(m.Hooks)
	for i := range m.Hooks {
		m.Hooks[i].Err = r.Text(m.Hooks[i].Err)
	}
	return m
}

// Facts returns what was configured in pseudonyms.
func (r *Redactor) Facts(f *record.Facts) *record.Facts {
	p := &record.Facts{
		Services: slices.Clone(f.Services), Sysctls: slices.Clone(f.Sysctls), Conntrack: slices.Clone(f.Conntrack),
	}
	for i := range p.Services {
		s := &p.Services[i]
		s.Netns, s.Addr = r.Netns(s.Netns), r.AddrPort(s.Addr)
		s.Destinations = slices.Clone(s.Destinations)
		for j := range s.Destinations {
			s.Destinations[j].Addr = r.AddrPort(s.Destinations[j].Addr)
		}
	}
	for i := range p.Sysctls {
		s := &p.Sysctls[i]
		s.Netns, s.Name, s.Value = r.Netns(s.Netns), r.Sysctl(s.Name), r.Text(s.Value)
	}
	for i := range p.Conntrack {
		e := &p.Conntrack[i]
		e.Netns, e.Original, e.Reply = r.Netns(e.Netns), r.factTuple(e.Original), r.factTuple(e.Reply)
	}
	return p
}

func (r *Redactor) factTuple(t record.Tuple) record.Tuple {
	p := r.Tuple(events.Tuple{
		Src: t.Src.Addr(), Dst: t.Dst.Addr(), SrcPort: t.Src.Port(), DstPort: t.Dst.Port(), Proto: t.Proto,
	})
	return record.Tuple{Proto: t.Proto, Src: netip.AddrPortFrom(p.Src, p.SrcPort), Dst: netip.AddrPortFrom(p.Dst, p.DstPort)}
}

// Name returns a name of a recording in pseudonyms; false: it is of what is not
// understood, and nothing is left of it.
func (r *Redactor) Name(n record.Name) (record.Name, bool) {
	switch {
	case n.Namespace != nil:
		s := *n.Namespace
		s.Netns = r.Netns(s.Netns)
		s.Name, s.Node, s.Pod, s.Labels = r.object(s.Name), r.object(s.Node), r.object(s.Pod), r.Labels(s.Labels)
		n.Namespace = &s
	case n.Device != nil:
		d := *n.Device
		d.Netns, d.PeerNetns, d.Name = r.Netns(d.Netns), r.Netns(d.PeerNetns), record.Text(r.DeviceName(string(d.Name)))
		d.Addrs = slices.Clone(d.Addrs)
		for i, a := range d.Addrs {
			d.Addrs[i] = r.Addr(a)
		}
		n.Device = &d
	case n.Address != nil:
		return r.addressName(n)
	case n.Process != nil:
		p := *n.Process
		p.Inode, p.PID, p.Comm = r.Inode(p.Inode), r.PID(p.PID), record.Text(r.Process(string(p.Comm)))
		n.Process = &p
	case n.Symbol != nil:
		s := *n.Symbol
		s.Addr, s.Name = r.Location(s.Addr), record.Text(r.Symbol(string(s.Name)))
		n.Symbol = &s
	case n.Service != nil:
		return r.serviceName(n)
	case n.Virtual != nil:
		v := *n.Virtual
		ip, err := netip.ParseAddr(string(v.IP))
		if err != nil {
			n.Virtual = nil
			return n, n.Forget
		}
		v.Netns, v.IP, v.Port = r.Netns(v.Netns), record.Text(r.Addr(ip).String()), r.Port(v.Port)
		n.Virtual = &v
	case n.Rule != nil:
		n.Rule = r.ruleName(n.Rule)
	case n.Task != nil:
		n.Task = &record.TaskName{PID: r.PID(n.Task.PID), Pod: r.object(n.Task.Pod)}
	}
	return n, true
}

func (r *Redactor) serviceName(n record.Name) (record.Name, bool) {
	s := *n.Service
	ip, err := netip.ParseAddr(string(s.IP))
	if err != nil {
		n.Service = nil
		return n, n.Forget
	}
	f := r.ServiceFacts(events.ServiceFacts{Name: string(s.Name), Port: string(s.PortName), Type: string(s.Type), Policy: string(s.Policy)})
	s.IP, s.Port, s.On = record.Text(r.Addr(ip).String()), r.Port(s.Port), r.object(s.On)
	s.Name, s.PortName, s.Type, s.Policy = record.Text(f.Name), record.Text(f.Port), record.Text(f.Type), record.Text(f.Policy)
	if e := s.Endpoints; e != nil {
		p := &record.EndpointNames{List: slices.Clone(e.List), LeftOut: e.LeftOut}
		for i := range p.List {
			at := &p.List[i]
			at.Addr, at.Node, at.Zone = r.AddrPort(at.Addr), r.object(at.Node), r.object(at.Zone)
		}
		s.Endpoints = p
	}
	n.Service = &s
	return n, true
}

func (r *Redactor) ruleName(n *record.RuleName) *record.RuleName {
	v := *n
	t := r.Tuple(v.Tuple())
	v.Netns, v.Src, v.Dst, v.SrcPort, v.DstPort = r.Netns(v.Netns), t.Src, t.Dst, t.SrcPort, t.DstPort
	f := r.RuleFacts(events.RuleFacts{
		Engine: string(v.Engine), Family: string(v.Space), Table: string(v.Table), Chain: string(v.Chain), Comment: string(v.Comment),
	})
	v.Engine, v.Space, v.Table = record.Text(f.Engine), record.Text(f.Family), record.Text(f.Table)
	v.Chain, v.Comment = record.Text(f.Chain), record.Text(f.Comment)
	v.Text, v.Why, v.Candidates = "", "", nil
	return &v
}

func (r *Redactor) addressName(n record.Name) (record.Name, bool) {
	a := *n.Address
	ip, err := netip.ParseAddr(string(a.IP))
	if err != nil {
		n.Address = nil
		return n, n.Forget
	}
	a.IP = record.Text(r.Addr(ip).String())
	a.Pod, a.Service, a.Node = r.object(a.Pod), r.object(a.Service), r.object(a.Node)
	if a.Port != nil {
		p := r.Port(*a.Port)
		a.Port = &p
	}
	n.Address = &a
	return n, true
}

func (r *Redactor) object(t record.Text) record.Text { return record.Text(r.Object(string(t))) }
