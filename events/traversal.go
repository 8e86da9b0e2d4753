// SPDX-License-Identifier: Apache-2.0

package events

import (
	"net/netip"
	"time"
)

// Verdict is how a traversal ended.
type Verdict string

// The verdicts. A traversal with a lost event, an unknown beginning or an
// unknown end is incomplete and never counts as delivered.
const (
	Delivered  Verdict = "delivered"
	LeftNode   Verdict = "left-node"
	Terminated Verdict = "terminated"
	InFlight   Verdict = "in-flight"
	Incomplete Verdict = "incomplete"
)

// Kinds of network namespace.
const (
	KindNode    = "node"
	KindPod     = "pod"
	KindNetwork = "network" // a router or outside host of a lab: shown, not counted
)

// How a visit was entered and left.
const (
	ViaSocket     = "socket"
	ViaDevice     = "device"
	ViaKernel     = "kernel"     // made in mid-stack: ICMP errors, REJECT; the way out only
	ViaTerminated = "terminated" // never left: ended here
	ViaUnknown    = "unknown"    // not observed
)

// Traversal is the ordered visits of one packet, with a verdict. Its JSON form
// is a contract: fields may be added, never renamed or dropped.
type Traversal struct {
	Time      time.Time `json:"time"`
	ID        string    `json:"id"`
	Node      string    `json:"node"`
	Flow      string    `json:"flow"`
	Direction string    `json:"direction"` // request or reply
	Proto     string    `json:"proto"`
	TCPFlags  string    `json:"tcp_flags,omitempty"`
	ICMP      string    `json:"icmp,omitempty"` // type/code, e.g. 3/3
	Length    uint32    `json:"length"`         // bytes from the network header on
	Src       Endpoint  `json:"src"`            // as the sender wrote it
	Dst       Endpoint  `json:"dst"`
	Stacks    float64   `json:"stacks"`
	L3Stacks  float64   `json:"l3_stacks"`
	Verdict   Verdict   `json:"verdict"`
	Where     string    `json:"where,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	// KernelReason is the name of the kernel's drop reason, Location the
	// symbol that dropped the packet; both empty where there was no drop.
	KernelReason string     `json:"kernel_reason,omitempty"`
	Location     string     `json:"location,omitempty"`
	Summary      string     `json:"summary"`
	DataLink     []string   `json:"data_link"`
	Visits       []Visit    `json:"visits"`
	NAT          []NAT      `json:"nat"`
	Conntrack    *CTSummary `json:"conntrack,omitempty"`
	// Service is what was known of the virtual service that a request was sent
	// to, where it was translated or should have been.
	Service *ServiceFacts `json:"service,omitempty"`
	// Rule is the netfilter rule that dropped or rejected it, where one was found.
	Rule     *RuleFacts `json:"rule,omitempty"`
	CausedBy string     `json:"caused_by"`
	Causes   []string   `json:"causes"`
	// CausedByText and CausesText say in words what CausedBy and Causes name.
	CausedByText string   `json:"caused_by_text,omitempty"`
	CausesText   []string `json:"causes_text,omitempty"`
	Notes        []string `json:"notes,omitempty"` // facts worth saying, e.g. "client address lost"
	// Explanation is there only where it was asked for, in JSON.
	Explanation *Explanation `json:"explanation,omitempty"`
	// NotObserved lists what no hook of the run watches; empty: all is watched.
	NotObserved []string `json:"not_observed,omitempty"`
	Complete    bool     `json:"complete"`
	Lost        int      `json:"lost"`
	// LostInRun is what the run had lost by then, of this and all other packets, by
	// stage; empty: nothing. Whoever gives it shares it among traversals.
	LostInRun map[string]uint64 `json:"lost_in_run,omitempty"`

	// In is how the packet came to this node over a wire, Out how it left; nil:
	// it did not. They join the traversals of several nodes.
	In  *WireEnd `json:"-"`
	Out *WireEnd `json:"-"`
	// Packets lists the socket buffers' lives (Event.Packet) that are this packet.
	Packets []uint64 `json:"-"`
	// Parts are what the nodes saw of it, in the order of its way, where Join
	// made one of them; Packets is empty then. nil: it is one node's.
	Parts []Part `json:"-"`
}

// Part is what one node saw of a packet: a Traversal by itself.
type Part struct {
	Node, ID string
	Packets  []uint64 // as in that Traversal
}

// WireEnd is a packet as it was at the device between a node and its network.
type WireEnd struct {
	Time   uint64 // ns on the kernel's monotonic clock
	Device string
	Header Header // as it was there, after or before all translation
	// Hash is Link.Hash; 0: unknown.
	Hash uint32
}

// Endpoint is one end of a packet.
type Endpoint struct {
	IP      string `json:"ip"`
	Port    uint16 `json:"port,omitempty"`
	Pod     string `json:"pod,omitempty"`
	Service string `json:"service,omitempty"`
	Node    string `json:"node,omitempty"`
	// Stale says that Pod, Service and Node may no longer be right, see
	// AddressNames.Stale.
	Stale   bool   `json:"stale,omitempty"`
	Process string `json:"process,omitempty"`
	PID     uint32 `json:"pid,omitempty"`
}

// Visit is the stay of a packet in one network namespace.
type Visit struct {
	Netns    uint32      `json:"netns"`
	Name     string      `json:"name"`
	Kind     string      `json:"kind"`
	Node     string      `json:"node,omitempty"`
	Pod      string      `json:"pod,omitempty"`    // namespace/name
	Labels   Labels      `json:"labels,omitempty"` // the pod's
	Entered  string      `json:"entered"`
	Left     string      `json:"left"` // socket, device, terminated, or unknown
	Stacks   float64     `json:"stacks"`
	Bridged  bool        `json:"bridged"`
	BridgeNF bool        `json:"bridge_nf,omitempty"` // netfilter ran from the bridge
	Devices  []string    `json:"devices"`
	NAT      []NAT       `json:"nat,omitempty"`
	StartNS  uint64      `json:"start_ns"` // since Traversal.Time
	EndNS    uint64      `json:"end_ns"`
	Hooks    []HookVisit `json:"hooks"`
}

// HookVisit is one event of a visit.
type HookVisit struct {
	Hook   string `json:"hook"`
	NS     uint64 `json:"ns"` // since Traversal.Time
	Device string `json:"device,omitempty"`
	Detail string `json:"detail,omitempty"` // e.g. "LOCAL_IN", "172.23.96.163:80", "SOCKET_RCVBUFF"
	// Evidence marks the events that the verdict rests on.
	Evidence bool    `json:"evidence,omitempty"`
	Station  Station `json:"-"`
}

// NAT is one translation, found by comparing headers between two events.
type NAT struct {
	By         string `json:"by"`   // ipvs or conntrack
	Kind       string `json:"kind"` // dnat or snat
	Hook       string `json:"hook"`
	NS         uint64 `json:"ns"` // of the hook, since Traversal.Time
	From       string `json:"from"`
	To         string `json:"to"`
	Masquerade bool   `json:"masquerade,omitempty"`
	// Mark is the bit of the packet's mark by which kube-proxy asked for a
	// masquerade, "0x4000"; empty: not seen, others masquerade, too.
	Mark string `json:"mark,omitempty"`
	// Rule is the rule that masqueraded a pod that reaches itself through a service:
	// others do without a mark. Nil: not asked for, or not known.
	Rule *RuleFacts `json:"rule,omitempty"`
	// What is known of the end that it changed. Pod and Node (of an address that
	// is a node's, not a pod's) name what it became. Service names what it was,
	// for dnat, and what it became, for snat: the reply to a virtual service.
	Service string `json:"service,omitempty"`
	Pod     string `json:"pod,omitempty"`
	Node    string `json:"node,omitempty"`
	Stale   bool   `json:"stale,omitempty"` // of one of them, see AddressNames.Stale
}

// CTSummary is a conntrack entry in words.
type CTSummary struct {
	Original string `json:"original"`
	Reply    string `json:"reply"`
	State    string `json:"state"`
}

// Device is what is known of a network device.
type Device struct {
	Name        string
	Kind        string // veth, bridge, dummy, vxlan, …; empty: a physical or unknown one
	Master      uint32 // ifindex of the bridge it is a port of, in the same namespace; 0: none
	PeerNetns   uint32 // veth: the namespace of the peer; 0: unknown
	PeerIfindex uint32
	Addrs       []netip.Addr // assigned to it; empty: unknown or none
}

// Namespace is what is known of a network namespace.
type Namespace struct {
	Name string // shown name; empty: nobody named it
	Kind string // KindNode, KindPod or KindNetwork
	Node string // name of the node it is, or belongs to
	Pod  string // namespace/name
	// Labels are the pod's; empty: not known, or none.
	Labels Labels
}

// AddressNames are the names an address has.
type AddressNames struct {
	Pod, Service, Node string
	// Stale: whoever told the names has not been heard of since, or the pod is
	// gone.
	Stale bool
}

// ServiceNames is what Names may also be: they know about services.
type ServiceNames interface {
	// Service tells about the virtual service at an address, as packets find it
	// that come to a node (a pod's packets to its own node).
	Service(ip string, port uint16, proto uint8, node string) (ServiceFacts, bool)
}

// ProcessNames is what Names may also be: they know whose a process is. That
// tells apart the pods that share their node's network namespace.
type ProcessNames interface {
	// PodOfProcess is the pod (namespace/name) that a process belongs to; empty:
	// none, or not known.
	PodOfProcess(pid uint32) string
}

// ServiceFacts explain what became of a packet to a virtual service.
type ServiceFacts struct {
	Name     string `json:"name"`   // namespace/name
	Port     string `json:"port"`   // name of the port, or its number
	Type     string `json:"type"`   // ClusterIP, NodePort or LoadBalancer
	Policy   string `json:"policy"` // Local or Cluster: which endpoints packets to this address may go to
	Affinity bool   `json:"affinity,omitempty"`
	// How many ready endpoints are on the node and elsewhere, and how many others
	// there are.
	Here        int  `json:"here"`
	Elsewhere   int  `json:"elsewhere"`
	Terminating int  `json:"terminating"`
	NotReady    int  `json:"not_ready"`
	Stale       bool `json:"stale,omitempty"`
	// Endpoints are these real servers one by one; nil: not known.
	Endpoints *ServiceEndpoints `json:"endpoints,omitempty"`
}

// Names tells the model what the kernel's numbers stand for. Implementations
// answer from memory, at once, and may know nothing: the zero values are valid
// answers. They are called from one goroutine.
type Names interface {
	Device(netns, ifindex uint32) (Device, bool)
	Namespace(netns uint32) Namespace
	Address(ip string, port uint16) AddressNames
	// Process names the process that owns the socket, by its inode.
	Process(inode uint32) (comm string, pid uint32, ok bool)
	// Symbol names a kernel address, without offset; empty: unknown.
	Symbol(addr uint64) string
	// DropReason names a value of the traced kernel's enum skb_drop_reason,
	// without its prefix; empty: unknown.
	DropReason(reason uint32) string
}
