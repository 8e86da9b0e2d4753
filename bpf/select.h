/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which packets are followed: the user's expression, and the connections of
 * packets that it matched. */
#ifndef STACKHOP_SELECT_H
#define STACKHOP_SELECT_H

#include "target.h"

/* What a hook is like. */
enum how {
	/* bit 0: EVENT_FIRST, for tell() */
	HOW_BEGINS = 1 << 1,  /* a sender's first hook: the answer to a cause? */
	HOW_AT_DATA = 1 << 2, /* skb->data is the network header */
	HOW_NO_DEV = 1 << 3,  /* skb->dev may be something else by now */
	HOW_NO_HEADER = 1 << 4, /* nothing can have changed, or it is gone */
	HOW_CT = 1 << 5,      /* the conntrack entry may be new or changed */
	HOW_END = 1 << 6,     /* the skb is gone after this */
	HOW_TASK = 1 << 7,    /* sk may be owned by the current process */
	HOW_MATCHED = 1 << 8, /* the expression matches */
	HOW_LINK = 1 << 9,    /* at a device */
	HOW_TUNNEL = 1 << 10, /* it is a tunnel's packet, if the expression did not match the outer headers */
};

/*
 * The user's expression. User space replaces this body with the compiled
 * instructions; what stands here only keeps the compiler from knowing the
 * result.
 */
static __noinline int sel_match(const struct sel_input *in)
{
	int ret;

	asm volatile("%0 = 0" : "=r"(ret) : "r"(in) : "memory");
	return ret;
}

/* vlan_of returns the tag that the skb has beside its data, -1 if there is none. */
static __always_inline s32 vlan_of(u64 skb)
{
	struct sk_buff *b = (void *)skb;
	u16 tci = 0;

	if (bpf_core_field_exists(((struct sk_buff___vlan_present *)0)->vlan_present)) {
		struct sk_buff___vlan_present *v = (void *)skb;

		if (!BPF_CORE_READ_BITFIELD_PROBED(v, vlan_present))
			return -1;
	} else if (bpf_core_field_exists(((struct sk_buff___vlan_proto *)0)->vlan_proto)) {
		struct sk_buff___vlan_proto *v = (void *)skb;
		__be16 proto = 0;

		bpf_core_read(&proto, sizeof(proto), &v->vlan_proto);
		if (!proto)
			return -1;
	}
	bpf_core_read(&tci, sizeof(tci), &b->vlan_tci);
	return tci;
}

/* ask runs the user's expression on what is at start, of which valid bytes are in
 * the linear part. What is read beyond them is struct skb_shared_info, which is
 * larger than SEL_BYTES. */
static __always_inline int ask(u64 start, u32 valid, u32 len, s32 vlan, struct sel_input *in)
{
	if (bpf_probe_read_kernel(in->hdr, SEL_BYTES, (void *)start))
		return false;
	in->valid = valid < SEL_BYTES ? valid : SEL_BYTES;
	in->len = len;
	in->vlan = vlan < 0 ? -1 : vlan & 0xfff;
	in->src_sets = in->dst_sets = 0;
	if (targets)
		find_sets(in, start);
	return sel_match(in);
}

/* inner_of returns how far behind a tunnel's outer header its inner one is; 0:
 * this is no tunnel's. Outer headers have neither options nor extensions. */
static __always_inline u32 inner_of(const u8 *hdr)
{
	const union l3 *l3 = (const void *)hdr;

	if (l3->v4.vihl == 0x45) {
		if (l3->v4.proto == PROTO_UDP && is_tunnel_port(*(const __be16 *)(hdr + 22)) &&
		    is_tunnel(hdr[28], hdr[48], hdr[49]))
			return sizeof(l3->v4) + TUNNEL_BYTES;
		return 0;
	}
	if (l3->v4.vihl >> 4 == 6 && l3->v6.next == PROTO_UDP &&
	    is_tunnel_port(*(const __be16 *)(hdr + 42)) && is_tunnel(hdr[48], hdr[68], hdr[69]))
		return sizeof(l3->v6) + TUNNEL_BYTES;
	return 0;
}

/* matches_inner is matches for the packet inside a tunnel's. A function of its
 * own, for its stack, and with plain numbers, as for admit(). */
__noinline int matches_inner(u64 start, u32 valid, u32 len)
{
	struct sel_input in;

	return ask(start, valid, len, -1, &in);
}

