// SPDX-License-Identifier: Apache-2.0

package redact

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/internal/cpubound"
)

// unhex reads bytes; blanks are for the reader.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Pieces of packets. A is 172.23.96.23, B is 8.219.164.113, C and D are
// fd00:10:96:1::23 and 2001:db8::71. The letters stand for pseudonyms in what is
// wanted; checksums are cccc in the one, and zero in the other.
const (
	ipTCP  = `4500 003c 7b3b 4000 40 06 cccc A B`
	tcpSYN = `9c63 0050 b8b53a1f 00000000 a002 fff0 cccc 0000 020405b4 0402 080a 11223344 00000000 01 030307`
	ip6UDP = `6 0000000 0010 11 40 C D`
	udp    = `9c63 0050 0010 cccc`
)

func TestPacket(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"tcp with payload", ipTCP + tcpSYN + `deadbeef`, ipTCP + tcpSYN},
		{"tcp cut in its options", ipTCP + `9c63 0050 b8b53a1f 00000000 a002 fff0 cccc 0000 0204`, ipTCP + `9c63 0050 b8b53a1f 00000000 a002 fff0 cccc 0000`},
		{"tcp cut in its header", ipTCP + `9c63 0050 b8b53a1f 0000`, ipTCP + `9c63 0050 b8b53a1f`},
		{"tcp cut in its ports", ipTCP + `9c63 0050`, ipTCP},
		{
			"tcp options with an address and a cookie", // MP_JOIN's ADD_ADDR, fast open
			`4500 0044 7b3b 4000 40 06 cccc A B` + `9c63 0050 b8b53a1f 00000000 c002 fff0 cccc 0000 020405b4 1e08 3401 A 22 08 aabbccddeeff 01 00 11 22 33 44 55 66 77`,
			`4500 0044 7b3b 4000 40 06 cccc A B` + `9c63 0050 b8b53a1f 00000000 c002 fff0 cccc 0000 020405b4 0101 0101 01010101 01 01 010101010101 01 00 00 00 00 00 00 00`,
		},
		{
			"a malformed tcp option", ipTCP + `9c63 0050 b8b53a1f 00000000 6002 fff0 cccc 0000 0200 aabb`,
			ipTCP + `9c63 0050 b8b53a1f 00000000 6002 fff0 cccc 0000 0000 0000`,
		},
		{"padding is not a header", `4500 0014 0000 0000 40 11 cccc A B` + udp, `4500 0014 0000 0000 40 11 cccc A B`},
		{"a large packet's length of 0", `4500 0000 0000 0000 40 11 cccc A B` + udp, `4500 0000 0000 0000 40 11 cccc A B` + udp},
		{"record route", `4700 0024 0000 0000 40 11 cccc A B 0707 04 A 00` + udp, `4700 0024 0000 0000 40 11 cccc A B 0101 01 01010101 01` + udp},
		{"a later fragment", `4500 0024 0000 0001 40 11 cccc A B` + `aabbccdd`, `4500 0024 0000 0001 40 11 cccc A B`},
		{"a protocol nobody knows", `4500 0024 0000 0000 40 fd cccc A B` + `aabbccdd`, `4500 0024 0000 0000 40 fd cccc A B`},
		{"udp", ip6UDP + udp + `deadbeef00112233`, ip6UDP + udp},
		{"the flow label", `6 00abcde 0010 11 40 C D` + udp, ip6UDP + udp},
		{
			"IPv6 options and routing header", `6 0000000 0040 00 40 C D 2b00 0502 00000100 1102 0201 00000000 D` + udp,
			`6 0000000 0040 00 40 C D 2b00 0104 00000000 1102 0201 00000000 00000000000000000000000000000000` + udp,
		},
		{"a later fragment of IPv6", `6 0000000 0010 2c 40 C D 1100 0009 01020304 aabbccddeeff0011`, `6 0000000 0010 2c 40 C D 1100 0009 01020304`},
		{"a cut extension header", `6 0000000 0040 00 40 C D 2b00 0502`, `6 0000000 0040 00 40 C D`},
		{
			"icmp error", `4500 0038 0000 0000 40 01 cccc B A 0303 cccc 00000000 ` + ipTCP + `9c63 0050 b8b53a1f`,
			`4500 0038 0000 0000 40 01 cccc B A 0303 cccc 00000000 ` + ipTCP + `9c63 0050 b8b53a1f`,
		},
		{"icmp redirect", `4500 0038 0000 0000 40 01 cccc B A 0501 cccc A ` + ipTCP, `4500 0038 0000 0000 40 01 cccc B A 0501 cccc A ` + ipTCP},
		{"icmp echo", `4500 0020 0000 0000 40 01 cccc A B 0800 cccc IIII 0001 deadbeef`, `4500 0020 0000 0000 40 01 cccc A B 0800 cccc IIII 0001`},
		{"neighbour solicitation", `6 0000000 0020 3a ff C D 8700 cccc 00000000 C 0101 aabbccddeeff`, `6 0000000 0020 3a ff C D 8700 cccc 00000000 C`},
		{"icmp6 error", `6 0000000 0038 3a ff D C 0104 cccc 00000000` + ip6UDP + udp, `6 0000000 0038 3a ff D C 0104 cccc 00000000` + ip6UDP + udp},
		{"ip in ip", `4500 0050 0000 0000 40 04 cccc B A` + ipTCP + tcpSYN, `4500 0050 0000 0000 40 04 cccc B A` + ipTCP + tcpSYN},
		{
			"vxlan", `4500 006e 0000 0000 40 11 cccc B A 9c63 12b5 005a cccc 08000000 00000100 MMMMMMMMMMMM NNNNNNNNNNNN 0800` + ipTCP + tcpSYN,
			`4500 006e 0000 0000 40 11 cccc B A 9c63 12b5 005a cccc 08000000 00000100 MMMMMMMMMMMM NNNNNNNNNNNN 0800` + ipTCP + tcpSYN,
		},
		{"not vxlan", `4500 0060 0000 0000 40 11 cccc B A 9c63 12b5 005a cccc deadbeef 00000100`, `4500 0060 0000 0000 40 11 cccc B A 9c63 12b5 005a cccc`},
		{"arp", `0001 0800 0604 0001 aabbccddeeff A 000000000000 B`, ``},
		{"cut", `4500 003c 7b3b`, ``},
		{"a header longer than the packet", `4f00 003c 7b3b 4000 40 06 0000 A B`, ``},
		{"nothing", ``, ``},
	}
	r := New(Key{9})
	pseudonym := func(a string) string { return hex.EncodeToString(r.Addr(netip.MustParseAddr(a)).AsSlice()) }
	mac := func(m [6]byte) string { return hex.EncodeToString(m[:]) }
	was := strings.NewReplacer("A", "ac176017", "B", "08dba471", "C", "fd000010009600010000000000000023",
		"D", "20010db8000000000000000000000071", "cccc", "1234", "IIII", "04d2", "MMMMMMMMMMMM", "0a0000000001", "NNNNNNNNNNNN", "0a0000000002")
	id := r.identifier(0x04d2)
	is := strings.NewReplacer("A", pseudonym("172.23.96.23"), "B", pseudonym("8.219.164.113"), "C", pseudonym("fd00:10:96:1::23"),
		"D", pseudonym("2001:db8::71"), "cccc", "0000", "IIII", hex.EncodeToString([]byte{byte(id >> 8), byte(id)}),
		"MMMMMMMMMMMM", mac(r.MAC([6]byte{10, 0, 0, 0, 0, 1})), "NNNNNNNNNNNN", mac(r.MAC([6]byte{10, 0, 0, 0, 0, 2})))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := unhex(t, was.Replace(tt.in))
			kept := bytes.Clone(in)
			got, want := r.Packet(in), unhex(t, is.Replace(tt.want))
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%x, want\n%x", got, want)
			}
			if len(want) == 0 && got != nil {
				t.Error("nothing is not nil")
			}
			if !bytes.Equal(in, kept) {
				t.Error("the original has changed")
			}
		})
	}
}

