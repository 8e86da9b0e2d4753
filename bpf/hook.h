/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every hook does: find the packet, notice what changed, tell it. */
#ifndef STACKHOP_HOOK_H
#define STACKHOP_HOOK_H

#include "event.h"

/* A hook's arguments, the same for all ways to attach. */
struct hook_args {
	u64 skb;
	u64 net;   /* struct net, 0: by the skb's device */
	u64 sk;
	u64 state; /* struct nf_hook_state */
	u64 a, b, c; /* by the program */
	u64 hook;  /* the row's number */
};

/*
 * Replaced by user space with instructions that fill all of *a for one row of
 * the hook table: from the BPF context of fentry, fexit and BTF tracepoints,
 * from the registers of a kprobe, or from a tc program's context.
 */
static __noinline int hook_args(void *ctx, struct hook_args *a)
{
	int ret;

	asm volatile("%0 = 0" : "=r"(ret) : "r"(ctx), "r"(a) : "memory");
	return ret;
}

/*
 * The skb alone, likewise; where the context has it as such, one instruction in
 * the place of the call. It is all that most packets cost at most hooks.
 */
static __noinline u64 hook_skb(void *ctx)
{
	u64 ret;

	asm volatile("%0 = 0" : "=r"(ret) : "r"(ctx) : "memory");
	return ret;
}

/* Where a cause was found, its answer is expected next on this CPU. */
static __always_inline void expect_answer(const struct packet *p)
{
	struct cause *c = &causes[this_cpu()];

	c->packet = p->id;
	c->tuple = p->tuple;
}

/* At a sender's first hook no device is known yet; but IPv6 has that hook in
 * common with packets that were forwarded, perhaps joined from fragments. */
static __always_inline bool came_in(u64 skb)
{
	struct sk_buff *b = (void *)skb;
	struct net_device *dev = 0;

	bpf_core_read(&dev, sizeof(dev), &b->dev);
	return dev;
}

/* A tunnel sends the same skb once more, within another packet. */
static __always_inline bool is_encapsulated(u64 skb)
{
	struct sk_buff *b = (void *)skb;

	return BPF_CORE_READ_BITFIELD_PROBED(b, encapsulation);
}

/*
 * may_begin says whether a packet with that hash may be followed, and counts it if not.
 * made: the packet was made just now, and cannot be one that was shed. Plain numbers, as
 * for admit().
 */
__noinline int may_begin(u64 key, u32 made)
{
	struct shed *set = shed[key & ((1 << SHED_BITS) - 1)];
	u64 now = bpf_ktime_get_ns(), oldest = ~0ULL;
	enum stat why = STAT_SHED;

	/* The oldest is found as a number with its place in the lowest bits: up to 6.1 the
	 * verifier looks at all that is behind a pointer once for each that it may be. */
#pragma unroll
	for (u64 i = 0; i < SHED_WAYS; i++) {
		u64 at = set[i].at;

		if (set[i].key == key) {
			if (!made && now - at < SHED_KNOWN)
				return false;
			set[i].key = at = 0;
		}
		at = (at & ~(SHED_WAYS - 1ULL)) | i;
		if (at < oldest)
			oldest = at;
	}
	if (!within_rate())
		why = STAT_RATE;
	else if (!crowded())
		return true;
	count(why);
	set += oldest & (SHED_WAYS - 1);
	set->key = key;
	set->at = now;
	return false;
}

/* begin starts to follow an skb that the selection wants. */
static __always_inline struct packet *begin(u64 skb, const struct span *s, const struct headers *h,
					    const struct selected *sel, u32 made)
{
	u64 invariant = invariant_of(s, h);
	struct packet *p;

	if (!may_begin(mix(invariant, skb), made))
		return 0;
	p = begin_life(skb);
	if (!p)
		return 0;
	p->flow = sel->flow ? sel->flow : p->id;
	p->flags = (sel->matched ? EVENT_MATCHED : 0) | (sel->reply ? EVENT_REPLY : 0);
	p->tuple = h->tuple;
	p->cause = sel->cause;
	p->invariant = invariant;
	if (!sel->flow)
		join(&h->tuple, p->flow, sel->reply, sel->matched);
	return p;
}

static __always_inline void read_rest(u64 skb, const struct span *s, struct headers *h)
{
	struct sk_buff *b = (void *)skb;
	struct skb_shared_info *si = (void *)s->shinfo;

	bpf_core_read(&h->mark, sizeof(h->mark), &b->mark);
	bpf_core_read(&h->gso_size, sizeof(h->gso_size), &si->gso_size);
	bpf_core_read(&h->gso_segs, sizeof(h->gso_segs), &si->gso_segs);
}

static __always_inline void hit(const struct hook_args *a)
{
	if (count_hits)
		__sync_fetch_and_add(&hits[a->hook & (HOOKS - 1)], 1);
}

