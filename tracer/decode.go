// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events"
)

// errDecode is wrapped by every complaint about a record of the ring.
var errDecode = errors.New("malformed event")

// decoder turns records of the ring (bpf/wire.h) into events.
type decoder struct {
	stations []events.Station // by hook id
}

var le = binary.LittleEndian

// capLenOffset is where a record with headers says how much of the packet
// follows it (caplen).
const capLenOffset = bpf.EventHeaderSize - 4

// decode fills e from a record and allocates nothing. It keeps nothing of raw,
// except that e.Bytes lies in it. What e had before is taken to be of decode, too: its
// large parts are cleared only if they were set.
func (d *decoder) decode(raw []byte, e *events.Event) error {
	if len(raw) < bpf.EventSize {
		return fmt.Errorf("%w: %d bytes", errDecode, len(raw))
	}
	hook, ext := le.Uint16(raw[32:]), raw[39]
	if int(hook) >= len(d.stations) || d.stations[hook] == events.StationNone {
		return fmt.Errorf("%w: unknown hook %d", errDecode, hook)
	}
	want := bpf.EventSize
	switch ext {
	case 1:
		want = bpf.EventHeaderSize
	case 2:
		want = bpf.EventCTSize
	}
	if ext > 2 || len(raw) < want {
		return fmt.Errorf("%w: %d bytes with extension %d", errDecode, len(raw), ext)
	}
	var kept uint32
	if ext == 1 {
		if kept = le.Uint32(raw[capLenOffset:]); uint64(kept) > uint64(len(raw)-want) {
			return fmt.Errorf("%w: %d bytes of a packet in a record of %d", errDecode, kept, len(raw))
		}
	}
	clean(e)
	e.Time, e.Packet, e.Flow = le.Uint64(raw[0:]), le.Uint64(raw[8:]), le.Uint64(raw[16:])
	e.Netns, e.Ifindex = le.Uint32(raw[24:]), le.Uint32(raw[28:])
	e.Hook, e.Seq, e.CPU = events.HookID(hook), le.Uint16(raw[34:]), le.Uint16(raw[36:])
	e.Flags, e.Ext = events.Flags(raw[38]), events.Ext(ext)
	d.data(d.stations[hook], raw[40:64], e)
	switch e.Ext {
	case events.ExtHeader:
		if other := le.Uint64(raw[64:]); other != 0 {
			e.Other = other
		}
		decodeHeaders(raw[72:], &e.Header)
		if kept > 0 {
			e.Bytes = raw[want : want+int(kept) : want+int(kept)]
		}
	case events.ExtConntrack:
		decodeConntrack(raw[64:], &e.CT)
	}
	return nil
}

// clean clears what not every event sets: most of an Event, which few set all of.
func clean(e *events.Event) {
	switch e.Ext {
	case events.ExtHeader:
		e.Header = events.Header{}
	case events.ExtConntrack:
		e.CT = events.Conntrack{}
	}
	if e.Backend.IsValid() {
		e.Backend = netip.AddrPort{}
	}
	if e.Bytes != nil {
		e.Bytes = nil
	}
	e.Other, e.NFFamily, e.NFHook, e.NFMark = 0, 0, 0, 0
	e.Reason, e.Location, e.Ret = 0, 0, 0
	e.ICMPType, e.ICMPCode = 0, 0
	e.Socket, e.Link = events.Socket{}, events.Link{}
}

// nfMarkRead is NF_MARK_READ of wire.h.
const nfMarkRead = 1 << 16

// data reads what a hook adds, by the station it stands for.
func (d *decoder) data(station events.Station, b []byte, e *events.Event) {
	first := le.Uint64(b)
	switch station {
	case events.StationSocketOut, events.StationIPOut, events.StationSocketIn, events.StationBacklog, events.StationRawIn:
		e.Socket.Inode = uint32(first)
		e.Socket.PID = uint32(first >> 32)
		copy(e.Socket.Comm[:], b[8:24])
	case events.StationNetfilter, events.StationTable, events.StationIPVSIn:
		e.NFFamily, e.NFHook = uint8(first), uint8(first>>8)
		if first&nfMarkRead != 0 {
			e.NFMark = events.MarkTold | first>>32
		}
	case events.StationVerdict, events.StationRouteError, events.StationBridgeForward:
		e.Ret = int32(first)
	case events.StationICMPSend:
		e.ICMPType, e.ICMPCode = uint8(first), uint8(first>>8)
	case events.StationDrop:
		e.Reason, e.Location, e.Ret = uint32(first), le.Uint64(b[8:]), int32(b[16])
	case events.StationMerge:
		e.Other = first
	case events.StationIPVSConn:
		family := le.Uint16(b[18:])
		port := uint16(b[16])<<8 | uint16(b[17])
		if family == 2 {
			e.Backend = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[0:4])), port)
		} else {
			e.Backend = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[0:16])), port)
		}
	case events.StationQueue, events.StationTransmit, events.StationReceive, events.StationTCEgress, events.StationTCIngress:
		decodeLink(b, &e.Link)
	}
}

// decodeLink reads what devices see; all of it is 0 in runs that do not record.
func decodeLink(b []byte, l *events.Link) {
	*l = events.Link{
		Dst: [6]byte(b[0:6]), Src: [6]byte(b[6:12]), Proto: binary.BigEndian.Uint16(b[12:]),
		VLAN: le.Uint16(b[14:]), Hash: le.Uint32(b[16:]), TTL: b[20],
	}
}

func decodeTuple(b []byte, t *events.Tuple) {
	*t = events.Tuple{
		SrcPort: uint16(b[32])<<8 | uint16(b[33]),
		DstPort: uint16(b[34])<<8 | uint16(b[35]),
		Proto:   b[36],
	}
	switch b[37] {
	case 4:
		t.Src, t.Dst = netip.AddrFrom4([4]byte(b[0:4])), netip.AddrFrom4([4]byte(b[16:20]))
	case 6:
		t.Src, t.Dst = netip.AddrFrom16([16]byte(b[0:16])), netip.AddrFrom16([16]byte(b[16:32]))
	}
}

func decodeHeaders(b []byte, h *events.Header) {
	decodeTuple(b, &h.Tuple)
	decodeTuple(b[40:], &h.Inner)
	h.HasInner = b[40+37] != 0
	h.Length = le.Uint32(b[80:])
	h.Seq = binary.BigEndian.Uint32(b[84:])
	h.Ack = binary.BigEndian.Uint32(b[88:])
	h.Mark = le.Uint32(b[92:])
	h.IPID = binary.BigEndian.Uint16(b[96:])
	h.GSOSize = le.Uint16(b[98:])
	h.GSOSegs = le.Uint16(b[100:])
	h.TCPFlags, h.TTL, h.TOS = b[102], b[103], b[104]
	h.ICMPType, h.ICMPCode = b[105], b[106]
	h.Fragment = b[107] != 0
}

func decodeConntrack(b []byte, c *events.Conntrack) {
	decodeTuple(b, &c.Original)
	decodeTuple(b[40:], &c.Reply)
	c.Status = le.Uint32(b[80:])
	c.Zone = le.Uint16(b[84:])
	c.Info = b[86]
}
