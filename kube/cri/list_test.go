// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stackhop/stackhop/internal/cpubound"
	"github.com/stackhop/stackhop/kube"
)

var podCases = []struct {
	name   string
	change func(p *fakePod)         // of newPod(1)
	want   func(p *kube.Pod) string // changes what newPod(1) gives, and returns its UID; nil: it is not told
}{
	{"containerd", func(*fakePod) {}, func(*kube.Pod) string { return "uid-1" }},
	{"two families", func(p *fakePod) {
		p.status.Status.Network.AdditionalIps = []*runtime.PodIP{{Ip: "fd00::1"}, {Ip: "::ffff:10.9.9.9"}, {Ip: "x"}, {Ip: "fe80::1%eth0"}}
	}, func(p *kube.Pod) string {
		p.IPs = append(p.IPs, netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("fe80::1"))
		return p.UID
	}},
	{"host network", func(p *fakePod) {
		p.status.Status.Linux.Namespaces.Options.Network = runtime.NamespaceMode_NODE
	}, func(p *kube.Pod) string {
		p.HostNetwork, p.Netns = true, 0
		return p.UID
	}},
	{"no information (cri-dockerd)", func(p *fakePod) { p.status.Info = nil }, withoutNetns},
	{"namespace gone", func(p *fakePod) { p.status.Info["info"] = infoJSON(1, "/var/run/netns/gone") }, withoutNetns},
	{"relative path", func(p *fakePod) { p.status.Info["info"] = infoJSON(0, "var/run/netns/cni-1") }, withoutNetns},
	{"information is not JSON", func(p *fakePod) { p.status.Info["info"] = "{" }, withoutNetns},
	{"process of a wrong type", func(p *fakePod) {
		p.status.Info["info"] = strings.Replace(infoJSON(1, "/var/run/netns/cni-1"), `"pid":1`, `"pid":"1"`, 1)
	}, func(p *kube.Pod) string { return p.UID }},
	{"information too long", func(p *fakePod) {
		p.status.Info["info"] = infoJSON(1, "/var/run/netns/cni-1") + strings.Repeat(" ", maxInfo)
	}, withoutNetns},
	{"not ready", func(p *fakePod) { p.listed.State = runtime.PodSandboxState_SANDBOX_NOTREADY }, nil},
	{"no ID", func(p *fakePod) { p.listed.Id = "" }, nil},
	{"gone before it was asked for", func(p *fakePod) { p.err = status.Error(codes.NotFound, "gone") }, nil},
	{"status is refused", func(p *fakePod) { p.err = status.Error(codes.Internal, "no spec") }, func(p *kube.Pod) string {
		p.IPs = nil
		return withoutNetns(p)
	}},
	{"empty status", func(p *fakePod) { p.status = &runtime.PodSandboxStatusResponse{} }, func(p *kube.Pod) string {
		p.IPs = nil
		return withoutNetns(p)
	}},
	{"no metadata", func(p *fakePod) { p.listed.Metadata = nil }, func(p *kube.Pod) string {
		p.Namespace, p.Name, p.UID = "", "", p.Containers[0]
		return p.UID
	}},
	{"long names", func(p *fakePod) {
		p.listed.Metadata = &runtime.PodSandboxMetadata{Uid: "uid-1", Namespace: strings.Repeat("n", 300), Name: strings.Repeat("ä", 200)}
	}, func(p *kube.Pod) string {
		p.Namespace, p.Name = strings.Repeat("n", 253), strings.Repeat("ä", 126)+"?"
		return p.UID
	}},
	{"labels", func(p *fakePod) {
		p.listed.Labels = map[string]string{"app": "web", "tier": "\x1b[2J", "io.kubernetes.pod.uid": "uid-1"}
	}, func(p *kube.Pod) string {
		p.Labels = "app=web"
		return p.UID
	}},
	{"many containers", func(p *fakePod) { p.containers = slices.Repeat([]string{"c"}, 1000) }, func(p *kube.Pod) string {
		p.Containers = append(p.Containers[:1], slices.Repeat([]string{"c"}, maxContainers)...)
		return p.UID
	}},
}

func withoutNetns(p *kube.Pod) string {
	p.Netns = 0
	return p.UID
}