/* matches runs the user's expression, and returns HOW_MATCHED and HOW_TUNNEL. skb:
 * the hook's pointer, as it came. */
static __noinline int matches(u64 skb, u32 at_data)
{
	struct sel_input in;
	struct span s = {};
	u32 inner;
	int err;

	if (select_all)
		return HOW_MATCHED;
	if (typed_skb)
		err = find_network_typed((void *)skb, at_data, &s);
	else
		err = find_network(skb, at_data, &s);
	if (err)
		return 0;
	if (ask(s.start, s.valid, s.len, want_vlan ? vlan_of(skb) : -1, &in))
		return HOW_MATCHED;
	inner = inner_of(in.hdr);
	if (!inner || inner >= s.valid)
		return 0;
	/* What is read of a typed skb is a pointer to the verifier of 7.x, which no
	 * global function takes for a number. It is read back over what was asked for. */
	*(volatile u64 *)in.hdr = s.start;
	if (!matches_inner(number((u64 *)in.hdr) + inner, s.valid - inner, s.len - inner))
		return HOW_TUNNEL;
	return HOW_TUNNEL | HOW_MATCHED;
}

/* join makes a tuple's connection part of the selection, in both directions. */
static __always_inline void join(const struct tuple *t, u64 id, u8 reply, u8 matched)
{
	struct flow f = { .id = id, .used = bpf_ktime_get_ns(), .reply = reply, .matched = matched };
	struct tuple r;

	if (bpf_map_update_elem(&sh_flows, t, &f, BPF_ANY))
		count(STAT_LOST_FLOWS);
	reverse(t, &r);
	f.reply = !reply;
	if (bpf_map_update_elem(&sh_flows, &r, &f, BPF_ANY))
		count(STAT_LOST_FLOWS);
	flows_used = 1;
}

static __always_inline bool leads_to_selection(const struct tuple *t)
{
	struct via v = { .proto = t->proto, .family = t->family, .port = t->dport };

	if (!via_used)
		return false;
	__builtin_memcpy(v.dst, t->dst, sizeof(v.dst));
	return bpf_map_lookup_elem(&sh_via, &v);
}

/* sampled decides about a connection that is not followed yet, the same way for
 * both of its directions. */
static __always_inline bool sampled(const struct tuple *t)
{
	const u64 *src = (const void *)t->src, *dst = (const void *)t->dst;

	if (sample <= 1)
		return true;
	return (u32)mix((src[0] ^ src[1]) + (dst[0] ^ dst[1]), (u32)t->sport + t->dport) % sample == 0;
}

/* What select_packet found out. */
struct selected {
	u64 flow;
	u64 cause;
	u8 matched;
	u8 reply;
};

/* The answer that causes[] waits for: an ICMP error about the packet, or a TCP
 * packet (RST, SYN-ACK) to its sender. */
static __always_inline u64 cause_of(const struct headers *h)
{
	struct cause *c = &causes[this_cpu()];
	struct tuple r;

	if (!c->packet)
		return 0;
	if (h->inner.family)
		return same_tuple(&h->inner, &c->tuple) ? c->packet : 0;
	if (h->tuple.proto != PROTO_TCP || !(h->tcp_flags & (TCP_RST | TCP_SYN)))
		return 0;
	reverse(&h->tuple, &r);
	return same_tuple(&r, &c->tuple) ? c->packet : 0;
}

/* select_packet decides about a packet that is not followed yet; sel->matched
 * says whether the expression wants it, made_here that it may be an answer. */
static __always_inline bool select_packet(const struct headers *h, bool made_here,
					  struct selected *sel)
{
	struct flow *f = 0;

	if (made_here) {
		sel->cause = cause_of(h);
		if (sel->cause) /* a later packet is not its answer as well */
			causes[this_cpu()].packet = 0;
	}
	if (flows_used) {
		f = bpf_map_lookup_elem(&sh_flows, h->inner.family ? &h->inner : &h->tuple);
		if (f) {
			sel->flow = f->id;
			/* An ICMP error runs against the packet it is about. */
			sel->reply = h->inner.family ? !f->reply : f->reply;
			sel->matched |= f->matched;
			f->used = bpf_ktime_get_ns();
		}
	}
	if (f || sel->cause)
		return true;
	return (sel->matched || leads_to_selection(&h->tuple)) && sampled(&h->tuple);
}

#endif
