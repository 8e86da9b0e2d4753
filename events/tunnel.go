// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"slices"
)

// A node's packet may carry a pod's: VXLAN puts it, as an Ethernet frame, into a
// UDP packet between two nodes. A traversal is that of the packet inside, on its
// whole way: what carries it is part of how it goes.

// tunnelKinds are the kinds of device that put a packet into another one. The
// first one's packets are told by their headers.
var tunnelKinds = []string{"vxlan", "geneve", "ipip", "sit", "gre", "gretap", "ip6tnl", "wireguard", "tun", "xfrm"}

// Lengths of what a VXLAN packet has in front of the packet that it carries: UDP's
// header, VXLAN's own and Ethernet's, behind an IP header.
const (
	vxlanBytes = 8 + 8 + 14
	ipv4Bytes  = 20
	ipv6Bytes  = 40
)

// Outer says whether the headers are those of a tunnel's packet. Inner is then
// the tuple of the packet that it carries, and so are Seq, Ack, TCPFlags,
// ICMPType and ICMPCode: of these, UDP has none.
func (h *Header) Outer() bool { return h.HasInner && h.Proto == protoUDP }

// Carried returns the headers of the packet in a tunnel's, as far as they are
// known: without TTL, TOS and ID. Of any other packet it returns its own.
func (h *Header) Carried() Header {
	c := *h
	if !h.Outer() {
		return c
	}
	front := uint32(ipv4Bytes + vxlanBytes)
	if h.Src.Is6() {
		front = ipv6Bytes + vxlanBytes
	}
	c.Tuple, c.Inner, c.HasInner = h.Inner, Tuple{}, false
	c.Length -= min(front, h.Length)
	c.TTL, c.TOS, c.IPID, c.Fragment = 0, 0, 0, false
	return c
}

// IsICMPError says whether a packet, or the one that it carries, is about another
// one.
func (h *Header) IsICMPError() bool {
	c := h.Carried()
	return isICMPError(&c)
}

// firstHeader is the header that the run was first seen with: of a packet that
// came in a tunnel's the one that came out of it.
func firstHeader(hops []hop) *Header {
	var outer *Header
	for i := range hops {
		switch h := hops[i].hdr; {
		case h == nil:
		case !h.Outer():
			return h
		case outer == nil:
			outer = h
		}
	}
	if outer == nil {
		return nil
	}
	c := outer.Carried()
	return &c
}

// tunnelNear says whether the packet was at a tunnel's device just now.
func (b *builder) tunnelNear(hops []hop, i int) bool {
	return b.tunnel(hops, i, tunnelKinds) != ""
}

// tunnel names the nearest device of some kinds to where the headers changed.
func (b *builder) tunnel(hops []hop, i int, kinds []string) string {
	for n := range natReach {
		for _, j := range [2]int{i + n, i - 1 - n} {
			if j < 0 || j >= len(hops) || j > i+1 {
				continue
			}
			if d, ok := b.device(hops[j].netns, hops[j].ifindex); ok && slices.Contains(kinds, d.Kind) {
				return d.Name
			}
		}
	}
	return ""
}

// tunnelNote says what a packet was put into, or taken out of, where its headers
// changed.
func (b *builder) tunnelNote(hops []hop, i int) string {
	was, is := hops[i-1].hdr, hops[i].hdr
	word, of := "packed into", is
	switch {
	case was.Outer() && !is.Outer():
		word, of = "unpacked from", was
	case !is.Outer() && is.Length < was.Length:
		word = "unpacked to"
	}
	kinds := tunnelKinds
	if was.Outer() != is.Outer() {
		kinds = tunnelKinds[:1]
	}
	by := ""
	if name := b.tunnel(hops, i, kinds); name != "" {
		by = " by " + name
	}
	return fmt.Sprintf("%s %s %s%s", word, ProtoName(of.Proto), tupleWords(of.Tuple, hasPorts(of)), by)
}
