/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What runs that record packets keep beside what is told of them anyway. All of
 * it is behind the setting record, so that others do not pay for it. */
#ifndef STACKHOP_RECORD_H
#define STACKHOP_RECORD_H

#include "track.h"

#define ARPHRD_ETHER 1
#define ARPHRD_LOOPBACK 772
#define ETHERNET_BYTES 14
#define VLAN_PRESENT 0x1000

/*
 * link_of fills data[] with what a device sees of the packet: its link header,
 * if the device has Ethernet's, the VLAN tag beside it, and the TTL. Returns the
 * length that the network header gives, behind which there may be padding; 0: it
 * gives none, as that of a large GSO packet. A function of its own, for its stack.
 */
static __noinline u32 link_of(u64 skb, u64 start, u64 *data)
{
	struct sk_buff *b = (void *)skb;
	struct net_device *dev = 0;
	u8 l3[9] = {}; /* as far as IPv4's TTL */
	u16 mac = 0xffff, type = 0;
	u64 head = 0;
	s32 tag = vlan_of(skb);
	u32 len;

	bpf_core_read(&dev, sizeof(dev), &b->dev);
	if (dev)
		bpf_core_read(&type, sizeof(type), &dev->type);
	bpf_core_read(&head, sizeof(head), &b->head);
	bpf_core_read(&mac, sizeof(mac), &b->mac_header);
	/* An unset one is 0xffff, which nothing lies behind. */
	if ((type == ARPHRD_ETHER || type == ARPHRD_LOOPBACK) &&
	    start - head >= mac + ETHERNET_BYTES)
		bpf_probe_read_kernel(data, ETHERNET_BYTES, (void *)(head + mac));
	if (tag >= 0)
		data[1] |= (u64)(tag | VLAN_PRESENT) << 48;
	if (bpf_probe_read_kernel(l3, sizeof(l3), (void *)start))
		return 0;
	if (l3[0] >> 4 == 4) {
		data[2] = (u64)l3[8] << 32;
		return l3[2] << 8 | l3[3];
	}
	data[2] = (u64)l3[7] << 32;
	len = l3[4] << 8 | l3[5];
	return len ? sizeof(struct ipv6) + len : 0;
}

/* transport_bytes is the length of the transport header at start; 0: unknown. */
static __always_inline u32 transport_bytes(u64 start, u32 proto)
{
	u8 doff = 0;

	switch (proto) {
	case PROTO_TCP:
		bpf_probe_read_kernel(&doff, sizeof(doff), (void *)(start + 12));
		return (doff >> 4) * 4;
	case PROTO_UDP:
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		return 8;
	case PROTO_SCTP:
		return 12;
	}
	return 0;
}

/* What follows a packet's transport header. */
enum inside {
	INSIDE_DATA,
	INSIDE_ERROR,  /* the packet that an ICMP error complains of */
	INSIDE_TUNNEL, /* VXLAN's header, an Ethernet header and a packet */
};

static __always_inline enum inside inside_of(u64 start, u32 proto)
{
	u8 type = 0;

	if (proto == PROTO_UDP)
		return tunnel_at(start) ? INSIDE_TUNNEL : INSIDE_DATA;
	if (proto == PROTO_ICMP || proto == PROTO_ICMPV6)
		bpf_probe_read_kernel(&type, sizeof(type), (void *)start);
	return is_icmp_error(proto, type) ? INSIDE_ERROR : INSIDE_DATA;
}

/*
 * headers_end returns how long a packet's network and transport headers are, and
 * what follows them (enum inside) << 16. 0: not IP. Plain numbers, so that the
 * verifier looks at it by itself.
 */
__noinline u32 headers_end(u64 start)
{
	u8 l3[10] = {}; /* as far as IPv4's protocol */
	u32 off, proto;

	if (!record || bpf_probe_read_kernel(l3, sizeof(l3), (void *)start))
		return 0;
	if (l3[0] >> 4 == 4) {
		off = (l3[0] & 15) * 4;
		proto = l3[9];
		if (l3[6] & (IP_OFFSET_MASK >> 8) || l3[7])
			return off;
	} else if (l3[0] >> 4 == 6) {
		off = skip_extensions(start, l3[6]);
		proto = off & 0xff;
		if ((off >> 8 & 0xff) == 2)
			return off >> 16;
		off >>= 16;
	} else {
		return 0;
	}
	return (off + transport_bytes(start + off, proto)) | (u32)inside_of(start + off, proto) << 16;
}

