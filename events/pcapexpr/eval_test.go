// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// ip4 makes an IPv4 packet; words is the header length in 32-bit words, frag
// the flags and fragment offset.
func ip4(words int, frag uint16, proto uint8, src, dst string, rest ...byte) []byte {
	b := make([]byte, 4*words)
	b[0] = 0x40 | byte(words)
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9] = 64, proto
	copy(b[12:], netip.MustParseAddr(src).AsSlice())
	copy(b[16:], netip.MustParseAddr(dst).AsSlice())
	return append(b, rest...)
}

func ip6(next uint8, src, dst string, rest ...byte) []byte {
	b := make([]byte, 40)
	b[0], b[6], b[7] = 0x60, next, 64
	copy(b[8:], netip.MustParseAddr(src).AsSlice())
	copy(b[24:], netip.MustParseAddr(dst).AsSlice())
	return append(b, rest...)
}

// tcp makes a TCP header with flags.
func tcp(src, dst uint16, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	b[12], b[13] = 0x50, flags
	return b
}

var (
	synPacket  = ip4(5, 0x4000, 6, "10.0.0.1", "192.0.2.7", tcp(40000, 80, 0x02)...)
	optPacket  = ip4(15, 0, 6, "10.0.0.1", "192.0.2.7", tcp(40000, 80, 0x12)...)
	fragPacket = ip4(5, 0x0010, 6, "10.0.0.1", "192.0.2.7", tcp(40000, 80, 0x02)...)
	moreFrags  = ip4(5, 0x2000, 17, "10.0.0.1", "224.0.0.5", 0, 53, 0x9c, 0x40, 0, 8, 0, 0)
	syn6Packet = ip6(6, "2001:db8::1", "2001:db8::2", tcp(40000, 443, 0x02)...)
	frag6      = ip6(44, "2001:db8::1", "ff02::1", append([]byte{6, 0, 0, 1, 0, 0, 0, 1}, tcp(40000, 443, 0x02)...)...)
	ping6      = ip6(58, "2001:db8::1", "2001:db8::2", 128, 0, 0, 0)
	arpPacket  = []byte{0, 1, 8, 0, 6, 4, 0, 1}
	oddPacket  = ip4(5, 0, 6, "10.0.0.1", "192.0.2.7", tcp(40000, 80, 0x02)...)
)

func init() { oddPacket[0] = 0x42 }

func TestMatch(t *testing.T) {
	tests := []struct {
		expr   string
		packet []byte
		vlan   int32
		want   bool
	}{
		{"", synPacket, -1, true},
		{"", nil, -1, true},
		{"0 = 1", synPacket, -1, false},
		{"ip", synPacket, -1, true},
		{"ip", nil, -1, false},
		{"not ip and not ip6", arpPacket, -1, true},
		{"host 0.0.0.0", arpPacket, -1, false},
		{"host 10.0.0.1", synPacket, -1, true},
		{"host 192.0.2.7", synPacket, -1, true},
		{"src host 192.0.2.7", synPacket, -1, false},
		{"src and dst net 0.0.0.0/0", synPacket, -1, true},
		{"dst net 192.0.2.0/29", synPacket, -1, true},
		{"port 80", synPacket, -1, true},
		{"src port 80", synPacket, -1, false},
		{"udp port 80", synPacket, -1, false},
		{"portrange 79-81", optPacket, -1, true},
		{"tcp[13] = 0x12", optPacket, -1, true},
		{"port 80", fragPacket, -1, false},
		{"not port 80", fragPacket, -1, true},
		{"tcp", fragPacket, -1, true},
		{"tcp[13] = 2", fragPacket, -1, false},
		{"port 53", moreFrags, -1, true},
		{"ip multicast", moreFrags, -1, true},
		{"port 443", syn6Packet, -1, true},
		{"tcp[13] = 2", syn6Packet, -1, false},
		{"not tcp[13] = 2", syn6Packet, -1, true},
		{"ip6 multicast", syn6Packet, -1, false},
		{"tcp", frag6, -1, true},
		{"port 443", frag6, -1, false},
		{"ip6 proto 44", frag6, -1, true},
		{"ip6 multicast", frag6, -1, true},
		{"icmp6[icmp6type] = icmp6-echo", ping6, -1, true},
		{"icmp6", ping6, -1, true},
		{"icmp", ping6, -1, false},
		{"port 80", oddPacket, -1, false},
		{"not port 80", oddPacket, -1, false},
		{"host 10.0.0.1", oddPacket, -1, true},
		{"vlan", synPacket, -1, false},
		{"vlan", synPacket, 0, true},
		{"vlan 5 or vlan 6", synPacket, 6, true},
		{"vlan 6", synPacket, 0x2006, true},
		{"not vlan 6", synPacket, 7, true},
		// 40 bytes of network layer and 14 of link layer.
		{"len = 54", synPacket, -1, true},
		{"less 54 and greater 54", synPacket, -1, true},
		{"- ip[0] = 0xffffffbb", synPacket, -1, true},
		{"ip[0] / (ip[1] + 0) = 1", synPacket, -1, false},
		{"not ip[0] / (ip[1] + 0) = 1", synPacket, -1, false},
		{"ip[0] << (ip[8] + 0) = 0", synPacket, -1, true},
		{"tcp[ip[1] - 4:4] = 0xc0000207", synPacket, -1, true},
		// Bytes that are not there reject the packet altogether.
		{"host 10.0.0.1", synPacket[:15], -1, false},
		{"not host 10.0.0.1", synPacket[:15], -1, false},
		{"src host 10.0.0.1", synPacket[:16], -1, true},
		{"tcp[13] = 2 or tcp", synPacket[:33], -1, false},
		{"tcp or tcp[13] = 2", synPacket[:33], -1, true},
		{"not tcp[13] = 2", synPacket[:33], -1, false},
		{"tcp", synPacket[:9], -1, false},
		{"not icmp6", synPacket[:1], -1, true},
		{"ip6 multicast", frag6[:24], -1, false},
	}
	for _, tt := range tests {
		e, err := Parse(tt.expr)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.expr, err)
			continue
		}
		if got := e.Match(tt.packet, Meta{Len: uint32(len(tt.packet)), VLAN: tt.vlan}); got != tt.want {
			t.Errorf("%q on %x: match %v, want %v", tt.expr, tt.packet, got, tt.want)
		}
	}
}

