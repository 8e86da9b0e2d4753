//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs. Each but forget serves several rows of the hook table
 * (tracer/hooks.go), which says how to attach it and where its arguments are: user
 * space replaces hook_args() and sets type and target, so no function's name stands
 * here. The section only tells the loader that this is a program.
 */
#include "hook.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Only for the object's type information, by which tests compare Go's view of
 * these with C's. */
const struct {
	struct event event;
	struct event_header header;
	struct event_ct ct;
	struct hook_args args;
	struct sel_input input;
	enum stat stat;
	enum event_flags flags;
	enum event_ext ext;
} wire_types = {};

/* Programs that are not told the skb. */
#define ARGS_OR_RETURN(a, ret)                       \
	struct hook_args a;                          \
	if (!enabled)                                \
		return ret;                          \
	hook_args(ctx, &a);                          \
	hit(&a);

/* Programs for packets that are followed already. One that surely is not, as most
 * are, costs no more than the first condition. */
#define PACKET_OR_RETURN(a, skb, p, ret)             \
	struct hook_args a;                          \
	struct packet *p;                            \
	u64 skb;                                     \
	if (!count_hits && !maybe_tracked(hook_skb(ctx))) \
		return ret;                          \
	if (!enabled)                                \
		return ret;                          \
	hook_args(ctx, &a);                          \
	hit(&a);                                     \
	if (count_hits && !maybe_tracked(a.skb))     \
		return ret;                          \
	skb = number(&a.skb);                        \
	if (prove_identity && !still_same(skb))      \
		return ret;                          \
	p = find_life(skb);                          \
	if (!p)                                      \
		return ret;

/* A packet passes. */
SEC("kprobe")
int path(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, 0)
	follow_packet(&a, skb, p, 0, 0, data);
	return 0;
}

/* A packet passes and may have got a conntrack entry, or changed it. */
SEC("kprobe")
int track(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, 0)
	follow_packet(&a, skb, p, HOW_CT, 0, data);
	return 0;
}

/*
 * record_tc is follow_packet for runs that record: tc programs reach the payload
 * wherever it lies.
 */
static __noinline void record_tc(void *tc, u64 skb, u32 hook)
{
	struct sk_buff *b = (void *)skb;
	struct packet *p = find_life(skb);
	u32 ifindex = 0, len, end;
	u64 data[3] = {}, start = 0;
	struct span s;

	if (!p)
		return;
	locate(0, 0, skb, 0, p, &ifindex);
	if (find_network(skb, false, &s) || bpf_core_read(&start, sizeof(start), &b->data)) {
		count(STAT_READ_FAILED);
		send(hook, p, 0, ifindex, data);
		return;
	}
	len = link_of(skb, s.start, data);
	if (!len || len > s.len)
		len = s.len;
	end = payload_at(s.start);
	if (end && end < len)
		data[2] |= hash_of(tc, s.start - start + end, len - end);
	if (!p->cut && !changed(skb, false, p)) {
		send(hook, p, 0, ifindex, data);
		return;
	}
	send_new(skb, hook, p, 0, ifindex, data, &s, tc, s.start - start);
}

/* tc: -1 is TC_ACT_UNSPEC and TCX_NEXT, both leave the packet to others. */
SEC("tc")
int tc_path(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, -1)
	if (record)
		record_tc(ctx, skb, a.hook);
	else
		follow_packet(&a, skb, p, 0, 0, data);
	return -1;
}

/* A device's driver gets the packet. */
SEC("kprobe")
int transmit(void *ctx)
{
	u64 data[3] = {};
	struct span s;
	PACKET_OR_RETURN(a, skb, p, 0)
	if (record && !find_network(skb, false, &s))
		link_of(skb, s.start, data);
	follow_packet(&a, skb, p, HOW_LINK, 0, data);
	return 0;
}

/* A packet goes to a device. */
SEC("kprobe")
int device(void *ctx)
{
	if (enabled)
		follow_entry(ctx, HOW_LINK);
	return 0;
}

