// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// TestPaths: what differs with each packet makes no other path; what the packet
// met, and how it ended, does.
func TestPaths(t *testing.T) {
	first := captured(t, "6.12-case6.jsonl")[0]
	base := string(appendKey(nil, first))
	for name, c := range map[string]struct {
		change func(*events.Traversal)
		same   bool
	}{
		"port":        {func(tr *events.Traversal) { tr.Src.Port++ }, true},
		"times":       {func(tr *events.Traversal) { tr.Visits[1].EndNS++ }, true},
		"address":     {func(tr *events.Traversal) { tr.Visits[1].NAT[0].To = "x" }, true},
		"netns":       {func(tr *events.Traversal) { tr.Visits[1].Netns++ }, true},
		"flags":       {func(tr *events.Traversal) { tr.TCPFlags = "A" }, true},
		"verdict":     {func(tr *events.Traversal) { tr.Verdict = events.Incomplete }, false},
		"reason":      {func(tr *events.Traversal) { tr.Reason = "x" }, false},
		"where":       {func(tr *events.Traversal) { tr.Where = "x" }, false},
		"proto":       {func(tr *events.Traversal) { tr.Proto = "udp" }, false},
		"direction":   {func(tr *events.Traversal) { tr.Direction = "reply" }, false},
		"device":      {func(tr *events.Traversal) { tr.Visits[1].Devices[0] = "x" }, false},
		"device more": {func(tr *events.Traversal) { tr.Visits[1].Devices = append(tr.Visits[1].Devices, "x") }, false},
		"name":        {func(tr *events.Traversal) { tr.Visits[1].Name = "x" }, false},
		"pod":         {func(tr *events.Traversal) { tr.Visits[0].Pod = "x" }, false},
		"nat pod":     {func(tr *events.Traversal) { tr.Visits[1].NAT[0].Pod = "x" }, true},
		"left":        {func(tr *events.Traversal) { tr.Visits[1].Left = "x" }, false},
		"bridged":     {func(tr *events.Traversal) { tr.Visits[1].Bridged = true }, false},
		"nat mark":    {func(tr *events.Traversal) { tr.Visits[1].NAT[0].Mark = "x" }, true},
		"nat kind":    {func(tr *events.Traversal) { tr.Visits[1].NAT[0].Kind = "x" }, false},
		"nat less":    {func(tr *events.Traversal) { tr.Visits[1].NAT = tr.Visits[1].NAT[1:] }, false},
		"visit less":  {func(tr *events.Traversal) { tr.Visits = tr.Visits[1:] }, false},
	} {
		tr := captured(t, "6.12-case6.jsonl")[0]
		c.change(tr)
		if same := string(appendKey(nil, tr)) == base; same != c.same {
			t.Errorf("%s: the same path: %v", name, same)
		}
	}
}

func TestLabels(t *testing.T) {
	for _, c := range []struct {
		nat   events.NAT
		reply bool
		want  string
	}{
		{events.NAT{Kind: "dnat", From: "10.0.0.1:4000→10.0.0.2:80", To: "10.0.0.1:4000→10.0.0.3:8080"}, false, "10.0.0.2:80 10.0.0.3:8080"},
		{events.NAT{Kind: "snat", Masquerade: true, From: "10.0.0.1:4000→10.0.0.2:80", To: "10.0.0.9:5000→10.0.0.2:80"}, false, "10.0.0.1 10.0.0.9"},
		{events.NAT{Kind: "snat", Masquerade: true, From: "[fd00::1]:4000→[fd00::2]:80", To: "[fd00::9]:5000→[fd00::2]:80"}, false, "fd00::1 fd00::9"},
		{events.NAT{Kind: "snat", Masquerade: true, From: "fd00::1→fd00::2", To: "fd00::9→fd00::2"}, false, "fd00::1 fd00::9"},
		{events.NAT{Kind: "dnat", From: "10.0.0.2:80→10.0.0.9:5000", To: "10.0.0.2:80→10.0.0.1:4000"}, true, "10.0.0.9 10.0.0.1"},
		{events.NAT{Kind: "dnat", From: "a→b", To: "c→d"}, false, "a→b c→d"},
		{events.NAT{Kind: "dnat", From: "", To: ":"}, true, " "},
	} {
		l := labelOf(0, &c.nat, c.reply)
		if got := l.from + " " + l.to; got != c.want {
			t.Errorf("%+v: %q, not %q", c.nat, got, c.want)
		}
	}
}

// TestWays: the devices of the cases, up to the stack and down from it, and
// after how many of them a translation happened.
func TestWays(t *testing.T) {
	for _, c := range []struct {
		capture string
		visit   int
		want    string
		places  []int
	}{
		{"1", 0, "eth0 down", nil},
		{"1", 1, "vethcentos up, (cni0) up, vethnginx down", nil},
		{"1", 2, "eth0 up", nil},
		{"2", 1, "vethcentos up, cni0 up, cni0 down, vethnginx down", []int{3}},
		{"5", 1, "vethcentos up, cni0 up, eth0 down", []int{3}},
		{"6", 1, "vethcentos up, cni0 up, eth0 down", []int{3, 3}},
		{"6", 3, "eth0 up, cni0 down, vethnginx1a down", nil},
		{"7", 1, "vethcentos up, cni0 up", nil},
		{"9", 4, "eth0 up, eth0 down", []int{8, 8}},
	} {
		for _, kernel := range []string{"5.10", "6.1", "6.12", "6.18"} {
			tr := captured(t, kernel+"-case"+c.capture+".jsonl")[0]
			all := make([][]way, len(tr.Visits))
			for i := range tr.Visits {
				all[i] = ways(&tr.Visits[i])
			}
			v, got := &tr.Visits[c.visit], ""
			for k, w := range all[c.visit] {
				got += fmt.Sprintf(", %s %s", v.Devices[k], map[bool]string{false: "up", true: "down"}[w.out])
			}
			if got[2:] != c.want {
				t.Errorf("%s, case %s, visit %d: %s", kernel, c.capture, c.visit, got[2:])
			}
			var places []int
			for j := range v.NAT {
				places = append(places, place(tr.Visits, all, c.visit, &v.NAT[j]))
			}
			if !slices.Equal(places, c.places) {
				t.Errorf("%s, case %s, visit %d: translations at %v, not %v", kernel, c.capture, c.visit, places, c.places)
			}
		}
	}
}
