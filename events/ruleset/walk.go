// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// Bounds of one walk. The kernel's own depth is 16 (NFT_JUMP_STACK_SIZE) for
// nftables; iptables allows more.
const (
	maxDepth      = 64
	maxCandidates = 16
	maxTold       = 3 // candidates that are named beside the first
	maxWhy        = 8 // matches named that could not be decided
)

// exits are the ways in which a chain may be left: at its end or by a return,
// with the packet accepted, or dropped.
type exits struct{ fall, accept, drop bool }

func (e *exits) add(o exits) {
	e.fall, e.accept, e.drop = e.fall || o.fall, e.accept || o.accept, e.drop || o.drop
}

// candidate is a rule, or a chain's policy, that may have dropped the packet.
type candidate struct {
	chain   *chain
	rule    *rule // nil: the policy
	reject  bool
	sure    bool
	comment string // of the map's element
	why     []string
}

type walk struct {
	r      *Ruleset
	p      *packet
	steps  int // rules that may still be looked at
	found  []candidate
	why    []string // what was undecided on the way to here
	beyond bool     // a bound was met: there may be more
}

// Find returns the rule that dropped the packet of q, or masqueraded it, and how
// many rules it looked at, which are limit at most. found is false where no rule
// that was read can have done it.
func (r *Ruleset) Find(q *events.RuleQuery, env Env, limit int) (f events.RuleFacts, looked int, found bool) {
	w := walk{r: r, p: newPacket(q, env, r.notrack), steps: limit}
	w.hook(q)
	looked = limit - w.steps
	list := w.candidates(q.Reject)
	if len(list) == 0 {
		return f, looked, false
	}
	first := &list[0]
	f = first.facts()
	f.Others = len(list) - 1
	f.Sure = f.Others == 0 && first.sure && !w.beyond && first.reject == q.Reject
	for i := range list[1:min(len(list), 1+maxTold)] {
		other := list[1+i].facts()
		f.Candidates = append(f.Candidates, other.String())
	}
	if !f.Sure {
		f.Why = first.doubt(q, w.beyond)
	}
	return f, looked, true
}

// candidates are those that fit what was seen. A REJECT need not be answered (of
// an RST, or beyond a rate), so that a drop may be one.
func (w *walk) candidates(reject bool) []candidate {
	if !reject {
		return w.found
	}
	return slices.DeleteFunc(w.found, func(c candidate) bool { return !c.reject })
}

func (c *candidate) facts() events.RuleFacts {
	f := events.RuleFacts{Engine: c.chain.engine, Family: c.chain.family, Table: c.chain.table, Chain: c.chain.name}
	if c.rule == nil {
		f.Policy = true
		return f
	}
	f.Handle, f.Text, f.Comment = c.rule.handle, c.rule.text, c.rule.comment
	if c.comment != "" {
		f.Comment = c.comment
	}
	return f
}

// doubt says why the candidate is not sure.
func (c *candidate) doubt(q *events.RuleQuery, beyond bool) string {
	switch {
	case beyond:
		return "there are more rules than were looked at"
	case c.sure && c.reject && !q.Reject:
		return "it rejects, and no answer was seen"
	case len(c.why) > 0:
		return "undecided: " + strings.Join(c.why, ", ")
	}
	return ""
}

// hook walks the base chains of the hook point in the order of their priorities.
func (w *walk) hook(q *events.RuleQuery) {
	fams := families(q.Family)
	for _, c := range w.r.base {
		if c.hook != q.Hook || !c.ofEngine(q.Engine) || !slices.Contains(fams, c.family) {
			continue
		}
		path := w.calls(c, q)
		if path == no {
			continue
		}
		x := w.chain(c, path, 0)
		if x.fall {
			if c.policy == verdictDrop && !q.Masquerade {
				w.candidate(candidate{chain: c, sure: path == yes})
				x.drop = true
			} else {
				x.accept = true
			}
		}
		if path == yes && !x.accept {
			return
		}
	}
}

