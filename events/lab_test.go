// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// lab is the reference cluster of the scenarios, as names and numbers.
type lab struct {
	hooks   []Hook
	byName  map[string]HookID
	netns   map[string]uint32
	spaces  map[uint32]Namespace
	devices map[uint32][]Device // by namespace; ifindex is the index + 1
	symbols map[uint64]string
	reasons map[uint32]string
	owners  map[uint32]process
}

var _ Names = (*lab)(nil)

func (l *lab) Device(netns, ifindex uint32) (Device, bool) {
	d := l.devices[netns]
	if ifindex == 0 || int(ifindex) > len(d) {
		return Device{}, false
	}
	return d[ifindex-1], true
}

func (l *lab) Namespace(netns uint32) Namespace { return l.spaces[netns] }

func (l *lab) Address(ip string, port uint16) AddressNames {
	switch ip {
	case "172.23.96.23":
		return AddressNames{Pod: "default/centos"}
	case "172.23.96.163":
		return AddressNames{Pod: "default/nginx1a"}
	case "192.168.13.23":
		return AddressNames{Service: "default/nginx1"}
	case "8.219.164.113":
		return AddressNames{Service: "default/nginx1-local"}
	}
	return AddressNames{}
}

func (l *lab) Process(inode uint32) (string, uint32, bool) {
	p, ok := l.owners[inode]
	return p.comm, p.pid, ok
}
func (l *lab) Symbol(addr uint64) string       { return l.symbols[addr] }
func (l *lab) DropReason(reason uint32) string { return l.reasons[reason] }

// labHooks are the hooks that the scripts of the tests name.
var labHooks = []Hook{
	{Name: "__ip_local_out", Station: StationSocketOut}, {Name: "ip_output", Station: StationIPOut},
	{Name: "ip_finish_output2", Station: StationNeighbour}, {Name: "tc_egress", Station: StationTCEgress},
	{Name: "net_dev_queue", Station: StationQueue}, {Name: "net_dev_start_xmit", Station: StationTransmit},
	{Name: "veth_xmit", Station: StationVeth}, {Name: "netif_receive_skb", Station: StationReceive},
	{Name: "tc_ingress", Station: StationTCIngress}, {Name: "br_handle_frame_finish", Station: StationBridgeIn},
	{Name: "__br_forward", Station: StationBridgeForward}, {Name: "br_flood", Station: StationBridgeFlood},
	{Name: "br_pass_frame_up", Station: StationBridgeUp}, {Name: "br_dev_xmit", Station: StationBridgeOut},
	{Name: "br_nf_pre_routing", Station: StationBridgeNF}, {Name: "ip_rcv_core", Station: StationIPIn},
	{Name: "ip_local_deliver", Station: StationLocalDeliver}, {Name: "ip_forward", Station: StationForward},
	{Name: "ip_error", Station: StationRouteError}, {Name: "nf_hook_slow", Station: StationNetfilter},
	{Name: "ipt_do_table", Station: StationTable}, {Name: "nft_do_chain", Station: StationTable},
	{Name: "nft_do_chain_ret", Station: StationVerdict}, {Name: "nf_conntrack_in", Station: StationConntrackIn},
	{Name: "__nf_conntrack_confirm", Station: StationConntrackConfirm}, {Name: "nf_nat_manip_pkt", Station: StationNAT},
	{Name: "ip_vs_in_hook", Station: StationIPVSIn}, {Name: "ip_vs_schedule", Station: StationIPVSSchedule},
	{Name: "ip_vs_conn_new", Station: StationIPVSConn}, {Name: "ip_vs_nat_xmit", Station: StationIPVSXmit},
	{Name: "ip_vs_leave", Station: StationIPVSLeave}, {Name: "handle_response", Station: StationIPVSOut},
	{Name: "tcp_v4_rcv", Station: StationTransportIn}, {Name: "udp_rcv", Station: StationTransportIn},
	{Name: "tcp_v4_do_rcv", Station: StationSocketIn}, {Name: "udp_queue_rcv_skb", Station: StationSocketIn},
	{Name: "tcp_conn_request", Station: StationListen}, {Name: "icmp_rcv", Station: StationICMPIn},
	{Name: "tcp_v4_err", Station: StationErrorIn}, {Name: "__icmp_send", Station: StationICMPSend},
	{Name: "tcp_v4_send_reset", Station: StationResetSend}, {Name: "tcp_timewait", Station: StationTimeWait},
	{Name: "skb_clone", Station: StationClone}, {Name: "raw_rcv", Station: StationRawIn},
	{Name: "tcp_add_backlog", Station: StationBacklog}, {Name: "nf_send_reset", Station: StationReject},
	{Name: "skb_segment", Station: StationSegment}, {Name: "ip_fragment", Station: StationFragment},
	{Name: "kfree_skb_partial", Station: StationEnd}, {Name: "icmpv6_rcv", Station: StationICMPIn}, {Name: "ip6_finish_output2", Station: StationNeighbour},
	{Name: "skb_gro_receive", Station: StationMerge}, {Name: "kfree_skb", Station: StationDrop},
	{Name: "consume_skb", Station: StationEnd}, {Name: "__kfree_skb", Station: StationEnd}, {Name: "kfree_skbmem", Station: StationEnd}, {Name: "skb_attempt_defer_free", Station: StationEnd},
	{Name: "early_drop", Station: StationConntrackFull}, {Name: "nf_ct_resolve_clash", Station: StationConntrackClash},
	{Name: "br_forward", Station: StationBridgeForward},
	{Name: "ip_handle_martian_source", Station: StationMartian},
}

