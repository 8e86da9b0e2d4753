// SPDX-License-Identifier: Apache-2.0

// Package tracer turns a selection into a stream of events: it finds out what
// the running kernel can do, attaches the programs of package bpf, switches
// them on at once, reads and decodes what they send, and puts the kernel back
// as it was.
//
// Nothing is pinned and nothing outlives the process: every attachment is
// owned by a file descriptor. New attaches or fails as a whole; Close detaches.
package tracer
