// SPDX-License-Identifier: Apache-2.0

package events

import "net/netip"

// HookID names one row of the hook table of the run that produced an event.
// The numbers have no meaning across runs; recordings carry their table.
type HookID uint16

// Hook is what the model needs to know of a row of the hook table.
type Hook struct {
	ID      HookID
	Name    string  // the kernel function, tracepoint or tc attach point
	Station Station // where on a packet's way it stands
}

// Flags are properties of an event that the kernel side set.
type Flags uint8

// Flags of an event.
const (
	// FlagFirst marks the first event of a socket buffer's life.
	FlagFirst Flags = 1 << iota
	// FlagEnd marks the last one: the buffer was freed, dropped or merged
	// into another. Its address may be reused from now on.
	FlagEnd
	// FlagMatched says that the selection matched at this event or at an
	// earlier one. Without it the packet is followed only because it might
	// match once it is translated.
	FlagMatched
	// FlagReply marks a packet that runs against the direction in which its
	// flow was first seen.
	FlagReply
	// FlagTask says that the hook ran on behalf of the process in Process:
	// the process owned the socket at that moment.
	FlagTask
	// FlagNoEntry says of a StationDrop that the packet had no conntrack entry
	// and nobody had said that it needs none: what conntrack looked up before
	// was INVALID, or refused.
	FlagNoEntry
)

// Event is one packet seen at one hook. It holds no pointers that need an
// allocation of their own, so that a reader can fill one Event again and again.
//
// Which of the fields after Flags are set depends on the hook's station (see
// Station) and on Ext.
type Event struct {
	Time   uint64 // ns on the kernel's monotonic clock
	Packet uint64 // one life of one socket buffer; never reused in a run
	Flow   uint64 // both directions of one connection, through NAT; 0: none yet
	Hook   HookID
	// Seq counts the events of this Packet, from 0, also those that were
	// lost: a gap in Seq is an event that the kernel could not deliver. It
	// orders the events of a packet across CPUs.
	Seq     uint16
	CPU     uint16
	Flags   Flags
	Netns   uint32 // inode number of the network namespace
	Ifindex uint32 // device of the socket buffer in Netns; 0: none

	Other    uint64 // StationClone, StationSegment, StationFragment: the parent Packet; StationMerge: the Packet merged into; on an event with FlagFirst: the Packet that caused this one (0: none)
	NFFamily uint8  // StationNetfilter, StationTable: NFPROTO_* of linux/netfilter.h
	NFHook   uint8  // StationNetfilter, StationTable: NF_INET_* hook number
	NFMark   uint64 // StationNetfilter, StationTable: the packet's mark and MarkTold; 0: not told, as in recordings
	Reason   uint32 // StationDrop: enum skb_drop_reason of the traced kernel; 0 below 5.17
	Location uint64 // StationDrop: kernel address that freed the packet
	// Ret is, at StationVerdict, the hooked function's return value; at
	// StationRouteError the route's errno, and 1<<16 if the device forwards; at
	// StationBridgeForward the port's ifindex<<8 and its STP state (0: unknown);
	// at StationDrop Device* bits of the packet's device.
	Ret      int32
	ICMPType uint8          // StationICMPSend
	ICMPCode uint8          // StationICMPSend
	Backend  netip.AddrPort // StationIPVSConn: the real server chosen
	Socket   Socket         // StationSocketOut, StationIPOut, StationSocketIn, StationBacklog, StationRawIn: the socket
	Ext      Ext            // which of the two below are set
	Header   Header         // the packet's headers, when first seen or changed
	CT       Conntrack      // the packet's conntrack entry, when first seen or changed

	// The rest is set only in runs that record packets, see Link.
	Link Link // StationQueue, StationTransmit, StationReceive, StationTCEgress, StationTCIngress
	// Bytes is the packet from its network header on, as far as it was kept,
	// with ExtHeader; nil: not kept. It is valid only until the next event is
	// read: whoever keeps it copies it.
	Bytes []byte
}

