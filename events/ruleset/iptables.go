// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// maxLine bounds one line of what is read.
const maxLine = 1 << 20

var errTooMany = errors.New("more rules than are read")

// AddIPTables adds what iptables-save (or ip6tables-save, if v6) printed. engine
// is EngineIPTables or EngineIPTablesNFT. What nft listed of these tables before
// is replaced, but gives its handles. ipset save comes before: see AddIPSets.
func (r *Ruleset) AddIPTables(text []byte, v6 bool, engine string) error {
	b := saveReader{r: r, family: "ip", engine: engine}
	if v6 {
		b.family = "ip6"
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if err := b.line(lines.Text()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if b.table != "" {
		return errors.New("the last table has no end")
	}
	return nil
}

// saveReader reads iptables-save's output line by line.
type saveReader struct {
	r              *Ruleset
	family, engine string
	table          string
	chains         map[string]*chain
	order          []*chain
}

func (b *saveReader) line(s string) error {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "[") { // counters
		_, rest, ok := strings.Cut(s, "] ")
		if !ok {
			return errors.New("counters without a rule")
		}
		s = rest
	}
	switch {
	case s == "" || s[0] == '#':
		return nil
	case s[0] == '*':
		b.table, b.chains, b.order = s[1:], map[string]*chain{}, nil
		return nil
	case b.table == "":
		return errors.New("no table has begun")
	case s == "COMMIT":
		b.commit()
		return nil
	case s[0] == ':':
		return b.declare(strings.Fields(s[1:]))
	case strings.HasPrefix(s, "-A "):
		return b.rule(s)
	}
	return fmt.Errorf("%.40q is not understood", s)
}

func (b *saveReader) declare(f []string) error {
	if len(f) < 2 {
		return errors.New("a chain without a policy")
	}
	c := &chain{chainKey: chainKey{b.engine == events.EngineIPTables, b.family, b.table, f[0]}, engine: b.engine}
	if f[1] != "-" {
		c.isBase = true
		c.hook, c.isBase = builtinHooks[f[0]], true
		c.nat = b.table == "nat"
		c.prio = tablePriority(b.table, c.hook)
		if f[1] == "DROP" {
			c.policy = verdictDrop
		}
	}
	b.chains[f[0]] = c
	b.order = append(b.order, c)
	return nil
}

var builtinHooks = map[string]uint8{
	"PREROUTING": hookPrerouting, "INPUT": hookInput, "FORWARD": hookForward, "OUTPUT": hookOutput, "POSTROUTING": hookPostrouting,
}

// tablePriority is NF_IP_PRI_* of a table.
func tablePriority(table string, hook uint8) int {
	switch table {
	case "raw":
		return -300
	case "mangle":
		return -150
	case "nat":
		if hook == hookInput || hook == hookPostrouting {
			return 100
		}
		return -100
	case "security":
		return 50
	}
	return 0
}

func (b *saveReader) rule(s string) error {
	if b.r.rules++; b.r.rules > maxRules {
		return errTooMany
	}
	words, err := splitWords(s)
	if err != nil {
		return err
	}
	c := b.chains[words[1]]
	if c == nil {
		return fmt.Errorf("chain %.40q was not declared", words[1])
	}
	rl := b.r.parseRule(words[2:])
	rl.text = strings.TrimPrefix(s, "-A "+words[1]+" ")
	c.rules = append(c.rules, rl)
	return nil
}

// commit gives the table to the set. nft lists the same rules in the same order
// and with handles; if their numbers differ they were changed meanwhile.
func (b *saveReader) commit() {
	for _, c := range b.order {
		old := b.r.chains[c.chainKey]
		if old != nil && len(old.rules) == len(c.rules) {
			for i := range c.rules {
				c.rules[i].handle = old.rules[i].handle
			}
		}
		if c.isBase && old == nil && !c.legacy && b.r.listed(c) {
			continue // iptables-nft prints built-in chains that are not there
		}
		b.r.remove(old)
		b.r.add(c)
	}
	b.table = ""
}

// listed says whether nft listed the table of a chain.
func (r *Ruleset) listed(c *chain) bool {
	for k := range r.chains {
		if !k.legacy && k.family == c.family && k.table == c.table {
			return true
		}
	}
	return false
}

func (r *Ruleset) remove(c *chain) {
	if c == nil {
		return
	}
	delete(r.chains, c.chainKey)
	for i, o := range r.base {
		if o == c {
			r.base = append(r.base[:i], r.base[i+1:]...)
			return
		}
	}
}

// splitWords splits a line as a shell would: words may be quoted, and a backslash
// takes what follows as it is.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	in, quote := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			word.WriteByte(s[i])
			in = true
		case c == '"':
			quote = !quote
			in = true
		case c == ' ' && !quote:
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if in {
		words = append(words, word.String())
	}
	if quote || len(words) < 2 {
		return nil, errors.New("a rule that is not complete")
	}
	return words, nil
}

// parseRule reads a rule's words behind its chain's name.
func (r *Ruleset) parseRule(words []string) rule {
	p := ruleParser{r: r, words: words}
	for p.next() {
		p.option()
	}
	return p.rl
}

// ruleParser reads one rule.
type ruleParser struct {
	r      *Ruleset
	words  []string
	at     int
	word   string // the option
	negate bool   // ! was before it
	module string // of -m
	rl     rule
}

