// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
)

// hashOf is the hash of record.h, written once more: what recordings are joined
// by must not change.
func hashOf(payload []byte) uint32 {
	if len(payload) == 0 {
		return 0
	}
	n := min(len(payload), 64)
	var b [64]byte
	copy(b[:], payload[:n])
	mix := func(h, v uint64) uint64 {
		h ^= v
		h ^= h >> 33
		h *= 0xff51afd7ed558ccd
		h ^= h >> 33
		h *= 0xc4ceb9fe1a85ec53
		return h ^ h>>33
	}
	h := uint64(n)
	for i := 0; i < len(b); i += 8 {
		h = mix(h, binary.LittleEndian.Uint64(b[i:]))
	}
	return max(1, uint32(h^h>>32))
}

// noise is a payload that no other has.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	if n > 0 {
		b[0] |= 0x80 // one byte of 41 has the hash of 40 zeros: the length is mixed into the first word
	}
	return b
}

// atDevice are the hooks that carry a link, and whether they have a hash.
var atDevice = map[string]bool{"net_dev_queue": false, "net_dev_start_xmit": false, "netif_receive_skb": false, "tc_ingress": true, "tc_egress": true}

// hookName names the hook of an event.
func (r *run) hookName(e *events.Event) string {
	for _, h := range r.tracer.Table() {
		if h.ID == e.Hook {
			return h.Name
		}
	}
	return "?"
}

// packets sorts the events so far by packet, in the order of their beginning.
func (r *run) packets() [][]events.Event {
	by := map[uint64][]events.Event{}
	for _, e := range r.seen() {
		by[e.Packet] = append(by[e.Packet], e)
	}
	var out [][]events.Event
	for _, list := range by {
		slices.SortFunc(list, func(x, y events.Event) int { return int(x.Seq) - int(y.Seq) })
		out = append(out, list)
	}
	// The rings of several CPUs are read one after the other.
	slices.SortFunc(out, func(x, y []events.Event) int { return cmp.Compare(x[0].Time, y[0].Time) })
	return out
}

// sendEach sends payloads one after the other, each when the one before has
// arrived.
func sendEach(t *testing.T, c *cluster, from, to *pod, port int, payloads [][]byte) {
	t.Helper()
	server, client := c.listenUDP(to, port), c.dialUDP(from, to, port)
	for _, p := range payloads {
		if _, err := client.Write(p); err != nil {
			t.Fatal(err)
		}
		server.SetReadDeadline(time.Now().Add(patience))
		if n, err := server.Read(make([]byte, 1<<16)); err != nil || n != len(p) {
			t.Fatalf("%d bytes of %d: %v", n, len(p), err)
		}
	}
}

// recorded runs a recording tracer while payloads are sent, and returns the
// packets' events.
func recorded(t *testing.T, c *cluster, snapLen, port int, payloads [][]byte) (*run, [][]events.Event) {
	t.Helper()
	a, b := c.pods[0], c.pods[1]
	r := startRun(t, Config{Select: expression(t, fmt.Sprintf("dst %s and udp port %d", b.addr, port)), Record: true, SnapLen: snapLen}, nil)
	sendEach(t, c, a, b, port, payloads)
	eventually(t, "all have arrived", func() bool { _, arrived := r.arrivals(b); return arrived == len(payloads) })
	r.stop()
	all := r.packets()
	if len(all) != len(payloads) {
		t.Fatalf("%d packets, %d were sent", len(all), len(payloads))
	}
	return r, all
}