func TestPacketPorts(t *testing.T) {
	r := New(Key{9})
	r.Ports = true
	src, dst := r.Port(0x9c63), r.Port(80)
	if src == 0x9c63 || dst == 80 || r.originalPort(src) != 0x9c63 {
		t.Fatalf("ports became %d and %d", src, dst)
	}
	got := r.Packet(unhex(t, `4500 001c 0000 0000 40 11 0000 ac176017 08dba471 9c63 0050 0008 0000`))
	if be.Uint16(got[20:]) != src || be.Uint16(got[22:]) != dst {
		t.Errorf("got % x", got)
	}
}

func TestMAC(t *testing.T) {
	r := New(Key{1})
	for _, same := range []string{"000000000000", "ffffffffffff", "0180c200000e", "01005e0000fb", "333300000001", "333300010002"} {
		m := [6]byte(unhex(t, same))
		if r.MAC(m) != m {
			t.Errorf("%s became %x", same, r.MAC(m))
		}
	}
	for _, tt := range []struct{ in, prefix string }{{"01005e010203", "01005e"}, {"3333ffc9a523", "3333ff"}, {"3333deadbeef", "3333"}} {
		m := [6]byte(unhex(t, tt.in))
		if got := r.MAC(m); got == m || !strings.HasPrefix(hex.EncodeToString(got[:]), tt.prefix) {
			t.Errorf("%s became %x", tt.in, got)
		}
	}
	if got := r.MAC([6]byte(unhex(t, "005056aabbcc"))); got[0]&3 != 2 || bytes.Contains(got[:], unhex(t, "aabbcc")) {
		t.Errorf("a card's address became %x", got)
	}
	if got := r.MAC([6]byte(unhex(t, "094200aabbcc"))); got[0]&3 != 3 {
		t.Errorf("a group's address became %x", got)
	}
}

