// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/kube"
)

// What one object may have; the rest of it is left out. Kubernetes itself
// allows no more of endpoints and ports, and names of 253 characters.
const (
	maxName       = 253
	maxAddrs      = 64
	maxPorts      = 100
	maxEndpoints  = 1000
	maxContainers = 64
)

// The protocols' numbers.
var protocols = map[corev1.Protocol]uint8{"": 6, corev1.ProtocolTCP: 6, corev1.ProtocolUDP: 17, corev1.ProtocolSCTP: 132}

func thinPod(o runtime.Object, node string) (string, any) {
	in, ok := o.(*corev1.Pod)
	if !ok || !named(in.Namespace, in.Name, string(in.UID)) {
		return "", nil
	}
	p := &kube.Pod{
		Namespace: in.Namespace, Name: in.Name, UID: string(in.UID),
		Node:        bounded(in.Spec.NodeName),
		HostNetwork: in.Spec.HostNetwork,
		Done:        in.Status.Phase == corev1.PodSucceeded || in.Status.Phase == corev1.PodFailed,
	}
	p.IPs = addAddr(p.IPs, in.Status.PodIP)
	for _, ip := range in.Status.PodIPs {
		p.IPs = addAddr(p.IPs, ip.IP)
	}
	if node == "" || node == p.Node {
		p.Containers = containers(in.Status.InitContainerStatuses, in.Status.ContainerStatuses, in.Status.EphemeralContainerStatuses)
	}
	if node != "" && node == p.Node { // of the pods that share the node with the tool
		p.Labels = events.NewLabels(in.Labels)
	}
	return p.UID, p
}

func containers(lists ...[]corev1.ContainerStatus) (ids []string) {
	for _, list := range lists {
		for i := range list {
			_, id, _ := strings.Cut(list[i].ContainerID, "://")
			if id = bounded(id); id != "" && len(ids) < maxContainers {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func thinService(o runtime.Object) (string, any) {
	in, ok := o.(*corev1.Service)
	if !ok || !named(in.Namespace, in.Name) {
		return "", nil
	}
	s := &kube.Service{
		Namespace: in.Namespace, Name: in.Name,
		ExternalLocal: in.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		InternalLocal: in.Spec.InternalTrafficPolicy != nil && *in.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		Affinity:      in.Spec.SessionAffinity == corev1.ServiceAffinityClientIP,
	}
	switch in.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName:
		s.Type = string(in.Spec.Type)
	}
	// A headless one has "None" there, which is no address.
	s.ClusterIPs = addAddr(s.ClusterIPs, in.Spec.ClusterIP)
	for _, ip := range in.Spec.ClusterIPs {
		s.ClusterIPs = addAddr(s.ClusterIPs, ip)
	}
	for _, ip := range in.Spec.ExternalIPs {
		s.ExternalIPs = addAddr(s.ExternalIPs, ip)
	}
	for i := range in.Status.LoadBalancer.Ingress {
		from := &in.Status.LoadBalancer.Ingress[i]
		if ip, ok := addr(from.IP); ok && len(s.Ingress) < maxAddrs {
			s.Ingress = append(s.Ingress, kube.Ingress{IP: ip, Proxy: from.IPMode != nil && *from.IPMode == corev1.LoadBalancerIPModeProxy})
		}
	}
	for i := range in.Spec.Ports {
		from := &in.Spec.Ports[i]
		proto, known := protocols[from.Protocol]
		if number, ok := port(from.Port); ok && known && len(s.Ports) < maxPorts {
			nodePort, _ := port(from.NodePort)
			s.Ports = append(s.Ports, kube.ServicePort{Name: bounded(from.Name), Proto: proto, Port: number, NodePort: nodePort})
		}
	}
	return s.Namespace + "/" + s.Name, s
}

func thinSlice(o runtime.Object) (string, any) {
	in, ok := o.(*discoveryv1.EndpointSlice)
	if !ok || !named(in.Namespace, in.Name) {
		return "", nil
	}
	s := &kube.Slice{Namespace: in.Namespace, Name: in.Name, Service: bounded(in.Labels[discoveryv1.LabelServiceName])}
	for i := range in.Ports {
		p, ok := slicePort(&in.Ports[i])
		if ok && len(s.Ports) < maxPorts {
			s.Ports = append(s.Ports, p)
		}
	}
	for i := range in.Endpoints {
		e := endpoint(&in.Endpoints[i])
		if len(e.Addrs) > 0 && len(s.Endpoints) < maxEndpoints {
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	return s.Namespace + "/" + s.Name, s
}

func slicePort(in *discoveryv1.EndpointPort) (kube.SlicePort, bool) {
	p := kube.SlicePort{Name: bounded(deref(in.Name, ""))}
	known := false
	if p.Proto, known = protocols[deref(in.Protocol, "")]; !known {
		return p, false
	}
	if in.Port == nil { // all ports
		return p, true
	}
	p.Port, known = port(*in.Port)
	return p, known
}

func endpoint(in *discoveryv1.Endpoint) kube.Endpoint {
	ready := deref(in.Conditions.Ready, true) // "unknown" is to be taken for ready
	e := kube.Endpoint{
		Node: bounded(deref(in.NodeName, "")), Zone: bounded(deref(in.Zone, "")),
		Ready: ready, Serving: deref(in.Conditions.Serving, ready), Terminating: deref(in.Conditions.Terminating, false),
	}
	for _, ip := range in.Addresses {
		e.Addrs = addAddr(e.Addrs, ip)
	}
	if ref := in.TargetRef; ref != nil && ref.Kind == "Pod" {
		e.Pod = bounded(ref.Name)
	}
	return e
}

func thinNode(o runtime.Object) (string, any) {
	in, ok := o.(*corev1.Node)
	if !ok || !named(in.Name) {
		return "", nil
	}
	n := &kube.Node{Name: in.Name}
	for i := range in.Status.Addresses {
		switch a := &in.Status.Addresses[i]; a.Type {
		case corev1.NodeInternalIP, corev1.NodeExternalIP:
			n.Addrs = addAddr(n.Addrs, a.Address)
		}
	}
	n.PodCIDRs = addPrefix(n.PodCIDRs, in.Spec.PodCIDR)
	for _, cidr := range in.Spec.PodCIDRs {
		n.PodCIDRs = addPrefix(n.PodCIDRs, cidr)
	}
	return n.Name, n
}
