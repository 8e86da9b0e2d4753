// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// TestOverVXLAN: what of the expectations changes over VXLAN, and nothing else.
func TestOverVXLAN(t *testing.T) {
	tests := []struct {
		id      string
		reply   bool
		link    string // a part
		carried string // the first note
	}{
		{"4", false, "n1 cni0 → n1 flannel.1 → n1 eth0 → [vpc] → n2 eth0 → n2 flannel.1 → n2 cni0", "packed into udp 10.0.0.180:*→10.0.1.206:8472 by flannel.1"},
		{"5", true, "n2 cni0 → n2 flannel.1 → n2 eth0 → [vpc] → n1 eth0 → n1 flannel.1 → n1 cni0", "packed into udp 10.0.1.206:*→10.0.0.180:8472 by flannel.1"},
		{"9", false, "[vpc] → n1 eth0 → n1 flannel.1 → n1 eth0 → [vpc] → n2 eth0 → n2 flannel.1", "packed into udp 10.0.0.180:*→10.0.1.206:8472 by flannel.1"},
		{"v6-cross", false, "n1 flannel-v6.1 → n1 eth0", "packed into udp [fd00:10::180]:*→[fd00:10::206]:8472 by flannel-v6.1"},
		{"2", false, "cni0 → cni0", ""},
		{"8", false, "eth0 → cni0", ""},
	}
	for _, tt := range tests {
		e, err := expectationOf(tt.id)
		if err != nil {
			t.Fatal(err)
		}
		e = e.overVXLAN()
		l := e.request
		if tt.reply {
			l = e.reply
		}
		if carried := strings.Join(l.carried[:min(1, len(l.carried))], ""); !strings.Contains(l.link, tt.link) || carried != tt.carried {
			t.Errorf("case %s: %s, %q", tt.id, l.link, l.carried)
		}
	}
	c, err := findCase("6")
	if err != nil || c.overVXLAN().saw != "172.23.96.0" {
		t.Errorf("the server of case 6 sees %s (%v)", c.overVXLAN().saw, err)
	}
}

func TestCarriedNotes(t *testing.T) {
	notes := []string{"packed into udp 10.0.0.180:4321→10.0.1.206:8472 by flannel.1", "client address lost: x", "packed into ipip 10.0.0.1→10.0.0.2"}
	if got := carriedNotes(&events.Traversal{Notes: notes}); !slices.Equal(got, []string{"packed into udp 10.0.0.180:*→10.0.1.206:8472 by flannel.1"}) {
		t.Errorf("%q", got)
	}
}

// TestTunnelFrame: which frames are the tunnel's.
func TestTunnelFrame(t *testing.T) {
	frame := make([]byte, 60)
	copy(frame[12:], []byte{8, 0, 0x45})
	frame[14+9] = 17
	copy(frame[14+16:], []byte{10, 0, 1, 206})
	copy(frame[14+20+2:], []byte{0x21, 0x18})
	to := [4]byte{10, 0, 1, 206}
	if !isTunnelled(frame, to) || isTunnelled(frame, [4]byte{10, 0, 0, 180}) || isTunnelled(frame[:40], to) {
		t.Error("a tunnel's frame is not told from others")
	}
}
