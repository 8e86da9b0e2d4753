// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/internal/cpubound"
)

const (
	idA  = "3f1c0e2a9b4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7"
	idB  = "b0a1c2d3e4f5061728394a5b6c7d8e9f0a1b2c3d4e5f60718293a4b5c6d7e8f9"
	uidA = "0c6d4a52-8a1f-4c3e-9f57-2f6c1d0b7e11"
	uidB = "7d1a2b3c-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
	hash = "5f3c1f7fb1e9d2b4a6c8e0f2143658a7" // of a static pod
)

func underscored(uid string) string { return strings.ReplaceAll(uid, "-", "_") }

var cgroups = []struct {
	name, file, container, pod string
}{
	{"v2, cgroupfs", "0::/kubepods/burstable/pod" + uidA + "/" + idA + "\n", idA, uidA},
	{"v2, cgroupfs, guaranteed", "0::/kubepods/pod" + uidA + "/" + idA + "\n", idA, uidA},
	{"v2, systemd, containerd", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + underscored(uidA) +
		".slice/cri-containerd-" + idA + ".scope\n", idA, uidA},
	{"v2, systemd, CRI-O", "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + underscored(uidA) +
		".slice/crio-" + idA + ".scope\n", idA, uidA},
	{"CRI-O's own cgroup in the scope", "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + underscored(uidA) +
		".slice/crio-" + idA + ".scope/container\n", idA, uidA},
	{"cri-dockerd", "0::/kubepods.slice/kubepods-pod" + underscored(uidA) + ".slice/docker-" + idA + ".scope\n", idA, uidA},
	{"conmon is in no container", "0::/kubepods.slice/kubepods-pod" + underscored(uidA) + ".slice/crio-conmon-" + idA + ".scope\n", "", uidA},
	{"static pod", "0::/kubepods/burstable/pod" + hash + "/" + idA + "\n", idA, hash},
	{"containerd with cgroupfs, kubelet with systemd", "0::/system.slice/containerd.service/kubepods-burstable-pod" + underscored(uidA) +
		".slice:cri-containerd:" + idA + "\n", idA, uidA},
	{"systemd in a container", "0::/kubepods/burstable/pod" + uidA + "/" + idA + "/system.slice/sshd.service\n", idA, uidA},
	{"containers in a container", "0::/kubepods/burstable/pod" + uidA + "/" + idA + "/docker/" + idB + "\n", idA, uidA},
	{"kind, cgroupfs", "0::/docker/" + idB + "/kubelet/kubepods/besteffort/pod" + uidA + "/" + idA + "\n", idA, uidA},
	{"kind, systemd", "0::/system.slice/docker-" + idB + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/" +
		"kubelet-kubepods-burstable-pod" + underscored(uidA) + ".slice/cri-containerd-" + idA + ".scope\n", idA, uidA},
	{"kind in a pod", "0::/kubepods/pod" + uidB + "/" + idB + "/kubelet/kubepods/pod" + uidA + "/" + idA + "\n", idA, uidA},
	{"a cgroup namespace's view of its neighbours", "0::/../../pod" + uidA + "/" + idA + "\n", idA, uidA},
	{"v1", "12:pids:/kubepods/burstable/pod" + uidA + "/" + idA + "\n11:cpu,cpuacct:/kubepods/burstable/pod" + uidA + "/" + idA +
		"\n1:name=systemd:/kubepods/burstable/pod" + uidA + "/" + idA + "\n", idA, uidA},
	{"v1, one hierarchy left alone", "12:rdma:/\n11:memory:/kubepods/pod" + uidA + "/" + idA + "\n0::/system.slice/containerd.service\n", idA, uidA},
	{"v1, the pod's cgroup before the container's", "3:rdma:/kubepods/pod" + uidA + "\n2:cpu:/kubepods/pod" + uidA + "/" + idA + "\n", idA, uidA},
	{"v1, named hierarchy with a colon", "1:name=systemd:/system.slice/containerd.service/kubepods-pod" + underscored(uidA) +
		".slice:cri-containerd:" + idA, idA, uidA},
	{"docker without Kubernetes", "0::/system.slice/docker-" + idA + ".scope\n", idA, ""},
	{"the pod's own cgroup", "0::/kubepods/burstable/pod" + uidA + "\n", "", uidA},
	{"a service of the node", "0::/system.slice/kubelet.service\n", "", ""},
	{"a session", "0::/user.slice/user-1000.slice/session-2.scope\n", "", ""},
	{"a slice that only sounds like a pod's", "0::/ipod-podcast.slice/app-pod" + underscored(uidA) + ".slice\n", "", ""},
	{"a folder that only sounds like a pod's", "0::/podman/podcast/pod" + uidA + "x\n", "", ""},
	{"not hexadecimal", "0::/kubepods/pod" + strings.Repeat("g", 32) + "/" + strings.Repeat("G", 64) + "\n", "", ""},
	{"kernel thread", "0::/\n", "", ""},
	{"empty", "", "", ""},
	{"garbage", "\x00\xff::\n:::::\nx", "", ""},
}

func TestContainer(t *testing.T) {
	for _, tt := range cgroups {
		t.Run(tt.name, func(t *testing.T) {
			c, p, ok := Container([]byte(tt.file))
			if c != tt.container || p != tt.pod || ok != (tt.container != "" || tt.pod != "") {
				t.Errorf("container %q, pod %q, %t; want %q, %q", c, p, ok, tt.container, tt.pod)
			}
		})
	}
}

func TestOfPID(t *testing.T) {
	root := t.TempDir()
	writeCgroup(t, root, 7, "0::/kubepods/pod"+uidA+"/"+idA+"\n")
	// What comes after 64 KiB is not read.
	writeCgroup(t, root, 8, strings.Repeat("0::/\n", maxCgroup/5+1)+"0::/kubepods/pod"+uidA+"/"+idA+"\n")
	if c, p, ok := OfPID(root, 7); c != idA || p != uidA || !ok {
		t.Errorf("container %q, pod %q, %t", c, p, ok)
	}
	for _, pid := range []uint32{8, 9} {
		if c, p, ok := OfPID(root, pid); ok {
			t.Errorf("process %d: container %q, pod %q", pid, c, p)
		}
	}
}

func writeCgroup(t *testing.T, root string, pid uint32, content string) {
	t.Helper()
	dir := pidDir(root, pid)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func FuzzContainer(f *testing.F) {
	for _, tt := range cgroups {
		f.Add([]byte(tt.file))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		defer cpubound.Run(t)()
		c, p, ok := Container(file)
		if c != "" && (len(c) != 64 || !isHex(c)) || p != "" && !isUID(p) || ok != (c != "" || p != "") {
			t.Fatalf("container %q, pod %q, %t", c, p, ok)
		}
		// What was found is found again where a runtime would put it.
		if c != "" && p != "" {
			c2, p2, _ := Container([]byte("0::/kubepods/pod" + p + "/" + c))
			c3, p3, _ := Container([]byte("0::/kubepods-pod" + underscored(p) + ".slice/crio-" + c + ".scope"))
			if c2 != c || p2 != p || c3 != c || p3 != p {
				t.Fatalf("%q and %q became %q and %q, %q and %q", c, p, c2, p2, c3, p3)
			}
		}
	})
}