func newLab() *lab {
	l := &lab{
		byName: map[string]HookID{}, netns: map[string]uint32{}, spaces: map[uint32]Namespace{},
		devices: map[uint32][]Device{}, symbols: map[uint64]string{}, owners: map[uint32]process{},
		reasons: map[uint32]string{2: "NOT_SPECIFIED", 3: "NO_SOCKET", 6: "SOCKET_RCVBUFF", 8: "NETFILTER_DROP", 9: "OTHERHOST", 7: "SOCKET_BACKLOG", 40: "TCP_OLD_DATA", 50: "NEIGH_FAILED", 60: "IP_RPFILTER", 61: "IP_NOPROTO", 62: "QUEUE_PURGE", 70: "SOME_NEW_REASON"},
	}
	for i, h := range labHooks {
		h.ID = HookID(i + 1) //nolint:gosec // a short table
		l.hooks = append(l.hooks, h)
		l.byName[h.Name] = h.ID
	}
	add := func(inode uint32, name, kind, node string, devs ...Device) {
		l.netns[name] = inode
		pod := ""
		if kind == KindPod {
			pod = "default/" + name
		}
		l.spaces[inode] = Namespace{Name: name, Kind: kind, Node: node, Pod: pod}
		l.devices[inode] = devs
	}
	addr := netip.MustParseAddr
	veth := func(name string, peer, master uint32, addrs ...netip.Addr) Device {
		return Device{Name: name, Kind: "veth", PeerNetns: peer, Master: master, Addrs: addrs}
	}
	cni := func(ip string) Device { return Device{Name: "cni0", Kind: "bridge", Addrs: []netip.Addr{addr(ip)}} }
	lo := Device{Name: "lo", Kind: "loopback"}
	add(11, "n1", KindNode, "n1", veth("eth0", 1, 0, addr("10.0.0.180")), cni("172.23.96.1"), veth("vethcentos", 21, 2), veth("vethnginx", 22, 2))
	add(12, "n2", KindNode, "n2", veth("eth0", 1, 0, addr("10.0.1.206")), cni("172.23.96.129"), veth("vethnginx1a", 23, 2))
	add(13, "real", KindNode, "real", Device{Name: "eth0"}, cni("172.23.97.1"), veth("vethpod", 24, 2))
	add(21, "centos", KindPod, "n1", veth("eth0", 11, 0), lo)
	add(22, "nginx", KindPod, "n1", veth("eth0", 11, 0))
	add(23, "nginx1a", KindPod, "n2", veth("eth0", 12, 0))
	add(24, "pod", KindPod, "real", veth("eth0", 13, 0, addr("172.23.97.2")))
	add(1, "vpc", KindNetwork, "", veth("n1", 11, 0), veth("n2", 12, 0), veth("out", 2, 0))
	add(2, "outside", KindNetwork, "", veth("eth0", 1, 0))
	return l
}

