// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/merge"
	"github.com/stackhop/stackhop/events/pcapexpr"
	"github.com/stackhop/stackhop/events/record"
)

// playing says how a recording is played.
type playing struct {
	filter *pcapexpr.Expr // chooses packets anew; nil: all that were recorded
	wires  bool           // events.Config.Wires
	reuse  bool           // events.Config.Reuse: show keeps nothing
	// marked, if there is one, gets the packets that filter chooses, and all are
	// played: the rest of their way may be in another recording.
	marked map[uint64]struct{}
}

// player gives a recording's events to a stitcher, as a tracer once did.
type player struct {
	*playing
	ctx  context.Context //nolint:containedctx // of the one replay
	out  *replayed
	show func(*events.Traversal) error

	names      switchedNames
	stitcher   *events.Stitcher
	collecting collecting
	before     int                     // number of the part read before
	matched    map[uint64]struct{}     // packets that match filter
	gapFrom    uint64                  // ns: when what was left out, or lost, began; 0: nothing was just now
	addresses  map[devKey][]netip.Addr // of devices
	err        error
	enough     atomic.Bool // err is not nil
}

// devKey is a device.
type devKey struct{ netns, ifindex uint32 }

// switchedNames are those of the part that is being read.
type switchedNames struct{ events.Names }

var (
	_ events.ServiceNames = (*switchedNames)(nil)
	_ events.ProcessNames = (*switchedNames)(nil)
	_ events.VirtualNames = (*switchedNames)(nil)
	_ events.RuleNames    = (*switchedNames)(nil)
)

// Service implements events.ServiceNames.
func (n *switchedNames) Service(ip string, port uint16, proto uint8, node string) (events.ServiceFacts, bool) {
	return events.ServiceOf(n.Names, ip, port, proto, node)
}

// Virtual implements events.VirtualNames.
func (n *switchedNames) Virtual(q *events.VirtualQuery) (events.VirtualFacts, bool) {
	return events.VirtualOf(n.Names, q)
}

// PodOfProcess implements events.ProcessNames.
func (n *switchedNames) PodOfProcess(pid uint32) string { return events.PodOfProcess(n.Names, pid) }

// Rule implements events.RuleNames.
func (n *switchedNames) Rule(q *events.RuleQuery) (events.RuleFacts, bool) {
	return events.RuleOf(n.Names, q)
}

// config is what a stitcher needs to know of the run.
func (f *part) config(hooks []events.Hook, names events.Names) events.Config {
	return events.Config{
		Hooks: hooks, Names: names, Wall: f.meta.Clock.Wall,
		Node: f.meta.Node, OnlyNode: f.meta.OnlyNode, HasFunctions: f.meta.HasFunctions,
	}
}

// part plays one file.
func (p *player) part(f *part) error {
	file, r, err := openRecording(f.path, p.halted)
	if err != nil {
		return err
	}
	defer file.Close()
	if p.stitcher != nil && f.meta.Part != p.before+1 {
		p.gap() // while the names are those of the part before
	}
	p.names.Names = r.Names()
	if p.stitcher == nil {
		cfg := f.config(r.Hooks(), &p.names)
		cfg.Wires, cfg.Reuse = p.wires, p.reuse
		p.stitcher = events.NewStitcher(cfg, p.traversal)
	}
	p.before = f.meta.Part
	damage := r.Run(p)
	if err := p.stopped(); err != nil {
		return err // and what the reader says is that it was stopped
	}
	p.out.damage = append(p.out.damage, places(f.path, damage)...)
	if damage != nil {
		p.out.sets.Doubt() // of which some changes may be missing
	}
	p.out.end = r.End()
	if p.out.end == nil {
		p.out.endings = append(p.out.endings, f.path)
		p.stitcher.Missed(p.out.last)
	}
	if facts := r.Facts(); facts != nil {
		p.out.facts = facts
	}
	return p.err
}

// stopped is why no more is to be read.
func (p *player) stopped() error { return cmp.Or(p.err, p.ctx.Err()) }

// halted is stopped for the goroutine that reads ahead.
func (p *player) halted() error {
	if p.enough.Load() {
		return errEnough
	}
	return p.ctx.Err()
}

// places tells damage to a file place by place.
func places(path string, damage error) (out []error) {
	if damage == nil {
		return nil
	}
	for line := range strings.Lines(damage.Error()) {
		out = append(out, fmt.Errorf("%s: %s", quoted(path), strings.TrimSpace(line)))
	}
	return out
}

// finish gives out what is still open, and says what came of it all.
func (p *player) finish() error {
	if p.gapFrom != 0 {
		p.stitcher.Missed(p.out.last)
	}
	p.stitcher.Flush()
	if p.out.end != nil { // it counts more than was told before, if parts are missing
		for stage, n := range p.out.end.Lost {
			p.out.lost[stage] = max(p.out.lost[stage], n)
		}
	}
	p.out.stats = p.stitcher.Stats()
	p.out.addrs = p.localAddresses()
	p.out.names = &p.names
	return p.err
}

// gap is where events were left out of the recording: what was open before it
// has nothing to do with what comes.
func (p *player) gap() {
	p.stitcher.Missed(p.out.last)
	p.stitcher.Flush()
	if p.gapFrom == 0 {
		p.gapFrom = p.out.last
	}
}

// Damaged is where something was lost of the recording: events, or what tells that
// the recorder lost some since it told of that before.
func (p *player) Damaged(*record.Damage) {
	from := p.out.first
	if n := len(p.out.clocks); n > 0 {
		from = p.out.clocks[n-1].Mono
	}
	if p.gapFrom == 0 {
		p.gapFrom = max(1, min(from, p.out.last))
	}
}

