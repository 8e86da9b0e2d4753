// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

// Small pools, so that expressions and packets often agree.
var (
	hosts4 = []string{"10.0.0.1", "10.0.0.2", "10.1.2.3", "192.0.2.7", "224.0.0.5", "255.255.255.255"}
	hosts6 = []string{"2001:db8::1", "2001:db8::2", "2001:db8:1::5", "ff02::1", "fe80::1"}
	nets   = []string{
		"10.0.0.0/8", "10.0.0.0/30", "10.1", "10", "192.0.2.0 mask 255.255.255.0", "0.0.0.0/0",
		"128.0.0.0/1", "2001:db8::/32", "2001:db8::/127", "2001:db8:1::/48", "fe80::/10", "::/0", "10.0.0.1/32",
	}
	portPool  = []uint16{80, 443, 53, 8080, 1024, 40000, 0, 65535}
	protoPool = []uint8{6, 6, 6, 17, 17, 132, 1, 58, 2, 50, 103, 112, 44}
)

// source makes random expressions and packets.
type source struct{ *rand.Rand }

func newSource(seed, n uint64) source { return source{rand.New(rand.NewPCG(seed, n))} }

func pick[T any](s source, from []T) T { return from[s.IntN(len(from))] }

func (s source) chance(percent int) bool { return s.IntN(100) < percent }

// expr returns an expression without vlan.
func (s source) expr(depth int) string {
	parts := []string{s.operand(depth)}
	for s.chance(55) && len(parts) < 9 {
		parts = append(parts, pick(s, []string{"and", "or", "&&", "||"}), s.operand(depth))
	}
	return strings.Join(parts, " ")
}

func (s source) operand(depth int) string {
	switch {
	case s.chance(15):
		return pick(s, []string{"not ", "! ", "!"}) + s.operand(depth)
	case depth > 0 && s.chance(20):
		return "(" + s.expr(depth-1) + ")"
	case s.chance(30):
		return s.relation()
	case s.chance(50):
		return s.portPrimitive()
	case s.chance(50):
		return s.addrPrimitive()
	}
	return pick(s, []string{
		"ip", "ip6", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "pim", "vrrp", "esp", "ah",
		`ip proto \tcp`, "ip6 proto 44", "proto 6", "ip proto 17", "ip6 proto 58 or 6", "proto 44",
		"ip multicast", "ip6 multicast", fmt.Sprintf("less %d", s.IntN(200)), fmt.Sprintf("greater %d", s.IntN(200)),
	})
}

func (s source) dir() string {
	return pick(s, []string{"", "", "src ", "dst ", "src or dst ", "src and dst ", "dst or src "})
}

// inherit joins values that share the qualifiers before them.
func (s source) inherit(first string, value func() string) string {
	out := first + value()
	for s.chance(25) {
		out += pick(s, []string{" or ", " and "}) + pick(s, []string{"", "", "not "}) + value()
	}
	if s.chance(10) {
		out = first + "(" + value() + " or " + value() + ")"
	}
	return out
}

func (s source) portPrimitive() string {
	proto := pick(s, []string{"", "", "tcp ", "udp ", "sctp "})
	if s.chance(25) {
		a, b := pick(s, portPool), pick(s, portPool)
		return fmt.Sprintf("%s%sportrange %d-%d", proto, s.dir(), a, b)
	}
	return s.inherit(proto+s.dir()+"port ", func() string {
		return fmt.Sprint(pick(s, portPool))
	})
}

func (s source) addrPrimitive() string {
	if s.chance(40) {
		return s.dir() + "net " + pick(s, nets)
	}
	switch s.IntN(3) {
	case 0:
		return s.inherit("ip "+s.dir()+"host ", func() string { return pick(s, hosts4) })
	case 1:
		return s.inherit("ip6 "+s.dir()+"host ", func() string { return pick(s, hosts6) })
	}
	return s.inherit(s.dir()+"host ", func() string { return pick(s, append(hosts4, hosts6...)) })
}

