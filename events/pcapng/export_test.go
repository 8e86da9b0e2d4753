// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Hooks of the runs that are made up here.
const (
	hookOut events.HookID = iota + 1
	hookQueue
	hookTransmit
	hookReceive
	hookNAT
	hookDrop
	hookEnd
	hookClone
	hookSegment
	hookSocketIn
)

var hooks = []events.Hook{
	{ID: hookOut, Name: "__ip_local_out", Station: events.StationSocketOut},
	{ID: hookQueue, Name: "net_dev_queue", Station: events.StationQueue},
	{ID: hookTransmit, Name: "net_dev_start_xmit", Station: events.StationTransmit},
	{ID: hookReceive, Name: "netif_receive_skb", Station: events.StationReceive},
	{ID: hookNAT, Name: "nf_nat_manip_pkt", Station: events.StationNAT},
	{ID: hookDrop, Name: "kfree_skb", Station: events.StationDrop},
	{ID: hookEnd, Name: "consume_skb", Station: events.StationEnd},
	{ID: hookClone, Name: "skb_clone", Station: events.StationClone},
	{ID: hookSegment, Name: "skb_segment", Station: events.StationSegment},
	{ID: hookSocketIn, Name: "tcp_v4_do_rcv", Station: events.StationSocketIn},
}

// Namespaces and devices: a pod behind a veth pair, and the node's eth0, its
// tunnel without link header, and a device that nobody named.
const (
	pod, node = 4026532001, 4026532002

	podEth0              = 2
	nodeVeth, nodeEth0   = 4, 5
	nodeTunnel, nodeNone = 6, 7
)

// names names them; a workload chose some of them badly.
type names struct{}

func (names) Device(netns, ifindex uint32) (events.Device, bool) {
	d, ok := map[[2]uint32]events.Device{
		{pod, podEth0}:     {Name: "eth0", Kind: "veth", PeerNetns: node, PeerIfindex: nodeVeth, Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.2")}},
		{node, nodeVeth}:   {Name: "veth\x1b[31m", Kind: "veth", PeerNetns: pod, PeerIfindex: podEth0},
		{node, nodeEth0}:   {Name: "eth0"},
		{node, nodeTunnel}: {Name: "tunl0", Kind: "ipip"},
	}[[2]uint32{netns, ifindex}]
	return d, ok
}

func (names) Namespace(netns uint32) events.Namespace {
	if netns == pod {
		return events.Namespace{Name: "web\u202e\n<script>", Kind: events.KindPod, Node: "n1", Pod: "default/web\u202e\n<script>"}
	}
	return events.Namespace{Name: "n1", Kind: events.KindNode, Node: "n1"}
}

func (names) Address(string, uint16) events.AddressNames        { return events.AddressNames{} }
func (names) Process(uint32) (comm string, pid uint32, ok bool) { return "", 0, false }
func (names) Symbol(uint64) string                              { return "" }
func (names) DropReason(uint32) string                          { return "" }

// start is when the runs that are made up begin, on both clocks.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func wall(mono uint64) time.Time { return start.Add(time.Duration(mono)) }

func newSource(evs []events.Event) Source {
	return Source{
		Config: events.Config{Hooks: hooks, Names: names{}, Wall: wall, Node: "n1", HasFunctions: true},
		Replay: replay(evs), Kernel: "6.12.1", Arch: "x86_64",
	}
}

// script is a run that is being made up: 1 µs from event to event.
type script struct {
	evs []events.Event
	now uint64
	seq map[uint64]uint16
}

func newScript() *script { return &script{seq: map[uint64]uint16{}} }

// add adds an event of a packet; with may change it.
func (s *script) add(packet uint64, hook events.HookID, netns, ifindex uint32, with ...func(*events.Event)) {
	s.now += 1000
	e := events.Event{
		Time: s.now, Packet: packet, Flow: 9, Hook: hook, Seq: s.seq[packet], Flags: events.FlagMatched, Netns: netns, Ifindex: ifindex,
	}
	if e.Seq == 0 {
		e.Flags |= events.FlagFirst
	}
	if hook == hookDrop || hook == hookEnd {
		e.Flags |= events.FlagEnd
	}
	s.seq[packet]++
	for _, w := range with {
		w(&e)
	}
	s.evs = append(s.evs, e)
}

// ether is the Ethernet header between two stations of the network, and the TTL.
func ether(src, dst, ttl byte) func(*events.Event) {
	return func(e *events.Event) {
		e.Link.Src, e.Link.Dst = [6]byte{2, 0, 0, 0, 0, src}, [6]byte{2, 0, 0, 0, 0, dst}
		e.Link.Proto, e.Link.TTL = etherIPv4, ttl
	}
}

func vlan(tci uint16) func(*events.Event) {
	return func(e *events.Event) { e.Link.VLAN = tci | vlanPresent }
}

func parent(p uint64) func(*events.Event) { return func(e *events.Event) { e.Other = p } }

// tells puts headers into an event, and the packet from its IP header on.
func tells(h events.Header, ip []byte) func(*events.Event) {
	return func(e *events.Event) { e.Ext, e.Header, e.Bytes = events.ExtHeader, h, ip }
}

func header(src, dst string, length uint32) events.Header {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return events.Header{
		Tuple:  events.Tuple{Src: s.Addr(), SrcPort: s.Port(), Dst: d.Addr(), DstPort: d.Port(), Proto: protoTCP},
		Length: length, TCPFlags: 2, TTL: 64, IPID: 0x1234, Seq: 1000, TOS: 0x10,
	}
}

// syn is an IPv4 SYN with the options of a real one.
func syn(h events.Header) []byte {
	b := appendIP(nil, h.Tuple, &h)
	b[6] = 0x40 // don't fragment
	b = appendPorts(b, h.Tuple)
	b = binary.BigEndian.AppendUint32(b, h.Seq)
	b = append(b, 0, 0, 0, 0, 10<<4, h.TCPFlags, 0xfa, 0xf0, 0, 0, 0, 0)
	b = append(b, 2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b))) //nolint:gosec // 60
	binary.BigEndian.PutUint16(b[10:], checksum(b[:lenIPv4]))
	return b
}