// next takes the next option.
func (p *ruleParser) next() bool {
	p.negate = false
	for p.at < len(p.words) && p.words[p.at] == "!" {
		p.negate = true
		p.at++
	}
	if p.at >= len(p.words) {
		return false
	}
	p.word = p.words[p.at]
	p.at++
	return true
}

// arg takes an argument of the option.
func (p *ruleParser) arg() string {
	if p.at >= len(p.words) {
		return ""
	}
	p.at++
	return p.words[p.at-1]
}

// add adds a match.
func (p *ruleParser) add(why string, m func(*packet) tri) {
	negate := p.negate
	p.rl.steps = append(p.rl.steps, step{why: why, do: func(pk *packet, _ tri) result {
		is := m(pk)
		if negate {
			is = is.not()
		}
		return result{is: is}
	}})
}

// unknown is a match that is not decided here.
func (p *ruleParser) unknown(why string) {
	p.rl.steps = append(p.rl.steps, step{why: why, do: func(*packet, tri) result { return result{is: maybe} }})
}

func (p *ruleParser) option() {
	switch p.word {
	case "-m":
		p.module = p.arg()
		if undecided[p.module] {
			p.unknown("-m " + p.module)
		}
	case "-j", "-g":
		p.target()
	case "-s", "-d":
		p.address(p.word == "-s", p.arg())
	case "-i", "-o":
		in, name := p.word == "-i", p.arg()
		p.add(p.word+" "+name, func(pk *packet) tri { return pk.isDevice(in, name, "+") })
	case "-p":
		p.protocol(p.arg())
	case "-f":
		p.add("-f", func(pk *packet) tri { return maybe.and(triOf(pk.h.Fragment)) })
	default:
		p.moduleOption()
	}
}

// undecided are modules whose answer depends on what is not known here.
var undecided = map[string]bool{
	"limit": true, "hashlimit": true, "statistic": true, "recent": true, "quota": true, "connlimit": true, "connbytes": true,
	"string": true, "u32": true, "bpf": true, "time": true, "owner": true, "physdev": true, "rpfilter": true, "mac": true,
	"policy": true, "connmark": true, "connlabel": true, "helper": true, "dscp": true, "tos": true, "ecn": true, "ttl": true,
	"hl": true, "tcpmss": true, "cgroup": true, "socket": true, "realm": true, "cluster": true, "devgroup": true, "cpu": true,
	"pkttype": true, "rateest": true, "osf": true, "esp": true, "ah": true, "ipvs": true, "rt": true, "frag": true,
	"hbh": true, "dst": true, "mh": true, "ipv6header": true, "eui64": true, "control": true, "l2tp": true, "dccp": true,
}

// target reads -j or -g, which end the matches.
func (p *ruleParser) target() {
	name := p.arg()
	v := verdict{kind: verdictJump, target: name}
	if p.word == "-g" {
		v.kind = verdictGoto
	}
	rest := p.words[p.at:]
	p.at = len(p.words)
	switch name {
	case "SNAT", "MASQUERADE":
		v.kind = verdictSource
	case "ACCEPT", "DNAT", "REDIRECT", "NETMAP", "QUEUE", "NFQUEUE":
		v.kind = verdictAccept
	case "DROP":
		v.kind = verdictDrop
	case "REJECT":
		v.kind = verdictReject
	case "RETURN":
		v.kind = verdictReturn
	case "MARK":
		p.rl.steps = append(p.rl.steps, markTarget(rest))
		return
	case "CONNMARK":
		p.rl.steps = append(p.rl.steps, forgetMark)
		return
	case "CT", "NOTRACK":
		p.r.notrack = p.r.notrack || name == "NOTRACK" || strings.Contains(strings.Join(rest, " "), "--notrack")
		return
	case "LOG", "NFLOG", "ULOG", "TRACE", "TCPMSS", "TCPOPTSTRIP", "SET", "DSCP", "TOS", "TTL", "HL", "ECN", "CLASSIFY", "CHECKSUM", "AUDIT",
		"SECMARK", "CONNSECMARK", "IDLETIMER", "LED", "RATEEST", "TEE", "HMARK", "NFACCT", "ACCOUNT":
		return
	default:
		if knownTargets[name] {
			v.kind = verdictUnknown
		}
	}
	p.verdict(v)
}

// knownTargets are extensions that decide in a way of their own; any other name is
// a chain's.
var knownTargets = map[string]bool{"TPROXY": true, "SYNPROXY": true, "CLUSTERIP": true, "MIRROR": true, "TARPIT": true, "SNPT": true, "DNPT": true}

func (p *ruleParser) verdict(v verdict) {
	r := result{is: yes, verdicts: []verdict{v}}
	p.rl.steps = append(p.rl.steps, step{do: func(*packet, tri) result { return r }})
}

// forgetMark is a statement that sets the mark to what is not known.
var forgetMark = step{do: func(p *packet, _ tri) result {
	p.markKnown = 0
	return result{is: yes}
}}

// markTarget is MARK --set-xmark VALUE/MASK, as iptables-save writes all its forms.
func markTarget(args []string) step {
	if len(args) < 2 || args[0] != "--set-xmark" {
		return forgetMark
	}
	value, mask, ok := valueMask(args[1])
	if !ok {
		return forgetMark
	}
	return step{do: func(p *packet, path tri) result {
		p.setMark(path, p.markKnown|mask, p.mark&^mask^value)
		return result{is: yes}
	}}
}
