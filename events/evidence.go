// SPDX-License-Identifier: Apache-2.0

package events

import (
	"slices"
	"strconv"
	"strings"
)

// evidence is what the end of a way says about its drop.
type evidence struct {
	kernel   string // the kernel's drop reason; "": none or NOT_SPECIFIED
	site     string // the function that dropped it; "": unknown
	seen     uint64 // bit set of Stations since it last came in from a device
	culprit  Station
	by       *hop // the culprit's hop; nil: none
	chain    int  // netfilter hook number; -1: unknown
	icmp     int  // the ICMP error it was answered with; -1: none
	reset    bool // answered with an RST
	hdr      *Header
	dev, ns  string
	rejected string  // in words
	proof    []int   // the hops that it is taken from, from the last one back
	denied   Station // whose return value was seen to say drop; StationNone: nobody's
	clashed  clashKind
	winner   string // what its conntrack entry clashed with, in words
	noEntry  bool   // see FlagNoEntry
	facts
}

// nfDrop is the verdict of netfilter functions that drop (linux/netfilter.h):
// the only one that the kernel side tells of. Its upper half may hold an errno.
const nfDrop = 0

// evidence gathers from the end of the hops backwards, to the last transmit:
// what lies behind that happened at another place.
func (b *builder) evidence(hops []hop) evidence {
	n := len(hops) - 1
	ev := evidence{chain: -1, icmp: -1, hdr: hops[n].hdr, ns: b.s.netnsName(hops[n].netns)}
	ev.kernel = b.s.dropReason(hops[n].val)
	ev.site = b.s.names.Symbol(hops[n].location())
	ev.device = hops[n].a
	if hops[n].ifindex != 0 {
		ev.dev = b.deviceName(hops[n].netns, hops[n].ifindex)
	}
	ev.proof = append(ev.proof, n)
	ev.noEntry = hops[n].flags&FlagNoEntry != 0
	for i := n - 1; i >= 0; i-- {
		h := &hops[i]
		if (h.station == StationTransmit || h.station == StationVeth) && (ev.by != nil || h.netns != hops[n].netns) {
			break
		}
		ev.seen |= 1 << (h.station & 63)
		if ev.dev == "" && h.ifindex != 0 {
			ev.dev = b.deviceName(h.netns, h.ifindex)
		}
		if counts, clashes := ev.look(b, h), ev.clash(b, hops, i); counts || clashes {
			ev.proof = append(ev.proof, i)
		}
	}
	if ev.denied != StationNone && stationWhere[ev.denied] != stationWhere[ev.culprit] {
		ev.culprit = ev.denied
	}
	return ev
}

// look takes in one hop, on the way back from the drop, and says whether it counts.
func (ev *evidence) look(b *builder, h *hop) (counts bool) {
	switch h.station {
	case StationVerdict:
		if ev.by == nil && int32(h.val)&0xff == nfDrop && ev.denied == StationNone { //nolint:gosec // the bits of Ret
			ev.denied = verdictStation(b.s.hookName(h.hook))
			counts = true
		}
	case StationICMPSend:
		if ev.by == nil && ev.icmp < 0 {
			ev.icmp = icmpNumber(h.a, h.b, ev.hdr != nil && ev.hdr.Src.Is6() && !ev.hdr.Src.Is4In6())
			ev.rejected = "ICMP " + strconv.Itoa(int(h.a)) + "/" + strconv.Itoa(int(h.b))
			counts = true
		}
	case StationResetSend, StationReject:
		if ev.by == nil && !ev.reset {
			ev.reset = true
			ev.rejected = "RST"
			counts = true
		}
	case StationRouteError:
		ev.route = h.val
	case StationMartian:
		ev.rpFilter = b.hasReason("IP_RPFILTER")
	case StationBridgeForward:
		if ev.by == nil {
			ev.toPort(b, h)
		}
	case StationNetfilter, StationTable:
		if ev.chain < 0 && h.a != 0 { // nft_do_chain does not say: its hook point did
			ev.chain = int(h.b)
		}
	}
	if ev.by == nil && !quietStation[h.station] {
		ev.by, ev.culprit = h, h.station
		counts = true
	}
	return counts
}

// verdictStation tells by its name whose verdict a function's return value is.
func verdictStation(name string) Station {
	for _, v := range []struct {
		prefix  string
		station Station
	}{
		{"ipt_", StationTable}, {"ip6t_", StationTable}, {"nft_", StationTable}, {"nf_conntrack_in", StationConntrackIn},
	} {
		if strings.HasPrefix(name, v.prefix) {
			return v.station
		}
	}
	return StationNone
}