/* A packet comes from a device, before network_header is set. */
SEC("kprobe")
int receive(void *ctx)
{
	if (enabled)
		follow_entry(ctx, HOW_AT_DATA | HOW_LINK);
	return 0;
}

/* A socket, or the kernel itself, sends. */
SEC("kprobe")
int socket_out(void *ctx)
{
	if (enabled)
		follow_entry(ctx, HOW_BEGINS | HOW_TASK);
	return 0;
}

/* A socket takes the packet. */
SEC("kprobe")
int socket_in(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, 0)
	socket_of(number(&a.sk), false, data);
	follow_packet(&a, skb, p, HOW_NO_DEV | HOW_NO_HEADER, 0, data);
	return 0;
}

/* A netfilter hook point or rule set begins. */
SEC("kprobe")
int netfilter(void *ctx)
{
	u64 data[3] = {};
	u8 pf = 0, hook = 0;
	u32 mark = 0;
	PACKET_OR_RETURN(a, skb, p, 0)
	struct nf_hook_state *st = (void *)a.state;
	struct sk_buff *b = (void *)skb;

	if (st) {
		bpf_core_read(&pf, sizeof(pf), &st->pf);
		bpf_core_read(&hook, sizeof(hook), &st->hook);
	}
	data[0] = pf | (u64)hook << 8;
	if (!bpf_core_read(&mark, sizeof(mark), &b->mark))
		data[0] |= NF_MARK_READ | (u64)mark << 32;
	follow_packet(&a, skb, p, HOW_CT, 0, data);
	return 0;
}

/*
 * a.a: what a netfilter function returned. Only NF_DROP is told: the skb still
 * exists then (nf_hook_slow frees it), while after NF_STOLEN its address may
 * already belong to another.
 */
SEC("kprobe")
int verdict(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, 0)
	if ((u8)low32(a.a) != 0)
		return 0;
	follow_packet(&a, skb, p, HOW_NO_HEADER, 0, data);
	return 0;
}

/* The kernel answers the packet with an ICMP error; a.a type, a.b code. */
SEC("kprobe")
int icmp_send(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, 0)
	data[0] = (u8)number(&a.a) | (u64)(u8)number(&a.b) << 8;
	follow_packet(&a, skb, p, HOW_NO_DEV, 0, data);
	expect_answer(p);
	return 0;
}

/* The kernel may answer the packet with a TCP packet: RST or SYN-ACK. */
SEC("kprobe")
int answer(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, 0)
	follow_packet(&a, skb, p, HOW_NO_DEV | HOW_NO_HEADER, 0, data);
	expect_answer(p);
	return 0;
}

/* Conntrack looks the packet up; early_drop may follow on this CPU. */
SEC("kprobe")
int look_up(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, 0)
	follow_packet(&a, skb, p, 0, 0, data);
	struct cause *c = &causes[this_cpu()];

	c->looked_up = skb;
	c->looked_up_packet = p->id;
	c->looked_up_seq = p->seq;
	return 0;
}

/* Conntrack's table is at its limit; the packet is the one looked up last, if
 * it has met no hook since. */
SEC("kprobe")
int table_full(void *ctx)
{
	u64 data[3] = {};
	struct packet *p;
	struct cause *c;
	ARGS_OR_RETURN(a, 0)
	c = &causes[this_cpu()];
	p = find_life(c->looked_up);
	if (!p || c->looked_up_packet != p->id || c->looked_up_seq != p->seq)
		return 0;
	follow_packet(&a, c->looked_up, p, HOW_NO_DEV | HOW_NO_HEADER, 0, data);
	return 0;
}

/* The new entry of the packet clashes with a.a, a tuple of another entry. */
SEC("kprobe")
int clash(void *ctx)
{
	u32 ifindex = 0;
	PACKET_OR_RETURN(a, skb, p, 0)
	locate(a.net, 0, skb, 0, p, &ifindex);
	send_ct(skb, a.hook, ifindex, 0);
	send_other(skb, number(&a.a), a.hook, ifindex);
	return 0;
}

