/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Settings, maps and counters: all that programs share. */
#ifndef STACKHOP_STATE_H
#define STACKHOP_STATE_H

#include "kernel.h"
#include "wire.h"

/* Set before loading; the verifier removes what they switch off. */
const volatile u32 select_all = 0;
/* Prove on every event that the skb is still the packet it was, because not
 * every free is seen (tracepoints only). */
const volatile u32 prove_identity = 0;
const volatile u32 count_hits = 0;
/* At hooks where packets are selected, the skb is a typed pointer: its fields
 * are loaded directly. Kernels without trampolines have only kprobes there, and
 * every field takes a helper call. */
const volatile u32 typed_skb = 0;
/* The expression asks for the VLAN. */
const volatile u32 want_vlan = 0;
/* Follow one connection in so many; 0 and 1: all. */
const volatile u32 sample = 0;
/* Events that a CPU may send in RATE_WINDOW; what comes beyond begins no new
 * packet. 0: no bound. */
const volatile u32 rate = 0;
/* Events carry what a recording needs: see record.h. Then room is the bytes
 * behind every record with headers, and snap how many of a packet are wanted at
 * least. */
const volatile u32 record = 0;
const volatile u32 snap = 0;
const volatile u32 room = 0;
#define RATE_WINDOW 100000000ULL /* ns */
/* With more bytes than these in any CPU's ring no CPU begins a new packet for a
 * moment, as it may go on there: the rest is for those that are followed already. */
const volatile u32 ring_mark = 0;
#define CROWDED 5000000ULL /* ns */

/* Nothing is followed until user space, having attached everything, says so. */
u32 enabled = 0;
u64 crowded_until = 0; /* ns */
/* How many entries sh_via and sh_flows hold, so that a packet that cannot be
 * found there need not be looked up. */
u32 via_used = 0;
u32 flows_used = 0;

/* 0, which the verifier must not know: up to 6.1 it walks the rest of a program once for
 * what is known to be 0 and once more for what is not. */
u64 nothing = 0;

/* CPUs beyond these share a slot; what stands in a slot is verified on use. */
#define CPUS 256

enum stat {
	STAT_MATCHED,      /* events of followed packets: delivered or lost */
	STAT_PACKETS,      /* lives begun */
	STAT_LOST_RING,    /* ring full */
	STAT_LOST_TABLE,   /* sh_packets full: the packet is not followed at all */
	STAT_LOST_FLOWS,   /* sh_flows full: the reply may not be followed */
	STAT_READ_FAILED,  /* headers or a conntrack entry could not be read, and are not told */
	STAT_REUSED,       /* an address was found reused without a free seen */
	STAT_RATE,         /* packets not followed, to keep to the rate */
	STAT_SHED,         /* packets not followed, as the ring was above ring_mark */
	STATS,
};

struct stats {
	u64 n[STATS];
	u64 pad[16 - STATS];
};
struct stats stats[CPUS] = {};

/* What a CPU sent in the current window. */
struct budget {
	u64 start; /* ns */
	u64 used;
	u64 pad[6];
};
struct budget budgets[CPUS] = {};

#define HOOKS 256
u64 hits[HOOKS] = {};

static __always_inline u32 this_cpu(void)
{
	return bpf_get_smp_processor_id() & (CPUS - 1);
}

/* Atomic because a softirq may interrupt a task in here; on one CPU's own
 * cache line that costs next to nothing. */
static __always_inline void count(enum stat s)
{
	__sync_fetch_and_add(&stats[this_cpu()].n[s], 1);
}

/* within_rate says whether another packet may be followed. Packets that are
 * followed already are sent whole, whatever that takes. */
static __always_inline bool within_rate(void)
{
	struct budget *b = &budgets[this_cpu()];
	u64 now;

	if (!rate)
		return true;
	now = bpf_ktime_get_ns();
	if (now - b->start >= RATE_WINDOW) {
		b->start = now;
		b->used = 0;
	}
	return b->used < rate;
}

/*
 * One counter for each hash value of an skb's address: zero means that no skb
 * with that hash is followed. This is all that most packets ever meet.
 */
#define TRACKED_BITS 14
u32 tracked[1 << TRACKED_BITS] = {};

/*
 * Which packets were shed, by a hash of the skb's address and of what stays of its
 * headers, so that no later hook takes one for a packet that begins there. Not in
 * sh_packets: it would fill with those whose end no hook tells. In a set the one that was
 * shed first makes room, and two CPUs that do so at once choose the same: with five on
 * their way in one set, or two shed there at once, a packet may be counted twice, or be
 * seen from its middle. One that has the hash of another, shed at the same address less
 * than SHED_KNOWN before, is neither followed nor counted, but at a sender's first hook:
 * so may be what is forwarded and has nothing of its own in its headers (no IPv4 ID).
 */
#define SHED_KNOWN 3500000000ULL /* ns; a packet may wait for a neighbour for 3 s */
#define SHED_BITS 12
#define SHED_WAYS 4
struct shed {
	u64 key;
	u64 at; /* ns */
} shed[1 << SHED_BITS][SHED_WAYS] = {};

/* One followed skb. Only the CPU that holds the skb writes here. */
struct packet {
	u64 id;
	u64 flow;
	u64 invariant; /* hash of what NAT and forwarding leave alone */
	u64 ct;        /* conntrack entry and its state, as last sent */
	u64 cause;     /* the packet in answer to which this one was made */
	struct tuple tuple; /* as last sent */
	u32 netns;
	u16 seq;
	u8 flags; /* EVENT_MATCHED, EVENT_REPLY */
	u8 cut;   /* bytes that were to be kept lay beyond the linear part */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, u64); /* address of the skb */
	__type(value, struct packet);
} sh_packets SEC(".maps");

/* A direction of a followed connection, as it looks at some point of its way. */
struct flow {
	u64 id;
	u64 used; /* ns; user space removes what nobody used */
	u8 reply;
	u8 matched;
	u8 pad[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, struct tuple);
	__type(value, struct flow);
} sh_flows SEC(".maps");

/* Where a packet may become one that the selection wants, by translation: the
 * virtual services in front of selected real servers. */
struct via {
	u32 dst[4];
	__be16 port; /* 0: any */
	u8 proto;
	u8 family;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct via);
	__type(value, u32);
} sh_via SEC(".maps");

/* A packet in answer to which the kernel is about to make another one. The
 * tuple tells whether the next packet on this CPU really is that answer. */
struct cause {
	u64 packet;
	struct tuple tuple;
	u64 skb; /* for ip_vs_conn_new, which is not told the skb */
	u64 pad;
	/* For early_drop, which is not either: the skb that conntrack looks up, its
	 * packet, and the number of that packet's next event. */
	u64 looked_up;
	u64 looked_up_packet;
	u64 looked_up_seq;
	u64 pad2[5];
};
struct cause causes[CPUS] = {};

/* Filled by no one: a new entry's first value. */
const volatile struct packet no_packet = {};

u64 lives[CPUS * 8] = {};

/*
 * A number that no other life has: the CPU, a counter of its own, and the skb.
 * The counter alone would not do: an atomic addition that also returns the sum
 * exists from 5.12 on only, and between adding and reading a softirq may come
 * with another skb.
 */
static __always_inline u64 new_packet_id(u64 skb)
{
	u32 cpu = this_cpu();
	u64 *n = &lives[cpu * 8];

	__sync_fetch_and_add(n, 1);
	return (u64)cpu << 56 | (*(volatile u64 *)n & 0xfffffff) << 28 | ((skb >> 6) & 0xfffffff);
}

#endif
