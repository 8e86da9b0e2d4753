/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One event: where the packet is, what goes with it, and how it is sent. */
#ifndef STACKHOP_EVENT_H
#define STACKHOP_EVENT_H

#include "record.h"

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
 * send_entry sends a conntrack entry, with what the hook says of it in info.
 * Plain numbers, as for admit().
 */
static __always_inline bool send_entry(struct packet *p, u64 entry, u32 hook, u32 ifindex, u64 data0,
				       unsigned long status, u8 info)
{
	struct nf_conn *ct = (void *)entry;
	u64 data[3] = { data0 };
	struct ct_tuple c[2] = {};
	struct event_ct *e;
	u16 seq;

	if (bpf_core_read(&c[0], sizeof(c[0]), &ct->tuplehash[0].tuple) ||
	    bpf_core_read(&c[1], sizeof(c[1]), &ct->tuplehash[1].tuple)) {
		count(STAT_READ_FAILED);
		return false;
	}
	seq = p->seq++;
	e = reserve(sizeof(*e));
	if (!e)
		return true;
	fill(&e->event, hook, p, seq, 0, EXT_CT, ifindex, data);
	convert(&c[0], &e->original);
	convert(&c[1], &e->reply);
	e->status = status;
	e->info = info;
	e->pad = 0;
	e->zone = 0;
	if (bpf_core_field_exists(((struct nf_conn___zone *)0)->zone))
		bpf_core_read(&e->zone, sizeof(e->zone), &((struct nf_conn___zone *)ct)->zone.id);
	submit(e);
	return true;
}

/*
 * send_other sends the entry that a tuple is part of, as that of another packet.
 * Plain numbers, as for admit().
 */
__noinline int send_other(u64 skb, u64 tuple, u32 hook, u32 ifindex)
{
	struct packet *p = find_life(skb);
	unsigned long status = 0;
	struct ct_tuple t = {};
	u64 ct = tuple;

	if (!p)
		return 0;
	if (bpf_core_read(&t, sizeof(t), &((struct nf_conntrack_tuple_hash *)tuple)->tuple)) {
		count(STAT_READ_FAILED);
		return 0;
	}
	t.dir &= 1;
	ct -= bpf_core_field_offset(struct nf_conn, tuplehash) +
	      t.dir * bpf_core_type_size(struct nf_conntrack_tuple_hash);
	bpf_core_read(&status, sizeof(status), &((struct nf_conn *)ct)->status);
	send_entry(p, ct, hook, ifindex, 0, status, CT_OTHER | t.dir);
	return 0;
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
	struct nf_conn *ct;
	u64 was;

	if (!p || !bpf_core_field_exists(b->_nfct) ||
	    bpf_core_read(&nfct, sizeof(nfct), &b->_nfct))
		return false;
	ct = (void *)(nfct & ~7UL);
	if (!ct || bpf_core_read(&status, sizeof(status), &ct->status))
		return false;
	if (p->ct == (nfct ^ status << 48))
		return false;
	was = p->ct;
	p->ct = nfct ^ status << 48;
	if (!send_entry(p, (u64)ct, hook, ifindex, data0, status, nfct & 7)) {
		p->ct = was;
		return false;
	}
	return true;
}

/* without_ct says whether an skb has no conntrack entry, and nobody has said
 * that it needs none (IP_CT_UNTRACKED). */
static __always_inline bool without_ct(u64 skb)
{
	struct sk_buff *b = (void *)skb;
	unsigned long nfct = 1;

	if (bpf_core_field_exists(b->_nfct))
		bpf_core_read(&nfct, sizeof(nfct), &b->_nfct);
	return !nfct;
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

#endif
