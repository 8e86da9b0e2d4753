// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/internal/cpubound"
)

func TestParse(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{" \t\n", ""},
		{"host 10.0.0.1", "host 10.0.0.1"},
		{"src 10.0.0.1", "src host 10.0.0.1"},
		{"src or dst host 10.0.0.1", "host 10.0.0.1"},
		{"dst and src 10.0.0.1", "src and dst host 10.0.0.1"},
		{"host 10.1", "net 10.1.0.0/16"},
		{"net 10", "net 10.0.0.0/8"},
		{"net 0x0a", "net 10.0.0.0/8"},
		{"net 10/8", "net 10.0.0.0/8"},
		{"net 10.0/16", "net 10.0.0.0/16"},
		{"net 10.1.2", "net 10.1.2.0/24"},
		{"net 10.0.0.0 mask 255.0.0.0", "net 10.0.0.0/8"},
		{"net 10.0.0.1 mask 255.0.0.255", "net 10.0.0.1 mask 255.0.0.255"},
		{"ip6 dst net 2001:db8::/32", "dst net 2001:db8::/32"},
		{"ip6 host ::1", "host ::1"},
		{"host ::ffff:1.2.3.4", "host ::ffff:1.2.3.4"},
		{"net ::/0", "net ::/0"},
		{"port 80", "port 80"},
		{"port 010", "port 8"},
		{"port https", "port 443"},
		{"tcp src port 80 or 443", "tcp src port 80 or tcp src port 443"},
		{"tcp dst portrange 8080-8000", "tcp dst portrange 8000-8080"},
		{"portrange ftp-ssh", "portrange 21-22"},
		{"portrange 80", "port 80"},
		{"port not 80", "not port 80"},
		{"port (80 or 443 and not 22)", "(port 80 or port 443) and not port 22"},
		{"host 10.0.0.1 or 10.0.0.2 and port 80", "(host 10.0.0.1 or host 10.0.0.2) and port 80"},
		{"tcp or udp and icmp", "(tcp or udp) and icmp"},
		{"tcp or (udp and icmp)", "tcp or (udp and icmp)"},
		{"tcp and (udp and icmp)", "tcp and udp and icmp"},
		{"src host 10.0.0.1 and 10.0.0.2", "src host 10.0.0.1 and src host 10.0.0.2"},
		{"port 80 and (tcp) or 443", "(port 80 and tcp) or port 443"},
		{"port 80 or (443 or 22)", "port 80 or port 443 or port 22"},
		{"port 80 or not 443", "port 80 or not port 443"},
		{"host 10.0.0.1 or dst 10.0.0.2", "host 10.0.0.1 or dst host 10.0.0.2"},
		{"!tcp && ! ( udp || icmp )", "not tcp and not (udp or icmp)"},
		{"not not tcp", "tcp"},
		{`ip proto \tcp`, "ip proto 6"},
		{"ip proto tcp or 17", "ip proto 6 or ip proto 17"},
		{"proto 6", "tcp"},
		{"ip proto 1", "icmp"},
		{"ip6 proto 58", "icmp6"},
		{"proto gre", "proto 47"},
		{"igmp or pim or esp", "ip proto 2 or proto 103 or proto 50"},
		{"ip and ip6", "ip and ip6"},
		{"ip multicast or ip6 multicast", "ip multicast or ip6 multicast"},
		{"vlan", "vlan"},
		{"vlan 5 and tcp", "vlan 5 and tcp"},
		{"less 100", "len <= 100"},
		{"greater 0x10", "len >= 16"},
		{"tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", "tcp[13] & 18 != 0"},
		{"tcp[13] == 2", "tcp[13] = 2"},
		{"icmp[icmptype] = icmp-echo", "icmp[0] = 8"},
		{"icmp6[icmp6type] = icmp6-neighborsolicit", "icmp6[0] = 135"},
		{"ip[6:2] & 0x1fff = 0", "ip[6:2] & 8191 = 0"},
		{"ip[0:1] = 1", "ip[0] = 1"},
		{"tcp[((tcp[12]&0xf0)>>2):4] = 0x47455420", "tcp[(tcp[12] & 240) >> 2:4] = 1195725856"},
		{"len = 1 + 2 * 3", "len = 7"},
		{"len = 10 - 2 - 3", "len = 5"},
		{"len = 1 | 2 & 4 << 1", "len = 1"},
		{"len = -1", "len = 4294967295"},
		{"len = - - 1", "len = 1"},
		{"len > - ip[0]", "len > 0 - ip[0]"},
		{"len - 4 > ip[2:2]", "len - 4 > ip[2:2]"},
		{"(len - 4) * 2 > 6", "(len - 4) * 2 > 6"},
		{"5 < len", "5 < len"},
		{"port 80 or 5 < len", "port 80 or 5 < len"},
		{"0 = 1", "0 = 1"},
		{"1 = 1", ""},
		{"tcp and 1 = 1", "tcp"},
		{"tcp or 2 < 1", "tcp"},
		{"tcp-syn = 2", ""},
	}
	for _, tt := range tests {
		e, err := Parse(tt.in)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.in, err)
			continue
		}
		if got := e.String(); got != tt.want {
			t.Errorf("Parse(%q) = %q, want %q", tt.in, got, tt.want)
		}
		again, err := Parse(e.String())
		if err != nil || !reflect.DeepEqual(e.Root(), again.Root()) {
			t.Errorf("Parse(%q) does not survive printing: %q, %v", tt.in, again, err)
		}
	}
}

