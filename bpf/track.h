/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which skb is which packet: the lives of socket buffers. */
#ifndef STACKHOP_TRACK_H
#define STACKHOP_TRACK_H

#include "ring.h"
#include "select.h"

/*
 * A pointer's low 32 bits as a number. The verifier refuses arithmetic on
 * context pointers and reading them piecewise, except for this: 32-bit
 * subtraction yields "a meaningless scalar" to privileged programs
 * (kernel/bpf/verifier.c, adjust_ptr_min_max_vals). No helper is called.
 */
static __always_inline u32 low32(u64 pointer)
{
	u64 v;

	asm volatile("r0 = %1\n\tw0 -= 0\n\t%0 = r0" : "=r"(v) : "r"(pointer) : "r0");
	return v;
}

static __always_inline u32 tracked_slot(u32 low)
{
	/* skbs are at least 64 bytes apart; two of an fclone pair 232. */
	return ((low >> 6) * 0x9e3779b1u) >> (32 - TRACKED_BITS);
}

static __always_inline bool maybe_tracked(u64 skb)
{
	return tracked[tracked_slot(low32(skb))] != 0;
}

static __always_inline struct packet *begin_life(u64 skb)
{
	struct packet *p;

	if (bpf_map_update_elem(&sh_packets, &skb, (const void *)&no_packet, BPF_NOEXIST)) {
		count(STAT_LOST_TABLE);
		return 0;
	}
	p = bpf_map_lookup_elem(&sh_packets, &skb);
	if (!p)
		return 0;
	__sync_fetch_and_add(&tracked[tracked_slot(skb)], 1);
	count(STAT_PACKETS);
	p->id = new_packet_id(skb);
	return p;
}

static __always_inline void end_life(u64 skb)
{
	if (!bpf_map_delete_elem(&sh_packets, &skb))
		__sync_fetch_and_add(&tracked[tracked_slot(skb)], -1);
}

static __always_inline struct packet *find_life(u64 skb)
{
	return bpf_map_lookup_elem(&sh_packets, &skb);
}

#endif
