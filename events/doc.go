// SPDX-License-Identifier: Apache-2.0

// Package events is the model of stackhop: what one packet met at one hook
// (Event), and what follows from many of them (Visit, Traversal, flow,
// verdict). It stitches events into traversals and renders them.
//
// The package knows neither the kernel nor Kubernetes: a live trace and a
// replayed recording feed it the same events, on any operating system. What
// it needs to know about devices, namespaces, addresses and processes reaches
// it through the interface Names.
package events
