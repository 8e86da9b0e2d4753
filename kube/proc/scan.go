// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// maxProcesses is how many processes are looked at, in the order of their
// numbers.
const maxProcesses = 32768

// Found is a container of a pod, with the network namespace its first process
// is in.
type Found struct {
	Netns     uint32 // inode; 0: the node's own, or not known
	Container string
	PodUID    string
}

// Scan looks through all processes in the /proc under root (empty: /) for
// containers of pods. A container is found once for each network namespace
// that it has processes in, in the order of the processes' numbers. netnsOf
// gives a process's network namespace (nil: as NetnsInode does); that of
// process 1 is the node's.
func Scan(root string, netnsOf func(pid uint32) (uint32, error)) []Found {
	if netnsOf == nil {
		netnsOf = func(pid uint32) (uint32, error) {
			return NetnsInode(filepath.Join(pidDir(root, pid), "ns/net"))
		}
	}
	// Where the node's own namespace is not known, none is known to be a pod's.
	initial, initialErr := netnsOf(1)
	var all []Found
	seen := map[Found]struct{}{}
	for _, pid := range processes(root) {
		container, uid, _ := OfPID(root, pid)
		if container == "" || uid == "" {
			continue
		}
		f := Found{Container: container, PodUID: uid}
		if inode, err := netnsOf(pid); err == nil && initialErr == nil && inode != initial {
			f.Netns = inode
		}
		if _, ok := seen[f]; !ok {
			seen[f] = struct{}{}
			all = append(all, f)
		}
	}
	return all
}

func processes(root string) []uint32 {
	dir, err := os.Open(procDir(root))
	if err != nil {
		return nil
	}
	defer dir.Close()
	// What is no process in /proc is far less than what is bounded here.
	names, _ := dir.Readdirnames(maxProcesses)
	pids := make([]uint32, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.ParseUint(name, 10, 32); err == nil {
			pids = append(pids, uint32(pid))
		}
	}
	slices.Sort(pids)
	return pids
}
