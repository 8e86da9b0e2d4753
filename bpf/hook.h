/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every hook does: find the packet, notice what changed, send one event. */
#ifndef STACKHOP_HOOK_H
#define STACKHOP_HOOK_H

#include "record.h"

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
};

static __always_inline void locate(u64 net_, u64 state, u64 skb, const u32 how, struct packet *p,
				   u32 *ifindex)
{
	struct sk_buff *b = (void *)skb;
	struct net *net = (void *)net_;
	struct net_device *dev = 0;
	u32 inum = 0;

	if (state) {
		struct nf_hook_state *st = (void *)state;

		bpf_core_read(&net, sizeof(net), &st->net);
	}
	if (!(how & HOW_NO_DEV)) {
		bpf_core_read(&dev, sizeof(dev), &b->dev);
		if (dev) {
			bpf_core_read(ifindex, sizeof(*ifindex), &dev->ifindex);
			if (!net)
				bpf_core_read(&net, sizeof(net), &dev->nd_net.net);
		}
	}
	if (net && !bpf_core_read(&inum, sizeof(inum), &net->ns.inum))
		p->netns = inum;
}

static __always_inline void fill(struct event *e, u16 hook, struct packet *p,
				 u16 seq, u8 flags, u8 ext, u32 ifindex, const u64 *data)
{
	e->time = bpf_ktime_get_ns();
	e->packet = p->id;
	e->flow = p->flow;
	e->netns = p->netns;
	e->ifindex = ifindex;
	e->hook = hook;
	e->seq = seq;
	e->cpu = this_cpu();
	e->flags = flags | p->flags;
	e->ext = ext;
	e->data[0] = data[0];
	e->data[1] = data[1];
	e->data[2] = data[2];
}

static __always_inline void send(u16 hook, struct packet *p, u8 flags,
				 u32 ifindex, const u64 *data)
{
	u16 seq = p->seq++;
	struct event *e = reserve(sizeof(*e));

	if (!e)
		return;
	fill(e, hook, p, seq, flags, EXT_NONE, ifindex, data);
	submit(e);
}

static __always_inline void send_headers(u16 hook, struct packet *p, u8 flags,
					 u32 ifindex, const u64 *data, u64 other,
					 const struct headers *h, const struct span *s)
{
	u16 seq = p->seq++;
	struct event_header *e = reserve(sizeof(*e) + (record ? room : 0));

	if (!e)
		return;
	fill(&e->event, hook, p, seq, flags, EXT_HEADER, ifindex, data);
	e->other = other;
	e->headers = *h;
	if (record)
		keep_bytes(e, p, s);
	submit(e);
}

static __always_inline void convert(const struct ct_tuple *c, struct tuple *t)
{
	__builtin_memcpy(t->src, c->src, sizeof(t->src));
	__builtin_memcpy(t->dst, c->dst, sizeof(t->dst));
	t->sport = c->sport;
	t->dport = c->dport;
	t->proto = c->proto;
	t->family = c->l3num == 2 ? 4 : 6;
	t->pad = 0;
}

/*
 * send_ct sends the skb's conntrack entry, if it has one that was not sent in
 * this state; returns whether it did. Plain numbers, as for admit().
 */
__noinline int send_ct(u64 skb, u32 hook, u32 ifindex, u64 data0)
{
	struct packet *p = find_life(skb);
	struct sk_buff *b = (void *)skb;
	unsigned long nfct = 0, status = 0;
	u64 data[3] = { data0 };
	struct ct_tuple c[2] = {};
	struct event_ct *e;
	struct nf_conn *ct;
	u16 seq;

	if (!p || !bpf_core_field_exists(b->_nfct) ||
	    bpf_core_read(&nfct, sizeof(nfct), &b->_nfct))
		return false;
	ct = (void *)(nfct & ~7UL);
	if (!ct || bpf_core_read(&status, sizeof(status), &ct->status))
		return false;
	if (p->ct == (nfct ^ status << 48))
		return false;
	if (bpf_core_read(&c[0], sizeof(c[0]), &ct->tuplehash[0].tuple) ||
	    bpf_core_read(&c[1], sizeof(c[1]), &ct->tuplehash[1].tuple)) {
		count(STAT_READ_FAILED);
		return false;
	}
	p->ct = nfct ^ status << 48;
	seq = p->seq++;
	e = reserve(sizeof(*e));
	if (!e)
		return true;
	fill(&e->event, hook, p, seq, 0, EXT_CT, ifindex, data);
	convert(&c[0], &e->original);
	convert(&c[1], &e->reply);
	e->status = status;
	e->info = nfct & 7;
	e->pad = 0;
	e->zone = 0;
	if (bpf_core_field_exists(((struct nf_conn___zone *)0)->zone))
		bpf_core_read(&e->zone, sizeof(e->zone), &((struct nf_conn___zone *)ct)->zone.id);
	submit(e);
	return true;
}

/*
 * The process that owns a socket, if the hook surely runs on its behalf: a
 * process holds the lock of a TCP socket whenever it makes it send; datagram
 * sockets send from their caller's context only. Kernel sockets have no file.
 */
