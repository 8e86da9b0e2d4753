// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A container runtime in the guest: containerd, runc and the plugins of CNI, as
// scripts/runtime carries them in. This namespace is the node, its bridge cni0.
const (
	containerdSocket = "/run/containerd/containerd.sock"
	containerdConfig = "/run/stackhop/containerd.toml"
	containerdLog    = "/run/stackhop/containerd.log"
	cniConfig        = "/etc/cni/net.d/10-lab.conflist"
	podLogs          = "/run/stackhop/pods"
	// podGateway is the node's address on the bridge.
	podGateway = "10.88.0.1"
)

// containerdTOML: files are copied ("native") rather than laid over each other,
// which needs no module; the guest has no AppArmor and no systemd.
const containerdTOML = `version = 2
[grpc]
  address = "` + containerdSocket + `"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + podImage + `"
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
`

const cniJSON = `{"cniVersion": "1.0.0", "name": "lab", "plugins": [{
  "type": "bridge", "bridge": "cni0", "isGateway": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
}]}
`

// startPatience bounds the start of containerd, which is slow under emulation.
const startPatience = 5 * time.Minute

// runtimeUp starts containerd in the background, unless it answers already, and
// returns once it can make pods.
func runtimeUp(ctx context.Context) (*podRuntime, error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	r, err := dialRuntime()
	if err != nil {
		return nil, err
	}
	if err := r.up(ctx, cancel); err != nil {
		r.Close()
		return nil, fmt.Errorf("bring up the container runtime (scripts/runtime carries it into a guest): %w; the end of %s:\n%s",
			err, containerdLog, logEnd(containerdLog))
	}
	return r, nil
}

// up starts what does not run yet. died ends ctx.
func (r *podRuntime) up(ctx context.Context, died func()) error {
	if _, err := os.Stat(containerdSocket); err == nil {
		return r.awaitReady(ctx)
	}
	if err := startContainerd(died); err != nil {
		return err
	}
	if err := r.awaitReady(ctx); err != nil {
		return err
	}
	if err := importImage(ctx); err != nil {
		return err
	}
	return r.awaitImage(ctx)
}

// startContainerd starts the daemon in a session of its own, so that it outlives
// this program. died is called if it ends while this program still runs.
func startContainerd(died func()) error {
	for path, text := range map[string]string{containerdConfig: containerdTOML, cniConfig: cniJSON} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := writeFile(path, text); err != nil {
			return err
		}
	}
	log, err := os.Create(containerdLog)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("containerd", "-c", containerdConfig)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		cmd.Wait()
		died()
	}()
	return nil
}

// importImage hands containerd the image of all pods: this program.
func importImage(ctx context.Context) error {
	me, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(me)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "lab-image-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if err := errors.Join(writeImage(file, program), file.Close()); err != nil {
		return fmt.Errorf("write the pods' image: %w", err)
	}
	out, err := exec.CommandContext(ctx, "ctr", "-a", containerdSocket, "-n", "k8s.io", "images", "import",
		"--snapshotter", "native", file.Name()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("import the pods' image: %w: %s", err, lastLines(string(out), 8))
	}
	return nil
}

// awaitReady waits until the runtime answers and says that it can make pods.
func (r *podRuntime) awaitReady(ctx context.Context) error {
	return poll(ctx, "wait for the container runtime", func() (bool, error) {
		status, err := r.pods.Status(ctx, &cri.StatusRequest{})
		if err != nil {
			return false, err
		}
		for _, c := range status.GetStatus().GetConditions() {
			if !c.Status {
				return false, fmt.Errorf("%s is not yet: %s", c.Type, c.Message)
			}
		}
		return true, nil
	})
}

// awaitImage waits until the CRI side has heard of the import.
func (r *podRuntime) awaitImage(ctx context.Context) error {
	return poll(ctx, "wait for the pods' image", func() (bool, error) {
		status, err := r.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: podImage}})
		return status.GetImage() != nil, err
	})
}

// poll asks until the answer is yes. What kept it from that is told when the time
// is up; a refusal before is no end, as whom it asks may only be starting.
func poll(ctx context.Context, what string, ask func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, err := ask()
		if yes && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// logEnd is the end of a log, for an error.
func logEnd(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(text), 12)
}
