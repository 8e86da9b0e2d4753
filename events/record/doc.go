// SPDX-License-Identifier: Apache-2.0

// Package record writes and reads recordings: all that a run was told, so that
// the same traversals are made of it again on any machine. FORMAT.md beside it
// describes the file byte by byte.
//
// A recording holds what a Stitcher got, not what it made of it: the events and
// the ticks, in their order, and every answer of its Names. A replay runs the
// same code on the same inputs.
package record
