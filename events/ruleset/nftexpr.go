// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"fmt"
	"strings"
)

// value is what an expression of nftables comes to.
type value struct {
	kind   valueKind
	number uint64
	addr   addr
	text   string
	list   []value // of a concatenation
}

type valueKind uint8

const (
	kindNumber valueKind = iota
	kindAddr
	kindText
	kindIn   // the device it came in by
	kindOut  // the device it leaves by
	kindType // the routing type of addr
	kindList
	kindUnknown // a part of a list
)

func number(n uint64) (value, tri) { return value{kind: kindNumber, number: n}, yes }

// left is a compiled expression. eval's answer is whether its value is known; no:
// the packet has none, so that the rule does not match.
type left struct {
	eval    func(p *packet) (value, tri)
	domains []domain // what words stand for in what it is compared with
	why     string
}

// left compiles the left side of a match, or a value.
func (b *nftCompiler) left(e any) left {
	l := left{domains: []domain{domainAny}, eval: func(*packet) (value, tri) { return value{}, maybe }, why: nftWords(e)}
	m, isMap := e.(map[string]any)
	if n, ok := e.(float64); ok && n >= 0 {
		l.eval = func(*packet) (value, tri) { return number(uint64(n)) }
	}
	if !isMap {
		return l
	}
	for key, arg := range m { // one
		args, _ := arg.(map[string]any)
		field, _ := args["field"].(string)
		switch key {
		case "payload":
			protocol, _ := args["protocol"].(string)
			b.payload(&l, protocol, field)
		case "meta":
			word, _ := args["key"].(string)
			b.meta(&l, word)
		case "ct":
			b.ct(&l, args)
		case "fib":
			b.fib(&l, args)
		case "&", "|", "^":
			b.arithmetic(&l, key, listOf(arg))
		case "concat":
			b.concat(&l, listOf(arg))
		}
	}
	return l
}

// nftWords names an expression where it could not be decided.
func nftWords(e any) string {
	m, _ := e.(map[string]any)
	for key, arg := range m {
		args, _ := arg.(map[string]any)
		for _, part := range []string{"protocol", "key", "field", "result", "mode"} {
			if word, ok := args[part].(string); ok {
				key += " " + word
			}
		}
		switch key {
		case "&", "|", "^":
			if list := listOf(arg); len(list) > 0 {
				return nftWords(list[0])
			}
		}
		return key
	}
	return fmt.Sprintf("%.40v", e)
}

func (b *nftCompiler) payload(l *left, protocol, field string) {
	applies, ok := payloadApplies[protocol]
	if !ok {
		return
	}
	get, words := payloadField(protocol, field)
	l.domains = []domain{words}
	l.eval = func(p *packet) (value, tri) {
		if is := applies(p); is != yes {
			return value{}, is
		}
		if get == nil {
			return value{}, maybe
		}
		return get(p)
	}
}

func ofProto(n uint8) func(*packet) tri {
	return func(p *packet) tri { return triOf(p.h.Proto == n) }
}

// payloadApplies says for the protocols of payload expressions whether a packet
// has their header.
var payloadApplies = map[string]func(*packet) tri{
	"ip":  func(p *packet) tri { return triOf(!p.isV6()) },
	"ip6": func(p *packet) tri { return triOf(p.isV6()) },
	"th":  func(p *packet) tri { return maybe.or(triOf(p.hasPorts())) },
	"tcp": ofProto(protoTCP), "udp": ofProto(protoUDP), "sctp": ofProto(protoSCTP),
	"icmp": ofProto(protoICMP), "icmpv6": ofProto(protoICMPv6),
}

// payloadField returns what reads a field; nil: it is not known.
func payloadField(protocol, field string) (func(*packet) (value, tri), domain) {
	switch protocol + " " + field {
	case "ip saddr", "ip6 saddr":
		return func(p *packet) (value, tri) { return value{kind: kindAddr, addr: p.h.Src}, yes }, domainAddr
	case "ip daddr", "ip6 daddr":
		return func(p *packet) (value, tri) { return value{kind: kindAddr, addr: p.h.Dst}, yes }, domainAddr
	case "ip protocol", "ip6 nexthdr":
		return func(p *packet) (value, tri) { return number(uint64(p.h.Proto)) }, domainProto
	case "ip ttl", "ip6 hoplimit":
		return nil, domainNumber // TTL is known of where the headers were read, not of here
	case "ip length":
		return func(p *packet) (value, tri) { return number(uint64(p.h.Length)) }, domainNumber
	case "tcp flags":
		return func(p *packet) (value, tri) { return number(uint64(p.h.TCPFlags)) }, domainFlags
	case "icmp type":
		return func(p *packet) (value, tri) { return number(uint64(p.h.ICMPType)) }, domainICMP
	case "icmpv6 type":
		return func(p *packet) (value, tri) { return number(uint64(p.h.ICMPType)) }, domainICMPv6
	case "icmp code", "icmpv6 code":
		return func(p *packet) (value, tri) { return number(uint64(p.h.ICMPCode)) }, domainNumber
	}
	if protocol != "ip" && protocol != "ip6" && (field == "sport" || field == "dport") {
		return func(p *packet) (value, tri) {
			if !p.hasPorts() {
				return value{}, maybe
			}
			return number(p.port(field == "sport"))
		}, domainNumber
	}
	return nil, domainAny
}

