// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A podRuntime makes pods as a kubelet does: over CRI.
type podRuntime struct {
	conn   *grpc.ClientConn
	pods   cri.RuntimeServiceClient
	images cri.ImageServiceClient
}

func dialRuntime() (*podRuntime, error) {
	conn, err := grpc.NewClient("unix://"+containerdSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("reach the container runtime: %w", err)
	}
	return &podRuntime{conn, cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)}, nil
}

func (r *podRuntime) Close() error { return r.conn.Close() }

// A podSpec is a pod with one container, which runs this program.
type podSpec struct {
	namespace, name string
	host            bool     // in the node's network namespace
	command         []string // arguments of this program; empty: it waits
}

// A runtimePod is a pod that runs.
type runtimePod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	IP        string `json:"ip,omitempty"`
	Netns     uint64 `json:"netns"` // inode of its network namespace
	Sandbox   string `json:"sandbox"`
	Container string `json:"container"`
}

// full is the pod's name as the tool writes it.
func (p runtimePod) full() string { return p.Namespace + "/" + p.Name }

// log is where the container's output goes.
func (p runtimePod) log() string { return filepath.Join(podLogs, p.UID, containerLog) }

const containerLog = "main.log"

// run makes a pod and starts its container. Nothing is left of one that fails.
func (r *podRuntime) run(ctx context.Context, spec podSpec) (p runtimePod, err error) {
	p = runtimePod{Namespace: spec.namespace, Name: spec.name, UID: newUID()}
	config := sandboxConfig(p, spec.host)
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		return p, err
	}
	sandbox, err := r.pods.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return p, fmt.Errorf("make pod %s: %w", p.full(), err)
	}
	p.Sandbox = sandbox.PodSandboxId
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make pod %s: %w", p.full(), err), r.remove(context.WithoutCancel(ctx), p))
		}
	}()
	if len(spec.command) == 0 {
		spec.command = []string{"pause"}
	}
	container, err := r.pods.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: p.Sandbox, SandboxConfig: config, Config: containerConfig(p, spec.command),
	})
	if err != nil {
		return p, err
	}
	p.Container = container.ContainerId
	if err := r.locate(ctx, &p); err != nil {
		return p, err
	}
	_, err = r.pods.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: p.Container})
	return p, err
}

// sandboxConfig names the pod as a kubelet does, by labels and by its cgroup.
func sandboxConfig(p runtimePod, host bool) *cri.PodSandboxConfig {
	network, hostname := cri.NamespaceMode_POD, p.Name
	if host {
		network, hostname = cri.NamespaceMode_NODE, ""
	}
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: p.Name, Namespace: p.Namespace, Uid: p.UID},
		Hostname:     hostname,
		LogDirectory: filepath.Dir(p.log()),
		DnsConfig:    &cri.DNSConfig{Servers: []string{podGateway}},
		Labels:       podLabels(p),
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: "/kubepods/besteffort/pod" + p.UID,
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: network, Pid: cri.NamespaceMode_CONTAINER},
			},
		},
	}
}

func podLabels(p runtimePod) map[string]string {
	return map[string]string{
		"io.kubernetes.pod.namespace": p.Namespace, "io.kubernetes.pod.name": p.Name, "io.kubernetes.pod.uid": p.UID, "app": p.Name,
	}
}

func containerConfig(p runtimePod, command []string) *cri.ContainerConfig {
	labels := podLabels(p)
	labels["io.kubernetes.container.name"] = "main"
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "main"},
		Image:    &cri.ImageSpec{Image: podImage},
		Command:  []string{"/lab"},
		Args:     command,
		Labels:   labels,
		LogPath:  containerLog,
		Stdin:    true, // serve-pod ends when that does
		Linux:    &cri.LinuxContainerConfig{},
	}
}

// newUID makes a version 4 UUID.
func newUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// locate asks for the pod's address and network namespace.
func (r *podRuntime) locate(ctx context.Context, p *runtimePod) error {
	answer, err := r.pods.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.Sandbox, Verbose: true})
	if err != nil {
		return err
	}
	p.IP = answer.GetStatus().GetNetwork().GetIp()
	path, err := netnsOf([]byte(answer.GetInfo()["info"]))
	if err != nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return fmt.Errorf("find network namespace %s: %w", path, err)
	}
	p.Netns = st.Ino
	return nil
}

// netnsOf finds the path of the network namespace in what containerd tells of a
// sandbox. A pod without one of its own is in the node's.
func netnsOf(info []byte) (string, error) {
	var told struct {
		RuntimeSpec struct {
			Linux struct {
				Namespaces []struct{ Type, Path string }
			}
		}
	}
	if err := json.Unmarshal(info, &told); err != nil {
		return "", fmt.Errorf("read what the runtime tells of a pod: %w", err)
	}
	for _, ns := range told.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" {
			return ns.Path, nil
		}
	}
	return "/proc/1/ns/net", nil
}

// exec runs this program in a pod's container, to its good end.
func (r *podRuntime) exec(ctx context.Context, p runtimePod, command ...string) error {
	answer, err := r.pods.ExecSync(ctx, &cri.ExecSyncRequest{
		ContainerId: p.Container, Cmd: append([]string{"/lab"}, command...), Timeout: 60,
	})
	if err != nil {
		return fmt.Errorf("run %v in pod %s: %w", command, p.full(), err)
	}
	if answer.ExitCode != 0 {
		return fmt.Errorf("%v in pod %s ended with status %d: %s", command, p.full(), answer.ExitCode, answer.Stderr)
	}
	return nil
}

// await waits for the end of a pod's container, which must be a good one, and
// returns how long it ran. lasts > 0 ends the waiting.
func (r *podRuntime) await(ctx context.Context, p runtimePod, lasts time.Duration) (time.Duration, error) {
	if lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lasts)
		defer cancel()
	}
	var s *cri.ContainerStatus
	err := poll(ctx, "wait for the end of pod "+p.full(), func() (bool, error) {
		answer, err := r.pods.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: p.Container})
		s = answer.GetStatus()
		return s.GetState() == cri.ContainerState_CONTAINER_EXITED, err
	})
	if err != nil {
		return 0, err
	}
	if s.ExitCode != 0 {
		return 0, fmt.Errorf("pod %s ended with status %d: %s", p.full(), s.ExitCode, logEnd(p.log()))
	}
	return time.Duration(s.FinishedAt - s.StartedAt), nil
}

// remove ends a pod at once, whatever runs in it.
func (r *podRuntime) remove(ctx context.Context, p runtimePod) error {
	if _, err := r.pods.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.Sandbox}); err != nil {
		return fmt.Errorf("stop pod %s: %w", p.full(), err)
	}
	if _, err := r.pods.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.Sandbox}); err != nil {
		return fmt.Errorf("remove pod %s: %w", p.full(), err)
	}
	return nil
}

// find looks for a pod that runs, and its container.
func (r *podRuntime) find(ctx context.Context, namespace, name string) (runtimePod, error) {
	p := runtimePod{Namespace: namespace, Name: name}
	labels := map[string]string{"io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.name": name}
	all, err := r.pods.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{LabelSelector: labels}})
	if err != nil {
		return p, fmt.Errorf("list containers: %w", err)
	}
	if len(all.Containers) != 1 {
		return p, fmt.Errorf("there are %d pods %s", len(all.Containers), p.full())
	}
	c := all.Containers[0]
	p.Sandbox, p.Container, p.UID = c.PodSandboxId, c.Id, c.Labels["io.kubernetes.pod.uid"]
	return p, nil
}
