// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// head parses qualifiers behind the protocol word proto, if any, and the
// operands they belong to.
func (p *parser) head(proto string) (Node, quals, error) {
	q := quals{ok: true, proto: proto}
	dirToken := p.peek()
	hasDir := p.direction(&q)
	if p.sets != nil && proto == "" && (q.dir == DirSrc || q.dir == DirDst) && p.peek().isJoin("in") {
		p.next()
		n, err := p.set(q.dir)
		return n, quals{}, err
	}
	if t := p.peek(); t.kind == tokWord {
		if k, ok := kindWords[t.text]; ok {
			if k == kindProto && hasDir {
				return nil, q, errAt(dirToken.pos, "proto has no direction; write proto without %s", dirToken.text)
			}
			q.kind = k
			p.next()
		}
	}
	if err := q.check(dirToken.pos); err != nil {
		return nil, q, err
	}
	n, err := p.values(q)
	return n, q, err
}

// set parses the name of a set.
func (p *parser) set(dir Dir) (Node, error) {
	t := p.next()
	if t.kind != tokSet {
		return nil, errAt(t.pos, "unexpected %s; the name of a set must follow in", t.show())
	}
	s := p.sets[t.text]
	if s == nil {
		s = NewSet(t.text)
		p.sets[t.text] = s
	}
	return &SetNode{Dir: dir, Set: s}, nil
}

// direction parses src, dst, src or dst, src and dst.
func (p *parser) direction(q *quals) bool {
	first := p.peek()
	if first.kind != tokWord || first.text != "src" && first.text != "dst" {
		return false
	}
	p.next()
	q.dir = DirSrc
	other := "dst"
	if first.text == "dst" {
		q.dir, other = DirDst, "src"
	}
	if second := p.peek2(); second.kind == tokWord && second.text == other {
		switch t := p.peek(); {
		case t.isJoin("or"):
			q.dir = DirEither
		case t.isJoin("and"):
			q.dir = DirBoth
		default:
			return true
		}
		p.next()
		p.next()
	}
	return true
}

// check refuses qualifiers that do not go together.
func (q quals) check(pos int) error {
	ip := q.proto == "" || q.proto == "ip" || q.proto == "ip6"
	transport := q.proto == "" || q.proto == "tcp" || q.proto == "udp" || q.proto == "sctp"
	switch q.kind {
	case kindPort, kindPortrange:
		if !transport {
			return errAt(pos, "%s has no ports; tcp, udp, sctp or no word is accepted before port", q.proto)
		}
	case kindProto:
		if !ip {
			return errAt(pos, "proto cannot follow %s; ip, ip6 or no word is accepted before it", q.proto)
		}
	default:
		if !ip {
			return errAt(pos, "%s has no addresses; write \"%s and\" before the address part", q.proto, q.proto)
		}
	}
	return nil
}

// values parses what qualifiers belong to: one operand or several in
// parentheses.
func (p *parser) values(q quals) (Node, error) {
	t := p.peek()
	if err := p.enter(t.pos); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	switch {
	case t.isJoin("not"):
		p.next()
		n, err := p.values(q)
		if err != nil {
			return nil, err
		}
		return notNode(n), nil
	case t.isOp("("):
		p.next()
		n, err := p.values(q)
		for err == nil {
			var kid Node
			switch t := p.peek(); {
			case t.isJoin("and"):
				p.next()
				if kid, err = p.values(q); err == nil {
					n = andNodes(n, kid)
				}
			case t.isJoin("or"):
				p.next()
				if kid, err = p.values(q); err == nil {
					n = orNodes(n, kid)
				}
			default:
				return n, p.closeParen()
			}
		}
		return nil, err
	}
	return p.value(q)
}

// value parses one operand.
func (p *parser) value(q quals) (Node, error) {
	switch q.kind {
	case kindPort, kindPortrange:
		return p.port(q)
	case kindProto:
		return p.proto(q)
	}
	return p.address(q)
}

// wants names the operand q needs.
func (q quals) wants() string {
	switch q.kind {
	case kindNet:
		return "a network such as 10.0.0.0/8 or 2001:db8::/32"
	case kindPort:
		return "a port from 0 to 65535 or a service such as https"
	case kindPortrange:
		return "a range of ports such as 8000-8080"
	case kindProto:
		return `a protocol number from 0 to 255 or a name such as \tcp`
	}
	return "an IPv4 or IPv6 address"
}

