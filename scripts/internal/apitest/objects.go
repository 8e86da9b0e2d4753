// SPDX-License-Identifier: Apache-2.0

//go:build kube || lab

package apitest

import (
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Ptr is a pointer to v.
func Ptr[T any](v T) *T { return &v }

// CreateNamespace creates one.
func CreateNamespace(t *testing.T, k *kubernetes.Clientset, name string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := k.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// CreateNode creates a node with its addresses.
func CreateNode(t *testing.T, k *kubernetes.Clientset, name, podCIDR string, addrs ...string) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: podCIDR, PodCIDRs: []string{podCIDR}}}
	n, err := k.CoreV1().Nodes().Create(t.Context(), n, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	for _, a := range addrs {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	if _, err := k.CoreV1().Nodes().UpdateStatus(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// CreatePod creates a pod on a node with addresses, as a kubelet would have told them.
func CreatePod(t *testing.T, k *kubernetes.Clientset, namespace, name, node string, addrs ...string) *corev1.Pod {
	t.Helper()
	p, err := TryCreatePod(t, k, namespace, name, node, addrs...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TryCreatePod is CreatePod for goroutines, which must not end the test.
func TryCreatePod(t *testing.T, k *kubernetes.Clientset, namespace, name, node string, addrs ...string) (*corev1.Pod, error) {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "main", Image: "registry.example/app:1"}}},
	}
	p, err := k.CoreV1().Pods(namespace).Create(t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return TrySetPod(t, k, p, corev1.PodRunning, addrs...)
}

// TrySetPod sets a pod's phase and addresses.
func TrySetPod(t *testing.T, k *kubernetes.Clientset, p *corev1.Pod, phase corev1.PodPhase, addrs ...string) (*corev1.Pod, error) {
	p.Status.Phase = phase
	p.Status.PodIP, p.Status.PodIPs = "", nil
	for _, a := range addrs {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	if len(addrs) > 0 {
		p.Status.PodIP = addrs[0]
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", Image: "registry.example/app:1", ContainerID: "containerd://c-" + p.Name}}
	return k.CoreV1().Pods(p.Namespace).UpdateStatus(t.Context(), p, metav1.UpdateOptions{})
}

// CreateService creates a service as edit, which may be nil, makes it of one of
// type ClusterIP with port 80/TCP named http.
func CreateService(t *testing.T, k *kubernetes.Clientset, namespace, name string, edit func(*corev1.Service)) *corev1.Service {
	t.Helper()
	s, err := TryCreateService(t, k, namespace, name, edit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TryCreateService is CreateService for goroutines.
func TryCreateService(t *testing.T, k *kubernetes.Clientset, namespace, name string, edit func(*corev1.Service)) (*corev1.Service, error) {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	if edit != nil {
		edit(s)
	}
	ingress := s.Status.LoadBalancer.Ingress
	s, err := k.CoreV1().Services(namespace).Create(t.Context(), s, metav1.CreateOptions{})
	if err != nil || len(ingress) == 0 {
		return s, err
	}
	s.Status.LoadBalancer.Ingress = ingress
	return k.CoreV1().Services(namespace).UpdateStatus(t.Context(), s, metav1.UpdateOptions{})
}

// NewSlice is an EndpointSlice of a service, port 8080/TCP named http.
func NewSlice(namespace, service string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: Ptr("http"), Port: Ptr(int32(8080)), Protocol: Ptr(corev1.ProtocolTCP)}},
		Endpoints:   endpoints,
	}
}

// NewEndpoint is a ready endpoint that is a pod on a node.
func NewEndpoint(ip, node, pod string) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses: []string{ip}, NodeName: Ptr(node), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod},
		Conditions: discoveryv1.EndpointConditions{Ready: Ptr(true), Serving: Ptr(true), Terminating: Ptr(false)},
	}
}

// CreateSlice creates a slice.
func CreateSlice(t *testing.T, k *kubernetes.Clientset, s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	t.Helper()
	s, err := k.DiscoveryV1().EndpointSlices(s.Namespace).Create(t.Context(), s, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// DeletePod deletes a pod at once.
func DeletePod(t *testing.T, k *kubernetes.Clientset, namespace, name string) {
	t.Helper()
	if err := k.CoreV1().Pods(namespace).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: Ptr(int64(0))}); err != nil {
		t.Fatal(err)
	}
}

// Populate creates many pods and services, each with a slice that has five of
// the pods, side by side.
func Populate(t *testing.T, k *kubernetes.Clientset, namespace string, pods, services int) {
	t.Helper()
	CreateNamespace(t, k, namespace)
	ip := func(n int) string { return fmt.Sprintf("10.%d.%d.%d", 128+n/65536, n/256%256, n%256) }
	node := func(n int) string { return fmt.Sprintf("node-%d", n%100) }
	work := make(chan func() error)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for f := range work {
				if err := f(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range pods {
		work <- func() error {
			_, err := TryCreatePod(t, k, namespace, fmt.Sprintf("deployment-6d4cf56db6-%05d", n), node(n), ip(n))
			return err
		}
	}
	for n := range services {
		work <- func() error {
			name := fmt.Sprintf("service-%05d", n)
			if _, err := TryCreateService(t, k, namespace, name, nil); err != nil {
				return err
			}
			var endpoints []discoveryv1.Endpoint
			for i := range 5 {
				at := (n*5 + i) % pods
				endpoints = append(endpoints, NewEndpoint(ip(at), node(at), fmt.Sprintf("deployment-6d4cf56db6-%05d", at)))
			}
			_, err := k.DiscoveryV1().EndpointSlices(namespace).Create(t.Context(), NewSlice(namespace, name, endpoints...), metav1.CreateOptions{})
			return err
		}
	}
	close(work)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}
