// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/internal/cpubound"
)

// TestFinish: what is written into headers that were kept, and what is not.
func TestFinish(t *testing.T) {
	right := syn(header(client, server, 60))
	with := func(ip []byte, at int, v ...byte) []byte {
		ip = slices.Clone(ip)
		copy(ip[at:], v)
		return ip
	}
	routed := with(right, 8, 63)
	binary.BigEndian.PutUint16(routed[10:], 0)
	binary.BigEndian.PutUint16(routed[10:], checksum(routed[:lenIPv4]))
	v6 := with(make([]byte, 48), 0, 0x60, 0, 0, 0, 0, 8, protoUDP, 64)
	for _, tt := range []struct {
		name   string
		ip     []byte
		length uint32
		ttl    uint8
		made   bool
		want   []byte
	}{
		{"as it was", right, 60, 64, false, right},
		{"TTL not known", right, 60, 0, false, right},
		{"routed", right, 60, 63, false, routed},
		{"not finished", unfinished(right), 60, 64, true, right},
		{"not finished, and routed", unfinished(right), 60, 63, true, routed},
		{"checksum removed", with(right, 10, 0, 0), 60, 64, false, right},
		{"checksum wrong", with(right, 10, 1, 2), 60, 64, false, with(right, 10, 1, 2)},
		{"checksum wrong, and routed", with(right, 10, 1, 2), 60, 63, false, with(with(right, 10, 1, 2), 8, 63)},
		{"too long for its field", unfinished(right), 70_000, 64, true, func() []byte {
			ip := with(right, 2, 0, 0, 0x12, 0x34, 0x40, 0, 64, protoTCP, 0, 0)
			binary.BigEndian.PutUint16(ip[10:], checksum(ip[:lenIPv4]))
			return ip
		}()},
		{"IPv6", v6, 48, 63, false, with(v6, 7, 63)},
		{"IPv6, not finished", with(v6, 4, 0xde, 0xad), 48, 64, true, v6},
		{"cut", right[:19], 60, 63, false, right[:19]},
		{"IPv6, cut", v6[:39], 48, 63, true, v6[:39]},
		{"header length too small", with(right, 0, 0x44), 60, 63, true, with(right, 0, 0x44)},
		{"header longer than what was kept", with(right[:20], 0, 0x46), 60, 63, true, with(right[:20], 0, 0x46)},
		{"not IP", []byte{0x10, 1, 2}, 60, 63, true, []byte{0x10, 1, 2}},
		{"nothing", nil, 60, 63, true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := slices.Clone(tt.ip)
			finish(got, tt.length, tt.ttl, tt.made)
			if !bytes.Equal(got, tt.want) {
				t.Errorf("%x, want\n%x", got, tt.want)
			}
		})
	}
}

// TestRebuilt: headers of which only the fields are known, as tshark reads them.
func TestRebuilt(t *testing.T) {
	tuple := func(src, dst string, proto uint8) events.Tuple {
		s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
		return events.Tuple{Src: s.Addr(), SrcPort: s.Port(), Dst: d.Addr(), DstPort: d.Port(), Proto: proto}
	}
	const a6, b6 = "[2001:db8::1]:5000", "[2001:db8::2]:53"
	cases := []struct {
		name   string
		header events.Header
		filter string
	}{
		{"TCP", events.Header{Tuple: tuple(client, server, protoTCP), Length: 1500, TCPFlags: 0x18, Seq: 7, Ack: 8, IPID: 9, TOS: 0x88},
			`tcp.seq_raw == 7 and tcp.ack_raw == 8 and tcp.flags == 0x018 and ip.len == 1500 and ip.id == 9 and ip.dsfield.dscp == 34 and ip.ttl == 61 and frame.len == 1514 and frame.cap_len == 54`},
		{"UDP", events.Header{Tuple: tuple(client, server, protoUDP), Length: 128}, `udp.length == 108 and udp.srcport == 40000 and udp.dstport == 80`},
		{"echo", events.Header{Tuple: tuple("10.0.1.2:77", "10.0.1.3:77", protoICMP), Length: 84, ICMPType: 8}, `icmp.type == 8 and icmp.ident == 77`},
		{"error", events.Header{Tuple: tuple("10.0.1.9:0", "10.0.1.2:0", protoICMP), Length: 88, ICMPType: 3, ICMPCode: 3, Inner: tuple(client, server, protoTCP), HasInner: true},
			`icmp.type == 3 and icmp.code == 3 and ip.dst == 192.0.2.7 and tcp.srcport == 40000`},
		{"IPv6 UDP", events.Header{Tuple: tuple(a6, b6, protoUDP), Length: 148, TOS: 0x10}, `ipv6.plen == 108 and ipv6.tclass == 16 and ipv6.hlim == 61 and udp.dstport == 53 and eth.type == 0x86dd`},
		{"IPv6 error", events.Header{Tuple: tuple("[2001:db8::9]:0", "[2001:db8::1]:0", protoICMPv6), Length: 140, ICMPType: 1, ICMPCode: 4, Inner: tuple(a6, b6, protoUDP), HasInner: true},
			`icmpv6.type == 1 and icmpv6.code == 4 and ipv6.dst == 2001:db8::2 and udp.srcport == 5000`},
		{"first fragment", events.Header{Tuple: tuple(client, server, protoUDP), Length: 1500, Fragment: true}, `ip.flags.mf == 1 and ip.frag_offset == 0 and frame.cap_len == 42`},
		{"later fragment", events.Header{Tuple: tuple("10.0.1.2:0", "10.0.1.3:0", protoUDP), Length: 600, Fragment: true}, `ip.proto == 17 and frame.cap_len == 34 and ip.len == 600`},
		{"IPv6 fragment", events.Header{Tuple: tuple(a6, b6, protoUDP), Length: 1480, Fragment: true}, `ipv6.nxt == 44 and ipv6.fraghdr.more == 1`},
		{"64 KiB and more", events.Header{Tuple: tuple(client, server, protoTCP), Length: 90_000, TCPFlags: 0x10}, `frame.len == 90014 and tcp`},
		{"another protocol", events.Header{Tuple: tuple("10.0.1.2:0", "10.0.1.3:0", 47), Length: 100}, `ip.proto == 47`},
		{"4 in 6", events.Header{Tuple: tuple("[::ffff:10.0.0.1]:1", client, protoUDP), Length: 100}, `ipv6.src == ::ffff:10.0.0.1`},
	}
	s := newScript()
	for i, tt := range cases {
		packet := uint64(i + 1) //nolint:gosec // a short table
		s.add(packet, hookOut, pod, 0, tells(tt.header, nil))
		s.add(packet, hookTransmit, pod, podEth0, func(e *events.Event) { e.Link.TTL = 61 })
		s.add(packet, hookEnd, pod, podEth0)
	}
	path, stats := export(t, Input{Sources: []Source{newSource(s.evs)}})
	if stats.Packets != len(cases) || stats.Rebuilt != len(cases) {
		t.Fatalf("%+v, want %d packets, rebuilt", stats, len(cases))
	}
	checkTools(t, path, len(cases))
	// One run of tshark for all: it takes a while to start.
	var filters []string
	for i, tt := range cases {
		filters = append(filters, fmt.Sprintf(`(frame.number == %d and %s)`, i+1, tt.filter))
	}
	good := tshark(t, path, `frame.comment contains "headers rebuilt" and (`+strings.Join(filters, " or ")+")")
	for i, tt := range cases {
		if number := strconv.Itoa(i + 1); !slices.Contains(good, number) {
			t.Errorf("%s is not so: %s\n%s", tt.name, tt.filter, strings.Join(run(t, "tshark", "-n", "-V", "-r", path, "-Y", "frame.number == "+number), "\n"))
		}
	}
}

