// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
	"github.com/stackhop/stackhop/events/record"
)

// selects tells which packets the run's selection surely took, with the members
// that its sets had at the time; nil: all of them. All sets are of addresses: a pod
// in its node's network, and a namespace, stand for theirs.
func (s *source) selects(sets *record.SetHistory) func(h *events.Header, from, to uint64) bool {
	meta := s.meta()
	never := func(*events.Header, uint64, uint64) bool { return false }
	if meta.Sample > 1 {
		return never
	}
	if meta.Filter == "" {
		return nil
	}
	x, err := pcapexpr.ParseSets(meta.Filter)
	if err != nil {
		return never
	}
	return func(h *events.Header, from, to uint64) bool {
		return surely(x, sets, &h.Tuple, from, to) || (h.Outer() && surely(x, sets, &h.Inner, from, to))
	}
}

// surely says whether an expression matches all packets of a connection, with the
// members that its sets had at that time.
func surely(x *pcapexpr.Expr, sets *record.SetHistory, t *events.Tuple, from, to uint64) bool {
	for _, set := range x.Sets() {
		then, told := sets.At(set.Name(), from, to)
		if !told {
			return false
		}
		set.Replace(membersOf(then, t))
	}
	return matchTuple(x, t) == pcapexpr.Yes
}

// membersOf are the members of a set that can be ends of a packet.
func membersOf(set record.SetMoment, t *events.Tuple) (out []pcapexpr.Member) {
	for _, end := range []netip.AddrPort{
		netip.AddrPortFrom(t.Src, 0), netip.AddrPortFrom(t.Src, t.SrcPort), netip.AddrPortFrom(t.Dst, 0), netip.AddrPortFrom(t.Dst, t.DstPort),
	} {
		if set.Has(end) {
			out = append(out, pcapexpr.Member{Net: netip.PrefixFrom(end.Addr(), end.Addr().BitLen()), Port: end.Port()})
		}
	}
	return out
}