/* How much of a packet is to be kept: its headers, those of the packet in it as
 * well where it is an ICMP error or a tunnel's, and as much behind them as was asked for. */
static __always_inline u32 bytes_wanted(const struct span *s)
{
	u32 end = headers_end(s->start), want = end & 0xffff;

	if (end >> 16 == INSIDE_TUNNEL)
		want += TUNNEL_BYTES - 8;
	if (end >> 16)
		want += headers_end(s->start + want) & 0xffff;
	if (want < snap)
		want = snap;
	return want < s->len ? want : s->len;
}

/* Keeps the bound in sight of 5.10's verifier, which forgets it when a register
 * is spilled. 1 and more, as some helpers want it. */
#define BOUND_TO_ROOM(n)                                                             \
	asm volatile("if %0 > 0 goto +1\n\t%0 = 1\n\tif %0 > %1 goto +1\n\tgoto +1\n\t%0 = %1" \
		     : "+r"(n)                                                       \
		     : "r"((u64)room))

/*
 * keep_bytes puts the packet behind its headers in the record, as far as the
 * linear part has it. What is cut off there, a tc program tells later.
 */
static __always_inline void keep_bytes(struct event_header *e, struct packet *p,
				       const struct span *s)
{
	struct ipv4 *ip = (void *)(e + 1);
	u64 n = bytes_wanted(s);

	e->headers.caplen = 0;
	p->cut = n > s->valid;
	if (p->cut)
		n = s->valid;
	if (!n)
		return;
	BOUND_TO_ROOM(n);
	if (bpf_probe_read_kernel(ip, n, (void *)s->start))
		return;
	e->headers.caplen = n;
	/* A sender's first hook comes before the kernel writes the length. */
	if (n >= sizeof(*ip) && ip->vihl >> 4 == 4 && !ip->tot_len && s->len <= 0xffff)
		ip->tot_len = bpf_htons(s->len);
}

/* load_bytes is keep_bytes for tc programs, whose helper reaches paged parts as
 * well. off: of the network header, from skb->data. */
static __always_inline void load_bytes(struct event_header *e, struct packet *p, void *tc, u32 off,
				       const struct span *s)
{
	u64 n = bytes_wanted(s);

	e->headers.caplen = 0;
	p->cut = 0;
	if (!n)
		return;
	BOUND_TO_ROOM(n);
	if (!bpf_skb_load_bytes(tc, off, e + 1, n))
		e->headers.caplen = n;
}

/*
 * payload_at returns how far behind the network header the data is that the
 * transport header is for; 0: not known. In a tunnel's packet that is the inner
 * one's: before the device adds the checksum to the inner headers, and behind it,
 * they differ.
 */
static __always_inline u32 payload_at(u64 start)
{
	u32 end = headers_end(start), in;

	if (end >> 16 != INSIDE_TUNNEL)
		return end & 0xffff;
	in = (end & 0xffff) + TUNNEL_BYTES - 8;
	end = headers_end(start + in) & 0xffff;
	return end ? in + end : 0;
}

/*
 * hash_of is of the packet's first bytes behind the transport header, n of them
 * from off on, and never 0 if there are any. It must stay what it is: recordings
 * of several nodes are joined by it.
 */
#define HASHED_BYTES 64
static __noinline u32 hash_of(void *tc, u32 off, u32 n_)
{
	u64 b[HASHED_BYTES / 8] = {};
	u64 n = n_, h;

	if (!n)
		return 0;
	/* The bound in sight of 5.10's verifier, again. */
	asm volatile("if %0 > 0 goto +1\n\t%0 = 1\n\tif %0 > 64 goto +1\n\tgoto +1\n\t%0 = 64" : "+r"(n));
	if (bpf_skb_load_bytes(tc, off, b, n))
		return 0;
	h = n;
	for (int i = 0; i < HASHED_BYTES / 8; i++)
		h = mix(h, b[i]);
	h = (u32)(h ^ h >> 32);
	return h ? h : 1;
}

#endif
