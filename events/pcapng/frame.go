// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"encoding/binary"

	"github.com/stackhop/stackhop/events"
)

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100

	vlanPresent = 0x1000 // in events.Link.VLAN

	lenIPv4 = 20
	lenIPv6 = 40

	// maxKept bounds what is written of a packet: an IP packet, whatever a
	// file says.
	maxKept = 64 << 10
)

// told is what is known of a packet's headers since some moment.
type told struct {
	header events.Header
	bytes  []byte // from the network header on; empty: not kept
	// made says that they are as the sender's IP layer was about to finish them:
	// its length and checksum are not in there yet.
	made bool
}

// appendFrame appends the packet as it was at a device, and returns its original
// length.
func appendFrame(b []byte, t *told, link *events.Link) (frame []byte, original uint32) {
	length := t.header.Length
	b = appendLink(b, link, etherType(t, link))
	behind := len(b)
	made := t.made
	if len(t.bytes) > 0 {
		b = append(b, t.bytes[:min(len(t.bytes), maxKept)]...)
	} else {
		b = appendHeaders(b, &t.header)
		made = true
	}
	finish(b[behind:], length, link.TTL, made)
	whole := uint64(behind) + uint64(max(length, uint32(len(b)-behind))) //nolint:gosec // bounded by maxKept
	return b, uint32(min(whole, 1<<32-1))                                //nolint:gosec // just bounded
}

// appendLink appends an Ethernet header, with the VLAN tag that the kernel keeps
// beside the packet.
func appendLink(b []byte, l *events.Link, proto uint16) []byte {
	b = append(b, l.Dst[:]...)
	b = append(b, l.Src[:]...)
	if l.VLAN != 0 {
		b = binary.BigEndian.AppendUint16(b, etherVLAN)
		b = binary.BigEndian.AppendUint16(b, l.VLAN&^vlanPresent)
	}
	return binary.BigEndian.AppendUint16(b, proto)
}

// etherType is that of the packet's network header. The one in the frame is
// not, where another tag stands between them, and is not written yet at times.
func etherType(t *told, l *events.Link) uint16 {
	switch {
	case version(t.bytes) == 4, len(t.bytes) == 0 && t.header.Src.Is4():
		return etherIPv4
	case version(t.bytes) == 6, len(t.bytes) == 0:
		return etherIPv6
	}
	return l.Proto
}

// version is that of an IP header; 0: there is none.
func version(ip []byte) byte {
	if len(ip) == 0 {
		return 0
	}
	return ip[0] >> 4
}

// finish writes the TTL into an IP header, and what only becomes known when a
// packet is sent: see told.made.
func finish(ip []byte, length uint32, ttl uint8, made bool) {
	switch version(ip) {
	case 4:
		end := int(ip[0]&15) * 4
		if end < lenIPv4 || end > len(ip) {
			return
		}
		hdr := ip[:end]
		// 0: removed from the recording, for all but one packet in 65,536.
		right := made || binary.BigEndian.Uint16(hdr[10:]) == 0 || checksum(hdr) == 0
		if made {
			length = max(length, uint32(len(ip))) //nolint:gosec // bounded by maxKept
			binary.BigEndian.PutUint16(hdr[2:], short(length))
		}
		if ttl != 0 {
			hdr[8] = ttl
		}
		if right {
			binary.BigEndian.PutUint16(hdr[10:], 0)
			binary.BigEndian.PutUint16(hdr[10:], checksum(hdr))
		}
	case 6:
		if len(ip) < lenIPv6 {
			return
		}
		if made {
			length = max(length, uint32(len(ip))) //nolint:gosec // bounded by maxKept
			binary.BigEndian.PutUint16(ip[4:], short(length-lenIPv6))
		}
		if ttl != 0 {
			ip[7] = ttl
		}
	}
}

// short is a length as IP headers have it. The kernel writes 0 for what does
// not fit, for packets that are cut later.
func short(n uint32) uint16 {
	if n > 0xffff {
		return 0
	}
	return uint16(n)
}

// checksum is the Internet checksum; 0 over a header that has the right one.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum) //nolint:gosec // just folded
}
