// SPDX-License-Identifier: Apache-2.0

// Package topology is what there is on a node, apart from packets: network
// namespaces with their devices, the links between them, routes, IPVS services
// and settings. It is the model and the ways to write it: as text, JSON, a
// Graphviz graph and an SVG drawing. Package tracer reads it from the kernel.
//
// Names, also those of devices, come from workloads. The model has them as
// they are; each form escapes them in its own way.
package topology