// MarkTold is the bit of NFMark that says that its low 32 bits are the mark.
const MarkTold = 1 << 32

// Bits of Ret at StationDrop.
const (
	DeviceKnown     = 1 << iota
	DeviceNotUp     // administratively down
	DeviceNoCarrier // its link is down: a veth's peer, a cable
)

// Link is what a device sees of a packet beside the headers last told, in runs
// that record packets.
type Link struct {
	// Dst, Src and Proto (EtherType, host order) are the Ethernet header's; all
	// zero where the device has none, or has not written it yet.
	Dst, Src [6]byte
	Proto    uint16
	VLAN     uint16 // 802.1Q tag control information beside the data, with the present bit 0x1000 as in the kernel; 0: none
	TTL      uint8  // TTL or hop limit at this place; 0: unknown
	// Hash is of the first 64 bytes behind the transport header, in a tunnel's packet
	// the inner one, at the tc stations only; 0: unknown, or there are none. With IDs and sequence numbers
	// it tells on two nodes whether it is the same packet.
	Hash uint32
}

// Elsewhere is the hook of an event that was observed, but in a namespace which
// the run leaves out (see Config.OnlyNode): nothing but Packet and Seq is set.
// Without it a recording of one node would seem to lack the events of others.
const Elsewhere HookID = 0

// Ext says which large part an Event carries.
type Ext uint8

// Extensions of an event.
const (
	ExtNone Ext = iota
	ExtHeader
	ExtConntrack
)

// Socket identifies a socket and, where the kernel side could be sure of it,
// the process on whose behalf it acted.
type Socket struct {
	Inode uint32   // socket inode in sockfs; 0: not (yet) owned by a process
	PID   uint32   // thread group id in the initial pid namespace; 0: unknown
	Comm  [16]byte // command name of PID, NUL-terminated unless full
}

// Tuple is a connection's 5-tuple in one direction. Ports are host order; for
// ICMP echo both are the identifier, for other protocols 0.
type Tuple struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	Proto            uint8 // IPPROTO_*
}

// Reverse returns the tuple of the other direction.
func (t Tuple) Reverse() Tuple {
	return Tuple{Src: t.Dst, Dst: t.Src, SrcPort: t.DstPort, DstPort: t.SrcPort, Proto: t.Proto}
}

// Header is what is kept of a packet's network and transport headers.
type Header struct {
	Tuple
	Length   uint32 // bytes from the network header on
	TCPFlags uint8  // FIN SYN RST PSH ACK URG ECE CWR, bit 0 first
	TTL      uint8  // or hop limit
	TOS      uint8
	ICMPType uint8
	ICMPCode uint8
	Fragment bool   // an IP fragment; ports are known for the first one only
	IPID     uint16 // IPv4 identification, host order
	Seq, Ack uint32 // TCP, host order
	Mark     uint32 // skb->mark
	GSOSize  uint16 // skb_shared_info.gso_size, 0: not a GSO packet
	GSOSegs  uint16
	// Inner is the tuple inside an ICMP error: of the packet it complains of. With
	// UDP it is that of the packet inside a VXLAN tunnel's, see Outer.
	Inner    Tuple
	HasInner bool
}

// Conntrack is a conntrack entry as the packet's nf_conn held it.
type Conntrack struct {
	Original, Reply Tuple
	Info            uint8  // enum ip_conntrack_info: 0 established, 1 related, 2 new, +3 reply
	Status          uint32 // IPS_* bits of nf_conntrack_common.h
	Zone            uint16
}

// CTOther in Conntrack.Info marks an entry of another packet, with which that of
// this one clashed; bit 0 is the direction whose tuple was in the way.
const CTOther = 1 << 3

// Bits of Conntrack.Status (linux/netfilter/nf_conntrack_common.h).
const (
	CTSeenReply = 1 << 1
	CTAssured   = 1 << 2
	CTConfirmed = 1 << 3
	CTSrcNAT    = 1 << 4
	CTDstNAT    = 1 << 5
)