// byNetfilter says whether some netfilter hook function decided to drop.
func (ev *evidence) byNetfilter() bool {
	if ev.kernel == "NETFILTER_DROP" {
		return true
	}
	if ev.kernel != "" {
		return false
	}
	if ev.site != "" {
		return matchAny([]string{"nf_hook_slow*", "nft_*"}, ev.site) || matchAny(queueAnswered, ev.site)
	}
	switch stationWhere[ev.culprit] {
	case "ipvs", "netfilter", "conntrack":
		return true
	}
	return false
}

// icmpNumber is an ICMP message as the table of reasons names it.
func icmpNumber(typ, code uint8, v6 bool) int {
	n := int(typ)<<8 | int(code)
	if v6 {
		n |= icmp6
	}
	return n
}

// itself is the ICMP message that the packet is.
func (ev *evidence) itself() uint32 {
	if ev.hdr == nil || (ev.hdr.Proto != protoICMP && ev.hdr.Proto != protoICMPv6) {
		return 0
	}
	return uint32(icmpNumber(ev.hdr.ICMPType, ev.hdr.ICMPCode, ev.hdr.Proto == protoICMPv6)) //nolint:gosec // 17 bits
}

// queued says whether the packet was freed where the answer to an NFQUEUE is
// carried out. Of the functions behind the queue only some tell of their verdict.
func (ev *evidence) queued() bool {
	return ev.denied == StationNone && matchAny(queueAnswered, ev.site)
}

// invalid says whether conntrack looked the packet up where it ended, and gave
// it no entry.
func (ev *evidence) invalid() bool {
	return ev.noEntry && ev.seen&(1<<(StationConntrackIn&63)) != 0
}

// fits says whether all conditions of a row hold.
func (ev *evidence) fits(r *rule) bool {
	switch {
	case r.nf && !ev.byNetfilter(),
		r.reject && ev.icmp < 0 && !ev.reset,
		len(r.culprit) > 0 && !slices.Contains(r.culprit, ev.culprit),
		r.clash != clashNone && r.clash != ev.clashed,
		r.queued && !ev.queued(),
		r.invalid && !ev.invalid(),
		r.seen != StationNone && ev.seen&(1<<(r.seen&63)) == 0,
		len(r.icmp) > 0 && (ev.icmp < 0 || !slices.Contains(r.icmp, uint32(ev.icmp))), //nolint:gosec // not negative here
		len(r.itself) > 0 && !slices.Contains(r.itself, ev.itself()),
		len(r.reasons) > 0 && !matchAny(r.reasons, ev.kernel),
		len(r.sites) > 0 && !matchAny(r.sites, ev.site),
		r.more != nil && !r.more.holds(ev):
		return false
	}
	return true
}

// fill replaces the words in braces of a row's sentence.
func (ev *evidence) fill(b *builder, say string) string {
	if !strings.Contains(say, "{") {
		return say
	}
	dst, src, length := "its destination", "its source", "its"
	if ev.hdr != nil {
		dst, length = dstWords(ev.hdr), strconv.Itoa(int(ev.hdr.Length))
		src = endWords(ev.hdr, ev.hdr.Src, ev.hdr.SrcPort)
	}
	noSocket := "nothing listens on " + dst
	if ev.hdr != nil && ev.hdr.Proto == protoTCP && ev.hdr.TCPFlags&(tcpSYN|tcpACK) != tcpSYN {
		noSocket = "no socket for " + src + "→" + dst
	}
	// The hook is entered for an RST, too, but nothing answers those.
	if ev.rejected != "" && (ev.hdr == nil || ev.hdr.TCPFlags&tcpRST == 0 || !ev.reset) {
		noSocket += ", answered with " + ev.rejected
	}
	hook := "an unknown function"
	if ev.by != nil {
		hook = b.s.hookName(ev.by.hook)
	}
	return strings.NewReplacer(
		"{dst}", dst, "{src}", src, "{ns}", ev.ns, "{length}", length, "{nosocket}", noSocket, "{hook}", hook,
		"{chain}", chainWords(ev.chain), "{answer}", ev.rejected, "{winner}", ev.winner, "{kernel}", ev.kernel,
		"{site}", orWords(ev.site, "an unknown function"), "{dev}", orWords(ev.dev, "its device"),
		"{port}", ev.port, "{stp}", stpWords(ev.stp),
	).Replace(say)
}

func orWords(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
