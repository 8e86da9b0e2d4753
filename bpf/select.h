/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which packets are followed: the user's expression, and the connections of
 * packets that it matched. */
#ifndef STACKHOP_SELECT_H
#define STACKHOP_SELECT_H

#include "target.h"

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

/* matches runs the user's expression. skb: the hook's pointer, as it came. */
static __noinline int matches(u64 skb, u32 at_data)
{
	struct sel_input in = {};
	struct span s = {};
	int err;

	if (select_all)
		return true;
	if (typed_skb)
		err = find_network_typed((void *)skb, at_data, &s);
	else
		err = find_network(skb, at_data, &s);
	if (err)
		return false;
	if (s.valid > SEL_BYTES)
		s.valid = SEL_BYTES;
	in.valid = s.valid;
	/* Keeps the bound in sight of 5.10's verifier. */
	asm volatile("if %0 > 128 goto +1\n\tgoto +1\n\t%0 = 128" : "+r"(s.valid));
	if (bpf_probe_read_kernel(in.hdr, s.valid, (void *)s.start))
		return false;
	in.len = s.len;
	in.vlan = want_vlan ? vlan_of(skb) : -1;
	if (in.vlan >= 0)
		in.vlan &= 0xfff;
	if (targets)
		find_sets(&in, s.start);
	return sel_match(&in);
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