// unfinished is the packet before IP wrote its length and checksum.
func unfinished(ip []byte) []byte {
	ip = slices.Clone(ip)
	copy(ip[2:], "\xde\xad")
	copy(ip[10:], "\xbe\xef")
	return ip
}

const (
	client, server, snatted = "10.0.1.2:40000", "192.0.2.7:80", "198.51.100.1:1024"
)

// toServer is a SYN on its way out of the node, with NAT.
func (s *script) toServer(packet uint64) {
	h := header(client, server, 60)
	s.add(packet, hookOut, pod, 0, tells(h, unfinished(syn(h))))
	s.add(packet, hookQueue, pod, podEth0)
	s.add(packet, hookTransmit, pod, podEth0, ether(1, 2, 64))
	s.add(packet, hookReceive, node, nodeVeth, ether(1, 2, 64), tells(h, syn(h)))
	nat := header(snatted, server, 60)
	nat.TTL = 63
	s.add(packet, hookNAT, node, nodeEth0, tells(nat, syn(nat)))
	s.add(packet, hookQueue, node, nodeEth0, ether(3, 4, 63))
	s.add(packet, hookTransmit, node, nodeEth0, ether(3, 4, 63), vlan(0x2005))
	s.add(packet, hookEnd, node, nodeEth0)
}

// TestBytes: packets are as they were at each device.
func TestBytes(t *testing.T) {
	s := newScript()
	s.toServer(1)
	path, stats := export(t, Input{Tool: "stackhop v1.2.3", Sources: []Source{newSource(s.evs)}})
	if want := (Stats{Packets: 3, Interfaces: 3}); stats != want {
		t.Errorf("%+v, want %+v", stats, want)
	}
	golden(t, "bytes", path)
	checkTools(t, path, 3)
	for _, tt := range []struct {
		filter string
		want   []string
	}{
		{`ip.src == 10.0.1.2 and ip.ttl == 64 and ip.len == 60 and tcp.options.mss_val == 1460`, []string{"1", "2"}},
		{`ip.src == 198.51.100.1 and ip.ttl == 63 and tcp.srcport == 1024`, []string{"3"}},
		{`vlan.id == 5 and vlan.priority == 1 and eth.src == 02:00:00:00:00:03`, []string{"3"}},
		{`frame.packet_flags_direction == 1`, []string{"2"}},
		{`frame.packet_flags_direction == 2`, []string{"1", "3"}},
		{`frame.interface_name == "n1/eth0"`, []string{"3"}},
		{`frame.comment contains "snat"`, []string{"1", "2", "3"}},
		{`frame.time == "2026-01-02 03:04:05.000003 UTC"`, []string{"1"}},
		{`ip.checksum.status == "Good"`, []string{"1", "2", "3"}},
	} {
		if got := tshark(t, path, tt.filter); !slices.Equal(got, tt.want) {
			t.Errorf("%s: packets %v, want %v", tt.filter, got, tt.want)
		}
	}
}

