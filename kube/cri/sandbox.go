// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/kube"
)

const (
	maxText = 253     // of a name; Kubernetes allows no longer ones
	maxInfo = 1 << 20 // of what the runtime tells of a sandbox
	maxIPs  = 16      // of a pod
	maxPath = 4096
)

// clean bounds text from the runtime. Whoever shows it escapes it.
func clean(s string) string {
	// A character that is cut in two is not valid either.
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "?")
}

// uidOf is the key of a pod. One that was not made by the kubelet may lack a
// UID.
func uidOf(p *runtime.PodSandbox) string {
	if uid := p.GetMetadata().GetUid(); uid != "" {
		return clean(uid)
	}
	return p.GetId()
}

// identity is what the list says of a pod.
func identity(p *runtime.PodSandbox) kube.Pod {
	m := p.GetMetadata()
	return kube.Pod{
		UID: uidOf(p), Namespace: clean(m.GetNamespace()), Name: clean(m.GetName()), Containers: []string{clean(p.GetId())},
		Labels: events.NewLabels(p.GetLabels()),
	}
}

// network fills in addresses and namespace.
func (s *Source) network(p *kube.Pod, answer *runtime.PodSandboxStatusResponse) {
	st := answer.GetStatus()
	p.HostNetwork = st.GetLinux().GetNamespaces().GetOptions().GetNetwork() == runtime.NamespaceMode_NODE
	p.IPs = nil
	addIP(p, st.GetNetwork().GetIp())
	for _, ip := range st.GetNetwork().GetAdditionalIps() {
		addIP(p, ip.GetIp())
	}
	if p.Netns = 0; !p.HostNetwork {
		p.Netns = s.netns(answer.GetInfo()["info"])
	}
}

func addIP(p *kube.Pod, text string) {
	if ip, err := netip.ParseAddr(text); err == nil && len(p.IPs) < maxIPs {
		p.IPs = append(p.IPs, ip.Unmap().WithZone(""))
	}
}

// sandboxInfo is what of the verbose status is used; containerd and CRI-O
// agree on it.
type sandboxInfo struct {
	PID         int64 `json:"pid"`
	RuntimeSpec struct {
		Linux struct {
			Namespaces []struct {
				Type string `json:"type"`
				Path string `json:"path"`
			} `json:"namespaces"`
		} `json:"linux"`
	} `json:"runtimeSpec"`
}

// netns returns the inode of the network namespace that the verbose status
// names, by path or by process; 0: none.
func (s *Source) netns(info string) uint32 {
	if len(info) > maxInfo {
		return 0
	}
	var v sandboxInfo
	// A field of a wrong type leaves the others usable.
	_ = json.Unmarshal([]byte(info), &v)
	var paths []string
	for _, ns := range v.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" && filepath.IsAbs(ns.Path) && len(ns.Path) <= maxPath {
			paths = append(paths, ns.Path)
			// Under a root of its own, the link /var/run leads out of it.
			if rest, ok := strings.CutPrefix(ns.Path, "/var/run/"); ok {
				paths = append(paths, "/run/"+rest)
			}
			break
		}
	}
	if v.PID > 0 && v.PID <= 1<<31 {
		paths = append(paths, "/proc/"+strconv.FormatInt(v.PID, 10)+"/ns/net")
	}
	for _, path := range paths {
		// Clean keeps ".." within the root.
		if inode, err := s.cfg.NetnsInode(filepath.Join("/", s.cfg.Root, filepath.Clean(path))); err == nil {
			return inode
		}
	}
	return 0
}