func (p *parser) port(q quals) (Node, error) {
	t := p.next()
	n := &PortNode{Dir: q.dir, Proto: protocols[q.proto].num}
	lo, hi, isRange := strings.Cut(t.text, "-")
	var ok bool
	switch {
	case t.kind != tokNum && t.kind != tokWord && t.kind != tokEscape:
		return nil, errAt(t.pos, "unexpected %s; %s is accepted here", t.show(), q.wants())
	case t.kind == tokNum:
		if t.num > 65535 {
			return nil, errAt(t.pos, "port %d does not exist: 0 to 65535 is accepted", t.num)
		}
		n.Lo, n.Hi = uint16(t.num), uint16(t.num)
		return n, nil
	}
	if n.Lo, ok = services[t.text]; ok {
		n.Hi = n.Lo
		return n, nil
	}
	if !isRange || q.kind != kindPortrange {
		hint := ""
		if isRange {
			hint = "; for a range write portrange " + t.text
		}
		return nil, errAt(t.pos, "unknown service %q; %s is accepted here, names are not looked up%s", t.text, q.wants(), hint)
	}
	a, okA := portNumber(lo)
	b, okB := portNumber(hi)
	if !okA || !okB {
		return nil, errAt(t.pos, "%q is not a range of ports; %s is accepted here", t.text, q.wants())
	}
	n.Lo, n.Hi = min(a, b), max(a, b)
	return n, nil
}

// portNumber reads one end of a range.
func portNumber(s string) (uint16, bool) {
	if v, ok := services[s]; ok {
		return v, true
	}
	t, err := wordToken(s, 0)
	return uint16(t.num), err == nil && t.kind == tokNum && t.num <= 65535 && s != ""
}

func (p *parser) proto(q quals) (Node, error) {
	t := p.next()
	n := &ProtoNode{Family: map[string]uint8{"ip": 4, "ip6": 6}[q.proto]}
	switch t.kind {
	case tokNum:
		if t.num > 255 {
			return nil, errAt(t.pos, "protocol %d does not exist: 0 to 255 is accepted", t.num)
		}
		n.Num = uint8(t.num)
		return n, nil
	case tokWord, tokEscape:
		num, ok := protoNames[t.text]
		if !ok {
			return nil, errAt(t.pos, "unknown protocol %q; %s is accepted here", t.text, q.wants())
		}
		n.Num = num
		return n, nil
	}
	return nil, errAt(t.pos, "unexpected %s; %s is accepted here", t.show(), q.wants())
}

// address parses the operand of host and net.
func (p *parser) address(q quals) (Node, error) {
	t := p.next()
	switch t.kind {
	case tokAddr6:
		return p.address6(q, t)
	case tokAddr4:
		return p.address4(q, t)
	case tokNum:
		if q.kind == kindNet && t.num > 0 && t.num < 256 {
			// The token may have been written in octal or hex.
			t.text = strconv.Itoa(int(t.num))
			return p.address4(q, t)
		}
		hint := ""
		if q.kind != kindNet {
			hint = "; a port needs the word port before it"
		}
		return nil, errAt(t.pos, "%s is not %s%s", t.text, q.wants(), hint)
	case tokWord, tokEscape:
		return nil, errAt(t.pos, "%q is not %s; host names are not looked up: write the address", t.text, q.wants())
	}
	return nil, errAt(t.pos, "unexpected %s; %s is accepted here", t.show(), q.wants())
}

func (p *parser) address6(q quals, t token) (Node, error) {
	addr, err := netip.ParseAddr(t.text)
	if err != nil || !addr.Is6() {
		if strings.Count(t.text, ":") == 5 && !strings.Contains(t.text, "::") {
			return nil, errAt(t.pos, "%q is a link-layer address: %s", t.text, whyLink)
		}
		return nil, errAt(t.pos, "%q is not an IPv6 address", t.text)
	}
	if q.proto == "ip" {
		return nil, errAt(t.pos, "%s is an IPv6 address but ip is IPv4 only; write ip6", t.text)
	}
	bits, err := p.prefixLen(q, 128)
	if err != nil {
		return nil, err
	}
	return checkBits(t, newNet(q.dir, addr, bits), addr.AsSlice())
}