func TestNativeRecordLink(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	payloads := [][]byte{noise(0), noise(1), noise(7), noise(63), noise(64), noise(65), noise(1400), make([]byte, 40)}
	r, packets := recorded(t, c, 0, 4700, payloads)
	hashes := map[uint32]bool{}
	for i, packet := range packets {
		seen := map[string]int{}
		for _, e := range packet {
			name := r.hookName(&e)
			hashed, device := atDevice[name]
			if !device {
				if e.Link != (events.Link{}) {
					t.Errorf("%s has a link: %+v", name, e.Link)
				}
				continue
			}
			seen[name]++
			want := events.Link{Dst: [6]byte(b.mac), Src: [6]byte(a.mac), Proto: 0x0800, TTL: 64}
			if hashed {
				want.Hash = hashOf(payloads[i])
				hashes[want.Hash] = true
			}
			if e.Link != want {
				t.Errorf("payload of %d bytes, %s in %d: %+v, want %+v", len(payloads[i]), name, e.Netns, e.Link, want)
			}
		}
		if len(seen) != len(atDevice) {
			t.Errorf("packet %d was seen at %v only", i, seen)
		}
	}
	if len(hashes) != len(payloads) { // that of nothing is 0
		t.Errorf("%d hashes of %d payloads", len(hashes), len(payloads))
	}
}

// Headers are told when a packet is first seen and wherever it comes into
// another namespace, with their bytes and no more.
func TestNativeRecordHeaders(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	node, err := netnsInode(runNetns + "/" + c.node)
	if err != nil {
		t.Fatal(err)
	}
	_, packets := recorded(t, c, 0, 4701, [][]byte{noise(100), noise(3), noise(1400)})
	for _, packet := range packets {
		var told []uint32
		for i := range packet {
			e := &packet[i]
			if e.Ext != events.ExtHeader {
				if e.Bytes != nil {
					t.Errorf("extension %d has %d bytes of a packet", e.Ext, len(e.Bytes))
				}
				continue
			}
			told = append(told, e.Netns)
			expectBytes(t, e, nil)
		}
		if want := []uint32{a.inode, node, b.inode}; !slices.Equal(told, want) {
			t.Errorf("headers were told in %v, want %v", told, want)
		}
	}
}

