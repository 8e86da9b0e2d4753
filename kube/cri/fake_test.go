// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fakeRuntime is a runtime behind a socket. Its fields are changed under its
// lock, by set.
type fakeRuntime struct {
	runtime.UnimplementedRuntimeServiceServer

	mu          sync.Mutex
	name        string
	version     string
	pods        []*fakePod
	listed      map[string]*fakePod // in the last list, by ID
	subscribers []chan struct{}
	events      bool // GetContainerEvents is implemented
	lists       []time.Time
	listing     func(ctx context.Context) error // before a list is answered
}

type fakePod struct {
	listed     *runtime.PodSandbox
	status     *runtime.PodSandboxStatusResponse
	err        error // instead of the status
	containers []string
	asked      int
}

func (f *fakeRuntime) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeRuntime) listCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.lists)
}

// changed tells all subscribers.
func (f *fakeRuntime) changed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.subscribers {
		s <- struct{}{}
	}
}

func (f *fakeRuntime) Version(context.Context, *runtime.VersionRequest) (*runtime.VersionResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.name == "" {
		return nil, status.Error(codes.Unimplemented, "no version")
	}
	return &runtime.VersionResponse{Version: "0.1.0", RuntimeName: f.name, RuntimeVersion: f.version}, nil
}

func (f *fakeRuntime) ListPodSandbox(ctx context.Context, _ *runtime.ListPodSandboxRequest) (*runtime.ListPodSandboxResponse, error) {
	f.mu.Lock()
	f.lists = append(f.lists, time.Now())
	listing := f.listing
	f.mu.Unlock()
	if listing != nil {
		if err := listing(ctx); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := &runtime.ListPodSandboxResponse{}
	f.listed = map[string]*fakePod{}
	for _, p := range f.pods {
		f.listed[p.listed.GetId()] = p
		answer.Items = append(answer.Items, p.listed)
	}
	return answer, nil
}

func (f *fakeRuntime) ListContainers(context.Context, *runtime.ListContainersRequest) (*runtime.ListContainersResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := &runtime.ListContainersResponse{}
	for _, p := range f.pods {
		for _, c := range p.containers {
			answer.Containers = append(answer.Containers, &runtime.Container{Id: c, PodSandboxId: p.listed.GetId()})
		}
	}
	return answer, nil
}

func (f *fakeRuntime) PodSandboxStatus(_ context.Context, r *runtime.PodSandboxStatusRequest) (*runtime.PodSandboxStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.listed[r.GetPodSandboxId()]
	if p == nil {
		return nil, status.Error(codes.NotFound, "no such sandbox")
	}
	p.asked++
	if p.err != nil {
		return nil, p.err
	}
	if !r.GetVerbose() {
		return &runtime.PodSandboxStatusResponse{Status: p.status.GetStatus()}, nil
	}
	return p.status, nil
}

func (f *fakeRuntime) GetContainerEvents(_ *runtime.GetEventsRequest, stream runtime.RuntimeService_GetContainerEventsServer) error {
	own := make(chan struct{}, 64)
	f.mu.Lock()
	events := f.events
	f.subscribers = append(f.subscribers, own)
	f.mu.Unlock()
	if !events {
		return status.Error(codes.Unimplemented, "no events")
	}
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case _, ok := <-own:
			if !ok {
				return nil
			}
			if err := stream.Send(&runtime.ContainerEventResponse{ContainerId: "any"}); err != nil {
				return err
			}
		}
	}
}

// serve listens under root where containerd does, until the test ends or stop
// is called.
func (f *fakeRuntime) serve(t *testing.T, root string) (stop func()) {
	t.Helper()
	l := listen(t, root)
	server := grpc.NewServer()
	runtime.RegisterRuntimeServiceServer(server, f)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	stop = sync.OnceFunc(func() {
		server.Stop()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func listen(t *testing.T, root string) net.Listener {
	t.Helper()
	path := filepath.Join(root, sockets[0])
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// newPod is a pod as containerd tells of it: number n, with the address
// 10.0.x.y and the namespace /var/run/netns/cni-n.
func newPod(n int) *fakePod {
	id := fmt.Sprintf("%064x", n)
	meta := &runtime.PodSandboxMetadata{Namespace: "shop", Name: fmt.Sprintf("web-%d", n), Uid: fmt.Sprintf("uid-%d", n)}
	return &fakePod{
		listed: &runtime.PodSandbox{Id: id, Metadata: meta, State: runtime.PodSandboxState_SANDBOX_READY, CreatedAt: int64(n)},
		status: &runtime.PodSandboxStatusResponse{
			Status: &runtime.PodSandboxStatus{
				Id: id, Metadata: meta, Network: &runtime.PodSandboxNetworkStatus{Ip: fmt.Sprintf("10.0.%d.%d", n/256, n%256)},
				Linux: &runtime.LinuxPodSandboxStatus{Namespaces: &runtime.Namespace{Options: &runtime.NamespaceOption{}}},
			},
			Info: map[string]string{"info": infoJSON(4000+n, fmt.Sprintf("/var/run/netns/cni-%d", n))},
		},
		containers: []string{id + "-a"},
	}
}

func infoJSON(pid int, path string) string {
	return fmt.Sprintf(`{"sandboxID":"x","pid":%d,"image":"pause","runtimeSpec":{"ociVersion":"1.1.0","process":{"args":["/pause"]},`+
		`"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":%q}]}},"cniResult":{}}`, pid, path)
}
