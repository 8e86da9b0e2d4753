/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One ring a CPU, so that CPUs never wait for each other. */
#ifndef STACKHOP_RING_H
#define STACKHOP_RING_H

#include "state.h"

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1); /* the number of CPUs, set by user space */
	__type(key, u32);
	__array(values, struct ring);
} sh_rings SEC(".maps");

static __always_inline void *this_ring(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&sh_rings, &cpu);
}

/*
 * above_mark tells all CPUs where a ring has more in it than ring_mark. They read it for
 * each packet that begins: written rarely, it stays in their caches. Not static, as
 * admit(): up to 6.1 its ways multiply with all that is behind an event otherwise.
 */
__noinline int above_mark(void)
{
	void *ring = this_ring();
	u64 now;

	if (!ring || bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) <= ring_mark)
		return false;
	now = bpf_ktime_get_ns();
	if (crowded_until < now + CROWDED / 2)
		crowded_until = now + CROWDED;
	return true;
}

/* crowded says whether user space lags so far behind that another packet would cost
 * those that are followed their events: better all of some than some of all. */
static __always_inline bool crowded(void)
{
	return above_mark() || (crowded_until && bpf_ktime_get_ns() < crowded_until);
}

/*
 * The only place that reserves, and so the only one that loses: every event
 * that a followed packet should have made is counted in STAT_MATCHED, and in
 * STAT_LOST_RING if there was no room.
 */
static __always_inline void *reserve(u64 size)
{
	void *ring = this_ring();
	void *room = 0;

	count(STAT_MATCHED);
	if (rate)
		budgets[this_cpu()].used++;
	above_mark();
	if (ring)
		room = bpf_ringbuf_reserve(ring, size, 0);
	if (!room)
		count(STAT_LOST_RING);
	return room;
}

/* Readers poll: waking one for each event would cost more than the event. */
static __always_inline void submit(void *room)
{
	bpf_ringbuf_submit(room, BPF_RB_NO_WAKEUP);
}

#endif
