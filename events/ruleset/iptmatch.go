// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// moduleOption reads an option of the module at hand. One that is not known here
// makes the rule undecided.
func (p *ruleParser) moduleOption() {
	if undecided[p.module] || p.module == "comment" || p.module == "nfacct" {
		if p.word == "--comment" {
			p.rl.comment = p.arg()
			return
		}
		p.skip()
		return
	}
	why := "-m " + p.module + " " + p.word
	switch p.module + " " + p.word {
	case "conntrack --ctstate", "state --state":
		p.states(p.arg())
	case "tcp --sport", "udp --sport", "sctp --sport", "tcp --dport", "udp --dport", "sctp --dport":
		p.ports(why, p.word == "--sport", p.word == "--dport", p.arg())
	case "multiport --sports", "multiport --dports", "multiport --ports":
		p.ports(why, p.word != "--dports", p.word != "--sports", p.arg())
	case "tcp --tcp-flags":
		p.flags(p.arg(), p.arg())
	case "icmp --icmp-type", "icmp6 --icmpv6-type":
		p.icmp(p.arg())
	case "mark --mark":
		p.mark(p.arg())
	case "addrtype --src-type", "addrtype --dst-type":
		p.addrTypes(p.word == "--src-type", p.arg())
	case "iprange --src-range", "iprange --dst-range":
		p.addrRange(p.word == "--src-range", p.arg())
	case "length --length":
		p.length(p.arg())
	case "set --match-set":
		p.matchSet(p.arg(), p.arg())
	case "set --return-nomatch", "set --return-nomatch-set":
		p.unknown(why)
	default:
		p.unknown(why)
		p.skip()
	}
}

// skip passes over the arguments of an option.
func (p *ruleParser) skip() {
	for p.at < len(p.words) && p.words[p.at] != "!" && !strings.HasPrefix(p.words[p.at], "-") {
		p.at++
	}
}

func (p *ruleParser) address(src bool, text string) {
	prefix, ok := parsePrefix(text)
	if !ok {
		p.unknown(text)
		return
	}
	p.add(text, func(pk *packet) tri { return triOf(prefix.Contains(pk.addr(src))) })
}

func (p *packet) addr(src bool) addr {
	if src {
		return p.h.Src
	}
	return p.h.Dst
}

// parsePrefix reads an address with or without the length of its prefix.
func parsePrefix(text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix.Masked(), err == nil
}

// protocols are names that iptables and nftables write for numbers.
var protocols = map[string]uint64{
	"icmp": protoICMP, "igmp": 2, "ipip": 4, "tcp": protoTCP, "udp": protoUDP, "dccp": 33, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51,
	"ipv6-icmp": protoICMPv6, "icmpv6": protoICMPv6, "ospf": 89, "vrrp": 112, "sctp": protoSCTP, "mh": 135, "udplite": 136,
}

func (p *ruleParser) protocol(text string) {
	n, ok := protocols[text]
	if !ok {
		var err error
		if n, err = strconv.ParseUint(text, 10, 8); err != nil {
			p.unknown("-p " + text)
			return
		}
	}
	if n == 0 || text == "all" {
		return
	}
	p.add("-p "+text, func(pk *packet) tri { return triOf(uint64(pk.h.Proto) == n) })
}

// stateBits are the words of -m conntrack and -m state.
var stateBits = map[string]uint64{"INVALID": ctInvalid, "NEW": ctNew, "RELATED": ctRelated, "ESTABLISHED": ctEstablished, "UNTRACKED": ctUntracked}

func (p *ruleParser) states(text string) {
	var bits uint64
	var status uint32
	for _, word := range strings.Split(text, ",") {
		switch word {
		case "DNAT":
			status |= events.CTDstNAT
		case "SNAT":
			status |= events.CTSrcNAT
		default:
			bits |= stateBits[word]
		}
	}
	p.add("conntrack state", func(pk *packet) tri {
		is := no
		if bits != 0 {
			is = pk.ctState(bits)
		}
		if status != 0 {
			is = is.or(pk.ctStatus(status))
		}
		return is
	})
}

// portRange is from a to b, both included.
type portRange struct{ a, b uint64 }