func (s source) relation() string {
	for {
		r := s.anyRelation()
		// An offset out of reach gives an error, which the caller deals with.
		e, err := pcapexpr.Parse(r)
		if err != nil {
			return r
		}
		// What a comparison of constants makes irrelevant is dropped by Parse,
		// but not always by libpcap.
		if _, constant := e.Root().(*pcapexpr.ConstNode); !constant && !losesChecks(e.Root()) {
			return r
		}
	}
}

// losesChecks says whether tcpdump forgets to test for a header that is read: it
// does so for what is on the right of an arithmetic operator.
func losesChecks(n pcapexpr.Node) bool {
	rel, ok := n.(*pcapexpr.RelNode)
	if !ok {
		return false
	}
	left := &pcapexpr.RelNode{L: leftOnly(rel.L), R: leftOnly(rel.R)}
	for _, c := range rel.Checks() {
		if !slices.Contains(left.Checks(), c) {
			return true
		}
	}
	return false
}

func leftOnly(a pcapexpr.Arith) pcapexpr.Arith {
	switch a := a.(type) {
	case *pcapexpr.Bin:
		return leftOnly(a.L)
	case *pcapexpr.Load:
		return &pcapexpr.Load{Base: a.Base, Index: leftOnly(a.Index), Size: a.Size}
	}
	return a
}

func (s source) anyRelation() string {
	if s.chance(40) {
		return pick(s, []string{
			"tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", "tcp[13] & 2 != 0", "icmp[icmptype] = icmp-echo",
			"icmp6[icmp6type] = 128", "ip[6:2] & 0x1fff = 0", "ip[8] < 64", "udp[4:2] > 20", "ip[0] & 0xf != 5",
			"tcp[((tcp[12]&0xf0)>>2):4] = 0x47455420", "ip[(ip[0]&0xf)<<2] = 5", "len <= 120", "sctp[0:2] = 80",
		})
	}
	op := pick(s, []string{"=", "==", "!=", "<", "<=", ">", ">="})
	return s.arith(2) + " " + op + " " + s.arith(1)
}

// arith returns a number. It keeps away from products and masks of zero, which
// make libpcap's optimiser drop the load of the other factor.
func (s source) arith(depth int) string {
	if depth == 0 || s.chance(40) {
		switch {
		case s.chance(25):
			return fmt.Sprint(pick(s, []uint32{1, 2, 5, 6, 17, 64, 80, 255, 0xffff, 0x80000000, 0xffffffff}))
		case s.chance(15):
			return "len"
		}
		base := pick(s, []string{"ip", "ip", "tcp", "tcp", "udp", "ip6", "icmp", "icmp6", "sctp"})
		index := fmt.Sprint(s.IntN(60))
		if s.chance(15) && depth > 0 {
			index = s.arith(depth - 1)
		}
		if v, ok := strings.CutPrefix(index, "-"); ok || len(v) > 4 && strings.Trim(v, "0123456789") == "" {
			index = "3"
		}
		return base + "[" + index + pick(s, []string{"", ":1", ":2", ":4"}) + "]"
	}
	op := pick(s, []string{"+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"})
	l := s.arith(depth - 1)
	r := s.arith(depth - 1)
	if op == "<<" || op == ">>" {
		r = pick(s, []string{"1", "4", "31", "ip[8]", "(ip[9] & 7)"})
	}
	return "(" + l + " " + op + " " + r + ")"
}

// testPacket is a packet and the Ethernet type it has in a frame.
type testPacket struct {
	hdr       []byte
	meta      pcapexpr.Meta
	etherType uint16
}

// oddIHL says that the IPv4 header length is impossible.
func (p testPacket) oddIHL() bool { return len(p.hdr) > 0 && p.hdr[0]>>4 == 4 && p.hdr[0]&15 < 5 }