// script is a sequence of events under construction. A line of a script is
//
//	NETNS[/DEVICE] HOOK [key=value…]
//
// with the keys pkt, other, h (SRC:PORT>DST:PORT[,flags]), icmp, inner, ct, mark (behind nf, decimal),
// others (behind ct: it is another packet's), nf (hook number), reason, site, task (comm:pid), inode, backend and the
// words reply, tentative, no-entry.
type script struct {
	t      testing.TB
	l      *lab
	events []Event
	seq    map[uint64]uint16
	pkt    uint64
	other  uint64
	flow   uint64
	time   uint64
	reply  bool
	tent   bool
}

func (l *lab) script(t testing.TB) *script {
	return &script{t: t, l: l, seq: map[uint64]uint16{}, pkt: 1, flow: 7, time: 1_000_000}
}

// add appends the lines of a script to the events.
func (s *script) add(text string) *script {
	s.t.Helper()
	for _, line := range strings.Split(text, "\n") {
		if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(f[0], "#") {
			s.line(f)
		}
	}
	return s
}

func (s *script) line(f []string) {
	s.t.Helper()
	if len(f) < 2 {
		for _, kv := range f {
			s.set(&Event{}, kv)
		}
		return
	}
	place, dev, _ := strings.Cut(f[0], "/")
	e := Event{Netns: s.l.netns[place], Hook: s.l.byName[f[1]], Flags: FlagMatched, Flow: s.flow}
	if e.Netns == 0 || e.Hook == 0 {
		s.t.Fatalf("script: unknown namespace or hook in %v", f)
	}
	for i, d := range s.l.devices[e.Netns] {
		if d.Name == dev {
			e.Ifindex = uint32(i + 1) //nolint:gosec // a short table
		}
	}
	if dev != "" && e.Ifindex == 0 {
		s.t.Fatalf("script: unknown device in %v", f)
	}
	for _, kv := range f[2:] {
		s.set(&e, kv)
	}
	s.time += 1000
	e.Time, e.Packet, e.Seq = s.time, s.pkt, s.seq[s.pkt]
	e.Flow = s.flow
	s.seq[s.pkt]++
	if e.Seq == 0 {
		e.Flags |= FlagFirst
		e.Other = s.other
		s.other = 0
	} else if s.other != 0 {
		e.Other, s.other = s.other, 0
	}
	if s.reply {
		e.Flags |= FlagReply
	}
	if s.tent {
		e.Flags &^= FlagMatched
	}
	switch s.l.hooks[e.Hook-1].Station {
	case StationDrop, StationEnd, StationMerge:
		e.Flags |= FlagEnd
	}
	s.events = append(s.events, e)
}