func (p *ruleParser) ports(why string, src, dst bool, text string) {
	var ranges []portRange
	for _, part := range strings.Split(text, ",") {
		r, ok := parseRange(part, ":", 0xffff)
		if !ok {
			p.unknown(why)
			return
		}
		ranges = append(ranges, r)
	}
	in := func(port uint64) bool {
		for _, r := range ranges {
			if r.a <= port && port <= r.b {
				return true
			}
		}
		return false
	}
	p.add(why, func(pk *packet) tri {
		if !pk.hasPorts() {
			return maybe
		}
		return triOf((src && in(pk.port(true))) || (dst && in(pk.port(false))))
	})
}

// parseRange reads N, N:M, :M or N:.
func parseRange(text, sep string, limit uint64) (portRange, bool) {
	low, high, isRange := strings.Cut(text, sep)
	r := portRange{0, limit}
	var err1, err2 error
	if low != "" {
		r.a, err1 = strconv.ParseUint(low, 10, 64)
	}
	switch {
	case !isRange:
		r.b = r.a
	case high != "":
		r.b, err2 = strconv.ParseUint(high, 10, 64)
	}
	return r, err1 == nil && err2 == nil && text != ""
}

var flagBits = map[string]uint64{"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "ece": 64, "cwr": 128, "all": 63}

func (p *ruleParser) flags(mask, want string) {
	bits := func(text string) (n uint8) {
		for _, word := range strings.Split(text, ",") {
			n |= uint8(flagBits[strings.ToLower(word)])
		}
		return n
	}
	m, w := bits(mask), bits(want)
	p.add("--tcp-flags", func(pk *packet) tri { return triOf(pk.h.Proto == protoTCP && pk.h.TCPFlags&m == w) })
}

func (p *ruleParser) icmp(text string) {
	if text == "any" || text == "255" {
		return
	}
	typ, code, hasCode := strings.Cut(text, "/")
	t, err1 := strconv.ParseUint(typ, 10, 8)
	c, err2 := strconv.ParseUint(code, 10, 8)
	if err1 != nil || (hasCode && err2 != nil) {
		p.unknown("--icmp-type " + text)
		return
	}
	p.add("--icmp-type", func(pk *packet) tri {
		return triOf(uint64(pk.h.ICMPType) == t && (!hasCode || uint64(pk.h.ICMPCode) == c))
	})
}

// valueMask reads VALUE/MASK; without a mask all bits count.
func valueMask(text string) (value, mask uint64, ok bool) {
	v, m, hasMask := strings.Cut(text, "/")
	mask = 0xffffffff
	value, err1 := strconv.ParseUint(v, 0, 32)
	var err2 error
	if hasMask {
		mask, err2 = strconv.ParseUint(m, 0, 32)
	}
	return value, mask, err1 == nil && err2 == nil
}

func (p *ruleParser) mark(text string) {
	value, mask, ok := valueMask(text)
	if !ok {
		p.unknown("--mark " + text)
		return
	}
	p.add("the mark", func(pk *packet) tri {
		return pk.hasMark(value, mask)
	})
}

func (p *ruleParser) addrTypes(src bool, text string) {
	types := strings.Split(text, ",")
	p.add("addrtype", func(pk *packet) tri {
		is := no
		for _, t := range types {
			is = is.or(pk.addrType(pk.addr(src), t))
		}
		return is
	})
}

func (p *ruleParser) addrRange(src bool, text string) {
	low, high, _ := strings.Cut(text, "-")
	a, err1 := netip.ParseAddr(low)
	b, err2 := netip.ParseAddr(high)
	if err1 != nil || err2 != nil {
		p.unknown(text)
		return
	}
	p.add(text, func(pk *packet) tri { return triOf(between(pk.addr(src), a, b)) })
}

func between(x, a, b addr) bool {
	return x.Compare(a) >= 0 && x.Compare(b) <= 0 && x.BitLen() == a.BitLen()
}

func (p *ruleParser) length(text string) {
	r, ok := parseRange(text, ":", 0xffff)
	if !ok {
		p.unknown("--length " + text)
		return
	}
	p.add("--length", func(pk *packet) tri {
		n := uint64(pk.h.Length)
		return triOf(r.a <= n && n <= r.b)
	})
}

func (p *ruleParser) matchSet(name, dirs string) {
	directions := strings.Split(dirs, ",")
	r := p.r
	p.add("set "+name, func(pk *packet) tri {
		s := r.ipsets[name]
		if s == nil {
			return maybe
		}
		return s.has(pk, directions)
	})
}