func TestMatchIgnoresBeyondPrefix(t *testing.T) {
	e, err := Parse("ip[ip[1] + 127:2] = 0")
	if err != nil {
		t.Fatal(err)
	}
	if e.Match(append(ip4(5, 0, 6, "10.0.0.1", "10.0.0.2"), make([]byte, 200)...), Meta{VLAN: -1}) {
		t.Errorf("a byte beyond HeaderBytes was read")
	}
}

func TestCombine(t *testing.T) {
	p := netip.MustParsePrefix
	tests := []struct {
		e    *Expr
		want string
	}{
		{nil, ""},
		{All(), ""},
		{None(), "0 = 1"},
		{Not(All()), "0 = 1"},
		{And(All(), SrcPort(80, 80)), "src port 80"},
		{And(SrcPort(80, 80), None()), "0 = 1"},
		{Or(None(), DstPort(90, 80)), "dst portrange 80-90"},
		{Or(DstPort(1, 1), All()), ""},
		{And(SrcNet(p("10.1.2.3/8")), DstNet(p("2001:db8::1/128"))), "src net 10.0.0.0/8 and dst host 2001:db8::1"},
		{SrcNet(p("::ffff:10.0.0.0/104")), "src net 10.0.0.0/8"},
		{SrcNet(netip.Prefix{}), "0 = 1"},
		{Not(Or(SrcPort(1, 1), DstPort(2, 2))), "not (src port 1 or dst port 2)"},
		{And(And(SrcPort(1, 1), SrcPort(2, 2)), SrcPort(3, 3)), "src port 1 and src port 2 and src port 3"},
	}
	for _, tt := range tests {
		if got := tt.e.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	// Nodes are shared, so combining one expression twice must not mix the two.
	base := And(And(SrcPort(1, 1), SrcPort(2, 2)), SrcPort(3, 3))
	a, b := And(base, DstPort(4, 4)), And(base, DstPort(5, 5))
	if a.String() == b.String() || base.String() != "src port 1 and src port 2 and src port 3" {
		t.Errorf("combining changed %q, %q, %q", base, a, b)
	}
}

func TestMatchTuple(t *testing.T) {
	addr := netip.MustParseAddr
	vip := Tuple{Proto: 6, Dst: addr("10.96.0.1"), DstPort: 443, KnownDst: true}
	both := Tuple{Proto: 17, Src: addr("::ffff:10.0.0.1"), SrcPort: 5000, KnownSrc: true, Dst: addr("10.0.0.53"), DstPort: 53, KnownDst: true}
	six := Tuple{Proto: 58, Src: addr("2001:db8::1"), KnownSrc: true}
	tests := []struct {
		expr  string
		tuple Tuple
		want  Tri
	}{
		{"", vip, Yes},
		{"0 = 1", vip, No},
		{"dst port 443", vip, Yes},
		{"port 443", vip, Yes},
		{"port 80", vip, Maybe},
		{"dst port 80", vip, No},
		{"src and dst port 443", vip, Maybe},
		{"src and dst port 80", vip, No},
		{"udp port 443", vip, No},
		{"not dst port 80", vip, Yes},
		{"host 10.96.0.1 and tcp", vip, Yes},
		{"src host 10.0.0.1", vip, Maybe},
		{"host 2001:db8::1", vip, No},
		{"ip6", vip, No},
		{"dst net 10.96.0.0/12", vip, Yes},
		{"tcp[13] = 2", vip, Maybe},
		{"udp[0] = 2", vip, No},
		{"not udp[0] = 2", vip, Yes},
		{"icmp6[0] = 1 or tcp", vip, Yes},
		// The comparison may reject the packet before tcp is looked at.
		{"tcp[100] = 1 or tcp", vip, Maybe},
		{"tcp or tcp[100] = 1", vip, Yes},
		{"vlan", vip, Maybe},
		{"len > 100 and udp", vip, No},
		{"ip multicast", vip, No},
		{"src host 10.0.0.1 and dst port 53", both, Yes},
		{"src port 53", both, No},
		{"sctp or udp", both, Yes},
		{"icmp6", six, Yes},
		{"icmp", six, No},
		{"ip6 multicast", six, Maybe},
		{"port 80", six, No},
		{"tcp", Tuple{}, Maybe},
		{"port 80", Tuple{}, Maybe},
		{"host 10.0.0.1", Tuple{KnownSrc: true, KnownDst: true}, Maybe},
		{"src port 80", Tuple{Proto: 6, KnownSrc: true, SrcPort: 80}, Yes},
	}
	for _, tt := range tests {
		e, err := Parse(tt.expr)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.expr, err)
			continue
		}
		if got := e.MatchTuple(tt.tuple); got != tt.want {
			t.Errorf("%q on %+v: %v, want %v", tt.expr, tt.tuple, got, tt.want)
		}
	}
}