// arithmetic compiles an operation with numbers on its right side.
func (b *nftCompiler) arithmetic(l *left, op string, args []any) {
	if len(args) != 2 {
		return
	}
	inner := b.left(args[0])
	with, ok := constant(inner.domains[0], args[1])
	if !ok {
		return
	}
	l.domains, l.why = inner.domains, inner.why
	l.eval = func(p *packet) (value, tri) {
		v, known := inner.eval(p)
		if known != yes || v.kind != kindNumber {
			return v, known.and(maybe)
		}
		switch op {
		case "&":
			v.number &= with
		case "|":
			v.number |= with
		case "^":
			v.number ^= with
		}
		return v, yes
	}
}

func (b *nftCompiler) concat(l *left, parts []any) {
	if len(parts) == 0 {
		return
	}
	var all []left
	l.domains = nil
	for _, part := range parts {
		one := b.left(part)
		all = append(all, one)
		l.domains = append(l.domains, one.domains[0])
	}
	l.eval = func(p *packet) (value, tri) {
		v, known := value{kind: kindList}, yes
		for i := range all {
			one, is := all[i].eval(p)
			if is == no {
				known = no
			} else if is == maybe {
				one = value{kind: kindUnknown} // the others may decide
			}
			v.list = append(v.list, one)
		}
		return v, known
	}
}

// match compiles a comparison.
func (b *nftCompiler) match(arg any) step {
	m, _ := arg.(map[string]any)
	op, _ := m["op"].(string)
	l := b.left(m["left"])
	right := b.right(&l, op, m["right"])
	if right == nil {
		right = func(*packet, *value) tri { return maybe }
	}
	return step{why: l.why, do: func(p *packet, _ tri) result {
		v, known := l.eval(p)
		if known != yes {
			return result{is: known}
		}
		return result{is: right(p, &v)}
	}}
}

// right compiles what a value is compared with; nil: it is not understood.
func (b *nftCompiler) right(l *left, op string, e any) func(*packet, *value) tri {
	if name, ok := setName(e); ok || isSet(e) {
		s := b.set(name, l.domains, e)
		if op == "!=" {
			return func(p *packet, v *value) tri { return s().has(p, v).not() }
		}
		return func(p *packet, v *value) tri { return s().has(p, v) }
	}
	switch op {
	case "in":
		bits, ok := constant(l.domains[0], e)
		if !ok {
			return nil
		}
		return func(_ *packet, v *value) tri { return triOf(v.number&bits != 0) }
	case "<", ">", "<=", ">=":
		n, ok := constant(l.domains[0], e)
		if !ok {
			return nil
		}
		return func(_ *packet, v *value) tri { return compare(v.number, op, n) }
	case "==", "!=":
		fields, ok := parseFields(l.domains, e)
		if !ok {
			return nil
		}
		return func(p *packet, v *value) tri {
			is := matchFields(p, fields, v)
			if op == "!=" {
				return is.not()
			}
			return is
		}
	}
	return nil
}

func compare(a uint64, op string, b uint64) tri {
	switch op {
	case "<":
		return triOf(a < b)
	case ">":
		return triOf(a > b)
	case "<=":
		return triOf(a <= b)
	}
	return triOf(a >= b)
}

// setName is the name behind an @.
func setName(e any) (string, bool) {
	s, _ := e.(string)
	return strings.CutPrefix(s, "@")
}

func isSet(e any) bool {
	m, _ := e.(map[string]any)
	return m["set"] != nil
}

// set finds a named set, or compiles an anonymous one. A named one may be listed
// behind the rule, so it is looked up when it is needed.
func (b *nftCompiler) set(name string, domains []domain, e any) func() *nftSet {
	if name != "" {
		key := setKey{b.family, b.table, name}
		return func() *nftSet {
			if s := b.r.sets[key]; s != nil {
				return s
			}
			return &nftSet{unsure: true}
		}
	}
	m, _ := e.(map[string]any)
	s := &nftSet{domains: domains, isMap: false}
	for _, item := range listOf(m["set"]) {
		s.add(item)
	}
	return func() *nftSet { return s }
}

// vmap compiles a verdict map.
func (b *nftCompiler) vmap(arg any) step {
	m, _ := arg.(map[string]any)
	l := b.left(m["key"])
	name, named := setName(m["data"])
	find := b.set(name, l.domains, nil)
	if !named {
		anonymous := &nftSet{domains: l.domains, isMap: true}
		data, _ := m["data"].(map[string]any)
		for _, item := range listOf(data["set"]) {
			anonymous.add(item)
		}
		find = func() *nftSet { return anonymous }
	}
	return step{why: l.why, do: func(p *packet, _ tri) result {
		v, known := l.eval(p)
		if known == no {
			return result{}
		}
		if known == maybe {
			v = value{kind: kindUnknown}
		}
		return find().verdict(p, &v)
	}}
}