// calls says whether the kernel calls a base chain for the packet.
func (w *walk) calls(c *chain, q *events.RuleQuery) tri {
	if c.nat {
		// Only the first packet of a connection is asked about.
		return w.p.ctState(ctNew)
	}
	early := (q.Hook == hookPrerouting || q.Hook == hookOutput) && c.prio < -100
	if early && q.CT != nil && q.CT.Status&(events.CTDstNAT|events.CTSrcNAT) != 0 {
		return maybe // it saw the packet under other addresses than are known here
	}
	return yes
}

// chain walks a chain. path says whether the packet surely gets there.
func (w *walk) chain(c *chain, path tri, depth int) (x exits) {
	if depth > maxDepth {
		w.beyond = true
		return exits{fall: true, accept: true}
	}
	undecided := len(w.why)
	defer func() { w.why = w.why[:undecided] }()
	for i := range c.rules {
		if w.steps == 0 {
			w.beyond = true
			return exits{fall: true, accept: true}
		}
		w.steps--
		rl := &c.rules[i]
		is, verdicts, why := w.p.match(rl, path)
		if is == no || len(verdicts) == 0 {
			continue
		}
		here := path.and(is)
		if len(verdicts) > 1 {
			here = here.and(maybe)
		}
		known := len(w.why)
		w.why = append(w.why, why...)
		mayStay, fell := is != yes, false
		for _, v := range verdicts {
			one, stays := w.verdict(c, rl, v, here, depth)
			x.add(one)
			mayStay, fell = mayStay || stays, fell || one.fall
		}
		if !mayStay {
			return x
		}
		// Who was accepted, or dropped here, does not come to the next rule; but who
		// left the chain may have been dropped elsewhere.
		if fell {
			path = path.and(maybe)
		} else {
			w.why = w.why[:known]
		}
	}
	x.fall = true
	return x
}

// verdict follows one verdict of a rule. stays says whether the packet may go on
// with the next rule of the chain.
func (w *walk) verdict(c *chain, rl *rule, v verdict, path tri, depth int) (x exits, stays bool) {
	switch v.kind {
	case verdictAccept:
		x.accept = true
	case verdictSource:
		// The kernel asks no further chain for a source.
		if x.accept, x.drop = !w.p.q.Masquerade, w.p.q.Masquerade; x.drop {
			w.candidate(candidate{chain: c, rule: rl, sure: path == yes, comment: v.comment})
		}
	case verdictDrop, verdictReject:
		if x.drop = true; w.p.q.Masquerade {
			break // what is asked about has not been dropped
		}
		w.candidate(candidate{chain: c, rule: rl, reject: v.kind == verdictReject, sure: path == yes, comment: v.comment})
	case verdictReturn:
		x.fall = true
	case verdictUnknown:
		w.candidate(candidate{chain: c, rule: rl, comment: v.comment})
		return exits{accept: true, drop: true}, true
	case verdictJump, verdictGoto:
		target := w.r.chains[chainKey{c.legacy, c.family, c.table, v.target}]
		if target == nil {
			w.beyond = true // a chain that was not read
			return exits{accept: true}, true
		}
		before := len(w.found)
		x = w.chain(target, path, depth+1)
		for i := before; i < len(w.found); i++ {
			if f := &w.found[i]; f.comment == "" && f.rule != nil && f.rule.comment == "" {
				f.comment = v.comment
			}
		}
		if v.kind == verdictJump {
			stays, x.fall = x.fall, false
		}
	default:
		stays = true
	}
	return x, stays
}

// candidate notes a rule, once.
func (w *walk) candidate(c candidate) {
	for i := range w.found {
		f := &w.found[i]
		if f.rule == c.rule && f.chain == c.chain && f.comment == c.comment {
			return
		}
	}
	if len(w.found) == maxCandidates {
		w.beyond = true
		return
	}
	if !c.sure {
		c.why = slices.Compact(slices.Sorted(slices.Values(w.why)))
		c.why = c.why[:min(len(c.why), maxWhy)]
	}
	w.found = append(w.found, c)
}