func TestPods(t *testing.T) {
	for _, tt := range podCases {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			p := newPod(1)
			id := p.listed.GetId()
			tt.change(p)
			(&fakeRuntime{pods: []*fakePod{p}}).serve(t, root)
			tm := quick
			tm.poll = hour
			r, _, stop := start(t, root, tm)
			r.untilState(t, kube.Current)
			stop()
			r.wantWarnings(t)
			want := map[string]kube.Pod{}
			if tt.want != nil {
				pod := kube.Pod{
					Namespace: "shop", Name: "web-1", UID: "uid-1", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
					Netns: 100_001, Containers: []string{id, id + "-a"},
				}
				want[tt.want(&pod)] = pod
			}
			if !reflect.DeepEqual(r.pods, want) {
				t.Errorf("told %+v, want %+v", r.pods, want)
			}
		})
	}
}

// The first states are those that others wait for.
func TestStates(t *testing.T) {
	root := t.TempDir()
	stopServer := (&fakeRuntime{}).serve(t, root)
	r, _, stop := start(t, root, quick)
	r.untilState(t, kube.Current)
	stop()
	if want := []kube.State{kube.Loading, kube.Current}; !slices.Equal(r.state, want) {
		t.Errorf("states %v, want %v", r.state, want)
	}
	stopServer()
	r, _, stop = start(t, t.TempDir(), quick)
	stop()
	if want := []kube.State{kube.Absent}; !slices.Equal(r.state, want) {
		t.Errorf("without a runtime: states %v, want %v", r.state, want)
	}
	r.wantWarnings(t)
}

func TestPolling(t *testing.T) {
	for name, f := range map[string]*fakeRuntime{
		"no version":               {},
		"no events":                {name: "containerd", version: "v2.1.0"},
		"events are not broadcast": {name: "containerd", version: "v1.7.27", events: true},
		"not containerd":           {name: "docker", version: "28.0.0", events: true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			f.pods = []*fakePod{newPod(1), newPod(2)}
			f.serve(t, root)
			r, _, stop := start(t, root, quick)
			r.untilPod(t, "uid-1", true)
			r.untilPod(t, "uid-2", true)
			f.set(func() { f.pods = []*fakePod{newPod(2), newPod(3)} })
			r.untilPod(t, "uid-1", false)
			r.untilPod(t, "uid-3", true)
			f.set(func() { f.pods[0].containers = append(f.pods[0].containers, "more") })
			r.until(t, "another container", func() bool { return slices.Contains(r.pods["uid-2"].Containers, "more") })
			stop()
			r.wantWarnings(t)
			f.set(func() {
				if f.events && len(f.subscribers) > 0 {
					t.Error("took events from the kubelet")
				}
				// What is known is not asked for again.
				if n := f.pods[0].asked; n > 1 {
					t.Errorf("asked for one pod %d times", n)
				}
			})
		})
	}
}

// With the address, the namespace's inode may be another pod's at once.
func TestAddressReuse(t *testing.T) {
	root := t.TempDir()
	f := &fakeRuntime{pods: []*fakePod{newPod(1)}}
	f.serve(t, root)
	r, _, stop := start(t, root, quick)
	r.untilPod(t, "uid-1", true)
	next := newPod(2)
	next.status = newPod(1).status
	f.set(func() { f.pods = []*fakePod{next} })
	r.untilPod(t, "uid-2", true)
	stop()
	if want := []string{"put uid-1", "delete uid-1", "put uid-2"}; !slices.Equal(r.told, want) {
		t.Errorf("told %v, want %v", r.told, want)
	}
	if one := r.pods["uid-2"]; one.Netns != 100_001 || one.IPs[0] != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("told %+v", one)
	}
}

// A pod's sandbox may be made anew: the newest one counts.
func TestSandboxAnew(t *testing.T) {
	root := t.TempDir()
	f := &fakeRuntime{pods: []*fakePod{newPod(1)}}
	f.serve(t, root)
	r, _, stop := start(t, root, quick)
	r.untilPod(t, "uid-1", true)
	next := newPod(2)
	next.listed.Metadata.Uid = "uid-1"
	f.set(func() { f.pods = append(f.pods, next) })
	r.until(t, "the new namespace", func() bool { return r.pods["uid-1"].Netns == 100_002 })
	f.set(func() { f.pods = f.pods[1:] })
	lists := f.listCount()
	untilTrue(t, "two more lists", func() bool { return f.listCount() > lists+2 })
	stop()
	if slices.Contains(r.told, "delete uid-1") || r.pods["uid-1"].Netns != 100_002 {
		t.Errorf("told %v, %+v", r.told, r.pods)
	}
}