static __always_inline u8 socket_of(u64 sk_, bool may_be_task, u64 *data)
{
	struct sock *sk = (void *)sk_;
	struct socket *so = 0;
	struct file *file = 0;
	unsigned long ino = 0;
	u16 proto = 0;
	u8 state = 0;
	int owned = 0;

	if (!sk || bpf_core_read(&state, sizeof(state), &sk->__sk_common.skc_state))
		return 0;
	/* TIME_WAIT and NEW_SYN_RECV are smaller structures. */
	if (state == 6 || state == 12)
		return 0;
	bpf_core_read(&so, sizeof(so), &sk->sk_socket);
	if (!so)
		return 0;
	bpf_core_read(&file, sizeof(file), &so->file);
	if (!file)
		return 0;
	bpf_core_read(&ino, sizeof(ino),
		      (void *)so + bpf_core_field_offset(struct socket_alloc, vfs_inode) +
			      bpf_core_field_offset(struct inode, i_ino));
	data[0] = (u32)ino;
	if (!may_be_task)
		return 0;
	bpf_core_read(&owned, sizeof(owned), &sk->sk_lock.owned);
	bpf_core_read(&proto, sizeof(proto), &sk->sk_protocol);
	if (!owned && proto != PROTO_UDP && proto != PROTO_ICMP && proto != PROTO_ICMPV6 &&
	    proto != PROTO_RAW)
		return 0;
	data[0] |= bpf_get_current_pid_tgid() & 0xffffffff00000000ULL;
	bpf_get_current_comm(&data[1], 16);
	return EVENT_TASK;
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

/* begin starts to follow an skb that the selection wants. */
static __always_inline struct packet *begin(u64 skb, const struct span *s, const struct headers *h,
					    const struct selected *sel)
{
	struct packet *p;

	if (!within_rate()) {
		count(STAT_SHED);
		return 0;
	}
	p = begin_life(skb);
	if (!p)
		return 0;
	p->flow = sel->flow ? sel->flow : p->id;
	p->flags = (sel->matched ? EVENT_MATCHED : 0) | (sel->reply ? EVENT_REPLY : 0);
	p->tuple = h->tuple;
	p->cause = sel->cause;
	p->invariant = invariant_of(s, h);
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

	if (find_network(skb, how & HOW_AT_DATA, &s) || parse(&s, &h))
		return -1;
	if (p && (prove_identity || (how & HOW_BEGINS && !came_in(skb))) && p->invariant != invariant_of(&s, &h) &&
	    !is_encapsulated(skb)) {
		count(STAT_REUSED);
		end_life(skb);
		p = 0;
	}
	if (!p) {
		/* Not seen coming in: made here. The RST of a REJECT rule to a
		 * bridged frame goes to its device past IP. */
		if (!select_packet(&h, !(how & HOW_AT_DATA), &sel) || !begin(skb, &s, &h, &sel))
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
	u64 data[3] = {};
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
			if (!(flags & EVENT_FIRST)) {
				p->tuple = h.tuple;
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
static __always_inline void follow_entry(const struct hook_args *a, u32 how)
{
	struct packet *p = 0;
	u64 skb = 0;

	if (maybe_tracked(a->skb)) {
		skb = number(&a->skb);
		p = find_life(skb);
	}
	/* A sender's first hook, and any hook where not every free is seen, may
	 * find a packet that was at the same address before. */
	if (!p || prove_identity || how & HOW_BEGINS || !(p->flags & EVENT_MATCHED)) {
		int flags;

		if (matches(a->skb, how & HOW_AT_DATA))
			how |= HOW_MATCHED;
		else if (!p && !flows_used && !via_used)
			return;
		skb = number(&a->skb);
		flags = admit(skb, how);
		if (flags < 0)
			return;
		how |= flags & EVENT_FIRST;
	}
	tell(skb, number(&a->net), number(&a->sk), a->hook, how);
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
	join(&p->tuple, p->flow, p->flags & EVENT_REPLY, p->flags & EVENT_MATCHED);
	if (record && tc)
		load_bytes(e, p, tc, off, s);
	else if (record)
		keep_bytes(e, p, s);
	submit(e);
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

/* still_same says whether a followed skb still is the packet it was; where not
 * every free is seen, its address may hold another by now. */
__noinline int still_same(u64 skb)
{
	struct packet *p = find_life(skb);
	struct headers h = {};
	struct span s;

	if (!p)
		return false;
	if (!find_network(skb, false, &s) && !parse(&s, &h) && p->invariant == invariant_of(&s, &h))
		return true;
	count(STAT_REUSED);
	end_life(skb);
	return false;
}

/* follow_packet: any other hook, for an skb that is followed. */
static __always_inline void follow_packet(struct hook_args *a, u64 skb, struct packet *p,
					  const u32 how, u8 flags, u64 *data)
{
	u32 ifindex = 0;

	if (!(how & HOW_END))
		locate(a->net, a->state, skb, how, p, &ifindex);
	if (!(how & HOW_NO_HEADER) && changed(skb, false, p)) {
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