// errEnough ends a replay early: enough was shown.
var errEnough = errors.New("enough")

func (p *player) traversal(t *events.Traversal) {
	if p.err == nil {
		p.err = p.show(t)
		p.enough.Store(p.err != nil)
	}
}

// Event takes an event of the recording.
func (p *player) Event(e *events.Event) {
	p.seen(e.Time)
	if p.filter != nil {
		p.choose(e)
	}
	p.stitcher.Add(e)
}

// choose decides anew which packets match: where the headers are told, and as the
// kernel side does it for what a matching packet was turned into or answered
// with. The stitcher follows the connection from there.
func (p *player) choose(e *events.Event) {
	matched := e.Flags&events.FlagMatched != 0 && p.matches(e)
	switch {
	case p.marked != nil:
		if matched {
			p.marked[e.Packet] = struct{}{}
		}
	case !matched:
		e.Flags &^= events.FlagMatched
	}
}

// matches says whether the packet of an event matches, here or before.
func (p *player) matches(e *events.Event) bool {
	_, matched := p.matched[e.Packet]
	if !matched && e.Other != 0 {
		_, matched = p.matched[e.Other]
	}
	if !matched && (e.Ext != events.ExtHeader || !matchHeader(p.filter, e)) {
		return false
	}
	if e.Flags&events.FlagEnd != 0 {
		delete(p.matched, e.Packet)
		return true
	}
	if len(p.matched) >= maxMatched { // their ends were lost
		clear(p.matched)
	}
	p.matched[e.Packet] = struct{}{}
	return true
}

// maxMatched bounds the packets that are known to match at one time.
const maxMatched = 1 << 20

// matchHeader says whether an expression matches the headers of an event, or
// those of the packet that it carries, as it was when it was recorded. Where the
// packet's bytes were not kept the addresses and ports decide.
func matchHeader(x *pcapexpr.Expr, e *events.Event) bool {
	if matchOne(x, e) {
		return true
	}
	if !e.Header.Outer() {
		return false
	}
	in := *e
	in.Header, in.Link.VLAN = e.Header.Carried(), 0
	front := int(e.Header.Length - in.Header.Length)
	in.Bytes = e.Bytes[min(front, len(e.Bytes)):]
	if len(in.Bytes) == 0 {
		in.Bytes = nil
	}
	return matchOne(x, &in)
}

func matchOne(x *pcapexpr.Expr, e *events.Event) bool {
	if e.Bytes != nil {
		vlan := int32(-1)
		if e.Link.VLAN != 0 {
			vlan = int32(e.Link.VLAN & 0xfff)
		}
		return x.Match(e.Bytes, pcapexpr.Meta{Len: e.Header.Length, VLAN: vlan})
	}
	return matchTuple(x, &e.Header.Tuple) != pcapexpr.No
}

// matchTuple says whether packets with these addresses and ports match.
func matchTuple(x *pcapexpr.Expr, t *events.Tuple) pcapexpr.Tri {
	return x.MatchTuple(pcapexpr.Tuple{
		Proto: t.Proto, Src: t.Src, Dst: t.Dst, SrcPort: t.SrcPort, DstPort: t.DstPort, KnownSrc: true, KnownDst: true,
	})
}

// Tick tells the stitcher the time that it had.
func (p *player) Tick(now uint64) {
	p.seen(now)
	p.stitcher.Advance(now)
	p.collecting.tick(now)
}

// Status tells of gaps, losses and clocks.
func (p *player) Status(s *record.Status) {
	if s.Gap {
		p.gap()
		return
	}
	p.out.clocks = append(p.out.clocks, merge.Clock{Mono: s.Clock.Mono, Real: s.Clock.Real})
	lost := uint64(0)
	for stage, n := range s.Lost {
		lost += n // also what --rate shed: it is not there
		p.out.lost[stage] += n
	}
	if s.Missed() > 0 {
		p.stitcher.Missed(s.Clock.Mono)
	}
	if lost > 0 {
		p.out.losses = append(p.out.losses, lossSpan{s.Since, s.Clock.Mono, lost})
	}
}

// SetChange notes which members the selection's sets had.
func (p *player) SetChange(c *record.SetChange) { p.out.sets.Put(c) }

// Name notes services, and the addresses of devices.
func (p *player) Name(n *record.Name) {
	if n.Forget {
		clear(p.addresses)
	}
	if n.Service != nil {
		p.out.told.take(n.Service)
	}
	d := n.Device
	if d == nil {
		return
	}
	delete(p.addresses, devKey{d.Netns, d.Ifindex})
	if !d.Gone && len(d.Addrs) > 0 {
		p.addresses[devKey{d.Netns, d.Ifindex}] = d.Addrs
	}
}

// localAddresses are those of the node and its pods.
func (p *player) localAddresses() []netip.Prefix {
	var out []netip.Prefix
	for at, addrs := range p.addresses {
		if p.names.Namespace(at.netns).Kind == events.KindNetwork || !p.stitcher.Observes(at.netns) {
			continue
		}
		for _, a := range addrs {
			if !a.IsLoopback() && !a.IsLinkLocalUnicast() {
				out = append(out, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	return out
}

func (p *player) seen(now uint64) {
	if p.out.first == 0 {
		p.out.first = now
	}
	p.out.last = max(p.out.last, now)
	if p.gapFrom != 0 && now != 0 {
		p.out.losses = append(p.out.losses, lossSpan{p.gapFrom, now, 1})
		p.stitcher.Missed(now)
		p.gapFrom = 0
	}
}
