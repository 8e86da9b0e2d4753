// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/stackhop/stackhop/events"
)

// place is where an event must come from.
type place struct {
	hook           events.HookID
	netns, ifindex uint32
}

// life is what the tracer told of one packet.
type life struct {
	time    uint64
	length  uint32
	seen    uint32 // a bit for each place of the path
	port    uint16
	ipid    uint16
	gsoSize uint16
	gsoSegs uint16
	headers uint8
	ended   bool
	wrong   bool // an event that does not belong there
}

// oracle compares what the tracer tells with what was sent.
type oracle struct {
	mode    churnMode
	perFlow int
	flow    map[uint16]int // number of the flow by its source port
	path    []place
	merging int // places before the first device at which GRO may merge
	end     [2]events.HookID
	lives   map[uint64]*life
	began   atomic.Int64
	merged  int
	wrongs  []string // the first few events that were out of place
}

func newOracle(m churnMode, perFlow int) *oracle {
	perFlow -= perFlow % m.batch()
	return &oracle{mode: m, perFlow: perFlow, flow: map[uint16]int{}, lives: make(map[uint64]*life, m.flows*perFlow/m.batch())}
}

// expect writes down the way of every packet, place by place.
func (o *oracle) expect(r *run, c *cluster) {
	a, b := c.pods[0], c.pods[1]
	index := func(netns, dev string) (n uint32) {
		c.in(netns, func(h *netlink.Handle) error {
			l, err := h.LinkByName(dev)
			if err == nil {
				n = uint32(l.Attrs().Index)
			}
			return err
		})
		return n
	}
	node, err := netnsInode(runNetns + "/" + c.node)
	if err != nil {
		c.t.Fatal(err)
	}
	at := func(hook string, netns, ifindex uint32) {
		o.path = append(o.path, place{r.hook(hook), netns, ifindex})
	}
	out, in, on, end := index(a.name, "eth0"), index(c.node, a.host), index(c.node, b.host), index(b.name, "eth0")
	at("net_dev_queue", a.inode, out)
	at("net_dev_start_xmit", a.inode, out)
	o.merging = len(o.path)
	at("netif_receive_skb", node, in)
	at("tc_ingress", node, in)
	at("tc_egress", node, on)
	at("net_dev_queue", node, on)
	at("net_dev_start_xmit", node, on)
	at("netif_receive_skb", b.inode, end)
	at("tc_ingress", b.inode, end)
	o.end = [2]events.HookID{r.hook("consume_skb"), r.hook("kfree_skb")}
}

// event is called for each event of the run.
func (o *oracle) event(e *events.Event) {
	l := o.lives[e.Packet]
	if l == nil {
		l = &life{time: e.Time}
		o.lives[e.Packet] = l
		o.began.Add(1)
	}
	switch {
	case (e.Hook == o.end[0] || o.mode.gro && e.Hook == o.end[1]) && !l.ended:
		// A packet that GRO merged is given back with the one it is in.
		l.ended = true
	case int(e.Seq) >= len(o.path) || o.path[e.Seq] != place{e.Hook, e.Netns, e.Ifindex} || l.seen&(1<<e.Seq) != 0:
		l.wrong = true
		if len(o.wrongs) < 3 {
			o.wrongs = append(o.wrongs, fmt.Sprintf("packet %d seq %d hook %d netns %d ifindex %d cpu %d, %+v after port %d, id %d, length %d, seen %b; ",
				e.Packet, e.Seq, e.Hook, e.Netns, e.Ifindex, e.CPU, e.Header, l.port, l.ipid, l.length, l.seen))
		}
	default:
		l.seen |= 1 << e.Seq
	}
	if e.Ext == events.ExtHeader {
		h := &e.Header
		l.headers++
		l.time, l.length, l.port, l.ipid, l.gsoSize, l.gsoSegs = e.Time, h.Length, h.SrcPort, h.IPID, h.GSOSize, h.GSOSegs
	}
}

// whole says whether a life has the whole way, or all of it up to where GRO put
// the packet into another.
func (o *oracle) whole(l *life) bool {
	if l.seen == 1<<len(o.path)-1 {
		return true
	}
	return o.mode.gro && l.seen == 1<<o.merging-1
}

// judge holds the lives against what the receiver got.
func (o *oracle) judge(t *testing.T, got *receiver, stats Stats) {
	t.Helper()
	var conflated, partial, strangers int
	byFlow := make([][]*life, o.mode.flows)
	for _, l := range o.lives {
		flow, known := o.flow[l.port]
		switch {
		case l.wrong || l.headers > 1:
			conflated++
		case l.headers == 0:
			partial++ // its first event was lost
		case !known:
			strangers++
		default:
			byFlow[flow] = append(byFlow[flow], l)
		}
		if l.headers == 1 && !o.whole(l) {
			partial++
		}
		if l.seen == 1<<o.merging-1 {
			o.merged++
		}
	}
	missed := 0
	for flow, lives := range byFlow {
		m, wrong := o.judgeFlow(flow, lives, got)
		missed += m
		conflated += wrong
	}
	lost := int(stats.Lost["ring"] + stats.Lost["decode"] + stats.Lost["packet-table"] + stats.Lost["shed"])
	t.Logf("%d conflated, %d missed, %d incomplete, counted as lost: %d", conflated, missed, partial, lost)
	if conflated > 0 || strangers > 0 {
		t.Errorf("%d packets conflated, %d of no known flow; first events out of place: %s", conflated, strangers, o.wrongs)
	}
	if missed+partial > lost {
		t.Errorf("%d packets missed and %d incomplete, but only %d lost by the counters", missed, partial, lost)
	}
	if got.duplicates+got.strange > 0 {
		t.Errorf("the receiver got %d packets twice and %d strange ones", got.duplicates, got.strange)
	}
	if o.mode.gro != (o.merged > 0) {
		t.Errorf("GRO merged %d packets", o.merged)
	}
}

// judgeFlow gives each life the number of the packet that it must be, and
// counts the packets that were received but have no life, and the lives that
// are not what they must be, or are a second one of the same packet.
func (o *oracle) judgeFlow(flow int, lives []*life, got *receiver) (missed, wrong int) {
	slices.SortFunc(lives, func(x, y *life) int { return cmp.Compare(x.time, y.time) })
	batch := o.mode.batch()
	told := make([]bool, o.perFlow/batch)
	n := 0
	for i, l := range lives {
		if i > 0 {
			n += int(int16(l.ipid - lives[i-1].ipid)) // it counts up, and wraps
		}
		if n < 0 || n >= len(told) || told[n] || !o.is(l, n) {
			wrong++
			continue
		}
		told[n] = true
	}
	for seq := range o.perFlow {
		if got.has(flow, seq) && !told[seq/batch] {
			missed++
		}
	}
	return missed, wrong
}

// is says whether a life has the headers of packet n of its flow.
func (o *oracle) is(l *life, n int) bool {
	const headers = 20 + 8
	if !o.mode.gso {
		return l.length == uint32(headers+payload(n))
	}
	return l.length == uint32(headers+churnBatch*payload(n)) && int(l.gsoSize) == payload(n) && l.gsoSegs == churnBatch
}
