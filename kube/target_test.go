// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// memberWords are members in a line; those of one address are addresses.
func memberWords(list []Member) string {
	var all []string
	for _, m := range list {
		s := m.Net.String()
		if m.Net.IsSingleIP() {
			s = m.Net.Addr().String()
		}
		if m.Port != 0 {
			s += fmt.Sprint(" port ", m.Port)
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

func TestTarget(t *testing.T) {
	x := shop(t)
	host := testPod("kube-system", "proxy", "192.168.0.1", "fd01::1")
	host.HostNetwork = true
	x.PutPod(FromAPI, host)
	x.PutPod(FromAPI, testPod("shop", "pending"))
	x.PutPod(FromAPI, testPod("shop", "web-5d9c-a", "10.0.0.5"))
	x.PutPod(FromAPI, testPod("test", "web", "10.0.1.1"))
	job := testPod("shop", "job", "10.0.0.7")
	job.Done = true
	x.PutPod(FromAPI, job)
	x.PutPod(FromAPI, testPod("shop", "gone", "10.0.0.8"))
	x.DeletePod(FromAPI, "uid of gone in shop")
	x.PutNode(&Node{Name: "new"})
	x.PutService(&Service{Namespace: "shop", Name: "alias", Type: "ExternalName"})
	x.PutService(&Service{Namespace: "shop", Name: "idle", Type: "ClusterIP", Ports: []ServicePort{{"x\x1b[31m", tcp, 1, 0}}})
	x.PutService(&Service{Namespace: "shop", Name: "portless", Type: "ClusterIP"})
	x.PutSlice(&Slice{Namespace: "shop", Name: "portless-1", Service: "portless", Endpoints: []Endpoint{{Addrs: ips("10.0.0.31")}}})
	const endpoints = "10.0.0.11 port 8080, 10.0.0.12 port 8080, 10.0.0.13 port 8080, 10.0.0.14 port 8080, 10.0.0.15 port 8080, 10.0.0.16 port 8080, "
	for _, tt := range []struct {
		kind, namespace, name string
		port                  uint16
		want                  string
		is                    error
		text                  []string // parts of the error
	}{
		{"pod", "shop", "web", 0, "10.0.0.1, fd00::1", nil, nil},
		{"pod", "shop", "web", 8080, "10.0.0.1 port 8080, fd00::1 port 8080", nil, nil},
		{"pod", "kube-system", "proxy", 0, "192.168.0.1, fd01::1", nil, nil},
		{"pod", "shop", "pending", 0, "", ErrNoAddress, []string{"pod shop/pending: it has no address yet"}},
		{"pod", "shop", "job", 0, "", ErrNoAddress, []string{"pod shop/job has ended"}},
		{"pod", "shop", "gone", 0, "", ErrNotFound, []string{"no pod shop/gone"}},
		{"pod", "prod", "web", 0, "", ErrNotFound, []string{"no pod prod/web; there are shop/web and test/web: give one of them, or -n"}},
		{"pod", "test", "pending", 0, "", ErrNotFound, []string{"no pod test/pending; there is shop/pending: give it, or -n shop"}},
		{"pod", "shop", "web-5d9c", 0, "", ErrNotFound, []string{"did you mean shop/web-5d9c-a?"}},
		{"pod", "shop", "wbe", 0, "", ErrNotFound, []string{"did you mean shop/web"}},
		{"pod", "shop", "x\x1b[31m", 0, "", ErrNotFound, []string{`shop/x\x1b[31m`}},
		{"svc", "shop", "cart", 80, endpoints + "10.0.0.11 port 5353, 10.0.0.12 port 5353, 10.0.0.13 port 5353, 10.0.0.14 port 5353, 10.0.0.15 port 5353, 10.0.0.16 port 5353, " +
			"10.96.0.1 port 80, 192.168.0.1 port 30080, 192.168.0.2 port 30080, 198.51.100.1 port 80, 198.51.100.2 port 80, 203.0.113.1 port 80, fd00::11 port 8080, fd01::1 port 30080, fd96::1 port 80", nil, nil},
		{"svc", "shop", "cart", 443, "10.0.0.11 port 8443, 10.0.0.12 port 8443, 10.0.0.13 port 8443, 10.0.0.14 port 8443, 10.0.0.15 port 8443, 10.0.0.16 port 8443, " +
			"10.96.0.1 port 443, 198.51.100.1 port 443, 198.51.100.2 port 443, 203.0.113.1 port 443, fd96::1 port 443", nil, nil},
		{"svc", "shop", "inner", 0, "10.96.0.2 port 8081, 192.168.0.2 port 8081, 203.0.113.1 port 8081", nil, nil},
		{"svc", "test", "headless", 0, "10.0.0.21 port 5433", nil, nil},
		{"svc", "test", "headless", 5432, "10.0.0.21 port 5433", nil, nil},
		{"svc", "shop", "portless", 0, "10.0.0.31", nil, nil},
		{"svc", "shop", "portless", 80, "", ErrNoPort, []string{"service shop/portless: it has no port 80: it has none"}},
		{"svc", "shop", "cart", 81, "", ErrNoPort, []string{"it has no port 81: it has 80/tcp (http), 443/tcp, 80/udp (dns)"}},
		{"svc", "shop", "idle", 2, "", ErrNoPort, []string{`1/tcp (x\x1b[31m)`}},
		{"svc", "shop", "idle", 0, "", ErrNoAddress, []string{"neither of its own nor of an endpoint"}},
		{"svc", "shop", "alias", 0, "", ErrNoAddress, []string{"ExternalName"}},
		{"svc", "shop", "crat", 80, "", ErrNotFound, []string{"no service shop/crat", "did you mean shop/cart"}},
		{"svc", "test", "cart", 80, "", ErrNotFound, []string{"there is shop/cart: give it, or -n shop"}},
		{"node", "", "n1", 0, "192.168.0.1, fd01::1", nil, nil},
		{"node", "ignored", "n2", 22, "192.168.0.2 port 22", nil, nil},
		{"node", "", "new", 0, "", ErrNoAddress, []string{"node new: it has no address"}},
		{"node", "", "n3", 0, "", ErrNotFound, []string{"no node n3; did you mean n1 or n2?"}},
		{"job", "shop", "web", 0, "", nil, []string{`"job" is no kind of target`}},
	} {
		got, err := x.Target(tt.kind, tt.namespace, tt.name, tt.port)
		checkMembers(t, fmt.Sprintf("%s %s/%s:%d", tt.kind, tt.namespace, tt.name, tt.port), got, err, sorted(tt.want), tt.is, tt.text)
	}
}

// sorted puts the words of members in the order of members: by address, then by
// port.
func sorted(s string) string {
	if s == "" {
		return ""
	}
	list := strings.Split(s, ", ")
	slices.SortStableFunc(list, func(a, b string) int {
		x, px, _ := strings.Cut(a, " port ")
		y, py, _ := strings.Cut(b, " port ")
		if c := ip(x).Compare(ip(y)); c != 0 {
			return c
		}
		if len(px) != len(py) {
			return len(px) - len(py)
		}
		return strings.Compare(px, py)
	})
	return strings.Join(list, ", ")
}

func checkMembers(t *testing.T, what string, got []Member, err error, want string, is error, text []string) {
	t.Helper()
	if s := memberWords(got); s != want {
		t.Errorf("%s: %s\nwant %s", what, s, want)
	}
	if (err != nil) != (want == "") || (is != nil && !errors.Is(err, is)) {
		t.Errorf("%s: error %v, want one that is %v", what, err, is)
		return
	}
	for _, part := range text {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: error %q, without %q", what, err, part)
		}
	}
}

func TestInNamespace(t *testing.T) {
	x := shop(t)
	host := testPod("shop", "agent", "192.168.0.1")
	host.HostNetwork = true
	x.PutPod(FromAPI, host)
	x.PutPod(FromAPI, testPod("test", "db-0", "10.0.0.21"))
	x.PutPod(FromAPI, testPod("testing", "x", "10.0.3.1"))
	x.PutPod(FromAPI, testPod("pending", "x"))
	x.DeleteService("shop", "cart")
	for _, tt := range []struct {
		namespace, want string
		is              error
		text            []string
	}{
		{"shop", "10.0.0.1, 10.96.0.2 port 8081, 192.168.0.2 port 8081, 203.0.113.1 port 8081, fd00::1", nil, nil},
		{"test", "10.0.0.21", nil, nil}, // any port of it, which covers the endpoint's
		{"pending", "", ErrNoAddress, []string{"namespace pending: it has no address"}},
		{"tset", "", ErrNotFound, []string{"no pod or service in namespace tset; did you mean test?"}},
		{"", "", ErrNotFound, nil},
	} {
		got, err := x.InNamespace(tt.namespace)
		checkMembers(t, tt.namespace, got, err, tt.want, tt.is, tt.text)
	}
}

// TestNobodyAsked: what is not known because nobody could be asked is not said
// to be missing.
func TestNobodyAsked(t *testing.T) {
	for _, tt := range []struct {
		name     string
		api, cri State
		kind     string
		is       error
		text     string
	}{
		{"nobody", Absent, Absent, "pod", ErrNobodyAsked,
			"nothing is known of pod shop/web: the API server is not there, or did not answer; the container runtime is not there, or did not answer"},
		{"slow", Loading, Absent, "svc", ErrNobodyAsked, "nothing is known of service shop/web: the API server has not told all it knows yet"},
		{"lost", Stale, Stale, "pod", ErrNobodyAsked, "nothing is known of pod shop/web: the API server is lost; the container runtime is lost"},
		{"runtime only", Absent, Current, "pod", ErrNotFound,
			"no pod shop/web\n  only the container runtime's pods are known: the API server is not there, or did not answer"},
		{"runtime only, service", Stale, Current, "svc", ErrNobodyAsked, "nothing is known of service shop/web: the API server is lost"},
		{"runtime only, node", Absent, Current, "node", ErrNobodyAsked, "nothing is known of node web: the API server is not there, or did not answer"},
		{"server only", Current, Absent, "pod", ErrNotFound, "no pod shop/web"},
		{"runtime only, namespace", Absent, Current, "namespace", ErrNotFound,
			"no pod or service in namespace shop\n  only the container runtime's pods are known: the API server is not there, or did not answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newClock().index(tt.api, tt.cri)
			_, err := x.Target(tt.kind, "shop", "web", 0)
			if tt.kind == "namespace" {
				_, err = x.InNamespace("shop")
			}
			if !errors.Is(err, tt.is) || err.Error() != tt.text {
				t.Errorf("%v\nwant %s", err, tt.text)
			}
			if other := map[error]error{ErrNotFound: ErrNobodyAsked, ErrNobodyAsked: ErrNotFound}[tt.is]; errors.Is(err, other) {
				t.Errorf("it is %v, too", other)
			}
		})
	}
}

// TestManyElsewhere: a name that is in many namespaces makes no endless line.
func TestManyElsewhere(t *testing.T) {
	x := newClock().index(Current)
	for i := range 20 {
		x.PutPod(FromAPI, testPod(fmt.Sprintf("ns%02d", i), "web", "10.0.0.1"))
	}
	_, err := x.Target("pod", "default", "web", 0)
	const want = "no pod default/web; there are ns00/web, ns01/web, ns02/web, ns03/web, ns04/web and 15 more: give one of them, or -n"
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}
