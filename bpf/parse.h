/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading a packet's headers. Only copies are parsed, at constant offsets. */
#ifndef STACKHOP_PARSE_H
#define STACKHOP_PARSE_H

#include "state.h"

#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ICMPV6 58
#define PROTO_SCTP 132
#define PROTO_RAW 255

#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define IP_OFFSET_MASK 0x1fff
#define IP_MORE_FRAGMENTS 0x2000

/* Where an skb's network header is, and how much of it can be read. */
struct span {
	u64 start; /* kernel address of the network header */
	u32 valid; /* bytes from there to the end of the linear part */
	u32 len;   /* network-layer length, paged parts included */
	u64 shinfo;
};

static __always_inline int span_of(struct skb_starts d, struct skb_ends e, u32 len, u16 nh,
				   bool at_data, struct span *s)
{
	u32 off = d.data - d.head;

	if (at_data)
		nh = off;
	if (nh == 0xffff || nh >= e.tail)
		return -1;
	s->start = d.head + nh;
	s->valid = e.tail - nh;
	s->len = len + off - nh;
	s->shinfo = d.head + e.end;
	return 0;
}

/*
 * at_data: the receive hook comes before the kernel sets network_header, but
 * there skb->data is the network header.
 */
static __always_inline int find_network(u64 skb, bool at_data, struct span *s)
{
	struct sk_buff *b = (void *)skb;
	struct skb_starts d;
	struct skb_ends e;
	u32 len = 0;
	u16 nh = 0;

	if (bpf_core_read(&d, sizeof(d), &b->head) || bpf_core_read(&e, sizeof(e), &b->tail) ||
	    bpf_core_read(&len, sizeof(len), &b->len) ||
	    bpf_core_read(&nh, sizeof(nh), &b->network_header))
		return -1;
	return span_of(d, e, len, nh, at_data, s);
}

/* The same for a typed pointer, without a helper call. */
static __always_inline int find_network_typed(struct sk_buff *b, bool at_data, struct span *s)
{
	struct skb_starts d = { (u64)b->head, (u64)b->data };
	struct skb_ends e = { b->tail, b->end };

	return span_of(d, e, b->len, b->network_header, at_data, s);
}

/* The whole pointer as a number: read back from the stack, where it lies. */
static __always_inline u64 number(const u64 *pointer)
{
	u64 v = 0;

	bpf_probe_read_kernel(&v, sizeof(v), pointer);
	return v;
}

struct ipv4 {
	u8 vihl;
	u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag;
	u8 ttl;
	u8 proto;
	u16 check;
	__be32 src;
	__be32 dst;
};

struct ipv6 {
	__be32 flow;
	__be16 payload;
	u8 next;
	u8 hops;
	__be32 src[4];
	__be32 dst[4];
};

union l3 {
	struct ipv4 v4;
	struct ipv6 v6;
};

/* The first bytes of TCP, UDP, SCTP and ICMP alike. */
struct l4 {
	__be16 sport; /* ICMP: type, code */
	__be16 dport; /* ICMP: checksum */
	__be32 seq;   /* ICMP echo: identifier, sequence; UDP: length, checksum */
	__be32 ack;
	u8 doff;
	u8 flags;
	u16 window;
};

/*
 * Two extension headers are skipped: what real stacks send before a transport
 * header (hop-by-hop, then fragment or routing). Returns the transport protocol,
 * whether this is a fragment << 8 (2: not the first), and its offset << 16.
 * Plain numbers, so that the verifier looks at it by itself.
 */
__noinline u32 skip_extensions(u64 start, u32 proto)
{
	u32 off = sizeof(struct ipv6), fragment = 0;

	for (int i = 0; i < 2; i++) {
		u8 ext[4];

		if (proto != 0 && proto != 43 && proto != 44 && proto != 60)
			break;
		if (bpf_probe_read_kernel(ext, sizeof(ext), (void *)(start + off)))
			break;
		if (proto == 44) {
			fragment = 1 + ((ext[2] | (ext[3] & 0xf8)) != 0);
			off += 8;
		} else {
			off += ((u32)ext[1] + 1) * 8;
		}
		proto = ext[0];
	}
	return (proto & 0xff) | fragment << 8 | off << 16;
}

/* parse_l3 fills what the network header tells and returns the offset of the
 * transport header, 0 if this is not IP. */