/* A virtual service schedules; ip_vs_conn_new follows on this CPU. */
SEC("kprobe")
int schedule(void *ctx)
{
	u64 data[3] = {};
	causes[this_cpu()].skb = 0;
	PACKET_OR_RETURN(a, skb, p, 0)
	causes[this_cpu()].skb = skb;
	follow_packet(&a, skb, p, 0, 0, data);
	return 0;
}

/* The real server was chosen: a.a its address, a.b its port, a.c its family. */
SEC("kprobe")
int conn_new(void *ctx)
{
	u64 data[3] = {};
	struct packet *p;
	u64 skb;
	ARGS_OR_RETURN(a, 0)
	skb = causes[this_cpu()].skb;
	if (!skb)
		return 0;
	p = find_life(skb);
	if (!p)
		return 0;
	bpf_probe_read_kernel(data, 16, (void *)number(&a.a));
	data[2] = (number(&a.b) & 0xffff) | (number(&a.c) & 0xffff) << 16;
	follow_packet(&a, skb, p, HOW_NO_HEADER, 0, data);
	return 0;
}

/*
 * The packet's route is an error: which one (errno), and whether the device that
 * it came in by forwards at all. ip_error treats the same error differently then.
 */
SEC("kprobe")
int route_error(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, 0)
	struct sk_buff *b = (void *)skb;
	unsigned long dst = 0;
	struct net_device *dev = 0;
	struct in_device *in = 0;
	int forwards = 0;
	short error = 0;

	bpf_core_read(&dst, sizeof(dst), &b->_skb_refdst);
	dst &= ~1UL; /* SKB_DST_NOREF */
	bpf_core_read(&error, sizeof(error), &((struct dst_entry *)dst)->error);
	bpf_core_read(&dev, sizeof(dev), &b->dev);
	bpf_core_read(&in, sizeof(in), &dev->ip_ptr);
	bpf_core_read(&forwards, sizeof(forwards), &in->cnf.data[0]);
	data[0] = (u16)error | (u32)!!forwards << 16;
	follow_packet(&a, skb, p, 0, 0, data);
	return 0;
}

/* A bridge sends to one port, a.a: its number and STP state, both 0: unknown. */
SEC("kprobe")
int bridge_port(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, 0)
	struct net_bridge_port *to = (void *)number(&a.a);
	struct net_device *dev = 0;
	u32 ifindex = 0;
	u8 state = 0;

	bpf_core_read(&dev, sizeof(dev), &to->dev);
	if (dev && !bpf_core_read(&ifindex, sizeof(ifindex), &dev->ifindex) && !(ifindex >> 23) &&
	    !bpf_core_read(&state, sizeof(state), &to->state))
		data[0] = ifindex << 8 | state;
	follow_packet(&a, skb, p, 0, 0, data);
	return 0;
}

/* The device of a dropped packet: known, not up, without carrier. What is no
 * device by now (a socket's use of the field) has no sense, and is not asked for. */
enum dev_state { DEV_KNOWN = 1, DEV_NOT_UP = 2, DEV_NO_CARRIER = 4 };
#define IFF_UP 1
#define LINK_STATE_NOCARRIER 2

static __always_inline u64 device_state(u64 skb)
{
	struct sk_buff *b = (void *)skb;
	struct net_device *dev = 0;
	unsigned long state = 0;
	unsigned int flags = 0;

	bpf_core_read(&dev, sizeof(dev), &b->dev);
	if (!dev || bpf_core_read(&flags, sizeof(flags), &dev->flags) ||
	    bpf_core_read(&state, sizeof(state), &dev->state))
		return 0;
	return DEV_KNOWN | (flags & IFF_UP ? 0 : DEV_NOT_UP) |
	       (state & 1UL << LINK_STATE_NOCARRIER ? DEV_NO_CARRIER : 0);
}

