// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strings"

	"github.com/stackhop/stackhop/events"
)

// way is where a device of a visit stands on the packet's way through the stack.
type way struct {
	out bool   // on the way down from the stack; else up to it
	ns  uint64 // when the packet was first seen there, since its beginning
}

// hooks at which a packet comes in by a device, and goes out by one.
var (
	inHooks  = map[string]bool{"netif_receive_skb": true, "tc_ingress": true, "br_pass_frame_up": true}
	outHooks = map[string]bool{"tc_egress": true, "net_dev_queue": true, "net_dev_start_xmit": true, "veth_xmit": true, "br_dev_xmit": true}
)

// ways finds the devices of a visit among its hooks, in order.
func ways(v *events.Visit) []way {
	out := make([]way, len(v.Devices))
	next := 0
	for i := range v.Hooks {
		h := &v.Hooks[i]
		in := inHooks[h.Hook]
		if (!in && !outHooks[h.Hook]) || h.Device == "" {
			continue
		}
		// A device in brackets is a bridge that has no hook of its own.
		for k := next; k < len(v.Devices); k++ {
			if v.Devices[k] == h.Device && (k == 0 || !sameStop(v, out, k, !in)) {
				for ; next < k; next++ {
					out[next] = way{out: next > 0 && out[next-1].out, ns: h.NS}
				}
				out[k] = way{out: !in, ns: h.NS}
				next = k + 1
				break
			} else if !strings.HasPrefix(v.Devices[k], "(") {
				break
			}
		}
	}
	for ; next < len(out); next++ {
		out[next] = way{out: guess(v, next), ns: v.EndNS}
	}
	return out
}

// sameStop says whether device k would be the one before it once more: the
// same device in the same direction.
func sameStop(v *events.Visit, ways []way, k int, out bool) bool {
	return v.Devices[k] == v.Devices[k-1] && ways[k-1].out == out
}

// guess is the direction of a device that no hook tells.
func guess(v *events.Visit, k int) bool {
	switch {
	case v.Entered != events.ViaDevice:
		return true
	case v.Left != events.ViaDevice:
		return false
	}
	return k > 0 && k == len(v.Devices)-1
}

// place is the number of devices of a traversal that a packet had passed when
// translation n of a visit happened.
func place(vs []events.Visit, all [][]way, visit int, n *events.NAT) int {
	at := 0
	for i := range visit {
		at += len(vs[i].Devices)
	}
	for _, w := range all[visit] {
		if w.ns <= n.NS {
			at++
		}
	}
	return at
}