static __always_inline u32 parse_l3(u64 start, struct tuple *t, struct headers *h)
{
	union l3 l3;
	u32 off;

	if (bpf_probe_read_kernel(&l3, sizeof(l3), (void *)start))
		return 0;
	if (l3.v4.vihl >> 4 == 4) {
		u16 frag = bpf_ntohs(l3.v4.frag);

		off = (l3.v4.vihl & 15) * 4;
		if (off < sizeof(struct ipv4))
			return 0;
		t->family = 4;
		t->proto = l3.v4.proto;
		t->src[0] = l3.v4.src;
		t->dst[0] = l3.v4.dst;
		if (h) {
			h->ttl = l3.v4.ttl;
			h->tos = l3.v4.tos;
			h->ipid = l3.v4.id;
			h->fragment = frag & IP_OFFSET_MASK ? 2 : frag & IP_MORE_FRAGMENTS ? 1 : 0;
		}
		return off;
	}
	if (l3.v4.vihl >> 4 != 6)
		return 0;
	t->family = 6;
	t->proto = l3.v6.next;
	__builtin_memcpy(t->src, l3.v6.src, sizeof(t->src));
	__builtin_memcpy(t->dst, l3.v6.dst, sizeof(t->dst));
	if (!h)
		return sizeof(struct ipv6);
	h->ttl = l3.v6.hops;
	h->tos = bpf_ntohl(l3.v6.flow) >> 20;
	off = skip_extensions(start, l3.v6.next);
	t->proto = off & 0xff;
	h->fragment = off >> 8 & 0xff;
	return off >> 16;
}

static __always_inline bool is_icmp_error(u8 proto, u8 type)
{
	if (proto == PROTO_ICMP)
		return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
	return proto == PROTO_ICMPV6 && type >= 1 && type <= 4;
}

static __always_inline bool is_icmp_echo(u8 proto, u8 type)
{
	return (proto == PROTO_ICMP && (type == 8 || type == 0)) ||
	       (proto == PROTO_ICMPV6 && (type == 128 || type == 129));
}

/*
 * VXLAN: a node's packet for another one with a pod's packet in it, behind UDP's
 * header, VXLAN's and an Ethernet header. The ports are the kernel's own, which
 * Flannel takes on Linux, and IANA's.
 */
#define TUNNEL_BYTES (8 + 8 + 14)

static __always_inline bool is_tunnel_port(__be16 port)
{
	return port == bpf_htons(8472) || port == bpf_htons(4789);
}

/* is_tunnel says whether what follows UDP's header is VXLAN's, which says that it
 * has a network number, and then IP. */
static __always_inline bool is_tunnel(u8 flags, u8 type_high, u8 type_low)
{
	u32 type = (u32)type_high << 8 | type_low;

	return flags & 8 && (type == 0x0800 || type == 0x86dd);
}

/* tunnel_at says whether a UDP header is a tunnel's. A function of its own, for
 * its stack, and with plain numbers, so that the verifier looks at it once. */
__noinline int tunnel_at(u64 udp)
{
	u8 b[TUNNEL_BYTES];

	if (bpf_probe_read_kernel(b, sizeof(b), (void *)udp))
		return false;
	return is_tunnel_port(*(__be16 *)(b + 2)) && is_tunnel(b[8], b[28], b[29]);
}

/* inner_offset returns how far behind a tunnel's network header its packet's is;
 * 0: this is no tunnel's. */
__noinline u32 inner_offset(u64 start)
{
	u8 l3[10] = {}; /* as far as IPv4's protocol */
	u32 off = sizeof(struct ipv6);
	u8 proto;

	if (bpf_probe_read_kernel(l3, sizeof(l3), (void *)start))
		return 0;
	proto = l3[6];
	if (l3[0] >> 4 == 4) {
		off = (l3[0] & 15) * 4;
		proto = l3[9];
	}
	return proto == PROTO_UDP && tunnel_at(start + off) ? off + TUNNEL_BYTES : 0;
}

/* innermost moves a span to the packet inside, if it is a tunnel's. */
static __always_inline void innermost(struct span *s)
{
	u32 in = inner_offset(s->start);

	s->start += in;
	s->len -= in;
	s->valid = s->valid > in ? s->valid - in : 0;
}

/*
 * parse_inner reads the packet inside an ICMP error, or inside a tunnel's: what
 * tells packets apart is in there then, so its numbers stand for the outer ones.
 * Of an ICMP error's no more than the ports is sure to be there.
 */
