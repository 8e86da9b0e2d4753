// SPDX-License-Identifier: Apache-2.0

package main

import "strings"

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
	if !strings.Contains(l.visits, "n1 | vpc | n2") && !strings.Contains(l.visits, "n2 | vpc | n1") {
		return l
	}
	dev := vxlanDev
	if v6 {
		dev = vxlanDev6
	}
	for _, pair := range [][2]string{{"n1", "n2"}, {"n2", "n1"}} {
		plain := pair[0] + " eth0 → [vpc] → " + pair[1] + " eth0"
		l.link = strings.ReplaceAll(l.link, plain, pair[0]+" "+dev+" → "+plain+" → "+pair[1]+" "+dev)
	}
	for _, n := range nodes {
		l.note = strings.ReplaceAll(l.note, "sees "+n.ip+" ", "sees "+n.vteps()[0].addr+" ")
	}
	l.tunnelled = true
	return l
}
