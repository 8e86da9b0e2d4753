// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/stackhop/stackhop/internal/cpubound"
	"github.com/stackhop/stackhop/kube"
)

func ips(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// listed is a JSON list of n items with a number in each.
func listed(n int, format string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(all, ",")
}

var long = strings.Repeat("x", 254)

func TestThin(t *testing.T) {
	onNode := func(o runtime.Object) (string, any) { return thinPod(o, "n1") }
	tests := []struct {
		name string
		thin func(runtime.Object) (string, any)
		into runtime.Object
		json string
		key  string
		want any
	}{
		{"pod", onNode, &corev1.Pod{}, `{"metadata":{"namespace":"a","name":"b","uid":"u","labels":{"tier":"x","app":"b"}},"spec":{"nodeName":"n1","hostNetwork":true},
			"status":{"phase":"Failed","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"},{"ip":"x"},{"ip":""}],
			"initContainerStatuses":[{"containerID":"containerd://i"}],"containerStatuses":[{"containerID":"cri-o://c"},{"containerID":""}],"ephemeralContainerStatuses":[{"containerID":"x"}]}}`,
			"u", &kube.Pod{Namespace: "a", Name: "b", UID: "u", Node: "n1", HostNetwork: true, Done: true, IPs: ips("10.0.0.1", "fd00::1"), Containers: []string{"i", "c"}, Labels: "app=b,tier=x"}},
		{"pod elsewhere", onNode, &corev1.Pod{}, `{"metadata":{"namespace":"a","name":"b","uid":"u","labels":{"app":"b"}},"spec":{"nodeName":"n2"},
			"status":{"phase":"Running","podIP":"::ffff:10.0.0.1","containerStatuses":[{"containerID":"cri-o://c"}]}}`,
			"u", &kube.Pod{Namespace: "a", Name: "b", UID: "u", Node: "n2", IPs: ips("10.0.0.1")}},
		{"pod that is being deleted", onNode, &corev1.Pod{}, `{"metadata":{"namespace":"a","name":"b","uid":"u","deletionTimestamp":"2026-01-02T03:04:05Z"},"status":{"phase":"Running","podIP":"10.0.0.1"}}`,
			"u", &kube.Pod{Namespace: "a", Name: "b", UID: "u", IPs: ips("10.0.0.1")}},
		{"pod without UID", onNode, &corev1.Pod{}, `{"metadata":{"namespace":"a","name":"b"}}`, "", nil},
		{"pod with a long name", onNode, &corev1.Pod{}, `{"metadata":{"namespace":"a","name":"` + long + `","uid":"u"}}`, "", nil},
		{"pod with a long node and many addresses", onNode, &corev1.Pod{}, `{"metadata":{"namespace":"a","name":"b","uid":"u"},"spec":{"nodeName":"` + long + `"},"status":{"podIPs":[` + listed(99, `{"ip":"10.0.0.%d"}`) + `]}}`,
			"u", &kube.Pod{Namespace: "a", Name: "b", UID: "u", IPs: func() (all []netip.Addr) {
				for i := range byte(maxAddrs) {
					all = append(all, netip.AddrFrom4([4]byte{10, 0, 0, i}))
				}
				return all
			}()}},
		{"another kind", onNode, &corev1.Node{}, `{"metadata":{"name":"n"}}`, "", nil},
		{"service", thinService, &corev1.Service{}, `{"metadata":{"namespace":"a","name":"s"},"spec":{"type":"LoadBalancer","clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1","fd00::1"],
			"externalIPs":["203.0.113.1","no"],"externalTrafficPolicy":"Local","internalTrafficPolicy":"Cluster","sessionAffinity":"ClientIP",
			"ports":[{"name":"d","protocol":"UDP","port":53,"nodePort":30053},{"port":80},{"port":0},{"port":99999},{"port":1,"protocol":"XTP"}]},
			"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.2"},{"ip":"203.0.113.3","ipMode":"Proxy"},{"hostname":"x"}]}}}`,
			"a/s", &kube.Service{Namespace: "a", Name: "s", Type: "LoadBalancer", ClusterIPs: ips("10.96.0.1", "fd00::1"), ExternalIPs: ips("203.0.113.1"),
				Ingress:       []kube.Ingress{{IP: netip.MustParseAddr("203.0.113.2")}, {IP: netip.MustParseAddr("203.0.113.3"), Proxy: true}},
				Ports:         []kube.ServicePort{{Name: "d", Proto: 17, Port: 53, NodePort: 30053}, {Proto: 6, Port: 80}},
				ExternalLocal: true, Affinity: true}},
		{"headless", thinService, &corev1.Service{}, `{"metadata":{"namespace":"a","name":"s"},"spec":{"type":"ClusterIP","clusterIP":"None","clusterIPs":["None"],"internalTrafficPolicy":"Local"}}`,
			"a/s", &kube.Service{Namespace: "a", Name: "s", Type: "ClusterIP", InternalLocal: true}},
		{"service of an unknown type", thinService, &corev1.Service{}, `{"metadata":{"namespace":"a","name":"s"},"spec":{"type":"Magic"}}`, "a/s", &kube.Service{Namespace: "a", Name: "s"}},
		{"slice", thinSlice, &discoveryv1.EndpointSlice{}, `{"metadata":{"namespace":"a","name":"s-1","labels":{"kubernetes.io/service-name":"s"}},
			"ports":[{"name":"d","protocol":"SCTP","port":5},{},{"port":70000},{"protocol":"XTP","port":1}],
			"endpoints":[{"addresses":["10.0.0.1"],"nodeName":"n","zone":"z","targetRef":{"kind":"Pod","name":"p"}},
				{"addresses":["10.0.0.2"],"conditions":{"ready":false,"serving":true,"terminating":true},"targetRef":{"kind":"VM","name":"v"}},
				{"addresses":["10.0.0.3"],"conditions":{"ready":false}},{"addresses":["example.org"]}]}`,
			"a/s-1", &kube.Slice{Namespace: "a", Name: "s-1", Service: "s", Ports: []kube.SlicePort{{Name: "d", Proto: 132, Port: 5}, {Proto: 6}}, Endpoints: []kube.Endpoint{
				{Addrs: ips("10.0.0.1"), Node: "n", Zone: "z", Pod: "p", Ready: true, Serving: true},
				{Addrs: ips("10.0.0.2"), Serving: true, Terminating: true}, {Addrs: ips("10.0.0.3")}}}},
		{"node", thinNode, &corev1.Node{}, `{"metadata":{"name":"n"},"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.0/24","fd00::/64","x"]},
			"status":{"addresses":[{"type":"Hostname","address":"10.9.9.9"},{"type":"InternalIP","address":"192.0.2.1"},{"type":"ExternalIP","address":"198.51.100.1"},{"type":"InternalIP","address":"fe80::1%eth0"}]}}`,
			"n", &kube.Node{Name: "n", Addrs: ips("192.0.2.1", "198.51.100.1"), PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00::/64")}}},
		{"node without a name", thinNode, &corev1.Node{}, `{}`, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := json.Unmarshal([]byte(tt.json), tt.into); err != nil {
				t.Fatal(err)
			}
			key, got := tt.thin(tt.into)
			if key != tt.key || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%q %+v\nwant %q %+v", key, got, tt.key, tt.want)
			}
		})
	}
}

// Whatever the server sends, what is told has bounds.
func FuzzThin(f *testing.F) {
	f.Add([]byte(`{"metadata":{"namespace":"a","name":"b","uid":"u"},"spec":{"nodeName":"n1","ports":[` + listed(101, `{"port":%d}`) + `]},"status":{"podIPs":[` + listed(65, `{"ip":"10.0.0.%d"}`) + `]}}`))
	f.Add([]byte(`{"metadata":{"namespace":"a","name":"b"},"ports":[{"port":1}],"endpoints":[` + listed(1001, `{"addresses":["10.0.0.1"],"nodeName":"n%d"}`) + `]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer cpubound.Run(t)()
		for _, o := range []runtime.Object{&corev1.Pod{}, &corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Node{}} {
			if json.Unmarshal(data, o) != nil {
				continue
			}
			for _, thin := range []func(runtime.Object) (string, any){
				func(o runtime.Object) (string, any) { return thinPod(o, "") }, thinService, thinSlice, thinNode,
			} {
				key, what := thin(o)
				if (key == "") != (what == nil) {
					t.Fatalf("key %q, and %v", key, what)
				}
				if what != nil {
					checkBounds(t, reflect.ValueOf(what).Elem())
				}
			}
		}
	})
}

// checkBounds looks at all strings, lists and addresses in a value.
func checkBounds(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.Len() > maxName {
			t.Fatalf("a text of %d bytes", v.Len())
		}
	case reflect.Slice:
		if v.Len() > maxEndpoints {
			t.Fatalf("a list of %d", v.Len())
		}
		for i := range v.Len() {
			checkBounds(t, v.Index(i))
		}
	case reflect.Struct:
		switch a := v.Interface().(type) {
		case netip.Addr:
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
				t.Fatalf("address %v", a)
			}
			return
		case netip.Prefix:
			if !a.IsValid() {
				t.Fatalf("prefix %v", a)
			}
			return
		}
		for i := range v.NumField() {
			checkBounds(t, v.Field(i))
		}
	}
}
