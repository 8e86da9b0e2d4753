// SPDX-License-Identifier: Apache-2.0

package tracer

import "errors"

// ErrNoFunctionHooks says that this kernel refuses hooks on its functions.
var ErrNoFunctionHooks = errors.New("this kernel refuses hooks on its functions")

// Check is one thing that tracing needs.
type Check struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, missing, degraded
	Detail string `json:"detail,omitempty"`
	WayOut string `json:"way_out,omitempty"`
}

// Kernel is what the running kernel can do for stackhop.
type Kernel struct {
	Release        string  `json:"release"`
	Arch           string  `json:"arch"`
	Checks         []Check `json:"checks"`
	CanTrace       bool    `json:"can_trace"`
	CanTracepoints bool    `json:"can_trace_tracepoints"`
}

// HookStatus is one row of the hook table on this kernel.
type HookStatus struct {
	Name     string `json:"name"`
	Station  string `json:"station"`
	Function string `json:"function"`
	How      string `json:"how"` // fentry, fexit, kprobe, tp_btf, tcx, clsact, absent
	Required bool   `json:"required"`
	Kernels  string `json:"kernels,omitempty"`
	Means    string `json:"means"`
	Err      string `json:"error,omitempty"`
	Hits     uint64 `json:"hits,omitempty"`
}
