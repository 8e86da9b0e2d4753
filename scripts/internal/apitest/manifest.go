// SPDX-License-Identifier: Apache-2.0

//go:build kube || lab

package apitest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/stackhop/stackhop/scripts/internal/manifest"
)

// CreateManifest creates what a cluster consists of.
func CreateManifest(t *testing.T, k *kubernetes.Clientset, m *manifest.Cluster) {
	t.Helper()
	for _, n := range m.Nodes {
		CreateNode(t, k, n.Name, n.PodCIDR, n.IPs...)
	}
	for _, p := range m.Pods {
		CreatePod(t, k, p.Namespace, p.Name, p.Node, p.IPs...)
	}
	for i := range m.Services {
		s := &m.Services[i]
		CreateService(t, k, s.Namespace, s.Name, func(o *corev1.Service) { describe(o, s) })
		for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			if slice := sliceOf(s, family); len(slice.Endpoints) > 0 {
				CreateSlice(t, k, slice)
			}
		}
	}
}

func protocol(s *manifest.Service) corev1.Protocol {
	return corev1.Protocol(strings.ToUpper(s.Protocol))
}

// describe makes a service what the manifest says.
func describe(o *corev1.Service, s *manifest.Service) {
	o.Spec.Ports = []corev1.ServicePort{{Name: "main", Protocol: protocol(s), Port: int32(s.Port), NodePort: int32(s.NodePort)}}
	if o.Spec.ClusterIPs = s.ClusterIPs; len(s.ClusterIPs) > 0 {
		o.Spec.ClusterIP = s.ClusterIPs[0]
	}
	if len(s.ClusterIPs) > 1 {
		o.Spec.IPFamilyPolicy = Ptr(corev1.IPFamilyPolicyRequireDualStack)
	}
	if s.InternalLocal {
		o.Spec.InternalTrafficPolicy = Ptr(corev1.ServiceInternalTrafficPolicyLocal)
	}
	if s.Sticky {
		o.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if s.Ingress == "" {
		return
	}
	o.Spec.Type = corev1.ServiceTypeLoadBalancer
	if s.Local {
		o.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	o.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: s.Ingress, IPMode: Ptr(corev1.LoadBalancerIPModeVIP)}}
}

// sliceOf is the EndpointSlice of a service for one family. It has no endpoints if
// the service has no address of that family.
func sliceOf(s *manifest.Service, family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	is := func(ip string) bool { return netip.MustParseAddr(ip).Is6() == (family == discoveryv1.AddressTypeIPv6) }
	serves := s.Ingress != "" && is(s.Ingress)
	for _, ip := range s.ClusterIPs {
		serves = serves || is(ip)
	}
	slice := NewSlice(s.Namespace, s.Name)
	slice.Name = fmt.Sprintf("%s-%s", s.Name, strings.ToLower(string(family)))
	slice.AddressType = family
	slice.Ports = []discoveryv1.EndpointPort{{Name: Ptr("main"), Port: Ptr(int32(s.Port)), Protocol: Ptr(protocol(s))}}
	for _, e := range s.Endpoints {
		for _, ip := range e.IPs {
			if serves && is(ip) {
				slice.Endpoints = append(slice.Endpoints, NewEndpoint(ip, e.Node, e.Pod))
			}
		}
	}
	return slice
}