// expectBytes compares an event's bytes with its header, and with the payload
// that must follow.
func expectBytes(t *testing.T, e *events.Event, payload []byte) {
	t.Helper()
	b, h := e.Bytes, &e.Header
	if len(b) != 28+len(payload) {
		t.Fatalf("%d bytes of a packet, want %d", len(b), 28+len(payload))
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	be := binary.BigEndian.Uint16
	if b[0] != 0x45 || uint32(be(b[2:])) != h.Length || be(b[4:]) != h.IPID || b[8] != h.TTL || src != h.Src || dst != h.Dst || be(b[20:]) != h.SrcPort || be(b[22:]) != h.DstPort {
		t.Errorf("the bytes %x are not those of %+v", b[:28], h)
	}
	if !bytes.Equal(b[28:], payload) {
		t.Errorf("payload %x, want %x", b[28:], payload)
	}
}

func TestNativeRecordSnapLen(t *testing.T) {
	c := newCluster(t, 2)
	for i, snapLen := range []int{1, 60, 300, 1500, MaxSnapLen} {
		t.Run(fmt.Sprint(snapLen), func(t *testing.T) {
			payloads := [][]byte{noise(1), noise(200), noise(1472)}
			_, packets := recorded(t, c, snapLen, 4730+i, payloads)
			for i, packet := range packets {
				want := payloads[i][:min(len(payloads[i]), max(0, snapLen-28))]
				for j := range packet {
					if e := &packet[j]; e.Ext == events.ExtHeader {
						expectBytes(t, e, want)
					}
				}
			}
		})
	}
}

// TCP's payload lies in pages: the first tc program that sees a packet tells it.
func TestNativeRecordPaged(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	const snapLen = 400
	r := startRun(t, Config{Select: expression(t, "tcp and src "+a.addr.String()), Record: true, SnapLen: snapLen}, nil)
	payload := noise(4000)
	sendTCP(t, c, a, b, payload)
	eventually(t, "the packets have arrived", func() bool {
		lives, arrived := r.arrivals(a, b)
		return lives >= 7 && lives == arrived
	})
	r.stop()
	found, short := 0, 0
	for _, packet := range r.packets() {
		length := packet[0].Header.Length
		tcs := 0
		for i := range packet {
			e := &packet[i]
			_, device := atDevice[r.hookName(e)]
			if !device || e.Ext != events.ExtHeader {
				continue
			}
			headers := 20 + int(e.Bytes[32]>>4)*4
			if !atDevice[r.hookName(e)] {
				if len(e.Bytes) < headers {
					t.Errorf("%d bytes: less than the headers' %d", len(e.Bytes), headers)
				}
				if len(e.Bytes) < min(snapLen, int(length)) {
					short++
				}
				continue
			}
			tcs++
			if len(e.Bytes) != min(snapLen, int(length)) {
				t.Errorf("tc told %d bytes of %d", len(e.Bytes), length)
			}
			if bytes.Contains(payload, e.Bytes[headers:]) && len(e.Bytes) > headers {
				found++
			}
			if e.Link.Hash != hashOf(e.Bytes[headers:]) {
				t.Errorf("hash %x, want %x", e.Link.Hash, hashOf(e.Bytes[headers:]))
			}
		}
		if tcs > 2 { // once where it was first seen, once in each other namespace
			t.Errorf("tc told the bytes of a packet %d times", tcs)
		}
	}
	if short == 0 || found == 0 {
		t.Errorf("%d events without the paged part, %d with it: this test saw nothing", short, found)
	}
}

// sendTCP sends bytes in a connection and waits until they have been read.
func sendTCP(t *testing.T, c *cluster, from, to *pod, payload []byte) {
	t.Helper()
	var l net.Listener
	address := netip.AddrPortFrom(to.addr, 4703).String()
	c.within(to.name, func() (err error) { l, err = net.Listen("tcp4", address); return err })
	defer l.Close()
	c.within(from.name, func() error {
		conn, err := net.Dial("tcp4", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		served, err := l.Accept()
		if err != nil {
			return err
		}
		defer served.Close()
		if _, err := conn.Write(payload); err != nil {
			return err
		}
		served.SetReadDeadline(time.Now().Add(patience))
		for got := 0; got < len(payload); {
			n, err := served.Read(make([]byte, len(payload)))
			if err != nil {
				return err
			}
			got += n
		}
		return nil
	})
}

// An ICMP error's bytes go as far as the headers of the packet in it.
func TestNativeRecordICMPError(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	r := startRun(t, Config{Select: expression(t, fmt.Sprintf("icmp and src %s", b.addr)), Record: true}, nil)
	if _, err := c.dialUDP(a, b, 9).Write(noise(200)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the error has arrived", func() bool { _, arrived := r.arrivals(a); return arrived == 1 })
	r.stop()
	e := &r.packets()[0][0]
	if h := &e.Header; h.ICMPType != 3 || len(e.Bytes) != 20+8+20+8 || e.Bytes[20] != 3 || binary.BigEndian.Uint16(e.Bytes[50:]) != 9 {
		t.Errorf("%+v with %d bytes %x", h, len(e.Bytes), e.Bytes)
	}
}

// A device without Ethernet's header has none made up; loopback has addresses
// of zero.
func TestNativeRecordOtherLinks(t *testing.T) {
	c := newCluster(t, 1)
	a := c.pods[0]
	c.addTun(a, "198.18.6.1/24")
	c.within(a.name, func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("0"), 0) })
	tests := []struct {
		dev, dst string
		want     events.Link
	}{
		{"tun0", "198.18.6.2", events.Link{TTL: 64}},
		{"lo", "127.0.0.1", events.Link{Proto: 0x0800, TTL: 64}},
		{"lo", "::1", events.Link{Proto: 0x86dd, TTL: 64}},
	}
	for _, tt := range tests {
		t.Run(tt.dev+" "+tt.dst, func(t *testing.T) {
			r := startRun(t, Config{Select: expression(t, fmt.Sprintf("dst host %s and udp port 4711", tt.dst)), Record: true}, nil)
			payload := noise(10)
			c.within(a.name, func() error { return writeUDP(tt.dst, 4711, payload) })
			transmit := r.hook("net_dev_start_xmit")
			eventually(t, "the device has it", func() bool {
				return r.any(func(e *events.Event) bool { return e.Hook == transmit && e.Netns == a.inode })
			})
			r.stop()
			for _, e := range r.packets()[0] { // an ICMP error follows
				hashed, ok := atDevice[r.hookName(&e)]
				want := tt.want
				if hashed {
					want.Hash = hashOf(payload)
				}
				if ok && e.Link != want {
					t.Errorf("%s: %+v, want %+v", r.hookName(&e), e.Link, want)
				}
			}
		})
	}
}

// addTun gives a pod a device without link addresses, as long as the test runs.
func (c *cluster) addTun(p *pod, address string) {
	c.t.Helper()
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN, NonPersist: true, Queues: 1}
	c.within(p.name, func() error { return netlink.LinkAdd(tun) }) // not by a handle: it opens /dev/net/tun
	c.t.Cleanup(func() {
		for _, f := range tun.Fds {
			f.Close()
		}
	})
	c.in(p.name, func(h *netlink.Handle) error {
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		l, err := h.LinkByName("tun0")
		if err != nil {
			return err
		}
		return errors.Join(h.AddrAdd(l, addr), h.LinkSetUp(l))
	})
}

