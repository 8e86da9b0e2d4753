/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What crosses the ring buffer. Everything is little endian, naturally
 * aligned and without holes; addresses and ports are in network order.
 * The Go side decodes it in tracer/decode.go; a test compares both.
 */
#ifndef STACKHOP_WIRE_H
#define STACKHOP_WIRE_H

enum event_flags {
	EVENT_FIRST = 1 << 0,
	EVENT_END = 1 << 1,
	EVENT_MATCHED = 1 << 2,
	EVENT_REPLY = 1 << 3,
	EVENT_TASK = 1 << 4,
	EVENT_NO_CT = 1 << 5,
};

enum event_ext {
	EXT_NONE,
	EXT_HEADER,
	EXT_CT,
};

struct event {
	u64 time;   /* bpf_ktime_get_ns */
	u64 packet; /* one life of one skb */
	u64 flow;
	u32 netns; /* inode number */
	u32 ifindex;
	u16 hook;
	u16 seq;
	u16 cpu;
	u8 flags;
	u8 ext;
	u64 data[3]; /* by the hook's data kind, see below */
};
_Static_assert(sizeof(struct event) == 64, "event");

/* IPv4 addresses are in the first word, the others are zero. */
struct tuple {
	u32 src[4];
	u32 dst[4];
	__be16 sport;
	__be16 dport;
	u8 proto;
	u8 family; /* 4 or 6, 0: no tuple */
	u16 pad;
};
_Static_assert(sizeof(struct tuple) == 40, "tuple");

struct headers {
	struct tuple tuple;
	/* Of the packet that an ICMP error complains of; with UDP, of the one in the
	 * tunnel, whose are seq, ack, tcp_flags, icmp_type and icmp_code then. */
	struct tuple inner;
	u32 len;            /* from the network header on, host order */
	__be32 seq;
	__be32 ack;
	u32 mark;
	__be16 ipid;
	u16 gso_size;
	u16 gso_segs;
	u8 tcp_flags;
	u8 ttl;
	u8 tos;
	u8 icmp_type;
	u8 icmp_code;
	u8 fragment;
	u32 caplen; /* bytes of the packet behind this, from the network header on */
};
_Static_assert(sizeof(struct headers) == 112, "headers");

struct event_header {
	struct event event;
	u64 other; /* parent, or on a first event the packet that caused this one */
	struct headers headers;
};
_Static_assert(sizeof(struct event_header) == 184, "event_header");

#define CT_OTHER 8 /* in info */
#define NF_MARK_READ (1 << 16) /* in data[0] of netfilter */

struct event_ct {
	struct event event;
	struct tuple original;
	struct tuple reply;
	u32 status;
	u16 zone;
	u8 info;
	u8 pad;
};
_Static_assert(sizeof(struct event_ct) == 152, "event_ct");

/*
 * data[] by kind of hook:
 *   socket    data[0] = inode | pid << 32, data[1..2] = comm
 *   netfilter data[0] = family | hook << 8 | NF_MARK_READ | mark << 32
 *   verdict   data[0] = return value
 *   icmp      data[0] = type | code << 8
 *   drop      data[0] = reason, data[1] = location
 *   clash     an entry with CT_OTHER in info is another packet's; bit 0 is the
 *             direction (0 original, 1 reply) whose tuple is the one in the way
 *   merge     data[0] = packet merged into
 *   conn      data[0..1] = address, data[2] = port (network order) | family << 16
 *   link      bytes 0..13 = Ethernet header, data[1] >> 48 = VLAN tag,
 *             data[2] = payload hash (tc only) | TTL << 32; 0 unless recording
 */

/* What the selection program (sel_match) sees of a packet. */
#define SEL_BYTES 128
struct sel_input {
	u8 hdr[SEL_BYTES]; /* from the network header on, anything beyond valid */
	u32 valid;
	u32 len; /* network-layer length */
	s32 vlan; /* VLAN id, -1: untagged */
	u16 src_sets; /* bit i: the source is in set i of the expression */
	u16 dst_sets;
};
_Static_assert(sizeof(struct sel_input) == 144, "sel_input");

#endif