func (p *parser) address4(q quals, t token) (Node, error) {
	if q.proto == "ip6" {
		return nil, errAt(t.pos, "%s is an IPv4 address but ip6 is IPv6 only; write ip", t.text)
	}
	addr, given, err := parseDotted(t)
	if err != nil {
		return nil, err
	}
	if m := p.peek(); q.kind == kindNet && m.kind == tokWord && m.text == "mask" {
		p.next()
		mt := p.next()
		if mt.kind != tokAddr4 {
			return nil, errAt(mt.pos, "unexpected %s; a mask such as 255.255.255.0 is accepted here", mt.show())
		}
		mask, _, err := parseDotted(mt)
		if err != nil {
			return nil, err
		}
		n := &NetNode{Dir: q.dir}
		copy(n.Mask[:], mask[:])
		for i := range addr {
			n.Addr[i] = addr[i] & mask[i]
		}
		return checkBits(t, n, addr[:])
	}
	// An address with fewer than four parts stands for the network it begins.
	bits, err := p.prefixLen(q, given)
	if err != nil {
		return nil, err
	}
	return checkBits(t, newNet(q.dir, netip.AddrFrom4(addr), bits), addr[:])
}

// checkBits refuses address bits outside the mask: they are a typing error.
func checkBits(t token, n *NetNode, written []byte) (Node, error) {
	for i, b := range written {
		if b != n.Addr[i] {
			return nil, errAt(t.pos, "%s has bits set outside its mask; with this mask the network is %s", t.text, n.network())
		}
	}
	return n, nil
}

// prefixLen parses an optional /n behind an address; unless there is one the
// length is given bits.
func (p *parser) prefixLen(q quals, given int) (int, error) {
	slash := p.peek()
	if !slash.isOp("/") {
		return given, nil
	}
	if q.kind != kindNet {
		return 0, errAt(slash.pos, "a mask is accepted only behind net; write net before the address")
	}
	p.next()
	limit := 32
	if given == 128 {
		limit = 128
	}
	t := p.next()
	if t.kind != tokNum || t.num > uint32(limit) {
		return 0, errAt(t.pos, "unexpected %s; a prefix length from 0 to %d is accepted here", t.show(), limit)
	}
	return int(t.num), nil
}

// parseDotted reads one to four parts of an IPv4 address and returns how many
// bits they give.
func parseDotted(t token) (addr [4]byte, bits int, err error) {
	parts := strings.Split(t.text, ".")
	if len(parts) > 4 {
		return addr, 0, errAt(t.pos, "%q is not an IPv4 address", t.text)
	}
	for i, s := range parts {
		v, err := strconv.ParseUint(s, 10, 8)
		if err != nil || len(s) > 1 && s[0] == '0' {
			return addr, 0, errAt(t.pos, "%q is not an IPv4 address: every part is a number from 0 to 255 without leading zeros", t.text)
		}
		addr[i] = byte(v)
	}
	return addr, 8 * len(parts), nil
}

// network returns the address and mask as they are written behind net.
func (n *NetNode) network() string {
	addr, bits, contiguous := n.prefix()
	if !contiguous {
		return fmt.Sprintf("%s mask %s", addr, netip.AddrFrom4([4]byte(n.Mask[:4])))
	}
	return fmt.Sprintf("%s/%d", addr, bits)
}

// prefix returns the address and the number of leading one bits of the mask,
// and whether the mask has no others.
func (n *NetNode) prefix() (addr netip.Addr, bits int, contiguous bool) {
	size := 4
	addr = netip.AddrFrom4([4]byte(n.Addr[:4]))
	if n.Is6 {
		size, addr = 16, netip.AddrFrom16(n.Addr)
	}
	ones := 0
	leading := true
	for i := range 8 * size {
		set := n.Mask[i/8]&(0x80>>(i%8)) != 0
		if set {
			ones++
		}
		leading = leading && set
		if leading {
			bits++
		}
	}
	return addr, bits, ones == bits
}
