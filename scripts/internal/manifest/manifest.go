// SPDX-License-Identifier: Apache-2.0

// Package manifest is what the lab tells of its cluster (`lab manifest`) to whoever
// makes the same known to an API server.
package manifest

// Cluster is all of it.
type Cluster struct {
	Nodes    []Node    `json:"nodes"`
	Pods     []Pod     `json:"pods"`
	Services []Service `json:"services"`
}

// Node is a node.
type Node struct {
	Name    string   `json:"name"`
	PodCIDR string   `json:"pod_cidr"`
	IPs     []string `json:"ips"`
}

// Pod is a pod on a node.
type Pod struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Node      string   `json:"node"`
	IPs       []string `json:"ips"`
}

// Service is a service with one port, and its endpoints at the same port.
type Service struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// ClusterIPs are its virtual addresses; none: any will do, as long as the
	// API server chooses it.
	ClusterIPs []string `json:"cluster_ips,omitempty"`
	// Ingress is its address at the load balancer; empty: none, and no NodePort.
	Ingress  string `json:"ingress,omitempty"`
	NodePort uint16 `json:"node_port,omitempty"`
	// Local is external traffic policy Local.
	Local bool `json:"local,omitempty"`
	// InternalLocal is internal traffic policy Local; Sticky is session affinity by
	// the client's address.
	InternalLocal bool       `json:"internal_local,omitempty"`
	Sticky        bool       `json:"sticky,omitempty"`
	Protocol      string     `json:"protocol"` // tcp or udp
	Port          uint16     `json:"port"`
	Endpoints     []Endpoint `json:"endpoints"`
}

// Endpoint is a pod of the service's namespace.
type Endpoint struct {
	Pod  string   `json:"pod"`
	Node string   `json:"node"`
	IPs  []string `json:"ips"`
}
