/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The sets of ends that an expression asks for and that change while it runs.
 * All of it is behind the setting targets. */
#ifndef STACKHOP_TARGET_H
#define STACKHOP_TARGET_H

#include "parse.h"

/* The expression has sets. */
const volatile u32 targets = 0;

/*
 * One bit for each hash value of an address: clear means that no set has an end
 * there, which is all that most packets ever ask. User space writes these.
 */
#define TARGET_BITS 17
u64 target_bits[1 << (TARGET_BITS - 6)] = {};

/* An end that sets have. IPv4 addresses are in the first word. */
struct target {
	u32 addr[4];
	__be16 port; /* 0: any */
	u16 family;
};

/*
 * The value's bit i: the end is in set i. Each address has an entry for any
 * port; TARGET_PORTS there says that it has others as well.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct target);
	__type(value, u32);
} sh_targets SEC(".maps");
#define TARGET_PORTS (1u << 31)

/* folded: the address, its words joined by exclusive or. */
static __always_inline bool maybe_target(u32 folded)
{
	u32 h = (folded * 0x9e3779b1u) >> (32 - TARGET_BITS);

	return target_bits[h >> 6] >> (h & 63) & 1;
}

static __always_inline u32 sets_of(const struct target *t)
{
	u32 *sets = bpf_map_lookup_elem(&sh_targets, t);

	return sets ? *sets : 0;
}

/* read_ports finds ports where the expression finds them (pcapexpr, "Meaning"). */
static __always_inline int read_ports(const struct sel_input *in, u64 start, __be16 *ports)
{
	const union l3 *l3 = (const void *)in->hdr;
	u32 off = sizeof(l3->v6);
	u8 proto = l3->v6.next;

	if (l3->v4.vihl >> 4 == 4) {
		off = (l3->v4.vihl & 15) * 4;
		proto = l3->v4.proto;
		if (off < sizeof(l3->v4) || l3->v4.frag & bpf_htons(IP_OFFSET_MASK))
			return -1;
	}
	if (proto != PROTO_TCP && proto != PROTO_UDP && proto != PROTO_SCTP)
		return -1;
	if (off + 2 * sizeof(*ports) > in->valid)
		return -1;
	return bpf_probe_read_kernel(ports, 2 * sizeof(*ports), (void *)(start + off));
}

/* lookup_sets tells the sets of a packet whose ends may be in some. A function
 * of its own, for its stack. start: of the network header. */
static __noinline void lookup_sets(struct sel_input *in, u64 start)
{
	const union l3 *l3 = (const void *)in->hdr;
	struct target src = {}, dst = {};
	__be16 ports[2];
	u32 from, to;

	if (l3->v4.vihl >> 4 == 4) {
		if (in->valid < sizeof(l3->v4))
			return;
		src.family = dst.family = 4;
		src.addr[0] = l3->v4.src;
		dst.addr[0] = l3->v4.dst;
	} else {
		if (in->valid < sizeof(l3->v6))
			return;
		src.family = dst.family = 6;
		__builtin_memcpy(src.addr, l3->v6.src, sizeof(src.addr));
		__builtin_memcpy(dst.addr, l3->v6.dst, sizeof(dst.addr));
	}
	from = sets_of(&src);
	to = sets_of(&dst);
	if ((from | to) & TARGET_PORTS && !read_ports(in, start, ports)) {
		src.port = ports[0];
		dst.port = ports[1];
		from |= from & TARGET_PORTS ? sets_of(&src) : 0;
		to |= to & TARGET_PORTS ? sets_of(&dst) : 0;
	}
	in->src_sets = from;
	in->dst_sets = to;
}

/* find_sets fills src_sets and dst_sets, which must be zero. */
static __always_inline void find_sets(struct sel_input *in, u64 start)
{
	const union l3 *l3 = (const void *)in->hdr;
	const u32 *a = l3->v6.src, *b = l3->v6.dst;
	u32 src, dst;

	switch (l3->v4.vihl >> 4) {
	case 4:
		src = l3->v4.src;
		dst = l3->v4.dst;
		break;
	case 6:
		src = a[0] ^ a[1] ^ a[2] ^ a[3];
		dst = b[0] ^ b[1] ^ b[2] ^ b[3];
		break;
	default:
		return;
	}
	if (maybe_target(src) || maybe_target(dst))
		lookup_sets(in, start);
}

#endif