// TestTunnel: a device without Ethernet header beside those that have one.
func TestTunnel(t *testing.T) {
	s := newScript()
	s.toServer(1)
	h := header(client, server, 60)
	s.add(2, hookOut, node, 0, tells(h, syn(h)))
	s.add(2, hookTransmit, node, nodeTunnel)
	s.add(2, hookEnd, node, nodeTunnel)
	path, _ := export(t, Input{Sources: []Source{newSource(s.evs)}})
	checkTools(t, path, 4)
	if got := tshark(t, path, `frame.interface_name == "n1/tunl0" and frame.interface_description contains "no Ethernet header" and eth.src == 00:00:00:00:00:00 and tcp`); len(got) != 1 {
		t.Error("the packet in the tunnel is not shown as such")
	}
}

// FuzzFrame: no bytes and headers of a recording make a file that is not one.
func FuzzFrame(f *testing.F) {
	h := header(client, server, 60)
	f.Add(syn(h), uint32(60), uint8(63), uint8(protoTCP), uint16(0x3005), true, false)
	f.Add([]byte(nil), uint32(1<<32-1), uint8(0), uint8(protoICMPv6), uint16(0), false, true)
	f.Add([]byte{0x60}, uint32(0), uint8(1), uint8(protoUDP), uint16(1), true, true)
	f.Fuzz(func(t *testing.T, ip []byte, length uint32, ttl, proto uint8, vlan uint16, v6, inner bool) {
		defer cpubound.Run(t)()
		h := events.Header{Tuple: events.Tuple{Proto: proto}, Length: length, HasInner: inner, Fragment: vlan%3 == 0}
		h.Src, h.Dst = netip.AddrFrom4([4]byte{10, 0, 0, 1}), netip.AddrFrom4([4]byte{10, 0, 0, 2})
		if v6 {
			h.Dst = netip.IPv6LinkLocalAllNodes()
		}
		s := newScript()
		s.add(1, hookOut, pod, 0, tells(h, ip))
		s.add(1, hookTransmit, pod, podEth0, func(e *events.Event) { e.Link.TTL, e.Link.VLAN = ttl, vlan })
		s.add(1, hookEnd, pod, podEth0)
		var b bytes.Buffer
		stats, err := Export(&b, Input{Sources: []Source{newSource(s.evs)}})
		if err != nil || stats.Packets != 1 {
			t.Fatalf("%+v, %v, want one packet", stats, err)
		}
		for _, x := range readBlocks(t, b.Bytes()) {
			if x.kind == blockPacket && int64(len(x.data)) > int64(binary.LittleEndian.Uint32(x.fixed[16:])) {
				t.Errorf("%d bytes kept of %d", len(x.data), binary.LittleEndian.Uint32(x.fixed[16:]))
			}
		}
	})
}

// BenchmarkExport writes 30,000 packets at three devices each. Stitching is
// more than half of it.
func BenchmarkExport(b *testing.B) {
	s := newScript()
	for p := uint64(1); p <= 30_000; p++ {
		s.toServer(p)
	}
	src := newSource(s.evs)
	src.Replay = func(sink Sink) error {
		for i := range s.evs {
			sink.Event(&s.evs[i])
		}
		return nil
	}
	for b.Loop() {
		stats, err := Export(io.Discard, Input{Sources: []Source{src}})
		if err != nil || stats.Packets != 90_000 {
			b.Fatalf("%+v, %v", stats, err)
		}
	}
	b.ReportMetric(float64(len(s.evs)*b.N)/b.Elapsed().Seconds(), "events/s")
}