// The tag of a VLAN is told though it lies beside the data.
func TestNativeRecordVLAN(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	const tag = 0x2005 // VLAN 5, priority 1
	r := startRun(t, Config{Select: expression(t, "vlan 5 and udp port 4712"), Record: true}, nil)
	frame := slices.Concat(b.mac, a.mac, []byte{0x81, 0x00, tag >> 8, tag & 0xff, 0x08, 0x00}, datagram(a, b, 4712, noise(20)))
	c.within(a.name, func() error { return writeFrame("eth0", frame) })
	// The bridge's port is the first device at which the kernel has put the tag
	// beside the data.
	eventually(t, "it has arrived", func() bool { _, arrived := r.arrivals(b); return arrived > 0 })
	r.stop()
	want := events.Link{Dst: [6]byte(b.mac), Src: [6]byte(a.mac), Proto: 0x0800, VLAN: tag | 0x1000, TTL: 63}
	for _, e := range r.seen() {
		if hashed, ok := atDevice[r.hookName(&e)]; ok && !hashed && e.Link != want {
			t.Errorf("%s: %+v, want %+v", r.hookName(&e), e.Link, want)
		}
	}
}

// datagram is a UDP packet with headers, without checksum.
func datagram(from, to *pod, port uint16, payload []byte) []byte {
	be := binary.BigEndian
	b := append(make([]byte, 28), payload...)
	b[0], b[8], b[9] = 0x45, 63, 17
	be.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], from.addr.AsSlice())
	copy(b[16:], to.addr.AsSlice())
	be.PutUint16(b[20:], port)
	be.PutUint16(b[22:], port)
	be.PutUint16(b[24:], uint16(len(b)-20))
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(be.Uint16(b[i:]))
	}
	be.PutUint16(b[10:], ^uint16(sum+sum>>16))
	return b
}

// writeFrame sends a frame as it is.
func writeFrame(dev string, frame []byte) error {
	l, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Index, Protocol: 0x0081})
}

// Without Record nothing of it is there.
func TestNativeNotRecorded(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	r := startRun(t, Config{Select: expression(t, fmt.Sprintf("dst %s and udp port 4720", b.addr))}, nil)
	sendEach(t, c, a, b, 4720, [][]byte{noise(100)})
	eventually(t, "it has arrived", func() bool { _, arrived := r.arrivals(b); return arrived == 1 })
	r.stop()
	headers := 0
	for _, e := range r.seen() {
		if e.Link != (events.Link{}) || e.Bytes != nil {
			t.Errorf("%s: %+v, %d bytes", r.hookName(&e), e.Link, len(e.Bytes))
		}
		if e.Ext == events.ExtHeader {
			headers++
		}
	}
	if headers != 1 {
		t.Errorf("headers were told %d times", headers)
	}
}

func writeUDP(dst string, port int, payload []byte) error {
	conn, err := net.Dial("udp", net.JoinHostPort(dst, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write(payload)
	return err
}
