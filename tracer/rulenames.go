// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/ruleset"
)

// Bounds of what is kept of rules, and of the time spent on them.
const (
	// rulesFresh is how old rules may be at a drop, and how often at most they are
	// read for one namespace, in ns.
	rulesFresh = uint64(10 * time.Second)
	// masqueradeFresh is the same for a masquerade, of which there may be many at any
	// time: nobody waits for what failed.
	masqueradeFresh = uint64(time.Minute)

	maxRuleSpaces = 64
	maxRuleBytes  = 128 << 20 // as the tools listed them, of all namespaces
	// walkLimit bounds the rules looked at for one packet, secondLimit those of
	// one second: a flood of drops is told without its rules.
	walkLimit   = 1 << 18
	secondLimit = 1 << 20
)

// fresh is how old rules may be at what is asked about, in ns.
func fresh(q *events.RuleQuery) uint64 {
	if q.Masquerade {
		return masqueradeFresh
	}
	return rulesFresh
}

// ruleNames answers which rule dropped or masqueraded a packet. It is asked by the goroutine that
// reads the rings, and reads rules in one of its own.
type ruleNames struct {
	read  func(ctx context.Context, path string) readResult
	path  func(netns uint32) string       // opens the namespace; empty: not known
	addrs func(netns uint32) []netip.Addr // its own
	warn  func(string)
	now   func() uint64

	wake   chan struct{}
	mu     sync.Mutex
	spaces map[uint32]*ruleSpace
	queue  []uint32
	warned bool
	second uint64 // of secondLimit
	looked int
}

// ruleSpace is what is known of one namespace's rules.
type ruleSpace struct {
	readResult // set is nil: not read yet, or not readable
	local      map[netip.Addr]struct{}
	at         uint64 // ns: when reading began; 0: never
	tried      uint64 // ns: when it was last asked for
	waiting    bool   // to be read, or being read
	used       uint64
}

func newRuleNames(inv *inventory, warn func(string)) *ruleNames {
	return &ruleNames{
		read: func(ctx context.Context, path string) readResult {
			return readRules(ctx, path, inv.kernel.has("nft_do_chain"))
		},
		path:  func(netns uint32) string { return inv.now.Load().paths[netns] },
		addrs: inv.addrsOf, warn: warn, now: monotonic,
		wake: make(chan struct{}, 1), spaces: map[uint32]*ruleSpace{},
	}
}

// addrsOf lists the addresses of a namespace's devices.
func (inv *inventory) addrsOf(netns uint32) (out []netip.Addr) {
	for key, d := range inv.now.Load().devices {
		if key.netns == netns && !d.gone {
			out = append(out, d.Addrs...)
		}
	}
	return out
}

// want has the rules of a namespace read, unless they were no older than may at a
// time. It returns what is known of them by now.
func (n *ruleNames) want(netns uint32, time, may uint64) *ruleSpace {
	if i := slices.Index(n.queue, netns); i > 0 {
		n.queue = slices.Insert(slices.Delete(n.queue, i, i+1), 0, netns) // before those of which nobody needs to know
	}
	s := n.spaces[netns]
	if s == nil {
		if len(n.spaces) >= maxRuleSpaces && !n.evict() {
			return nil
		}
		s = &ruleSpace{}
		n.spaces[netns] = s
	}
	now := n.now()
	s.used = now
	old := s.at == 0 || s.at+may < time
	if old && !s.waiting && (s.tried == 0 || now-s.tried >= rulesFresh) {
		s.tried, s.waiting = now, true
		n.queue = slices.Insert(n.queue, 0, netns)
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
	return s
}

// dropped tells that netfilter dropped a packet: somebody will soon ask.
func (n *ruleNames) dropped(netns uint32, time uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.want(netns, time, rulesFresh)
}

// evict forgets the namespace that was not asked about for longest.
func (n *ruleNames) evict() bool {
	var oldest uint32
	var found *ruleSpace
	for netns, s := range n.spaces {
		if !s.waiting && (found == nil || s.used < found.used) {
			oldest, found = netns, s
		}
	}
	delete(n.spaces, oldest)
	return found != nil
}

// watch reads the rules that are wanted until ctx is done. Nothing is read before a
// packet was dropped, or a pod that reaches itself was masqueraded: to list the rules of
// a large cluster takes a node seconds.
func (n *ruleNames) watch(ctx context.Context) {
	for {
		netns, ok := n.next()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-n.wake:
			}
			continue
		}
		n.readSpace(ctx, netns)
		if ctx.Err() != nil {
			return
		}
	}
}

func (n *ruleNames) next() (uint32, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) == 0 {
		return 0, false
	}
	netns := n.queue[0]
	n.queue = n.queue[1:]
	return netns, true
}

func (n *ruleNames) readSpace(ctx context.Context, netns uint32) {
	at := n.now()
	got := readResult{missing: []missingRules{{err: errors.New("the namespace is gone")}}}
	if path := n.path(netns); path != "" {
		got = n.read(ctx, path)
	}
	local := map[netip.Addr]struct{}{}
	for _, a := range n.addrs(netns) {
		local[a.Unmap()] = struct{}{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.spaces[netns]
	s.waiting = false
	if ctx.Err() != nil {
		return
	}
	if got.set == nil {
		s.missing = got.missing // and what is known of earlier stays
		return
	}
	s.readResult, s.local, s.at = got, local, at
	for n.bytes() > maxRuleBytes && n.evict() {
		continue
	}
}

func (n *ruleNames) bytes() int {
	total := 0
	for _, s := range n.spaces {
		total += s.size
	}
	return total
}

// Rule implements events.RuleNames.
func (n *ruleNames) Rule(q *events.RuleQuery) (events.RuleFacts, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.want(q.Netns, q.Time, fresh(q))
	switch {
	case s == nil:
		return events.RuleFacts{}, false
	case s.waiting:
		return events.RuleFacts{Pending: true}, true
	case s.set == nil:
		n.complain(s.concerning(q.Engine, q.Family))
		return events.RuleFacts{}, false
	}
	if second := q.Time / uint64(time.Second); second != n.second {
		n.second, n.looked = second, 0
	}
	limit := min(walkLimit, secondLimit-n.looked)
	if limit <= 0 {
		return events.RuleFacts{}, false
	}
	env := ruleset.Env{Local: func(a netip.Addr) bool { _, ok := s.local[a]; return ok }}
	f, looked, ok := s.set.Find(q, env, limit)
	n.looked += looked
	f.AgeNS = int64(q.Time) - int64(s.at)
	missing := s.concerning(q.Engine, q.Family)
	if !ok || missing != nil {
		n.complain(missing)
	}
	switch {
	case !ok:
	case missing != nil && f.Sure:
		f.Sure, f.Why = false, "not all rules could be read"
	case s.at+fresh(q) < q.Time && f.Sure:
		f.Sure, f.Why = false, "the rules were read "+time.Duration(f.AgeNS).Round(time.Second).String()+" before"
	}
	return f, ok
}

// complain says once why rules are not named.
func (n *ruleNames) complain(err error) {
	if err == nil || n.warned {
		return
	}
	n.warned = true
	text := "which rule dropped or masqueraded a packet is not known: " + short(err)
	if errors.Is(err, errToolMissing) {
		text += "; install nftables, iptables and ipset where stackhop runs to have rules named"
	}
	n.warn(text)
}
