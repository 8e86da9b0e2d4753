// SPDX-License-Identifier: Apache-2.0

// Package proc tells from /proc which containers and pods processes belong
// to. It needs no container runtime, and knows pods only by their UIDs.
package proc

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxCgroup is how much of a cgroup file is read. One line of it is about 300
// bytes long, and cgroup v1 has at most some twenty of them.
const maxCgroup = 64 << 10

// Container finds the container and the pod of a process from the content of
// its /proc/PID/cgroup, with cgroup v1 or v2, made by any cgroup driver. A
// node may be a container itself, and a container may hold cgroups of its own:
// the innermost pod counts, and of it the outermost container. Either may be
// empty; ok says that one is not.
func Container(cgroupFile []byte) (container, podUID string, ok bool) {
	for line := range bytes.Lines(cgroupFile[:min(len(cgroupFile), maxCgroup)]) {
		// ID:CONTROLLERS:PATH, where the path may hold colons.
		fields := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(":"), 3)
		if len(fields) != 3 {
			continue
		}
		c, p := fromPath(string(fields[2]))
		// Hierarchies of cgroup v1 that the runtime leaves alone say less.
		if p != "" && podUID == "" || c != "" && container == "" && p == podUID {
			container, podUID = c, p
		}
	}
	return container, podUID, container != "" || podUID != ""
}

// OfPID is Container for a running process, seen in the /proc under root
// (empty: /).
func OfPID(root string, pid uint32) (container, podUID string, ok bool) {
	f, err := os.Open(filepath.Join(pidDir(root, pid), "cgroup"))
	if err != nil {
		return "", "", false
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxCgroup))
	if err != nil {
		return "", "", false
	}
	return Container(content)
}

func procDir(root string) string { return filepath.Join("/", root, "proc") }

func pidDir(root string, pid uint32) string {
	return filepath.Join(procDir(root), strconv.FormatUint(uint64(pid), 10))
}

func fromPath(path string) (container, podUID string) {
	for segment := range strings.SplitSeq(path, "/") {
		// containerd with its own cgroup driver below a kubelet with systemd's
		// makes one folder of "slice:cri-containerd:ID".
		for part := range strings.SplitSeq(segment, ":") {
			if uid := podOf(part); uid != "" {
				container, podUID = "", uid
			} else if container == "" {
				container = containerOf(part)
			}
		}
	}
	return container, podUID
}

// podOf knows pod<UID>, and kubepods-burstable-pod<UID>.slice, in which
// systemd needs "_" for "-".
func podOf(name string) string {
	if slice, ok := strings.CutSuffix(name, ".slice"); ok {
		i := strings.LastIndex(slice, "-pod")
		if i < 0 || !strings.Contains(slice[:i], "kubepods") {
			return ""
		}
		name = strings.ReplaceAll(slice[i+1:], "_", "-")
	}
	if uid, ok := strings.CutPrefix(name, "pod"); ok && isUID(uid) {
		return uid
	}
	return ""
}

// containerOf knows ID and cri-containerd-ID.scope. conmon, which CRI-O puts
// into the pod's cgroup, is in no container: its namespaces are the node's.
func containerOf(name string) string {
	if scope, ok := strings.CutSuffix(name, ".scope"); ok {
		i := strings.LastIndexByte(scope, '-')
		if i < 0 || strings.HasSuffix(scope[:i], "conmon") {
			return ""
		}
		name = scope[i+1:]
	}
	if len(name) == 64 && isHex(name) {
		return name
	}
	return ""
}

// isUID says whether s is a UUID or, as the kubelet gives it to the pods of
// its own manifests, a hash.
func isUID(s string) bool {
	switch len(s) {
	case 32:
		return isHex(s)
	case 36:
		return s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
			isHex(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])
	}
	return false
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}