// TestText: nothing that a workload chose gets to a terminal as it is.
func TestText(t *testing.T) {
	s := newScript()
	s.toServer(1)
	src := newSource(s.evs)
	src.Filter, src.Kernel, src.Lost = "host \x1b[2J", "6\x07.1", map[string]uint64{"a\nb": 1}
	var b bytes.Buffer
	if _, err := Export(&b, Input{Tool: "x\x1b", Sources: []Source{src}}); err != nil {
		t.Fatal(err)
	}
	for _, x := range readBlocks(t, b.Bytes()) {
		for _, o := range x.options {
			isText := o.code == optComment || (x.kind != blockStatistics && x.kind != blockPacket && o.code != ifTsresol)
			if text := strings.TrimPrefix(string(o.value), "\x00"); isText && strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
				t.Errorf("block %d, option %d: %q", x.kind, o.code, text)
			}
		}
	}
}

// TestLeftOut: which events are packets of the file, and which are not.
func TestLeftOut(t *testing.T) {
	h := header(client, server, 60)
	first := func(s *script, packet uint64) { s.add(packet, hookOut, pod, 0, tells(h, syn(h))) }
	noTransmit := slices.DeleteFunc(slices.Clone(hooks), func(h events.Hook) bool { return h.ID == hookTransmit })
	for _, tt := range []struct {
		name  string
		make  func(s *script)
		hooks []events.Hook
		want  Stats
	}{
		{"dropped in the queue", func(s *script) {
			first(s, 1)
			s.add(1, hookQueue, pod, podEth0)
			s.add(1, hookDrop, pod, podEth0)
		}, hooks, Stats{Packets: 1, Interfaces: 1}},
		{"queued again elsewhere", func(s *script) {
			first(s, 1)
			s.add(1, hookQueue, pod, podEth0)
			s.add(1, hookQueue, node, nodeEth0)
			s.add(1, hookTransmit, node, nodeEth0)
			s.add(1, hookEnd, node, nodeEth0)
		}, hooks, Stats{Packets: 2, Interfaces: 2}},
		{"its transmission is told by the segments", func(s *script) {
			first(s, 1)
			s.add(1, hookQueue, pod, podEth0)
			for p := uint64(2); p <= 3; p++ {
				s.add(p, hookSegment, pod, podEth0, parent(1), tells(h, syn(h)))
				s.add(p, hookTransmit, pod, podEth0)
				s.add(p, hookEnd, pod, podEth0)
			}
			s.add(1, hookEnd, pod, podEth0)
		}, hooks, Stats{Packets: 2, Interfaces: 1}},
		{"no hook at transmission", func(s *script) {
			first(s, 1)
			s.add(1, hookQueue, pod, podEth0)
			s.add(1, hookReceive, node, nodeVeth)
			s.add(1, hookDrop, node, nodeVeth)
		}, noTransmit, Stats{Packets: 2, Interfaces: 2}},
		{"headers not known", func(s *script) {
			s.add(1, hookTransmit, pod, podEth0)
			s.add(1, hookEnd, pod, podEth0)
		}, hooks, Stats{NoHeaders: 1}},
		{"not selected", func(s *script) {
			first(s, 1)
			s.add(1, hookTransmit, pod, podEth0)
			s.add(1, hookEnd, pod, podEth0)
			for i := range s.evs {
				s.evs[i].Flags &^= events.FlagMatched
			}
		}, hooks, Stats{Unselected: 1}},
		{"elsewhere", func(s *script) {
			first(s, 1)
			s.add(1, events.Elsewhere, 0, 0)
			s.add(1, hookTransmit, pod, podEth0)
			s.add(1, hookEnd, pod, podEth0)
		}, hooks, Stats{Packets: 1, Interfaces: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScript()
			tt.make(s)
			src := newSource(s.evs)
			src.Config.Hooks = tt.hooks
			if _, stats := export(t, Input{Sources: []Source{src}}); stats != tt.want {
				t.Errorf("%+v, want %+v", stats, tt.want)
			}
		})
	}
}

// TestCopies: a copy without bytes of its own has those of the packet, and its
// comment says whose copy it is.
func TestCopies(t *testing.T) {
	h := header(client, server, 60)
	s := newScript()
	s.add(1, hookOut, pod, 0, tells(h, unfinished(syn(h))))
	s.add(1, hookTransmit, pod, podEth0, ether(1, 2, 64))
	s.add(1, hookReceive, node, nodeVeth, ether(1, 2, 64))
	s.add(2, hookClone, node, nodeVeth, parent(1), tells(h, nil))
	s.add(2, hookTransmit, node, nodeNone, ether(1, 2, 64))
	s.add(2, hookEnd, node, nodeNone)
	s.add(1, hookTransmit, node, nodeEth0, ether(3, 4, 63))
	s.add(1, hookEnd, node, nodeEth0)
	path, stats := export(t, Input{Sources: []Source{newSource(s.evs)}})
	if want := (Stats{Packets: 4, Interfaces: 4}); stats != want {
		t.Errorf("%+v, want %+v", stats, want)
	}
	checkTools(t, path, 4)
	if got := tshark(t, path, `frame.comment contains "a copy" and tcp.options.mss_val == 1460 and frame.interface_name == "n1/if7"`); !slices.Equal(got, []string{"3"}) {
		t.Errorf("the copy is packet %v", got)
	}
	if got := tshark(t, path, `frame.packet_id == 0`); got != nil {
		t.Errorf("packets %v have no traversal", got)
	}
}

