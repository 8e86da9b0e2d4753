// SPDX-License-Identifier: Apache-2.0

package pcapexpr

import (
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/stackhop/stackhop/internal/cpubound"
)

// member reads an address, or an address and a port.
func member(s string) Member {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return Member{Net: netip.PrefixFrom(ap.Addr(), ap.Addr().BitLen()), Port: ap.Port()}
	}
	addr := netip.MustParseAddr(s)
	return Member{Net: netip.PrefixFrom(addr, addr.BitLen())}
}

func setOf(name string, ends ...string) *Set {
	s := NewSet(name)
	var list []Member
	for _, e := range ends {
		list = append(list, member(e))
	}
	s.Replace(list)
	return s
}

func TestSetMembers(t *testing.T) {
	s := setOf("a", "10.0.0.1:80", "::ffff:10.0.0.1", "2001:db8::1", "10.0.0.1:80", "[2001:db8::1]:443")
	want := []Member{member("10.0.0.1:80"), member("10.0.0.1"), member("2001:db8::1"), member("[2001:db8::1]:443")}
	got := s.Members()
	if !slices.Equal(got, want) {
		t.Errorf("members %v, want %v", got, want)
	}
	got[0].Port = 1
	if !slices.Equal(s.Members(), want) {
		t.Error("the set's own list was given away")
	}
	s.Replace([]Member{{Net: netip.MustParsePrefix("10.0.0.0/8")}, {}, member("10.0.0.2")})
	if got := s.Members(); !slices.Equal(got, []Member{member("10.0.0.2")}) {
		t.Errorf("members %v, want only what is one address", got)
	}
}

func TestMatchSet(t *testing.T) {
	tests := []struct {
		name     string
		ends     []string
		packet   []byte
		src, dst bool
	}{
		{"no members", nil, synPacket, false, false},
		{"source", []string{"10.0.0.1"}, synPacket, true, false},
		{"destination", []string{"192.0.2.7"}, synPacket, false, true},
		{"both", []string{"192.0.2.7", "10.0.0.1"}, synPacket, true, true},
		{"ports", []string{"192.0.2.7:80", "10.0.0.1:80"}, synPacket, false, true},
		{"options", []string{"192.0.2.7:80", "10.0.0.1:40000"}, optPacket, true, true},
		{"several ports", []string{"192.0.2.7:443", "192.0.2.7:80"}, synPacket, false, true},
		{"other port", []string{"192.0.2.7:443"}, synPacket, false, false},
		{"any port beside another", []string{"192.0.2.7:443", "192.0.2.7"}, synPacket, false, true},
		{"later fragment", []string{"192.0.2.7:80", "10.0.0.1"}, fragPacket, true, false},
		{"first fragment", []string{"224.0.0.5:40000"}, moreFrags, false, true},
		{"IPv6", []string{"2001:db8::1", "[2001:db8::2]:443"}, syn6Packet, true, true},
		{"IPv6 behind a fragment header", []string{"[2001:db8::1]:40000", "ff02::1"}, frag6, false, true},
		{"no ports at all", []string{"2001:db8::1", "[2001:db8::2]:32768"}, ping6, true, false},
		{"impossible header length", []string{"10.0.0.1", "192.0.2.7:80"}, oddPacket, true, false},
		{"cut behind the addresses", []string{"10.0.0.1", "192.0.2.7:80"}, synPacket[:23], true, false},
		{"cut in the addresses", []string{"10.0.0.1", "192.0.2.7"}, synPacket[:19], false, false},
		{"cut in the addresses of IPv6", []string{"2001:db8::1"}, syn6Packet[:39], false, false},
		{"not IP", []string{"0.0.0.0", "::"}, arpPacket, false, false},
		{"no bytes", []string{"0.0.0.0", "::"}, nil, false, false},
	}
	for _, tt := range tests {
		s := setOf("x", tt.ends...)
		for _, e := range []struct {
			expr *Expr
			want bool
		}{
			{SrcIn(s), tt.src}, {DstIn(s), tt.dst},
			{Not(SrcIn(s)), !tt.src}, {And(SrcIn(s), DstIn(s)), tt.src && tt.dst}, {Or(SrcIn(s), DstIn(s)), tt.src || tt.dst},
		} {
			if got := e.expr.Match(tt.packet, Meta{VLAN: -1}); got != e.want {
				t.Errorf("%s: %q: match %v, want %v", tt.name, e.expr, got, e.want)
			}
		}
	}
}