func TestParseErrors(t *testing.T) {
	deep := strings.Repeat("(", 300) + "tcp" + strings.Repeat(")", 300)
	long := "tcp" + strings.Repeat(" or udp and icmp", 200)
	tests := []struct {
		in   string
		pos  int
		want string // part of the message
	}{
		{"host", 4, "an IPv4 or IPv6 address is accepted here"},
		{"host example.com", 5, "host names are not looked up"},
		{"host 10.0.0.1 or example.com", 17, "host names are not looked up"},
		{"host 10.0.0.256", 5, "every part is a number from 0 to 255"},
		{"host 1.2.3.4.5", 5, "not an IPv4 address"},
		{"host 10", 5, "is not an IPv4 or IPv6 address; a port needs"},
		{"host 10.0.0.0/8", 13, "only behind net"},
		{"10.0.0.1", 0, "such as host 10.0.0.1"},
		{"tcp and 10.0.0.1", 8, "such as host 10.0.0.1"},
		{"tcp and 80", 8, "port"},
		{"(port 80) or 443", 13, "nothing before it"},
		{"net 10.1.0.0/8", 4, "the network is 10.0.0.0/8"},
		{"net 10.0.0.1 mask 255.255.255.0", 4, "the network is 10.0.0.0/24"},
		{"net 10.0.0.0/33", 13, "from 0 to 32"},
		{"net 2001:db8::/129", 15, "from 0 to 128"},
		{"net 10.0.0.0 mask 24", 18, "a mask such as"},
		{"net 2001:db8:::1", 4, "not an IPv6 address"},
		{"host 00:11:22:33:44:55", 5, "link-layer"},
		{"ip host ::1", 8, "write ip6"},
		{"ip6 host 10.0.0.1", 9, "write ip"},
		{"tcp host 10.0.0.1", 4, "tcp has no addresses"},
		{"ip port 80", 3, "ip has no ports"},
		{"tcp proto 6", 4, "proto cannot follow tcp"},
		{"src proto 6", 0, "proto has no direction"},
		{"port 65536", 5, "0 to 65535"},
		{"port foo", 5, "names are not looked up"},
		{"port 80-90", 5, "write portrange 80-90"},
		{"portrange 80-x", 10, "not a range of ports"},
		{"ip proto 256", 9, "0 to 255"},
		{`ip proto \foo`, 9, "unknown protocol"},
		{"vlan 4096", 5, "0 to 4095"},
		{"less", 4, "needs a length"},
		{"ether host 00:11:22:33:44:55", 0, "the link layer is not seen"},
		{"arp", 0, "the link layer is not seen"},
		{"tcp or arp", 7, "the link layer is not seen"},
		{"multicast", 0, "write ip multicast"},
		{"ip broadcast", 3, "write dst host"},
		{"ip protochain 6", 3, "write proto"},
		{"mpls 5", 0, "move the offsets"},
		{"inbound", 0, "capture device"},
		{"ether[0] = 1", 0, "the link layer is not seen"},
		{"foo", 0, "unknown word"},
		{"len-14 > 5", 0, "spaces around the minus"},
		{"tcp[tcpflags-1] = 0", 4, "spaces around the minus"},
		{"tcp[13]", 7, "a comparison"},
		{"tcp[13] & 2", 11, "a comparison"},
		{"tcp[13:3] = 1", 7, "1, 2 or 4 bytes"},
		{"tcp[108] = 1", 4, "accepts 0 to 107"},
		{"tcp[105:4] = 1", 4, "accepts 0 to 104"},
		{"ip[128] = 1", 3, "accepts 0 to 127"},
		{"icmp6[88] = 1", 6, "accepts 0 to 87"},
		{"tcp[0 - 4] = 1", 4, "out of reach"},
		{"ah[0] = 1", 0, "cannot be read"},
		{"len = 5 / 0", 8, "division by zero"},
		{"len = 5 % (1 - 1)", 8, "division by zero"},
		{"len << 32 = 0", 4, "0 to 31"},
		{"len = 1 ^ 2 + 3", 8, "needs parentheses"},
		{"len = 2 * 3 % 4", 12, "needs parentheses"},
		{"len = - ip[0] % 4", 14, "needs parentheses"},
		{"1 < len < 5", 8, "a comparison is not a number"},
		{"len = 4294967296", 6, "0 to 4294967295"},
		{"port 08", 5, "octal"},
		{"tcp udp", 4, "and, or or the end"},
		{"tcp and", 7, "the end of the expression"},
		{"and tcp", 0, "accepted here"},
		{"(tcp", 0, "never closed"},
		{"tcp)", 3, "no ( before it"},
		{"tcp[13 = 2", 3, "never closed"},
		{"tcp13] = 2", 5, "no [ before it"},
		{"tcp $ udp", 4, "unexpected character"},
		{"tcp \xff", 4, "unexpected character"},
		{`proto \`, 6, "must follow the backslash"},
		{"()", 1, "accepted here"},
		{deep, maxDepth, "nested too deeply"},
		{long, 0, "nested too deeply"},
		{strings.Repeat(" ", maxSource+1), maxSource, "too long"},
	}
	for _, tt := range tests {
		name := tt.in[:min(len(tt.in), 40)]
		e, err := Parse(tt.in)
		var pe *Error
		if !errors.As(err, &pe) {
			t.Errorf("Parse(%q) = %q, %v, want an *Error", name, e, err)
			continue
		}
		if pe.Pos != tt.pos || !strings.Contains(pe.Msg, tt.want) {
			t.Errorf("Parse(%q): offset %d: %s\nwant offset %d and %q", name, pe.Pos, pe.Msg, tt.pos, tt.want)
		}
	}
}

func TestErrorText(t *testing.T) {
	_, err := Parse("host ä or\tfoo")
	var pe *Error
	if !errors.As(err, &pe) {
		t.Fatalf("error is %v, want an *Error", err)
	}
	if want := "filter expression, offset 5: "; !strings.HasPrefix(pe.Error(), want) {
		t.Errorf("Error() = %q, want it to begin with %q", pe, want)
	}
	if got, want := (&Error{Pos: 3, Msg: "msg"}).Caret("ä\tx"), "ä x\n  ^ msg"; got != want {
		t.Errorf("Caret = %q, want %q", got, want)
	}
	if got, want := (&Error{Pos: 99, Msg: "msg"}).Caret("ab"), "ab\n  ^ msg"; got != want {
		t.Errorf("Caret = %q, want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "host 10.0.0.1 or 10.0.0.2 and port 80", "not (tcp or udp)", "vlan 5 and len > 100",
		"tcp[((tcp[12]&0xf0)>>2):4] = 0x47455420", "net 10.0.0.1 mask 255.0.0.255", "ip6 net 2001:db8::/32",
		`ip proto \tcp`, "portrange 1-2 or 3", "icmp6[0] / ip[0] << (len % 7) >= 3", "0 = 1", "less 4 || !greater 6",
		"src and dst host ::ffff:1.2.3.4", "((((", "tcp[-1]=0", "port not (1 or 2)",
	} {
		f.Add(s, []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 1, 187})
	}
	f.Fuzz(func(t *testing.T, s string, packet []byte) {
		defer cpubound.Run(t)()
		e, err := Parse(s)
		if err != nil {
			var pe *Error
			if !errors.As(err, &pe) || pe.Pos < 0 || pe.Pos > len(s) {
				t.Fatalf("Parse(%q): bad error %#v", s, err)
			}
			pe.Caret(s)
			return
		}
		printed := e.String()
		again, err := Parse(printed)
		if err != nil {
			t.Fatalf("Parse(%q) prints %q, which gives: %v", s, printed, err)
		}
		if !reflect.DeepEqual(e.Root(), again.Root()) {
			t.Fatalf("Parse(%q) prints %q, which parses to %q", s, printed, again)
		}
		m := Meta{Len: uint32(len(packet)), VLAN: -1}
		if e.Match(packet, m) != again.Match(packet, m) {
			t.Fatalf("%q and %q differ", s, printed)
		}
		if e.Match(packet, m) && Not(e).Match(packet, m) {
			t.Fatalf("%q and its negation both match", s)
		}
		e.MatchTuple(Tuple{Proto: 6})
	})
}