// FuzzPacket: never a panic, never longer than what came, and in whatever is kept
// of an IPv4 packet both addresses are pseudonyms and the checksum is gone.
func FuzzPacket(f *testing.F) {
	for _, s := range []string{
		`4500003c7b3b4000400600000000000000000000` + `9c630050b8b53a1f00000000a002fff0000000000204 05b40402080a112233440000000001030307`,
		`45000038000000004001000000000000000000000303000000000000 4500003c7b3b40004006000000000000000000009c630050b8b53a1f`,
		`60000000001011400000000000000000000000000000000000000000000000000000000000000000 9c63005000100000`,
		`60000000004000400000000000000000000000000000000000000000000000000000000000000000 2b00050200000100 1102020100000000 00000000000000000000000000000000 9c63005000100000`,
		`4500006e0000000040110000000000000000000 09c6312b5005a0000 0800000000000100 0a0000000001 0a0000000002 0800 4500003c7b3b4000400600000000000000000000`,
		`00010800060400010000`,
	} {
		f.Add(unhex(f, s))
	}
	r := New(Key{1})
	secret := []byte{0xac, 0x17, 0x60, 0x17}
	hidden := r.Addr(netip.AddrFrom4([4]byte(secret))).AsSlice()
	f.Fuzz(func(t *testing.T, b []byte) {
		defer cpubound.Run(t)()
		got := bytes.Clone(r.Packet(b))
		if len(got) > len(b) || len(got) > maxHeaders {
			t.Fatalf("%d bytes of %d", len(got), len(b))
		}
		if len(got) < 20 || got[0]>>4 != 4 {
			return
		}
		for _, at := range []int{12, 16} {
			c := bytes.Clone(b)
			copy(c[at:], secret)
			if p := r.Packet(c); !bytes.Equal(p[at:at+4], hidden) {
				t.Fatalf("address at %d became % x", at, p[at:at+4])
			}
		}
		if got[10] != 0 || got[11] != 0 {
			t.Fatal("the checksum is left")
		}
	})
}

// FuzzFilter: never a panic, and the same for the same text.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"host 10.0.0.1 and tcp port 80", "ip[12:4] = 0xac176017", "net 192.168", "pod/a/b:80", "é\xff:1-2/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		defer cpubound.Run(t)()
		if a, b := New(Key{1}).Filter(s), New(Key{1}).Filter(s); a != b {
			t.Fatalf("%q and %q", a, b)
		}
		New(Key{1}).Args([]string{s, s})
		New(Key{1}).Text(s)
		New(Key{1}).Sysctl(s)
	})
}