// A sandbox may be listed before its network is set up. What never comes is not
// asked for without end.
func TestNetworkLater(t *testing.T) {
	root := t.TempDir()
	later, never := newPod(1), newPod(2)
	complete := later.status
	later.status, never.status = &runtime.PodSandboxStatusResponse{}, &runtime.PodSandboxStatusResponse{}
	f := &fakeRuntime{pods: []*fakePod{later, never}}
	f.serve(t, root)
	tm := quick
	tm.poll, tm.gap = 1, 1
	r, _, stop := start(t, root, tm)
	r.untilPod(t, "uid-1", true)
	f.set(func() { later.status = complete })
	r.until(t, "the namespace", func() bool { return r.pods["uid-1"].Netns == 100_001 && len(r.pods["uid-1"].IPs) == 1 })
	untilTrue(t, "all attempts", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return never.asked >= maxAsked })
	lists := f.listCount()
	untilTrue(t, "ten more lists", func() bool { return f.listCount() > lists+10 })
	stop()
	if never.asked != maxAsked {
		t.Errorf("asked %d times, want %d", never.asked, maxAsked)
	}
	if n := len(slices.DeleteFunc(r.told, func(s string) bool { return s != "put uid-2" })); n != 1 {
		t.Errorf("told %d times of a pod that stayed as it was", n)
	}
}

func TestManyPods(t *testing.T) {
	const all = 5000
	root := t.TempDir()
	f := &fakeRuntime{}
	for n := range all {
		f.pods = append(f.pods, newPod(n))
	}
	f.serve(t, root)
	r, _, stop := start(t, root, quick)
	r.untilState(t, kube.Current)
	r.until(t, "the newest pods", func() bool {
		_, oldest := r.pods["uid-903"]
		_, first := r.pods["uid-904"]
		_, last := r.pods["uid-4999"]
		return len(r.pods) == maxSandboxes && !oldest && first && last
	})
	f.set(func() { f.pods = f.pods[:10] })
	r.until(t, "the others", func() bool { return len(r.pods) == 10 })
	f.set(func() { f.pods = nil })
	r.until(t, "none", func() bool { return len(r.pods) == 0 })
	stop()
	r.wantWarnings(t, "5000 pods, of which only the newest 4096")
}

func TestLargeAnswer(t *testing.T) {
	root := t.TempDir()
	p := newPod(1)
	p.listed.Annotations = map[string]string{"a": strings.Repeat("x", maxResponse)}
	f := &fakeRuntime{pods: []*fakePod{p}}
	f.serve(t, root)
	r, _, stop := start(t, root, quick)
	untilTrue(t, "three attempts", func() bool { return f.listCount() >= 3 })
	stop()
	r.wantWarnings(t, "list pods: ")
	if len(r.pods) != 0 || r.state[len(r.state)-1] != kube.Absent {
		t.Errorf("pods %v, states %v", r.pods, r.state)
	}
}

func FuzzInfo(f *testing.F) {
	f.Add(infoJSON(1, "/var/run/netns/cni-1"))
	f.Add(infoJSON(-1, "/proc/../../x"))
	f.Add(`{"runtimeSpec":{"linux":{"namespaces":[{"type":"network"},null,7]}}}`)
	f.Add(`{"pid":99999999999999999999}`)
	f.Fuzz(func(t *testing.T, info string) {
		defer cpubound.Run(t)()
		s := New(Config{Root: "/host", NetnsInode: func(path string) (uint32, error) {
			if !strings.HasPrefix(path, "/host/") || len(path) > maxPath+len("/host/") {
				t.Errorf("looked at %q", path)
			}
			return 1, nil
		}}, newRecorder())
		s.netns(info)
		if text := clean(info); len(text) > maxText || strings.ToValidUTF8(text, "") != text {
			t.Errorf("%q became %q", info, text)
		}
	})
}

// hung answers nothing until the caller gives up or it is released.
func hung(release <-chan struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-release:
			return nil
		}
	}
}
