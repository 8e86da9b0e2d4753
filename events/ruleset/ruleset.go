// SPDX-License-Identifier: Apache-2.0

// Package ruleset finds the netfilter rule that dropped, rejected or masqueraded a packet, in
// rules as iptables-save, ipset save and nft list them.
//
// A Ruleset is filled with what these tools print of one network namespace; then
// it walks a packet through the base chains of a hook point as the kernel does.
// What it cannot decide (a limit, a mark that nobody saw, a set that changes by
// itself) is a "maybe": it follows both ways, and is sure of a rule only if no
// other one can have dropped the packet and that one surely matches. Nothing here
// knows a kernel: it is text in, answers out.
package ruleset

import (
	"slices"

	"github.com/stackhop/stackhop/events"
)

// NFPROTO_* of linux/netfilter.h.
const (
	nfprotoIPv4   = 2
	nfprotoBridge = 7
	nfprotoIPv6   = 10
)

// NF_INET_* hook numbers.
const (
	hookPrerouting = iota
	hookInput
	hookForward
	hookOutput
	hookPostrouting
)

// Bounds of what is read. Beyond them reading fails: half a rule set would name
// the wrong rule.
const (
	maxRules    = 1 << 20
	maxElements = 1 << 22 // of all sets together
)

// Ruleset is the netfilter rules of one network namespace. It is filled by one
// goroutine, and then only read.
type Ruleset struct {
	chains map[chainKey]*chain
	base   []*chain
	sets   map[setKey]*nftSet
	ipsets map[string]*ipset
	// notrack: some rule keeps packets out of conntrack.
	notrack  bool
	rules    int
	elements int
}

// Env is what a walk needs to know of the namespace beside its rules.
type Env struct {
	// Local says whether an address is one of the namespace's own; nil: they are
	// not known.
	Local func(addr addr) bool
}

// New returns a namespace without rules.
func New() *Ruleset {
	return &Ruleset{chains: map[chainKey]*chain{}, sets: map[setKey]*nftSet{}, ipsets: map[string]*ipset{}}
}

// Empty says that no chain was read.
func (r *Ruleset) Empty() bool { return len(r.base) == 0 }

// chainKey names a chain. The same family, table and name may exist in both
// engines.
type chainKey struct {
	legacy              bool
	family, table, name string
}

type chain struct {
	chainKey
	engine string
	isBase bool
	hook   uint8
	nat    bool // of type nat: it sees the first packet of a connection only
	prio   int
	policy verdictKind
	rules  []rule
}

// rule is its steps, from the left; the first that does not match ends it.
type rule struct {
	handle        uint64
	text, comment string
	steps         []step
}

// step is a match, a statement or a verdict. path says whether the walk surely
// came as far as this, for steps that change the packet.
type step struct {
	do  func(p *packet, path tri) result
	why string // what it is called, if it cannot be decided
}

// tri is the answer to whether something holds.
type tri uint8

const (
	no tri = iota
	maybe
	yes
)

func (t tri) not() tri { return yes - t }

func (t tri) and(o tri) tri { return min(t, o) }

func (t tri) or(o tri) tri { return max(t, o) }

func triOf(b bool) tri {
	if b {
		return yes
	}
	return no
}

// result is what a step comes to: whether it matches and, of one that decides,
// what it may say. More than one verdict: one of them.
type result struct {
	is       tri
	verdicts []verdict
}

type verdictKind uint8

const (
	verdictAccept verdictKind = iota
	verdictDrop
	verdictReject
	verdictReturn
	verdictContinue
	verdictJump
	verdictGoto
	verdictUnknown // of a target that is not known: it may accept, drop or do neither
	verdictSource  // a new source: it accepts as well
)

type verdict struct {
	kind    verdictKind
	target  string // of a jump or goto: the chain's name
	comment string // of the element of the map that says so
}

// add puts a chain in its place. Base chains of one hook are called by priority,
// and in the order of their registration where that is the same.
func (r *Ruleset) add(c *chain) {
	r.chains[c.chainKey] = c
	if c.isBase {
		at, _ := slices.BinarySearchFunc(r.base, c, func(a, b *chain) int {
			if a.prio <= b.prio {
				return -1
			}
			return 1
		})
		r.base = slices.Insert(r.base, at, c)
	}
}

// families are the families of base chains that see packets of a protocol.
func families(nfproto uint8) []string {
	switch nfproto {
	case nfprotoIPv4:
		return []string{"ip", "inet"}
	case nfprotoIPv6:
		return []string{"ip6", "inet"}
	case nfprotoBridge:
		return []string{"bridge"}
	}
	return nil
}

// ofEngine says whether chains of an engine are called by a function of the one
// that was seen.
func (c *chain) ofEngine(seen string) bool {
	switch seen {
	case events.EngineIPTables:
		return c.engine == events.EngineIPTables
	case events.EngineNFTables:
		return c.engine != events.EngineIPTables
	}
	return true
}
