// SPDX-License-Identifier: Apache-2.0

package events

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// ofNode turns the events of a kernel with several nodes into what a recording
// of one of them holds: Elsewhere for the namespaces of others, and the headers
// told again where a packet comes back.
func ofNode(c *Capture, node string) []Event {
	type state struct {
		hdr  Header
		away bool
	}
	packets := map[uint64]*state{}
	var out []Event
	for _, e := range c.Events {
		st := packets[e.Packet]
		if st == nil {
			st = &state{}
			packets[e.Packet] = st
		}
		if e.Ext == ExtHeader {
			st.hdr = e.Header
		}
		ns := c.Names.Namespace(e.Netns)
		if e.Netns != 0 && ns.Node != node {
			out = append(out, Event{Packet: e.Packet, Seq: e.Seq})
			st.away = true
			continue
		}
		if st.away && e.Ext == ExtNone && st.hdr.Src.IsValid() {
			e.Ext, e.Header = ExtHeader, st.hdr
			st.away = false
		}
		out = append(out, e)
	}
	return out
}

// TestElsewhere: a recording of one node gives the same traversals as the
// stitcher that is told to look at that node only, whatever it hears of others.
func TestElsewhere(t *testing.T) {
	for _, name := range []string{"6.12-case4", "6.12-case5", "6.12-case6", "6.12-case9", "5.10-case4"} {
		for _, node := range []string{"n1", "n2"} {
			t.Run(name+" "+node, func(t *testing.T) {
				f, err := os.Open(filepath.Join("testdata/captures", name+".jsonl"))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = f.Close() }()
				c, err := ReadCapture(f)
				if err != nil {
					t.Fatal(err)
				}
				whole, part := stitchNode(c, c.Events, node), stitchNode(c, ofNode(c, node), node)
				if len(whole) == 0 || len(whole) != len(part) {
					t.Fatalf("%d traversals, and %d of the recording", len(whole), len(part))
				}
				for i := range whole {
					checkPart(t, whole[i], part[i])
				}
			})
		}
	}
}

func stitchNode(c *Capture, evs []Event, node string) []*Traversal {
	var out []*Traversal
	s := NewStitcher(Config{Hooks: c.Hooks, Names: c.Names, HasFunctions: true, OnlyNode: node, Wires: true}, func(t *Traversal) { out = append(out, t) })
	for i := range evs {
		s.Add(&evs[i])
		s.Advance(evs[i].Time)
	}
	s.Flush()
	return out
}

func checkPart(t *testing.T, want, got *Traversal) {
	t.Helper()
	if want.Summary != got.Summary || want.Stacks != got.Stacks || !got.Complete || !reflect.DeepEqual(want.DataLink, got.DataLink) || want.Node != got.Node {
		t.Errorf("%s %v %v (complete %v), want\n%s %v %v", got.Summary, got.Stacks, got.DataLink, got.Complete, want.Summary, want.Stacks, want.DataLink)
	}
	if !reflect.DeepEqual(want.In, got.In) || !reflect.DeepEqual(want.Out, got.Out) || !reflect.DeepEqual(want.Packets, got.Packets) {
		t.Errorf("wires %+v %+v %v, want\n%+v %+v %v", got.In, got.Out, got.Packets, want.In, want.Out, want.Packets)
	}
	if len(got.Packets) == 0 || (got.Visits[0].Entered == ViaDevice) != (got.In != nil) || (got.Verdict == LeftNode) != (got.Out != nil) {
		t.Errorf("entered by %s, %s: in %v, out %v, packets %v", got.Visits[0].Entered, got.Verdict, got.In, got.Out, got.Packets)
	}
}

// TestWires: a wire end has the headers as they are on the wire, behind the
// translation of the node that sends and before that of the node that receives.
func TestWires(t *testing.T) {
	wires := func(c *Config) { c.Wires = true }
	out := one(t, "real/eth0 __ip_local_out h=172.23.97.1:9>198.51.100.9:4,S\nreal/eth0 ip_output h=10.9.9.9:9>198.51.100.9:4,S\nreal/eth0 tc_egress\nreal/eth0 net_dev_start_xmit", wires)
	if out.In != nil || out.Out == nil || out.Out.Device != "eth0" || out.Out.Header.Src.String() != "10.9.9.9" {
		t.Errorf("in %+v, out %+v", out.In, out.Out)
	}
	in := one(t, strings.Replace(toPod("S"), "ip_forward", "ip_forward h=198.51.100.9:5555>172.23.97.9:99,S", 1)+"pod tcp_v4_do_rcv\n", wires)
	if in.Out != nil || in.In == nil || in.In.Header.DstPort != 81 || in.In.Time == 0 {
		t.Errorf("in %+v, out %+v", in.In, in.Out)
	}
	if veth := one(t, "real/vethpod netif_receive_skb h=172.23.97.2:5>172.23.97.3:6,S\nreal/vethpod ip_rcv_core\n", wires); veth.In != nil {
		t.Errorf("a pod's packet whose beginning is missing came over a wire: %+v", veth.In)
	}
	if none := one(t, fromEth, nil); none.In != nil || none.Packets != nil {
		t.Error("wires without having asked for them")
	}
}

// TestWireHash: the hash is that of the tc hook at the device, the TTL that of
// the device itself.
func TestWireHash(t *testing.T) {
	l := newLab()
	evs := l.script(t).add("real/eth0 netif_receive_skb h=198.51.100.9:5555>172.23.97.2:81,S\nreal/eth0 tc_ingress\nreal/eth0 ip_rcv_core\nreal/eth0 ip_forward\nreal/eth0 tc_egress\nreal/eth0 net_dev_start_xmit\n").events
	evs[1].Link = Link{Hash: 77, TTL: 60}
	evs[4].Link = Link{Hash: 78, TTL: 59}
	out, _ := stitch(l, evs, func(c *Config) { c.Wires = true })
	if in := out[0].In; in.Hash != 77 || in.Header.TTL != 60 {
		t.Errorf("in %+v", in)
	}
	if o := out[0].Out; o == nil || o.Hash != 78 || o.Header.TTL != 59 {
		t.Errorf("out %+v", o)
	}
}