static __always_inline void parse_inner(u64 start, bool tunnel, struct headers *h)
{
	struct tuple *t = &h->inner;
	struct l4 l4 = {};
	u32 off = parse_l3(start, t, 0);

	if (!off || bpf_probe_read_kernel(&l4, 8, (void *)(start + off)))
		return;
	if (t->proto == PROTO_TCP || t->proto == PROTO_UDP || t->proto == PROTO_SCTP) {
		t->sport = l4.sport;
		t->dport = l4.dport;
	} else if (is_icmp_echo(t->proto, l4.sport & 0xff)) {
		t->sport = t->dport = l4.seq & 0xffff;
		l4.seq >>= 16;
	}
	if (!tunnel)
		return;
	h->seq = l4.seq;
	if (t->proto == PROTO_ICMP || t->proto == PROTO_ICMPV6) {
		h->icmp_type = l4.sport & 0xff;
		h->icmp_code = l4.sport >> 8;
	} else if (t->proto == PROTO_TCP &&
		   !bpf_probe_read_kernel(&l4, sizeof(l4), (void *)(start + off))) {
		h->tcp_flags = l4.flags;
		h->ack = l4.ack;
	}
}

/* parse reads the headers of an skb. h must be zero. */
static __always_inline int parse(const struct span *s, struct headers *h)
{
	u32 off = parse_l3(s->start, &h->tuple, h), in = 0;
	struct l4 l4 = {};

	if (!off)
		return -1;
	h->len = s->len;
	if (h->fragment == 2)
		return 0;
	/* A short header (UDP, ICMP) may end where the linear part does; what
	 * is read beyond it is not used. */
	if (bpf_probe_read_kernel(&l4, sizeof(l4), (void *)(s->start + off)))
		return 0;
	switch (h->tuple.proto) {
	case PROTO_TCP:
		h->tcp_flags = l4.flags;
		h->ack = l4.ack;
		/* fall through */
	case PROTO_UDP:
	case PROTO_SCTP:
		h->tuple.sport = l4.sport;
		h->tuple.dport = l4.dport;
		h->seq = l4.seq;
		if (h->tuple.proto == PROTO_UDP && is_tunnel_port(l4.dport) &&
		    tunnel_at(s->start + off))
			in = TUNNEL_BYTES;
		break;
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		h->icmp_type = l4.sport & 0xff;
		h->icmp_code = l4.sport >> 8;
		if (is_icmp_echo(h->tuple.proto, h->icmp_type)) {
			h->tuple.sport = h->tuple.dport = l4.seq & 0xffff;
			h->seq = l4.seq >> 16;
		} else if (is_icmp_error(h->tuple.proto, h->icmp_type)) {
			in = 8;
		}
		break;
	}
	if (in)
		parse_inner(s->start + off + in, in == TUNNEL_BYTES, h);
	return 0;
}

/* is_outer says whether headers are a tunnel's. */
static __always_inline bool is_outer(const struct headers *h)
{
	return h->tuple.proto == PROTO_UDP && h->inner.family;
}

/* Two counters must not cancel out (the finaliser of MurmurHash3 does not let
 * them): payloads often begin with some. */
static __always_inline u64 mix(u64 h, u64 v)
{
	h ^= v;
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	return h ^ h >> 33;
}

/*
 * What the sender wrote and no hop changes, so that another packet at the same
 * address is recognised. UDP has no sequence numbers: the first payload bytes,
 * which NAT leaves alone, stand for them. (Its length does not stay: GRO and
 * GSO rewrite it.) Within a tunnel the packet is the same: s and h are the inner ones,
 * see innermost.
 */
static __always_inline u64 invariant_of(const struct span *s, const struct headers *h)
{
	u64 v = mix(0, h->tuple.proto | (u64)h->ipid << 8 | (u64)h->fragment << 24);
	u64 payload[2] = {};
	u32 off = h->tuple.family == 4 ? 28 : 48;
	u32 n = s->valid - off;

	if (h->tuple.proto != PROTO_UDP)
		return mix(v, (u64)h->seq << 32 | h->ack);
	if (s->valid <= off)
		n = 0;
	if (n > sizeof(payload))
		n = sizeof(payload);
	/* Keeps the bound in sight of 5.10's verifier. */
	asm volatile("if %0 > 16 goto +1\n\tgoto +1\n\t%0 = 16" : "+r"(n));
	bpf_probe_read_kernel(payload, n, (void *)(s->start + off));
	return mix(mix(v, payload[0]), payload[1]);
}

static __always_inline bool same_tuple(const struct tuple *a, const struct tuple *b)
{
	const u64 *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4];
}

static __always_inline void reverse(const struct tuple *t, struct tuple *r)
{
	__builtin_memcpy(r->src, t->dst, sizeof(r->src));
	__builtin_memcpy(r->dst, t->src, sizeof(r->dst));
	r->sport = t->dport;
	r->dport = t->sport;
	r->proto = t->proto;
	r->family = t->family;
	r->pad = 0;
}

#endif
