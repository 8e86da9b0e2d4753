/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel types that stackhop reads, and no more: every field that a
 * program depends on is listed here, and CO-RE finds it in the running
 * kernel. Order and neighbours are the kernel's business.
 */
#ifndef STACKHOP_KERNEL_H
#define STACKHOP_KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int s32;
typedef signed long long s64;

typedef u8 __u8;
typedef u16 __u16;
typedef u32 __u32;
typedef u64 __u64;
typedef s32 __s32;
typedef s64 __s64;
typedef _Bool bool;
#define true 1
#define false 0

typedef u16 __be16;
typedef u32 __be32;
typedef u32 __wsum;

#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY_OF_MAPS 12
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_ANY 0
#define BPF_NOEXIST 1
#define BPF_RB_NO_WAKEUP 1
#define BPF_RB_AVAIL_DATA 0

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct ipv4_devconf {
	int data[1]; /* the first is IPV4_DEVCONF_FORWARDING */
};

struct in_device {
	struct ipv4_devconf cnf;
};

struct net_device {
	int ifindex;
	u16 type;
	unsigned int flags;
	unsigned long state;
	struct in_device *ip_ptr;
	possible_net_t nd_net;
};

struct dst_entry {
	short error;
};

struct net_bridge_port {
	struct net_device *dev;
	u8 state;
};

struct sock_common {
	u16 skc_family;
	volatile u8 skc_state;
};

typedef struct {
	int owned;
} socket_lock_t;

struct file;

struct socket {
	struct file *file;
};

struct inode {
	unsigned long i_ino;
};

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

struct sock {
	struct sock_common __sk_common;
	socket_lock_t sk_lock;
	struct socket *sk_socket;
	u16 sk_protocol;
};

struct sk_buff {
	struct sk_buff *next;
	struct net_device *dev;
	unsigned long _nfct;
	unsigned long _skb_refdst;
	unsigned int len;
	u16 network_header;
	u16 mac_header;
	u16 vlan_tci;
	u8 encapsulation : 1;
	u32 mark;
	u32 tail;
	u32 end;
	unsigned char *head;
	unsigned char *data;
};

/* 6.1 and earlier say in a bit of its own whether vlan_tci is valid; later
 * kernels test vlan_proto (commit 354259fa73e2). */
struct sk_buff___vlan_present {
	u8 vlan_present : 1;
};

struct sk_buff___vlan_proto {
	__be16 vlan_proto;
};

struct skb_shared_info {
	u16 gso_size;
	u16 gso_segs;
};

/* 5.10 has an unsigned int hook; the low byte is the same. */
struct nf_hook_state {
	u8 hook;
	u8 pf;
	struct net *net;
};

struct nf_conntrack_tuple_hash {
	struct {
		char opaque[40];
	} tuple;
};

struct nf_conntrack_zone {
	u16 id;
};

struct nf_conn {
	struct nf_conntrack_tuple_hash tuplehash[2];
	unsigned long status;
};

struct nf_conn___zone {
	struct nf_conntrack_zone zone;
};

#pragma clang attribute pop

/* struct nf_conntrack_tuple as all kernels since 2.6.20 lay it out. */
struct ct_tuple {
	u32 src[4];
	__be16 sport;
	u16 l3num;
	u32 dst[4];
	__be16 dport;
	u8 proto;
	u8 dir;
};

/*
 * tail and end, head and data stand next to each other in struct sk_buff since
 * 2.6.22, so that two reads bring all four. The Go side checks it against the
 * kernel's BTF before it attaches anything. (Between the pairs some kernels
 * have a hole.)
 */
struct skb_ends {
	u32 tail;
	u32 end;
};

struct skb_starts {
	u64 head;
	u64 data;
};

#endif
