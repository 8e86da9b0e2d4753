// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// setKey names a set or map of nftables.
type setKey struct{ family, table, name string }

// AddNFTables adds what `nft -j -a list ruleset` printed. texts are the rules by
// their handles, see NFTTexts; nil: none.
func (r *Ruleset) AddNFTables(listing []byte, texts Texts) error {
	dec := json.NewDecoder(bytes.NewReader(listing))
	for _, want := range []json.Token{json.Delim('{'), "nftables", json.Delim('[')} {
		if t, err := dec.Token(); err != nil || t != want {
			return errors.Join(errors.New("not a listing of nft"), err)
		}
	}
	var rules []nftRule
	for dec.More() {
		// A rule may name a set that is listed behind it.
		var o nftObject
		if err := dec.Decode(&o); err != nil {
			return err
		}
		switch {
		case o.Chain != nil:
			r.addNFTChain(o.Chain)
		case o.Set != nil:
			if err := r.addNFTSet(o.Set); err != nil {
				return err
			}
		case o.Map != nil:
			if err := r.addNFTSet(o.Map); err != nil {
				return err
			}
		case o.Rule != nil:
			rules = append(rules, *o.Rule)
		}
		if len(rules) > maxRules {
			return errTooMany
		}
	}
	for i := range rules {
		if err := r.addNFTRule(&rules[i], texts); err != nil {
			return fmt.Errorf("rule with handle %d: %w", rules[i].Handle, err)
		}
	}
	return nil
}

type nftObject struct {
	Chain *nftChain    `json:"chain"`
	Set   *nftElements `json:"set"`
	Map   *nftElements `json:"map"`
	Rule  *nftRule     `json:"rule"`
}

type nftChain struct {
	Family string  `json:"family"`
	Table  string  `json:"table"`
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	Hook   string  `json:"hook"`
	Prio   float64 `json:"prio"`
	Policy string  `json:"policy"`
}

type nftElements struct {
	Family string            `json:"family"`
	Table  string            `json:"table"`
	Name   string            `json:"name"`
	Type   any               `json:"type"`
	Flags  any               `json:"flags"`
	Map    any               `json:"map"`
	Elem   []json.RawMessage `json:"elem"`
}

type nftRule struct {
	Family  string           `json:"family"`
	Table   string           `json:"table"`
	Chain   string           `json:"chain"`
	Handle  uint64           `json:"handle"`
	Comment string           `json:"comment"`
	Expr    []map[string]any `json:"expr"`
}

var nftHooks = map[string]uint8{
	"prerouting": hookPrerouting, "input": hookInput, "forward": hookForward, "output": hookOutput, "postrouting": hookPostrouting,
}

func (r *Ruleset) addNFTChain(n *nftChain) {
	c := &chain{chainKey: chainKey{false, n.Family, n.Table, n.Name}, engine: events.EngineNFTables, prio: int(n.Prio), nat: n.Type == "nat"}
	c.hook, c.isBase = nftHooks[n.Hook]
	if n.Policy == "drop" {
		c.policy = verdictDrop
	}
	r.add(c)
}

func (r *Ruleset) addNFTSet(n *nftElements) error {
	if r.elements += len(n.Elem); r.elements > maxElements {
		return errors.New("more elements of sets than are read")
	}
	s := &nftSet{isMap: n.Map == "verdict"}
	for _, t := range listOf(n.Type) {
		word, _ := t.(string)
		s.domains = append(s.domains, typeDomains[word])
	}
	for _, f := range listOf(n.Flags) {
		// A set that rules add to always has a timeout when it is listed.
		s.unsure = s.unsure || f == "timeout" || f == "dynamic"
	}
	for _, raw := range n.Elem {
		var e any
		if err := json.Unmarshal(raw, &e); err != nil {
			return err
		}
		s.add(e)
	}
	r.sets[setKey{n.Family, n.Table, n.Name}] = s
	return nil
}