func (s *script) set(e *Event, kv string) {
	s.t.Helper()
	k, v, _ := strings.Cut(kv, "=")
	n, _ := strconv.ParseUint(v, 10, 64)
	switch k {
	case "pkt":
		s.pkt = n
	case "other":
		s.other = n
	case "flow":
		s.flow = n
	case "time":
		s.time = n
	case "reply":
		s.reply = v != "no"
	case "tentative":
		s.tent = v != "no"
	case "h":
		e.Ext, e.Header = ExtHeader, header(s.t, v)
	case "icmp":
		e.ICMPType, e.ICMPCode = pair(v)
		e.Header.ICMPType, e.Header.ICMPCode = pair(v)
		if e.Ext == ExtHeader {
			e.Header.Proto = protoICMP
			if e.Header.Src.Is6() {
				e.Header.Proto = protoICMPv6
			}
		}
	case "inner":
		e.Header.Inner, e.Header.HasInner = header(s.t, v).Tuple, true
	case "ct":
		e.Ext = ExtConntrack
		a, b, _ := strings.Cut(v, "|")
		e.CT = Conntrack{Original: header(s.t, a).Tuple, Reply: header(s.t, b).Tuple, Info: 2}
	case "others":
		e.CT.Info, e.CT.Status = CTOther|uint8(n), CTConfirmed
	case "no-entry":
		e.Flags |= FlagNoEntry
	case "nf":
		e.NFFamily, e.NFHook = 2, uint8(n) //nolint:gosec // 0 to 4
	case "mark":
		e.NFMark = MarkTold | n
	case "ret":
		e.Ret = int32(n) //nolint:gosec // 0 to 5
	case "reason":
		for r, name := range s.l.reasons {
			if name == v {
				e.Reason = r
			}
		}
	case "site":
		e.Location = hashString(v)
		s.l.symbols[e.Location] = v
	case "task":
		comm, pid, _ := strings.Cut(v, ":")
		p, _ := strconv.ParseUint(pid, 10, 32)
		copy(e.Socket.Comm[:], comm)
		e.Socket.PID, e.Socket.Inode = uint32(p), uint32(p)+100_000
		e.Flags |= FlagTask
	case "inode":
		e.Socket.Inode = uint32(n) //nolint:gosec // small
	case "backend":
		e.Backend = netip.MustParseAddrPort(v)
	default:
		s.t.Fatalf("script: unknown key %q", kv)
	}
}

func pair(v string) (uint8, uint8) {
	var a, b uint8
	_, _ = fmt.Sscanf(v, "%d/%d", &a, &b)
	return a, b
}

// header parses SRC:PORT>DST:PORT[,flags][,udp][,frag][,seq=N][,len=N].
func header(t testing.TB, v string) Header {
	t.Helper()
	parts := strings.Split(v, ",")
	src, dst, ok := strings.Cut(parts[0], ">")
	if parts[0] == ":0>:0" {
		return Header{} // no IP header was there
	}
	a, errA := netip.ParseAddrPort(src)
	b, errB := netip.ParseAddrPort(dst)
	if !ok || errA != nil || errB != nil {
		t.Fatalf("script: bad header %q", v)
	}
	h := Header{Tuple: Tuple{Src: a.Addr(), Dst: b.Addr(), SrcPort: a.Port(), DstPort: b.Port(), Proto: protoTCP}, Length: 60, TTL: 64}
	for _, p := range parts[1:] {
		switch {
		case p == "udp":
			h.Proto = protoUDP
		case p == "frag":
			h.Fragment = true
		case strings.HasPrefix(p, "seq="), strings.HasPrefix(p, "len="):
			n, err := strconv.ParseUint(p[4:], 10, 32)
			if err != nil {
				t.Fatalf("script: bad header %q", v)
			}
			if p[0] == 's' {
				h.Seq = uint32(n)
			} else {
				h.Length = uint32(n)
			}
		default:
			for _, f := range p {
				h.TCPFlags |= map[rune]uint8{'F': 1, 'S': 2, 'R': 4, 'P': 8, 'A': 16}[f]
			}
		}
	}
	return h
}

// stitch gives the events to a new Stitcher in the order of the slice, and
// returns what comes out until all is flushed.
func stitch(l *lab, events []Event, change func(*Config)) ([]*Traversal, *Stitcher) {
	c := Config{Hooks: l.hooks, Names: l, HasFunctions: true}
	if change != nil {
		change(&c)
	}
	var out []*Traversal
	s := NewStitcher(c, func(t *Traversal) { out = append(out, t) })
	for i := range events {
		s.Add(&events[i])
	}
	s.Flush()
	return out, s
}