/*
 * changed says whether a followed packet's addresses or ports are others than
 * when they were last sent. It reads no more than it compares.
 */
static __always_inline bool changed(u64 skb, bool at_data, const struct packet *p)
{
	const struct tuple *t = &p->tuple;
	struct span s;
	union l3 l3;
	__be16 ports[2];
	u32 off;

	if (find_network(skb, at_data, &s) ||
	    bpf_probe_read_kernel(&l3, sizeof(l3), (void *)s.start))
		return false;
	if (t->family == 4) {
		if (l3.v4.src != t->src[0] || l3.v4.dst != t->dst[0] || l3.v4.vihl >> 4 != 4)
			return true;
		off = (l3.v4.vihl & 15) * 4;
		/* Fragments after the first have no ports to change. */
		if (l3.v4.frag & bpf_htons(IP_OFFSET_MASK))
			return false;
	} else {
		const u64 *a = (void *)l3.v6.src, *b = (void *)t->src;

		if (a[0] != b[0] || a[1] != b[1] || a[2] != b[2] || a[3] != b[3] ||
		    l3.v4.vihl >> 4 != 6)
			return true;
		/* Ports behind extension headers are taken to stay. */
		if (l3.v6.next != t->proto)
			return false;
		off = sizeof(l3.v6);
	}
	if (t->proto != PROTO_TCP && t->proto != PROTO_UDP && t->proto != PROTO_SCTP)
		return false;
	if (bpf_probe_read_kernel(ports, sizeof(ports), (void *)(s.start + off)))
		return false;
	return ports[0] != t->sport || ports[1] != t->dport;
}

/*
 * admit decides about a packet that is not followed yet, or perhaps no longer:
 * returns the flags of its next event, or -1 if it is not followed. how says
 * whether the expression matches. It takes plain numbers and is not static: so
 * the verifier looks at it once and by itself, which keeps the ways through it
 * from multiplying with those through its callers, and its stack from adding to
 * that of the user's expression.
 */
__noinline int admit(u64 skb, u32 how)
{
	struct selected sel = { .matched = (how & HOW_MATCHED) != 0 };
	struct packet *p = find_life(skb);
	struct headers h = {};
	struct span s;
	u32 made;

	if (find_network(skb, how & HOW_AT_DATA, &s))
		return -1;
	if (how & (HOW_MATCHED | HOW_TUNNEL))
		innermost(&s);
	if (parse(&s, &h))
		return -1;
	made = how & HOW_BEGINS && !came_in(skb);
	if (p && (prove_identity || made) && p->invariant != invariant_of(&s, &h) &&
	    !is_encapsulated(skb)) {
		count(STAT_REUSED);
		end_life(skb);
		p = 0;
	}
	if (!p) {
		/* Not seen coming in: made here. The RST of a REJECT rule to a
		 * bridged frame goes to its device past IP. */
		if (!select_packet(&h, !(how & HOW_AT_DATA), &sel) || !begin(skb, &s, &h, &sel, made))
			return -1;
		return EVENT_FIRST;
	}
	if (sel.matched && !(p->flags & EVENT_MATCHED)) {
		p->flags |= EVENT_MATCHED;
		join(&h.tuple, p->flow, p->flags & EVENT_REPLY, 1);
	}
	return 0;
}

/* tell sends the event of a hook at which packets are admitted. */
__noinline int tell(u64 skb, u64 net, u64 sk, u32 hook, u32 how)
{
	struct packet *p = find_life(skb);
	u8 flags = how & EVENT_FIRST;
	u64 data[3] = { nothing, nothing, nothing };
	struct span s = {};
	u32 ifindex = 0, was;

	if (!p)
		return 0;
	was = p->netns;
	if (how & HOW_TASK)
		flags |= socket_of(sk, true, data);
	locate(net, 0, skb, 0, p, &ifindex);
	if (record && how & HOW_LINK && !find_network(skb, how & HOW_AT_DATA, &s))
		link_of(skb, s.start, data);
	/* A recording may be of one namespace only, or be read from there on. */
	if (flags & EVENT_FIRST || (record && how & HOW_AT_DATA && p->netns != was) ||
	    changed(skb, how & HOW_AT_DATA, p)) {
		struct headers h = {};

		if (!find_network(skb, how & HOW_AT_DATA, &s) && !parse(&s, &h)) {
			p->tuple = h.tuple;
			/* A tunnel's packets are of many connections. */
			if (!(flags & EVENT_FIRST) && !is_outer(&h)) {
				join(&h.tuple, p->flow, p->flags & EVENT_REPLY,
				     p->flags & EVENT_MATCHED);
			}
			read_rest(skb, &s, &h);
			send_headers(hook, p, flags, ifindex, data, p->cause, &h, &s);
			return 0;
		}
		count(STAT_READ_FAILED);
	}
	send(hook, p, flags, ifindex, data);
	return 0;
}