// listOf makes a list of what nft writes as one where there are several.
func listOf(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

func (r *Ruleset) addNFTRule(n *nftRule, texts Texts) error {
	c := r.chains[chainKey{false, n.Family, n.Table, n.Chain}]
	if c == nil {
		return fmt.Errorf("chain %.40q is not listed", n.Chain)
	}
	if r.rules++; r.rules > maxRules {
		return errTooMany
	}
	rl := rule{handle: n.Handle, comment: n.Comment, text: texts[textKey{n.Family, n.Table, n.Handle}]}
	b := nftCompiler{r: r, family: n.Family, table: n.Table}
	for _, e := range n.Expr {
		for key, arg := range e { // one
			if s, ok := b.statement(key, arg); ok {
				rl.steps = append(rl.steps, s)
			}
		}
	}
	c.rules = append(c.rules, rl)
	return nil
}

// nftCompiler makes steps of a rule's expressions.
type nftCompiler struct {
	r             *Ruleset
	family, table string
}

// statement compiles one statement; ok is false for one that changes nothing.
func (b *nftCompiler) statement(key string, arg any) (s step, ok bool) {
	switch key {
	case "match":
		return b.match(arg), true
	case "vmap":
		return b.vmap(arg), true
	case "mangle":
		return b.mangle(arg)
	case "counter", "log", "comment", "flow", "dup", "last", "ct helper", "ct timeout", "ct expectation", "secmark":
		return s, false
	case "notrack":
		b.r.notrack = true
		return s, false
	case "set", "map":
		if m, _ := arg.(map[string]any); m["stmt"] == nil {
			return s, false
		}
	case "synproxy", "tproxy", "fwd":
		return verdictStep(verdict{kind: verdictUnknown}), true
	case "xt":
		if m, _ := arg.(map[string]any); m["type"] == "target" {
			return verdictStep(verdict{kind: verdictUnknown}), true
		}
	default:
		if v, ok := nftVerdict(key, arg); ok {
			return verdictStep(v), true
		}
	}
	return undecidedStep(key), true
}

func undecidedStep(why string) step {
	return step{why: why, do: func(*packet, tri) result { return result{is: maybe} }}
}

func verdictStep(v verdict) step {
	r := result{is: yes, verdicts: []verdict{v}}
	return step{do: func(*packet, tri) result { return r }}
}

// nftVerdict reads a statement that decides.
func nftVerdict(key string, arg any) (verdict, bool) {
	switch key {
	case "accept", "dnat", "redirect", "queue":
		return verdict{kind: verdictAccept}, true
	case "snat", "masquerade":
		return verdict{kind: verdictSource}, true
	case "drop":
		return verdict{kind: verdictDrop}, true
	case "reject":
		return verdict{kind: verdictReject}, true
	case "return":
		return verdict{kind: verdictReturn}, true
	case "continue":
		return verdict{kind: verdictContinue}, true
	case "jump", "goto":
		m, _ := arg.(map[string]any)
		target, ok := m["target"].(string)
		kind := verdictJump
		if key == "goto" {
			kind = verdictGoto
		}
		return verdict{kind: kind, target: target}, ok
	}
	return verdict{}, false
}

// mangle compiles a statement that changes the packet, or what is kept with it.
func (b *nftCompiler) mangle(arg any) (step, bool) {
	m, _ := arg.(map[string]any)
	key, _ := m["key"].(map[string]any)
	if meta, _ := key["meta"].(map[string]any); meta != nil {
		if meta["key"] != "mark" {
			return step{}, false
		}
		l := b.left(m["value"])
		return step{do: func(p *packet, path tri) result {
			v, known := l.eval(p)
			p.setMark(path, knownBits(known == yes && v.kind == kindNumber), v.number)
			return result{is: yes}
		}}, true
	}
	if key["payload"] != nil {
		return undecidedStep("a change of its headers"), true
	}
	return step{}, false
}

// Texts are rules as nft writes them, see NFTTexts.
type Texts map[textKey]string

type textKey struct {
	family, table string
	handle        uint64
}

// NFTTexts reads the rules' texts out of what `nft -a -t list ruleset` printed.
// What is not understood has no text.
func NFTTexts(listing []byte) Texts {
	texts := Texts{}
	family, table := "", ""
	for line := range strings.Lines(string(listing)) {
		text, number, ok := cutLast(strings.TrimRight(line, "\n"), " # handle ")
		if !ok {
			continue
		}
		if f := strings.Fields(text); len(f) == 4 && f[0] == "table" && line[0] != '\t' {
			family, table = f[1], f[2]
			continue
		}
		rest, isRule := strings.CutPrefix(text, "\t\t")
		if handle, err := strconv.ParseUint(number, 10, 64); err == nil && isRule {
			texts[textKey{family, table, handle}] = rest
		}
	}
	return texts
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
