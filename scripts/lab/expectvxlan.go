// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// The cases are the same over VXLAN, but for the devices and addresses at a
// node's way to other nodes' pods.

// overVXLAN is a case as it goes over VXLAN. What a node masquerades for a pod of
// another one gets the address of the device that it leaves by: the tunnel's.
func (c testCase) overVXLAN() testCase {
	for _, n := range nodes {
		if c.saw == n.ip {
			c.saw = n.vteps()[0].addr
		}
	}
	return c
}

// overVXLAN is what must be seen of a case over VXLAN.
func (e expectation) overVXLAN() expectation {
	v6 := strings.HasPrefix(e.id, "v6-")
	e.request, e.reply = e.request.overVXLAN(v6), e.reply.overVXLAN(v6)
	return e
}

func (l leg) overVXLAN(v6 bool) leg {
	for _, way := range [][2]node{{nodes[0], nodes[1]}, {nodes[1], nodes[0]}} {
		from, to := way[0], way[1]
		if !strings.Contains(l.visits, from.name+" | vpc | "+to.name) {
			continue
		}
		at := 0
		if v6 {
			at = 1
		}
		out, in := from.vteps()[at], to.vteps()[at]
		plain := from.name + " eth0 → [vpc] → " + to.name + " eth0"
		l.link = strings.Replace(l.link, plain, from.name+" "+out.dev+" → "+plain+" → "+to.name+" "+in.dev, 1)
		l.note = strings.Replace(l.note, "sees "+from.ip+" ", "sees "+out.addr+" ", 1)
		outer := "udp " + out.outer("*") + "→" + in.outer(strconv.Itoa(vxlanPort)) + " by "
		l.carried = []string{"packed into " + outer + out.dev, "unpacked from " + outer + in.dev}
	}
	return l
}

// outer is a node's end of a tunnel's packet.
func (v vtep) outer(port string) string {
	return net.JoinHostPort(netip.MustParseAddr(v.local).String(), port)
}

// aloneOverVXLAN is what one node sees of a way that the whole leg takes over
// VXLAN: it puts the packet into one of its own, or takes it out.
func (l leg) aloneOverVXLAN(whole leg) leg {
	if len(whole.carried) == 0 {
		return l
	}
	packed, unpacked := whole.carried[0], whole.carried[1]
	dev := packed[strings.LastIndexByte(packed, ' ')+1:]
	rest, in := strings.CutPrefix(l.link, "eth0 → ")
	switch {
	case l.link == nodeTransit.link && strings.HasPrefix(packed, "packed into udp "+nodes[0].vteps()[0].local):
		l.link, l.carried = "eth0 → "+dev+" → eth0", whole.carried[:1]
	case l.link == nodeTransit.link:
		l.link, l.carried = "eth0 → "+dev+" → eth0", whole.carried[1:]
	case in:
		l.link, l.carried = "eth0 → "+dev+" → "+rest, []string{unpacked}
	default:
		l.link, l.carried = strings.TrimSuffix(l.link, "eth0")+dev+" → eth0", []string{packed}
	}
	return l
}

var outerPort = regexp.MustCompile(`:\d+→`)

// carriedNotes are a traversal's notes of the packets of nodes that it was put into
// and taken out of. (IPVS's tunnel is another one.)
func carriedNotes(t *events.Traversal) (notes []string) {
	for _, n := range t.Notes {
		if strings.HasPrefix(n, "packed into udp ") || strings.HasPrefix(n, "unpacked from ") {
			notes = append(notes, outerPort.ReplaceAllString(n, ":*→"))
		}
	}
	return notes
}
