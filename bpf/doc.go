// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the kernel side of stackhop: the programs, compiled and
// committed, and the wire format that they share with Go (wire.h).
//
// stackhop.bpf.c has the entry points, thin ones, over a header for each
// concern:
//
//	kernel.h  the kernel's types, only the fields that are read
//	wire.h    what crosses the ring buffer
//	state.h   settings, maps, counters
//	ring.h    one ring a CPU; the only place that reserves, and counts what it loses
//	parse.h   reading a packet's headers
//	target.h  the sets of addresses that names stand for
//	select.h  which packets are followed: the expression, flows, ways to it
//	track.h   which skb is which packet
//	record.h  what runs that record keep besides
//	event.h   one event: where, what goes with it, sending
//	hook.h    what every hook does
//
// A program names no kernel function. The hook table (package tracer) says
// which functions, tracepoints and devices it is attached to and where each
// keeps its arguments; hook_args() is generated for each row when it is loaded.
// Adding a hook is a row there, and a program here only if it carries data
// that none of the programs takes along yet.
package bpf