// packet returns a packet, often cut short.
func (s source) packet() testPacket {
	var b []byte
	p := testPacket{etherType: 0x88b5, meta: pcapexpr.Meta{VLAN: -1}}
	switch n := s.IntN(100); {
	case n < 60:
		b, p.etherType = s.packet4(), 0x0800
	case n < 95:
		b, p.etherType = s.packet6(), 0x86dd
	default:
		b = s.bytes(40)
		b[0] &= 0x3f
	}
	b = append(b, s.bytes(s.IntN(120))...)
	p.meta.Len = uint32(len(b))
	if s.chance(35) {
		b = b[:s.IntN(len(b)+1)]
	}
	if len(b) == 0 {
		p.etherType = 0x88b5
	}
	if s.chance(10) {
		p.meta.VLAN = int32(s.IntN(8))
	}
	p.hdr = b[:min(len(b), pcapexpr.HeaderBytes)]
	return p
}

func (s source) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.Uint32())
	}
	return b
}

func (s source) packet4() []byte {
	ihl := 5
	if s.chance(40) {
		ihl = 5 + s.IntN(11)
	}
	if s.chance(2) {
		ihl = s.IntN(5)
	}
	b := s.bytes(max(20, 4*ihl))
	b[0] = 0x40 | byte(ihl)
	binary.BigEndian.PutUint16(b[6:], pick(s, []uint16{0, 0, 0, 0x4000, 0x4000, 0x2000, 0x2005, 0x0100, 0x8000}))
	b[9] = pick(s, protoPool)
	src, dst := netip.MustParseAddr(pick(s, hosts4)).As4(), netip.MustParseAddr(pick(s, hosts4)).As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	return append(b, s.transport()...)
}

func (s source) packet6() []byte {
	b := s.bytes(40)
	b[0] = 0x60 | b[0]&15
	next := pick(s, protoPool)
	src, dst := netip.MustParseAddr(pick(s, hosts6)).As16(), netip.MustParseAddr(pick(s, hosts6)).As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	switch {
	case s.chance(20):
		b[6] = protoFragment
		b = append(b, next, 0, 0, byte(s.IntN(2)), 0, 0, 0, 1)
	case s.chance(10):
		b[6] = pick(s, []uint8{0, 43, 60})
		b = append(b, next, 0, 1, 4, 0, 0, 0, 0)
	default:
		b[6] = next
	}
	return append(b, s.transport()...)
}

// transport returns a header that is good for TCP, UDP, SCTP and ICMP.
func (s source) transport() []byte {
	b := s.bytes(20)
	binary.BigEndian.PutUint16(b, pick(s, portPool))
	binary.BigEndian.PutUint16(b[2:], pick(s, portPool))
	if s.chance(30) {
		b[0], b[1] = pick(s, []byte{0, 8, 128, 3}), 0
	}
	b[12] = byte(5+s.IntN(11)) << 4
	b[13] = pick(s, []byte{0x02, 0x12, 0x10, 0x18, 0x04, 0x00})
	if s.chance(20) {
		b = append(b, "GET / HTTP/1.1"...)
		b[12] = 0x50
	}
	return b
}

// tuple returns the connection of a whole packet with the transport header
// directly behind the IP header.
func (p testPacket) tuple() (pcapexpr.Tuple, bool) {
	if p.oddIHL() || len(p.hdr) < 40 {
		return pcapexpr.Tuple{}, false
	}
	var t pcapexpr.Tuple
	at := 40
	switch p.etherType {
	case 0x0800:
		at = 4 * int(p.hdr[0]&15)
		t.Proto = p.hdr[9]
		t.Src, t.Dst = netip.AddrFrom4([4]byte(p.hdr[12:])), netip.AddrFrom4([4]byte(p.hdr[16:]))
		if binary.BigEndian.Uint16(p.hdr[6:])&0x3fff != 0 {
			return t, false
		}
	case 0x86dd:
		t.Proto = p.hdr[6]
		t.Src, t.Dst = netip.AddrFrom16([16]byte(p.hdr[8:])), netip.AddrFrom16([16]byte(p.hdr[24:]))
		if t.Proto == 0 || t.Proto == protoFragment || t.Proto == 60 || t.Proto == 43 {
			return t, false
		}
	default:
		return t, false
	}
	if len(p.hdr) < at+20 {
		return t, false
	}
	t.SrcPort, t.DstPort = binary.BigEndian.Uint16(p.hdr[at:]), binary.BigEndian.Uint16(p.hdr[at+2:])
	return t, true
}
