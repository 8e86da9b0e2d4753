// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"math"
	"net/netip"
	"strconv"
)

// domain is what words stand for in a value of nftables.
type domain uint8

const (
	domainAny domain = iota
	domainNumber
	domainAddr
	domainProto
	domainState
	domainStatus
	domainFlags
	domainICMP
	domainICMPv6
	domainText
)

// typeDomains are the types of sets.
var typeDomains = map[string]domain{
	"ipv4_addr": domainAddr, "ipv6_addr": domainAddr, "inet_proto": domainProto, "inet_service": domainNumber, "mark": domainNumber,
	"ct_state": domainState, "ct_status": domainStatus, "tcp_flag": domainFlags, "icmp_type": domainICMP, "icmpv6_type": domainICMPv6,
	"ifname": domainText, "iface_index": domainText, "fib_addrtype": domainText,
}

// words are what nft writes for numbers, by domain.
var words = map[domain]map[string]uint64{
	domainProto:  protocols,
	domainState:  {"invalid": ctInvalid, "established": ctEstablished, "related": ctRelated, "new": ctNew, "untracked": ctUntracked},
	domainStatus: {"expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512},
	domainFlags:  flagBits,
	domainICMP: {
		"echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8, "router-advertisement": 9,
		"router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12, "timestamp-request": 13, "timestamp-reply": 14,
		"info-request": 15, "info-reply": 16, "address-mask-request": 17, "address-mask-reply": 18,
	},
	domainICMPv6: {
		"destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4, "echo-request": 128, "echo-reply": 129,
		"mld-listener-query": 130, "mld-listener-report": 131, "mld-listener-done": 132, "nd-router-solicit": 133, "nd-router-advert": 134,
		"nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137, "router-renumbering": 138,
		"ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": 143,
	},
}

// constant reads a number, a word for one, or several of them joined by "or".
func constant(d domain, e any) (uint64, bool) {
	switch e := e.(type) {
	case float64:
		return uint64(e), e >= 0 && e <= math.MaxUint32
	case string:
		n, ok := words[d][e]
		return n, ok
	case []any:
		return constantOf(d, e)
	case map[string]any:
		if list, ok := e["|"].([]any); ok {
			return constantOf(d, list)
		}
	}
	return 0, false
}

func constantOf(d domain, list []any) (n uint64, ok bool) {
	for _, item := range list {
		one, ok := constant(d, item)
		if !ok {
			return 0, false
		}
		n |= one
	}
	return n, len(list) > 0
}

// field is one part of an element: a number or a range of them, an address, a
// network or a range, or a text, which may end in a wildcard.
type field struct {
	kind     valueKind
	a, b     uint64
	from, to addr
	text     string
}

// exact says whether only one value fits.
func (f *field) exact() bool {
	switch f.kind {
	case kindNumber:
		return f.a == f.b
	case kindAddr:
		return f.from == f.to
	}
	return false // a device's name may not be known
}

func parseFields(domains []domain, e any) ([]field, bool) {
	if m, ok := e.(map[string]any); ok && m["concat"] != nil {
		parts := listOf(m["concat"])
		out := make([]field, 0, len(parts))
		for i, part := range parts {
			d := domainAny
			if i < len(domains) {
				d = domains[i]
			}
			f, ok := parseField(d, part)
			if !ok {
				return nil, false
			}
			out = append(out, f)
		}
		return out, true
	}
	d := domainAny
	if len(domains) > 0 {
		d = domains[0]
	}
	f, ok := parseField(d, e)
	return []field{f}, ok
}

func parseField(d domain, e any) (field, bool) {
	if n, ok := constant(d, e); ok {
		return field{kind: kindNumber, a: n, b: n}, true
	}
	switch e := e.(type) {
	case string:
		if a, err := netip.ParseAddr(e); err == nil && d != domainText {
			return field{kind: kindAddr, from: a, to: a}, true
		}
		return field{kind: kindText, text: e}, d == domainText || d == domainAny
	case map[string]any:
		if p, ok := e["prefix"].(map[string]any); ok {
			return prefixField(p)
		}
		if r, ok := e["range"].([]any); ok && len(r) == 2 {
			return rangeField(d, r)
		}
	}
	return field{}, false
}

func prefixField(p map[string]any) (field, bool) {
	text, _ := p["addr"].(string)
	bits, _ := p["len"].(float64)
	a, err := netip.ParseAddr(text)
	if err != nil {
		return field{}, false
	}
	prefix, err := a.Prefix(int(bits))
	if err != nil {
		return field{}, false
	}
	return field{kind: kindAddr, from: prefix.Addr(), to: lastOf(prefix)}, true
}

// lastOf is the last address of a network.
func lastOf(p netip.Prefix) addr {
	raw := p.Addr().AsSlice()
	for i := p.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}

func rangeField(d domain, r []any) (field, bool) {
	low, ok1 := parseField(d, r[0])
	high, ok2 := parseField(d, r[1])
	if !ok1 || !ok2 || low.kind != high.kind || low.kind == kindText {
		return field{}, false
	}
	low.b, low.to = high.b, high.to
	return low, true
}

func (f *field) match(p *packet, v *value) tri {
	switch v.kind {
	case kindIn, kindOut:
		if f.kind == kindText {
			return p.isDevice(v.kind == kindIn, f.text, "*")
		}
	case kindType:
		if f.kind == kindText {
			return p.addrType(v.addr, f.text)
		}
	case kindNumber:
		if f.kind == kindNumber {
			return triOf(f.a <= v.number && v.number <= f.b)
		}
	case kindAddr:
		if f.kind == kindAddr {
			return triOf(between(v.addr, f.from, f.to))
		}
	case kindText:
		if f.kind == kindText {
			return triOf(f.text == v.text)
		}
	}
	return maybe // of different kinds: something was not understood
}

func matchFields(p *packet, fields []field, v *value) tri {
	if v.kind == kindUnknown {
		return maybe
	}
	if v.kind != kindList {
		if len(fields) != 1 {
			return maybe
		}
		return fields[0].match(p, v)
	}
	if len(fields) != len(v.list) {
		return maybe
	}
	is := yes
	for i := range fields {
		is = is.and(fields[i].match(p, &v.list[i]))
	}
	return is
}

// nftSet is a set or verdict map of nftables.
type nftSet struct {
	domains []domain
	isMap   bool
	unsure  bool // what is in it changes by itself, or is not understood
	exact   map[string]int
	other   []element // those that are not in exact
	all     []element
	rest    *element // for what no other one fits
}

type element struct {
	fields  []field
	verdict verdict
}

// add adds an element as nft lists it.
func (s *nftSet) add(e any) {
	el, key := element{}, e
	if s.isMap {
		pair, _ := e.([]any)
		if len(pair) != 2 {
			s.unsure = true
			return
		}
		key = pair[0]
		el.verdict = verdict{kind: verdictUnknown}
		m, _ := pair[1].(map[string]any)
		for word, arg := range m {
			if v, ok := nftVerdict(word, arg); ok {
				el.verdict = v
			}
		}
	}
	if m, ok := key.(map[string]any); ok && m["elem"] != nil {
		inner, _ := m["elem"].(map[string]any)
		key = inner["val"]
		el.verdict.comment, _ = inner["comment"].(string)
	}
	if key == "*" {
		s.rest = &el
		return
	}
	var ok bool
	if el.fields, ok = parseFields(s.domains, key); !ok {
		s.unsure = true
		return
	}
	s.put(el)
}

func (s *nftSet) put(el element) {
	s.all = append(s.all, el)
	var key []byte
	for i := range el.fields {
		if !el.fields[i].exact() {
			s.other = append(s.other, el)
			return
		}
		key = appendKey(key, el.fields[i].a, el.fields[i].from)
	}
	if s.exact == nil {
		s.exact = map[string]int{}
	}
	s.exact[string(key)] = len(s.all) - 1
}

func appendKey(key []byte, n uint64, a addr) []byte {
	if a.IsValid() {
		key = a.AppendTo(key)
	} else {
		key = strconv.AppendUint(key, n, 10)
	}
	return append(key, ' ')
}

// find finds the element for a value; nil: there is none. The answer is maybe if
// it could not be decided.
func (s *nftSet) find(p *packet, v *value) (*element, tri) {
	if s.unsure {
		return nil, maybe
	}
	list := v.list
	if v.kind != kindList {
		list = []value{*v}
	}
	var key []byte
	plain := true
	for i := range list {
		plain = plain && (list[i].kind == kindNumber || list[i].kind == kindAddr)
		key = appendKey(key, list[i].number, list[i].addr)
	}
	if at, ok := s.exact[string(key)]; ok && plain {
		return &s.all[at], yes
	}
	others := s.other
	if !plain {
		others = s.all
	}
	unknown := false
	for i := range others {
		switch matchFields(p, others[i].fields, v) {
		case yes:
			return &others[i], yes
		case maybe:
			unknown = true
		case no:
		}
	}
	if unknown {
		return nil, maybe
	}
	return s.rest, triOf(s.rest != nil)
}

func (s *nftSet) has(p *packet, v *value) tri {
	_, is := s.find(p, v)
	return is
}

// maxVerdicts bounds the verdicts of a map that are followed where it is not known
// which one it is.
const maxVerdicts = 64

// verdict is what a map says of a value, or all that it may say.
func (s *nftSet) verdict(p *packet, v *value) result {
	el, is := s.find(p, v)
	switch {
	case is == no:
		return result{}
	case el != nil:
		return result{is: yes, verdicts: []verdict{el.verdict}}
	}
	r := result{is: maybe}
	seen := map[verdict]bool{}
	list := s.all
	if s.rest != nil {
		list = append(list[:len(list):len(list)], *s.rest)
	}
	for i := range list {
		if seen[list[i].verdict] || (list[i].fields != nil && matchFields(p, list[i].fields, v) == no) {
			continue
		}
		if len(r.verdicts) == maxVerdicts {
			return result{is: maybe, verdicts: []verdict{{kind: verdictUnknown}}}
		}
		seen[list[i].verdict] = true
		r.verdicts = append(r.verdicts, list[i].verdict)
	}
	return r
}
