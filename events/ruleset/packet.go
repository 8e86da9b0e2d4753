// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"net/netip"
	"strings"

	"github.com/stackhop/stackhop/events"
)

type addr = netip.Addr

// Protocol numbers (IPPROTO_*).
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// Conntrack's states as bits, as nftables counts them.
const (
	ctInvalid     = 1
	ctEstablished = 2
	ctRelated     = 4
	ctNew         = 8
	ctUntracked   = 64
)

// packet is what a walk knows of the packet. Statements of rules change it.
type packet struct {
	q         *events.RuleQuery
	h         events.Header
	env       Env
	mark      uint64
	markKnown uint64 // its bits that are known
	state     uint64 // one of the bits above; 0: unknown
}

func newPacket(q *events.RuleQuery, env Env, notrack bool) *packet {
	p := &packet{q: q, h: q.Header, env: env, mark: uint64(q.Header.Mark), markKnown: knownBits(q.MarkKnown)}
	p.h.Src, p.h.Dst = p.h.Src.Unmap(), p.h.Dst.Unmap()
	switch q.CTState {
	case events.CTStateNew:
		p.state = ctNew
	case events.CTStateEstablished:
		p.state = ctEstablished
	case events.CTStateRelated:
		p.state = ctRelated
	case events.CTStateNone:
		// Neighbour discovery is never tracked.
		if !notrack && p.h.Proto != protoICMPv6 {
			p.state = ctInvalid
		}
	}
	return p
}

// match runs a rule's steps. Of what could not be decided it returns the names.
func (p *packet) match(rl *rule, path tri) (is tri, verdicts []verdict, why []string) {
	is = yes
	for i := range rl.steps {
		s := &rl.steps[i]
		r := s.do(p, path.and(is))
		if r.is == no {
			return no, nil, nil
		}
		if r.is == maybe && s.why != "" {
			why = append(why, s.why)
		}
		is = is.and(r.is)
		if r.verdicts != nil {
			return is, r.verdicts, why
		}
	}
	return is, nil, nil
}

// allMark is a mark of which every bit is known.
const allMark = 0xffffffff

// setMark changes the mark to one of which some bits are known. Where it is not sure
// that the walk comes by, those are known afterwards that are the same either way.
func (p *packet) setMark(path tri, known, to uint64) {
	if path != yes {
		known &= p.markKnown &^ (p.mark ^ to)
	}
	p.mark, p.markKnown = to&allMark, known&allMark
}

// hasMark says whether the bits of mask are those of value.
func (p *packet) hasMark(value, mask uint64) tri {
	switch {
	case (p.mark^value)&mask&p.markKnown != 0, value&^mask != 0:
		return no
	case mask&^p.markKnown != 0:
		return maybe
	}
	return yes
}

// ctState says whether conntrack's state is one of these bits.
func (p *packet) ctState(bits uint64) tri {
	if p.state == 0 {
		if bits == ctInvalid|ctEstablished|ctRelated|ctNew|ctUntracked {
			return yes
		}
		return maybe
	}
	return triOf(p.state&bits != 0)
}

// ctStatus says whether its entry has one of these bits (IPS_*).
func (p *packet) ctStatus(bits uint32) tri {
	switch {
	case p.q.CT != nil:
		return triOf(p.q.CT.Status&bits != 0)
	case p.state == ctInvalid:
		return no
	}
	return maybe
}

// device is the name of a device that the packet has at this hook point. Where
// there can be none the name is known, and empty.
func (p *packet) device(in bool) (name string, known bool) {
	if in {
		return p.q.In, p.q.In != "" || p.q.Hook == hookOutput
	}
	return p.q.Out, p.q.Out != "" || p.q.Hook == hookPrerouting || p.q.Hook == hookInput
}

// isDevice compares a device's name; wild stands at the end of a pattern for any
// rest.
func (p *packet) isDevice(in bool, pattern, wild string) tri {
	name, known := p.device(in)
	if !known {
		return maybe
	}
	if prefix, ok := strings.CutSuffix(pattern, wild); ok {
		return triOf(strings.HasPrefix(name, prefix))
	}
	return triOf(name == pattern)
}

// local says whether an address is the namespace's own.
func (p *packet) local(a addr) tri {
	switch {
	case a.IsLoopback():
		return yes
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return no
	case p.env.Local == nil:
		return maybe
	}
	return triOf(p.env.Local(a))
}

// addrType says whether an address is of a type, as routing has them.
func (p *packet) addrType(a addr, typ string) tri {
	broadcast := a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch strings.ToLower(typ) {
	case "local":
		return p.local(a)
	case "multicast":
		return triOf(a.IsMulticast())
	case "broadcast":
		if broadcast {
			return yes
		}
	}
	if broadcast || a.IsMulticast() || p.local(a) == yes {
		return no
	}
	return maybe
}

// hasPorts says whether ports are known. Those of a fragment behind the first are
// not, and no rule sees them either.
func (p *packet) hasPorts() bool {
	switch p.h.Proto {
	case protoTCP, protoUDP, protoSCTP:
		return !p.h.Fragment || p.h.SrcPort != 0 || p.h.DstPort != 0
	}
	return false
}

func (p *packet) port(src bool) uint64 {
	if src {
		return uint64(p.h.SrcPort)
	}
	return uint64(p.h.DstPort)
}

func (p *packet) isV6() bool { return p.h.Src.Is6() }

// knownBits are all bits of a mark, or none.
func knownBits(known bool) uint64 {
	if known {
		return allMark
	}
	return 0
}
