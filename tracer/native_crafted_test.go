// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
)

// bases are frames that are well made, behind their Ethernet header: what a workload would
// begin with to find one that is not expected.
func bases(from, to *pod) map[uint16][][]byte {
	v4 := func(proto byte, payload ...byte) []byte {
		h := make([]byte, 20, 20+len(payload))
		h[0], h[8], h[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
		a, b := from.addr.As4(), to.addr.As4()
		copy(h[12:], a[:])
		copy(h[16:], b[:])
		return append(h, payload...)
	}
	v6 := func(next byte, payload ...byte) []byte {
		h := make([]byte, 40, 40+len(payload))
		h[0], h[6], h[7], h[8], h[24] = 0x60, next, 64, 0xfd, 0xfd
		binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
		h[23], h[39] = 1, 2
		return append(h, payload...)
	}
	udp := func(port uint16, payload ...byte) []byte {
		h := make([]byte, 8, 8+len(payload))
		binary.BigEndian.PutUint16(h, 40000)
		binary.BigEndian.PutUint16(h[2:], port)
		binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
		return append(h, payload...)
	}
	tcp := make([]byte, 40)
	tcp[12], tcp[13] = 0xa0, 2
	inner := append(make([]byte, 12), 0x08, 0x00) // of VXLAN: an Ethernet header
	vxlan := append([]byte{8, 0, 0, 0, 0, 0, 1, 0}, append(inner, v4(17, udp(53, 1, 2, 3)...)...)...)
	return map[uint16][][]byte{
		unix.ETH_P_IP: {
			v4(17, udp(53, 1, 2, 3, 4)...), v4(6, tcp...), v4(17, udp(8472, vxlan...)...),
			v4(1, append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, v4(17, udp(53)...)...)...), // an ICMP error about a datagram
			v4(4, v4(6, tcp...)...), v4(132, make([]byte, 16)...),
		},
		unix.ETH_P_IPV6: {
			v6(17, udp(53, 1, 2, 3, 4)...), v6(6, tcp...), v6(17, udp(8472, vxlan...)...),
			v6(0, append([]byte{43, 0, 0, 0, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 0}, udp(53)...)...), // options, routing, a fragment
			v6(58, append([]byte{1, 0, 0, 0, 0, 0, 0, 0}, v6(17, udp(53)...)...)...),
		},
	}
}

// crafted changes a few bytes of a frame, or cuts it.
func crafted(r *rand.Rand, base []byte) []byte {
	b := append([]byte(nil), base...)
	for range r.IntN(6) {
		b[r.IntN(len(b))] = byte(r.Uint32())
	}
	if r.IntN(4) == 0 {
		b = b[:1+r.IntN(len(b))]
	}
	return b
}

// Whatever a workload puts on the wire is followed or not, and counted; nothing of it is
// taken for an event that it is not, and what comes behind it is followed as ever.
func TestNativeCrafted(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	const frames, batch = 10000, 200
	var fd int
	var to unix.SockaddrLinklayer
	c.within(a.name, func() (err error) {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		to.Ifindex = l.Attrs().Index
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	defer unix.Close(fd)
	r := startRun(t, Config{All: true, Record: true, SnapLen: 128}, nil)
	seed := uint64(4711)
	random, all := rand.New(rand.NewPCG(seed, 0)), bases(a, b)
	sent := 0
	for i := range frames {
		kind := uint16(unix.ETH_P_IP)
		if i%2 == 1 {
			kind = unix.ETH_P_IPV6
		}
		frame := append(append(net.HardwareAddr(nil), b.mac...), a.mac...)
		frame = binary.BigEndian.AppendUint16(frame, kind)
		frame = append(frame, crafted(random, all[kind][random.IntN(len(all[kind]))])...)
		if err := unix.Sendto(fd, frame, 0, &to); err == nil {
			sent++
		}
		if i%batch == 0 {
			eventually(t, "the reader has caught up", func() bool {
				s, err := r.tracer.state.stats()
				if err != nil {
					t.Fatal(err)
				}
				r.mu.Lock()
				defer r.mu.Unlock()
				return uint64(len(r.events))+s.LostRing >= s.Matched // which was read before
			})
		}
	}
	say(t, c, a, b, 4303, 3, 64)
	eventually(t, "what comes behind has arrived", func() bool {
		return r.any(func(e *events.Event) bool { return e.Header.DstPort == 4303 && e.Netns == b.inode })
	})
	s := r.stop()
	if s.Lost["decode"] != 0 {
		t.Errorf("%d events were not what they should be (seed %d)", s.Lost["decode"], seed)
	}
	if sent < frames*9/10 || s.Packets < uint64(sent)/2 {
		t.Errorf("%d of %d frames sent, %d packets followed: that tests little", sent, frames, s.Packets)
	}
	verdicts := map[string]int{}
	for _, tr := range r.stitch() {
		verdicts[fmt.Sprint(tr.Verdict)]++
	}
	t.Logf("%d frames, %d packets followed with %d events, %v lost; %v", sent, s.Packets, s.Matched, s.Lost, verdicts)
}
