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

/* read_port finds an end's port where the expression finds it (pcapexpr, "Meaning"). */
static __always_inline int read_port(u64 start, u32 valid, u32 destination, __be16 *port)
{
	u32 off = sizeof(struct ipv6);
	u8 l3[10] = {}; /* as far as IPv4's protocol */
	u8 proto;

	if (bpf_probe_read_kernel(l3, sizeof(l3), (void *)start))
		return -1;
	proto = l3[6];
	if (l3[0] >> 4 == 4) {
		off = (l3[0] & 15) * 4;
		proto = l3[9];
		if (off < sizeof(struct ipv4) || l3[6] & (IP_OFFSET_MASK >> 8) || l3[7])
			return -1;
	}
	if (proto != PROTO_TCP && proto != PROTO_UDP && proto != PROTO_SCTP)
		return -1;
	if (off + 2 * sizeof(*port) > valid)
		return -1;
	return bpf_probe_read_kernel(port, sizeof(*port), (void *)(start + off + (destination ? sizeof(*port) : 0)));
}

/*
 * lookup_sets returns the sets of one end of a packet, the destination or the source.
 * start: of the network header, of which valid bytes can be read. Plain numbers, as
 * for admit(): with each way that leads here looked at anew, 6.1's verifier took more
 * than 100,000 instructions for a program.
 */
__noinline u32 lookup_sets(u64 start, u32 valid, u32 family, u32 destination)
{
	struct target end = { .family = family };
	u32 sets;
	int err;

	if (family == 4) {
		const struct ipv4 *ip = (const void *)start;

		err = valid < sizeof(*ip) || bpf_probe_read_kernel(end.addr, sizeof(ip->src), destination ? &ip->dst : &ip->src);
	} else {
		const struct ipv6 *ip = (const void *)start;

		err = valid < sizeof(*ip) || bpf_probe_read_kernel(end.addr, sizeof(ip->src), destination ? ip->dst : ip->src);
	}
	if (err)
		return 0;
	sets = sets_of(&end);
	if (sets & TARGET_PORTS && !read_port(start, valid, destination, &end.port))
		sets |= sets_of(&end);
	return sets;
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
	if (!maybe_target(src) && !maybe_target(dst))
		return;
	in->src_sets = lookup_sets(start, in->valid, l3->v4.vihl >> 4, false);
	in->dst_sets = lookup_sets(start, in->valid, l3->v4.vihl >> 4, true);
}

#endif
