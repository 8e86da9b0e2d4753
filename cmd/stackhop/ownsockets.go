// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
	"github.com/stackhop/stackhop/tracer"
)

// leaveOutOwn takes the connections out of a selection through which what is shown may
// go, such as that of ssh: each packet shown would be another one to show.
func (a *app) leaveOutOwn(cfg *tracer.Config) {
	for _, t := range a.sys.ownConnections() {
		selected := cfg.All
		for _, d := range []events.Tuple{t, t.Reverse()} {
			selected = selected || matchTuple(cfg.Select, &d) != pcapexpr.No
		}
		if !selected {
			continue
		}
		rest := pcapexpr.Not(connection(t))
		if !cfg.All {
			rest = pcapexpr.And(cfg.Select, rest)
		}
		cfg.All, cfg.Select = false, rest
		a.say("left out: the connection %s ↔ %s of this session, or packets that show packets would be shown",
			netip.AddrPortFrom(t.Src, t.SrcPort), netip.AddrPortFrom(t.Dst, t.DstPort))
	}
}

// connection matches the packets of a TCP connection, in both directions.
func connection(t events.Tuple) *pcapexpr.Expr {
	way := func(t events.Tuple) *pcapexpr.Expr {
		x := pcapexpr.And(pcapexpr.SrcNet(netip.PrefixFrom(t.Src, t.Src.BitLen())), pcapexpr.DstNet(netip.PrefixFrom(t.Dst, t.Dst.BitLen())))
		return pcapexpr.And(x, pcapexpr.And(pcapexpr.SrcPort(t.SrcPort, t.SrcPort), pcapexpr.DstPort(t.DstPort, t.DstPort)))
	}
	return pcapexpr.Or(way(t), way(t.Reverse()))
}
