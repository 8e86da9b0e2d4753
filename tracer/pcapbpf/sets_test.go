// SPDX-License-Identifier: Apache-2.0

package pcapbpf

import (
	"net/netip"
	"testing"

	"github.com/stackhop/stackhop/events/pcapexpr"
)

// setsEvery is how many random expressions there are for one with sets.
const setsEvery = 3

// set returns one with some of the addresses that packets have.
func (s source) set() *pcapexpr.Set {
	var members []pcapexpr.Member
	for range s.IntN(6) {
		addr := netip.MustParseAddr(pick(s, append(hosts4, hosts6...)))
		m := pcapexpr.Member{Net: netip.PrefixFrom(addr, addr.BitLen())}
		if s.chance(50) {
			m.Port = pick(s, portPool)
		}
		members = append(members, m)
	}
	set := pcapexpr.NewSet("")
	set.Replace(members)
	return set
}

// withSets joins conditions of sets to an expression, up to MaxSets of them.
func (s source) withSets(e *pcapexpr.Expr) *pcapexpr.Expr {
	var sets []*pcapexpr.Set
	for range 1 + s.IntN(MaxSets) {
		sets = append(sets, s.set())
	}
	for range 1 + s.IntN(6) {
		in := pick(s, []func(*pcapexpr.Set) *pcapexpr.Expr{pcapexpr.SrcIn, pcapexpr.DstIn})(pick(s, sets))
		if s.chance(20) {
			in = pcapexpr.Not(in)
		}
		switch s.IntN(5) {
		case 0:
			e = pcapexpr.And(e, in)
		case 1:
			e = pcapexpr.And(in, e)
		case 2:
			e = pcapexpr.Or(e, in)
		case 3:
			e = pcapexpr.Or(in, e)
		default:
			e = pcapexpr.Not(pcapexpr.And(in, e))
		}
	}
	return e
}

// A set is what its members are, each written as an expression.
func TestSetsAreTheirMembers(t *testing.T) {
	matches := 0
	for n := range uint64(2000) {
		s := newSource(*flagSeed, n)
		set := s.set()
		src, dst := pcapexpr.None(), pcapexpr.None()
		for _, m := range set.Members() {
			from, to := pcapexpr.SrcNet(m.Net), pcapexpr.DstNet(m.Net)
			if m.Port != 0 {
				from = pcapexpr.And(from, pcapexpr.SrcPort(m.Port, m.Port))
				to = pcapexpr.And(to, pcapexpr.DstPort(m.Port, m.Port))
			}
			src, dst = pcapexpr.Or(src, from), pcapexpr.Or(dst, to)
		}
		for range 50 {
			p := s.packet()
			if len(p.hdr) < 80 {
				continue // what is cut short, a set does not reject
			}
			for _, e := range [][2]*pcapexpr.Expr{{pcapexpr.SrcIn(set), src}, {pcapexpr.DstIn(set), dst}} {
				got := e[0].Match(p.hdr, p.meta)
				// A header length that is impossible rejects a packet of which ports are asked.
				if want := e[1].Match(p.hdr, p.meta); got != want && !p.oddIHL() {
					t.Errorf("%v: packet %x: match %v, its members' %v", set.Members(), p.hdr, got, want)
				}
				if got {
					matches++
				}
			}
		}
	}
	if matches < 1000 {
		t.Errorf("only %d packets matched", matches)
	}
}
