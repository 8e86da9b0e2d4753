// SPDX-License-Identifier: Apache-2.0

// Package tracer turns a selection into a stream of events: it finds out what
// the running kernel can do, attaches the programs of package bpf, switches
// them on at once, reads and decodes what they send, and puts the kernel back
// as it was.
//
// Nothing is pinned: every attachment is owned by a file descriptor of this process,
// or, behind Close, for some seconds of one of ours that only lets go of them. New
// attaches or fails as a whole; Close detaches.
package tracer