/* Dropped: a.a the reason (0 below 5.17), a.b where. */
SEC("kprobe")
int drop(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, 0)
	data[0] = (u32)number(&a.a);
	data[1] = number(&a.b);
	data[2] = device_state(skb);
	follow_packet(&a, skb, p, HOW_END | HOW_NO_HEADER, EVENT_END | (without_ct(skb) ? EVENT_NO_CT : 0), data);
	return 0;
}

/* Freed. */
SEC("kprobe")
int end(void *ctx)
{
	u64 data[3] = {};
	PACKET_OR_RETURN(a, skb, p, 0)
	follow_packet(&a, skb, p, HOW_END | HOW_NO_HEADER, EVENT_END, data);
	return 0;
}

/* Merged into a.a by GRO, if a.b (the return value) is 0. */
SEC("kprobe")
int merge(void *ctx)
{
	u64 data[3] = {};
	struct packet *into;
	PACKET_OR_RETURN(a, skb, p, 0)
	if (low32(a.b))
		return 0;
	into = find_life(number(&a.a));
	data[0] = into ? into->id : 0;
	follow_packet(&a, skb, p, HOW_END | HOW_NO_HEADER, EVENT_END, data);
	return 0;
}

/*
 * adopt lets a new skb inherit from the packet it was made of. It is a function
 * of its own to the verifier, which looks at it once and not for each segment.
 */
__noinline int adopt(u64 hook, u64 parent, u64 child)
{
	struct packet *from = find_life(parent), *p;
	struct headers h = {};
	u64 data[3] = {};
	struct span s = {};

	if (!from)
		return 0;
	end_life(child);
	p = begin_life(child);
	if (!p) {
		from->seq++; /* a part is missing: it has a gap */
		return 0;
	}
	p->flow = from->flow;
	p->flags = from->flags;
	p->tuple = from->tuple;
	p->netns = from->netns;
	p->ct = from->ct;
	h.tuple = from->tuple;
	if (!find_network(child, false, &s) && !parse(&s, &h)) {
		read_rest(child, &s, &h);
		p->tuple = h.tuple;
	}
	send_headers(hook, p, EVENT_FIRST, 0, data, from->id, &h, &s);
	return true;
}

/* prove keeps by what a new skb can be told from another one at its address. Not
 * part of adopt, whose stack has no room for it. */
__noinline int prove(u64 child)
{
	struct packet *p = find_life(child);

	if (p)
		p->invariant = invariant(child);
	return 0;
}

/* Cloned or copied: a.a is the new skb. */
SEC("kprobe")
int clone(void *ctx)
{
	u64 child;
	PACKET_OR_RETURN(a, skb, p, 0)
	child = number(&a.a);
	if (child && adopt(a.hook, skb, child))
		prove(child);
	return 0;
}

/* Cut into segments: a.a is the first of a list, or an error. */
#define MAX_SEGMENTS 64
SEC("kprobe")
int segment(void *ctx)
{
	u64 child;
	PACKET_OR_RETURN(a, skb, p, 0)
	child = number(&a.a);
	for (int i = 0; i < MAX_SEGMENTS; i++) {
		struct sk_buff *b = (void *)child;
		struct sk_buff *next = 0;

		if (!child || child > (u64)-4096)
			break;
		if (adopt(a.hook, skb, child))
			prove(child);
		bpf_core_read(&next, sizeof(next), &b->next);
		child = (u64)next;
	}
	return 0;
}

/*
 * Run by user space, for a packet whose skb was freed where no hook tells of it:
 * what it takes for such one is forgotten, unless the skb is another packet's by
 * now, or this one's life goes on. ctx: the skb, the packet, and the number of its
 * next event, as they were when it was last looked at.
 */
SEC("raw_tp")
int forget(u64 *ctx)
{
	u64 skb = ctx[0];
	struct packet *p = find_life(skb);

	if (!p || p->id != ctx[1] || p->seq != ctx[2])
		return 0;
	end_life(skb);
	return 1;
}