func TestMatchTupleSet(t *testing.T) {
	addr := netip.MustParseAddr
	vip := Tuple{Proto: 6, Dst: addr("10.96.0.1"), DstPort: 443, KnownDst: true}
	unknown, icmp := vip, vip
	unknown.Proto, icmp.Proto = 0, 1
	tests := []struct {
		name     string
		ends     []string
		tuple    Tuple
		src, dst Tri
	}{
		{"no members", nil, vip, No, No},
		{"address", []string{"10.96.0.1"}, vip, Maybe, Yes},
		{"mapped", []string{"::ffff:10.96.0.1"}, vip, Maybe, Yes},
		{"port", []string{"10.96.0.1:443"}, vip, Maybe, Yes},
		{"other port", []string{"10.96.0.1:80"}, vip, Maybe, No},
		{"port of an unknown protocol", []string{"10.96.0.1:443"}, unknown, Maybe, Maybe},
		{"other port of an unknown protocol", []string{"10.96.0.1:80"}, unknown, Maybe, No},
		{"port of a protocol without", []string{"10.96.0.1:443"}, icmp, Maybe, No},
		{"address of an unknown protocol", []string{"10.96.0.1", "10.96.0.1:443"}, unknown, Maybe, Yes},
		{"elsewhere", []string{"10.96.0.2"}, vip, Maybe, No},
		{"an invalid address is not known", []string{"10.96.0.2"}, Tuple{KnownSrc: true, KnownDst: true}, Maybe, Maybe},
	}
	for _, tt := range tests {
		s := setOf("x", tt.ends...)
		if got := SrcIn(s).MatchTuple(tt.tuple); got != tt.src {
			t.Errorf("%s: source %v, want %v", tt.name, got, tt.src)
		}
		if got := DstIn(s).MatchTuple(tt.tuple); got != tt.dst {
			t.Errorf("%s: destination %v, want %v", tt.name, got, tt.dst)
		}
	}
}

func TestSets(t *testing.T) {
	a, b := setOf("pod/shop/web"), setOf("svc/shop/cart:80")
	e := Or(And(SrcIn(b), DstIn(a)), Not(And(SrcIn(a), DstIn(b))))
	if got := e.Sets(); !slices.Equal(got, []*Set{b, a}) {
		t.Errorf("%d sets, want the two in order", len(got))
	}
	if got := All().Sets(); len(got) != 0 {
		t.Errorf("%d sets of an expression without any", len(got))
	}
	want := "(src in svc/shop/cart:80 and dst in pod/shop/web) or not (src in pod/shop/web and dst in svc/shop/cart:80)"
	if got := e.String(); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if _, err := Parse(SrcIn(a).String()); err == nil {
		t.Error("a set's name was parsed as something else")
	}
}

// TestParseSets: what was printed is read as the same, each name as one set.
func TestParseSets(t *testing.T) {
	from, to, with := NewSet("--from"), NewSet("--to"), NewSet("pod/shop/web:80")
	tcp, err := Parse("tcp port 80 or 443")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []*Expr{
		SrcIn(from), Not(DstIn(with)), And(Or(And(SrcIn(from), DstIn(to)), And(SrcIn(to), DstIn(from))), tcp), Or(SrcIn(from), SrcNet(netip.MustParsePrefix("10.0.0.0/8"))), tcp, All(),
	} {
		again, err := ParseSets(e.String())
		if err != nil {
			t.Errorf("%q: %v", e, err)
			continue
		}
		if again.String() != e.String() || len(again.Sets()) != len(e.Sets()) {
			t.Errorf("%q is read as %q", e, again)
		}
		for i, s := range again.Sets() {
			if s.Name() != e.Sets()[i].Name() || len(s.Members()) != 0 {
				t.Errorf("%q: set %d is %q with %v", e, i, s.Name(), s.Members())
			}
		}
	}
	for _, s := range []string{"src in", "src in )", "(src in)", "in --from", "host in --from", "tcp src in x", "src and dst in x", "src in x y", "src in x or 10.0.0.1", "src in x port 80"} {
		if e, err := ParseSets(s); err == nil {
			t.Errorf("%q is read as %q", s, e)
		}
	}
}

// FuzzParseSets: whatever is read is printed as what is read as the same.
func FuzzParseSets(f *testing.F) {
	for _, s := range []string{"src in --from", "(src in a and dst in b) or not (src in b)", "src in in in in", "dst in [", "src in tcp[0", "src in x and tcp[0] = 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		defer cpubound.Run(t)()
		e, err := ParseSets(s)
		if err != nil {
			return
		}
		again, err := ParseSets(e.String())
		if err != nil || again.String() != e.String() {
			t.Fatalf("ParseSets(%q) prints %q, read as %q: %v", s, e, again, err)
		}
	})
}

func TestReadsVLAN(t *testing.T) {
	for s, want := range map[string]bool{"": false, "tcp or not vlan 5": true, "vlan": true, "tcp and host 10.0.0.1": false} {
		e, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.ReadsVLAN(); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
	if SrcIn(NewSet("vlan")).ReadsVLAN() {
		t.Error("a set's name was taken for vlan")
	}
}

// A packet meets the old members or the new ones, never a mixture.
func TestSetReplaceWhileMatching(t *testing.T) {
	s := setOf("x", "10.0.0.1")
	one, both := SrcIn(s), And(SrcIn(s), DstIn(s))
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if !one.Match(synPacket, Meta{VLAN: -1}) {
						t.Error("a member of all lists was not found")
						return
					}
					both.Match(synPacket, Meta{VLAN: -1})
				}
			}
		})
	}
	for i := range 500 {
		s.Replace([]Member{member("10.0.0.1"), member("10.1.0.1")}[:1+i%2])
	}
	close(done)
	wg.Wait()
}
