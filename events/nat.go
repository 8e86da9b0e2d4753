// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// natReach is how many hops before a change its cause is looked for. The
// change happened in a function that was entered before, and at most a few
// functions are nested.
const natReach = 6

// Words of NAT.By and NAT.Kind.
const (
	byIPVS      = "ipvs"
	byConntrack = "conntrack"
	byUnknown   = "unknown"
	kindDNAT    = "dnat"
	kindSNAT    = "snat"
)

// kubeMasqueradeMark is the bit of a packet's mark by which kube-proxy tells its
// masquerading rule which packets it means (--iptables-masquerade-bit). It is set
// on the first packet of a connection only, and taken off before the translation.
const kubeMasqueradeMark = 0x4000

// changes compares the headers along a run, and returns the translations
// with the index of the hop that made each, and notes on tunnels.
func (b *builder) changes(hops []hop) (nats []NAT, at []int, notes []string) {
	for i := 1; i < len(hops); i++ {
		was, is := hops[i-1].hdr, hops[i].hdr
		if was == nil || is == nil || was == is {
			continue
		}
		if was.Outer() != is.Outer() {
			notes = append(notes, b.tunnelNote(hops, i))
			// What it carries may have been translated as well.
			w, x := was.Carried(), is.Carried()
			was, is = &w, &x
		} else if was.Proto != is.Proto {
			notes = append(notes, b.tunnelNote(hops, i))
			continue
		}
		ports := hasPorts(was) && hasPorts(is)
		dst := was.Dst != is.Dst || (ports && was.DstPort != is.DstPort)
		src := was.Src != is.Src || (ports && was.SrcPort != is.SrcPort)
		if dst && src && was == hops[i-1].hdr && b.tunnelNear(hops, i) {
			notes = append(notes, b.tunnelNote(hops, i))
			continue
		}
		// Where both ends changed at once, the destination went first: that
		// is the order of IPVS and of the netfilter hooks.
		mid := was.Tuple
		mid.Dst, mid.DstPort = is.Dst, is.DstPort
		if dst {
			n, j := b.nat(hops, i, kindDNAT, was.Tuple, mid, ports)
			nats, at = append(nats, n), append(at, j)
		}
		if src {
			n, j := b.nat(hops, i, kindSNAT, mid, is.Tuple, ports)
			nats, at = append(nats, n), append(at, j)
		}
	}
	return nats, at, notes
}

// nat describes the translation that hop i was the first to show, and returns
// the index of the hop that made it.
func (b *builder) nat(hops []hop, i int, kind string, from, to Tuple, ports bool) (NAT, int) {
	by, j := natCause(hops, i, kind)
	n := NAT{
		By: by, Kind: kind, Hook: b.s.hookName(hops[j].hook), NS: since(hops[0].time, hops[j].time),
		From: tupleWords(from, ports), To: tupleWords(to, ports),
	}
	if kind == kindSNAT && by == byConntrack && !hops[i].p.reply {
		n.Masquerade = b.masqueraded(hops, i, to)
		if mark := hops[i-1].hdr.Mark; n.Masquerade && mark&kubeMasqueradeMark != 0 {
			n.Mark = fmt.Sprintf("%#x", kubeMasqueradeMark)
		}
	}
	b.nameNAT(&n, from, to, ports)
	return n, j
}

// nameNAT fills in what the end that a translation changed is called.
func (b *builder) nameNAT(n *NAT, from, to Tuple, ports bool) {
	ask := func(addr netip.Addr, port uint16) AddressNames {
		if !ports {
			port = 0
		}
		return b.s.names.Address(addr.String(), port)
	}
	var service, is AddressNames // whose n.Service is, and of the new end
	if n.Kind == kindDNAT {
		service, is = ask(from.Dst, from.DstPort), ask(to.Dst, to.DstPort)
	} else {
		is = ask(to.Src, to.SrcPort)
		service = is
	}
	n.Service, n.Pod = service.Service, is.Pod
	if is.ofNode() {
		n.Node = is.Node
	}
	n.Stale = (service.Stale && n.Service != "") || (is.Stale && n.Pod+n.Node != "")
}

// ofNode says whether an address is a node's own, not one of a pod on it.
func (n *AddressNames) ofNode() bool { return n.Node != "" && n.Pod == "" }

// natCause finds who made the change that hop i was the first to show, in the
// functions entered before it.
func natCause(hops []hop, i int, kind string) (by string, at int) {
	for j := i - 1; j >= 0 && j >= i-natReach; j-- {
		if hops[j].netns != hops[i].netns {
			break
		}
		switch hops[j].station {
		case StationIPVSXmit:
			if kind == kindDNAT {
				return byIPVS, j
			}
			// IPVS itself never changes the source of a request: behind its
			// transmit function comes POSTROUTING.
			return byConntrack, i - 1
		case StationIPVSOut:
			if kind == kindSNAT {
				return byIPVS, j
			}
			return byConntrack, i - 1
		case StationNAT, StationNetfilter, StationTable, StationConntrackIn, StationConntrackConfirm:
			return byConntrack, j
		case StationTransmit, StationReceive:
			return byUnknown, i - 1
		}
	}
	return byUnknown, i - 1
}

// masqueraded says whether the new source is an address of the device by
// which the packet goes out next.
func (b *builder) masqueraded(hops []hop, i int, to Tuple) bool {
	if strings.Contains(b.s.hookName(hops[i-1].hook), "masquerade") {
		return true
	}
	for j := i; j < len(hops) && hops[j].netns == hops[i].netns; j++ {
		switch hops[j].station {
		case StationNeighbour, StationTCEgress, StationQueue, StationTransmit:
			d, ok := b.device(hops[j].netns, hops[j].ifindex)
			if ok && d.Master != 0 {
				// br_netfilter runs POSTROUTING with the bridge as the device. The port
				// itself has at most an address for its link.
				d, ok = b.device(hops[j].netns, d.Master)
			}
			if ok && len(d.Addrs) > 0 {
				return slices.Contains(d.Addrs, to.Src)
			}
		}
	}
	names := b.s.names.Address(to.Src.String(), to.SrcPort)
	return names.ofNode()
}

// clientNote says when the receiver of a request sees another source than the
// client's.
func clientNote(hops []hop, nats []NAT) string {
	for _, n := range nats {
		if n.Kind != kindSNAT || n.By == byIPVS {
			continue
		}
		first, end := firstHeader(hops), hops[len(hops)-1].hdr
		if first == nil || end == nil {
			return ""
		}
		last := end.Carried()
		if first.Src == last.Src || isICMPError(first) {
			return ""
		}
		return fmt.Sprintf("client address lost: %s sees %s instead of %s", last.Dst, last.Src, first.Src)
	}
	return ""
}

// String says in one line what was translated, and by what. It is fit for
// output, see Safe.
func (n *NAT) String() string { return natText(n) }