// TestOrder: events that come out of order, and sources beside each other.
func TestOrder(t *testing.T) {
	a, b := newScript(), newScript()
	for p := uint64(1); p <= 50; p++ {
		a.toServer(p)
		b.now += 300
		b.toServer(p)
	}
	slices.Reverse(a.evs[100:160])
	const want = 300
	in := Input{Sources: []Source{newSource(a.evs), newSource(b.evs)}}
	in.Sources[1].Config.Node = "n2"
	path, stats := export(t, in)
	if stats.Packets != want {
		t.Errorf("%+v, want %d packets", stats, want)
	}
	checkTools(t, path, want) // in order of time, too
	if got := tshark(t, path, `ip.src == 10.0.1.2 and frame.interface_name == "n1/eth0"`); got != nil {
		t.Errorf("packets %v are told with the headers of another moment", got)
	}
}

// TestJoined: what one traversal was on several nodes has one comment and id;
// of the rest nothing is told.
func TestJoined(t *testing.T) {
	a, b := newScript(), newScript()
	a.toServer(1)
	a.toServer(2)
	b.toServer(1)
	in := Input{Sources: []Source{newSource(a.evs), newSource(b.evs)}}
	in.Sources[1].Config.Node = "n2"
	in.Traversals = func(tell func(int, *events.Traversal)) error {
		tell(0, &events.Traversal{
			ID: "00000000000000ff", Summary: "4 stacks, delivered", Time: start,
			Parts: []events.Part{{Node: "n1", ID: "1", Packets: []uint64{2}}, {Node: "n2", ID: "2", Packets: []uint64{1}}},
		})
		return nil
	}
	path, stats := export(t, in)
	if stats.Packets != 6 || stats.Unselected != 3 {
		t.Errorf("%+v, want 6 packets of 9", stats)
	}
	if got := tshark(t, path, `frame.packet_id == 0xff and frame.comment contains "4 stacks, delivered"`); len(got) != 6 {
		t.Errorf("packets %v are of the joined traversal", got)
	}
}

// TestTwice: a packet that comes back is another traversal from then on.
func TestTwice(t *testing.T) {
	s := newScript()
	s.toServer(1)
	in := Input{Sources: []Source{newSource(s.evs)}}
	in.Traversals = func(tell func(int, *events.Traversal)) error {
		tell(0, &events.Traversal{ID: "2", Time: wall(5500), Packets: []uint64{1}})
		tell(0, &events.Traversal{ID: "1", Time: wall(1000), Packets: []uint64{1}})
		return nil
	}
	path, _ := export(t, in)
	if got := tshark(t, path, `frame.packet_id == 2`); !slices.Equal(got, []string{"3"}) {
		t.Errorf("packets %v are of the second traversal", got)
	}
}

// TestErrors: what was read before an error is written.
func TestErrors(t *testing.T) {
	damage := errors.New("damaged at 1234")
	s := newScript()
	s.toServer(1)
	src := newSource(nil)
	src.Replay = func(sink Sink) error {
		_ = replay(s.evs)(sink)
		return damage
	}
	var b bytes.Buffer
	stats, err := Export(&b, Input{Sources: []Source{src}})
	if !errors.Is(err, damage) || stats.Packets != 3 || len(readBlocks(t, b.Bytes())) == 0 {
		t.Errorf("%+v, %v, want 3 packets and the damage", stats, err)
	}
	if _, err := Export(full{}, Input{Sources: []Source{newSource(s.evs)}}); !errors.Is(err, errFull) {
		t.Errorf("%v, want that the disk is full", err)
	}
	if _, err := Export(&b, Input{Traversals: func(func(int, *events.Traversal)) error { return damage }}); !errors.Is(err, damage) {
		t.Errorf("%v, want the error of Traversals", err)
	}
	b.Reset()
	if stats, err := Export(&b, Input{Sources: []Source{newSource(nil)}}); err != nil || stats != (Stats{}) {
		t.Errorf("%+v, %v of a run without events", stats, err)
	}
	readBlocks(t, b.Bytes())
}

var errFull = errors.New("no space left")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }
