// SPDX-License-Identifier: Apache-2.0

package events

import (
	"strings"
	"testing"
)

// byAddress knows whose a namespace is once it has been asked for a device in it,
// as where only the API server tells which pod has which address.
type byAddress struct {
	*lab
	asked map[uint32]bool
}

func (n *byAddress) Device(netns, ifindex uint32) (Device, bool) {
	n.asked[netns] = true
	return n.lab.Device(netns, ifindex)
}

func (n *byAddress) Namespace(netns uint32) Namespace {
	ns := n.lab.Namespace(netns)
	if !n.asked[netns] {
		ns.Pod = ""
	}
	return ns
}

// The first packet of a namespace is named as all others are.
func TestFirstVisitNamed(t *testing.T) {
	l := newLab()
	names := &byAddress{lab: l, asked: map[uint32]bool{}}
	sc := l.script(t)
	out, _ := stitch(l, sc.add(labCases()[0].script).events, func(c *Config) { c.Names = names })
	if len(out) != 1 {
		t.Fatalf("%d traversals, want 1", len(out))
	}
	for _, v := range out[0].Visits {
		if want := l.spaces[v.Netns].Pod; v.Pod != want {
			t.Errorf("the visit to %s is to pod %q, want %q", v.Name, v.Pod, want)
		}
	}
	if want := "delivered to default/"; !strings.Contains(out[0].Summary, want) {
		t.Errorf("it is said to be %s, want %s…", out[0].Summary, want)
	}
}