/*
 * follow_entry: for most packets that pass here the expression is all that is
 * asked, as long as no connection is followed yet.
 */
static __always_inline void follow_entry(void *ctx, u32 how)
{
	u64 typed = hook_skb(ctx), skb = 0;
	struct packet *p = 0;
	struct hook_args a;

	if (count_hits) {
		hook_args(ctx, &a);
		hit(&a);
	}
	if (maybe_tracked(typed)) {
		hook_args(ctx, &a);
		skb = number(&a.skb);
		p = find_life(skb);
	}
	/* A sender's first hook, and any hook where not every free is seen, may
	 * find a packet that was at the same address before. */
	if (!p || prove_identity || how & HOW_BEGINS || !(p->flags & EVENT_MATCHED)) {
		int flags = matches(typed, how & HOW_AT_DATA);

		how |= flags;
		if (!(flags & HOW_MATCHED) && !p && !flows_used && !via_used)
			return;
		hook_args(ctx, &a);
		skb = number(&a.skb);
		flags = admit(skb, how);
		if (flags < 0)
			return;
		how |= flags & EVENT_FIRST;
	}
	tell(skb, number(&a.net), number(&a.sk), a.hook, how);
}

/*
 * send_new tells the headers of a packet that was followed under others, and
 * lets its connection be followed under these. They are written in place, since
 * a copy would take more stack than there is. If there is no room the next hook
 * tells them. tc: the context of a tc program and how far behind its data the
 * network header is, or 0.
 */
static __always_inline void send_new(u64 skb, u16 hook, struct packet *p, u8 flags, u32 ifindex,
				     const u64 *data, const struct span *s, void *tc, u32 off)
{
	u16 seq = p->seq++;
	struct event_header *e = reserve(sizeof(*e) + (record ? room : 0));

	if (!e)
		return;
	fill(&e->event, hook, p, seq, flags, EXT_HEADER, ifindex, data);
	e->other = 0;
	__builtin_memset(&e->headers, 0, sizeof(e->headers));
	if (parse(s, &e->headers)) {
		count(STAT_READ_FAILED);
		e->event.ext = EXT_NONE;
		submit(e);
		return;
	}
	read_rest(skb, s, &e->headers);
	p->tuple = e->headers.tuple;
	if (!is_outer(&e->headers))
		join(&p->tuple, p->flow, p->flags & EVENT_REPLY, p->flags & EVENT_MATCHED);
	if (record && tc)
		load_bytes(e, p, tc, off, s);
	else if (record)
		keep_bytes(e, p, s);
	submit(e);
}

/* invariant is invariant_of an skb; 0 if it is not IP. */
__noinline u64 invariant(u64 skb)
{
	struct headers h = {};
	struct span s;

	if (find_network(skb, false, &s))
		return 0;
	innermost(&s);
	if (parse(&s, &h))
		return 0;
	return invariant_of(&s, &h);
}

/* still_same says whether a followed skb still is the packet it was; where not
 * every free is seen, its address may hold another by now. */
__noinline int still_same(u64 skb)
{
	struct packet *p = find_life(skb);

	if (!p)
		return false;
	if (p->invariant == invariant(skb))
		return true;
	count(STAT_REUSED);
	end_life(skb);
	return false;
}

/* send_changed is send_new with plain numbers, as for admit(). */
__noinline int send_changed(u64 skb, u32 hook, u32 flags, u32 ifindex, u64 data0)
{
	struct packet *p = find_life(skb);
	u64 data[3] = { data0 };
	struct span s;

	if (!p)
		return 0;
	if (find_network(skb, false, &s)) {
		count(STAT_READ_FAILED);
		send(hook, p, flags, ifindex, data);
		return 0;
	}
	if (record && flags & HOW_LINK)
		link_of(skb, s.start, data);
	send_new(skb, hook, p, flags, ifindex, data, &s, 0, 0);
	return 0;
}

/* follow_packet: any other hook, for an skb that is followed. */
static __always_inline void follow_packet(struct hook_args *a, u64 skb, struct packet *p,
					  const u32 how, u8 flags, u64 *data)
{
	u32 ifindex = 0;

	if (!(how & HOW_END))
		locate(a->net, a->state, skb, how, p, &ifindex);
	if (!(how & HOW_NO_HEADER) && changed(skb, false, p)) {
		/* The kernel leaves a program out while the same one is interrupted
		 * on that CPU. If that happened both where a packet was freed and at
		 * the next one's first hook, its other addresses tell. */
		if (!came_in(skb) && !is_encapsulated(skb) && !still_same(skb))
			return;
		send_changed(skb, a->hook, flags | (how & HOW_LINK), ifindex, data[0]);
		return;
	}
	if (how & HOW_CT && send_ct(skb, a->hook, ifindex, data[0]))
		return;
	send(a->hook, p, flags, ifindex, data);
	if (how & HOW_END)
		end_life(skb);
}

#endif
