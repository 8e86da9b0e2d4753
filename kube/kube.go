// SPDX-License-Identifier: Apache-2.0

// Package kube knows what a node's namespaces and addresses are called in
// Kubernetes. Sources, each of which may be missing, slow or wrong, put what
// they know into an Index; the Index answers at once, from memory.
package kube

import (
	"net/netip"

	"github.com/stackhop/stackhop/events"
)

// Source says who knows something. They know different halves: a container
// runtime which namespace is which pod, the API server what an address is.
type Source uint8

// The sources.
const (
	FromAPI  Source = iota // the API server
	FromCRI                // the container runtime
	FromProc               // /proc and cgroups
	sources
)

// A Store takes what sources know. Its methods may be called from several
// goroutines, and keep nothing of what they are given.
type Store interface {
	// PutPod adds a pod or replaces what the same source said of the same UID.
	PutPod(from Source, p *Pod)
	DeletePod(from Source, uid string)
	PutService(s *Service)
	DeleteService(namespace, name string)
	PutSlice(s *Slice)
	DeleteSlice(namespace, name string)
	PutNode(n *Node)
	DeleteNode(name string)
	SetState(from Source, s State)
}

// State is how a source is.
type State uint8

// States. What a source said stays known when it is lost, and is marked stale.
const (
	Absent  State = iota // not there, switched off, or never answered
	Loading              // there, but has not said all it knows
	Current              // all it knows is known, and changes are told
	Stale                // it was current, and is lost for now
)

// Pod is what one source says of a pod.
type Pod struct {
	Namespace, Name, UID string
	Node                 string // empty: not known, or not scheduled
	IPs                  []netip.Addr
	HostNetwork          bool     // its addresses are its node's
	Netns                uint32   // inode of its network namespace; 0: not known
	Containers           []string // the runtime's container IDs, its sandbox's included, without "containerd://"
	Labels               events.Labels
	Done                 bool // has succeeded or failed: its addresses may be another pod's
}

// Service is a service of the API server.
type Service struct {
	Namespace, Name string
	Type            string       // ClusterIP, NodePort, LoadBalancer or ExternalName
	ClusterIPs      []netip.Addr // none for a headless one
	ExternalIPs     []netip.Addr
	Ingress         []Ingress // of its load balancer
	Ports           []ServicePort
	ExternalLocal   bool // externalTrafficPolicy: Local
	InternalLocal   bool // internalTrafficPolicy: Local
	Affinity        bool // sessionAffinity: ClientIP
}

// Ingress is an address of a load balancer.
type Ingress struct {
	IP    netip.Addr
	Proxy bool // ipMode: Proxy: packets come to the node with another destination
}

// ServicePort is one port of a service.
type ServicePort struct {
	Name     string
	Proto    uint8 // IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
	Port     uint16
	NodePort uint16 // 0: none
}

// Slice is an EndpointSlice.
type Slice struct {
	Namespace, Name string
	Service         string // of the same namespace
	Ports           []SlicePort
	Endpoints       []Endpoint
}

// SlicePort is a port of all endpoints of a slice. Its name is the service
// port's.
type SlicePort struct {
	Name  string
	Proto uint8
	Port  uint16 // 0: all
}

// Endpoint is one real server of a service.
type Endpoint struct {
	Addrs       []netip.Addr
	Node        string
	Pod         string // name of the pod, in the slice's namespace; empty: none
	Ready       bool
	Serving     bool
	Terminating bool
	Zone        string // empty: not told
}

// Node is a node of the cluster.
type Node struct {
	Name     string
	Addrs    []netip.Addr
	PodCIDRs []netip.Prefix
}
