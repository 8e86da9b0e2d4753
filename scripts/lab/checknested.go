// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/stackhop/stackhop/events"
	"golang.org/x/sys/unix"
)

// nestedNode is the node that is a container in the check nested, as kind's are.
const nestedNode = "n1"

// insideNode runs a command as `docker exec NODE` does: in the node's network
// namespace, with processes, mounts and a host name of its own. Of other namespaces
// it sees the node's pods only, as files that its container runtime keeps.
func insideNode(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: lab inside NODE COMMAND...")
	}
	cmd, err := self(append([]string{"inside-init"}, args...)...)
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if err := startIn(args[0], cmd); err != nil {
		return err
	}
	go func() {
		for s := range stop {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	if err := cmd.Wait(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		return err
	}
	return nil
}

// insideInit is the first process in there. It becomes the command.
func insideInit(args []string) error {
	runtime.LockOSThread()
	name := args[0]
	var kept []*os.File
	for _, p := range pods {
		if p.node == name {
			f, err := os.Open(netnsPath(p.name))
			if err != nil {
				return err
			}
			kept = append(kept, f)
		}
	}
	err := errors.Join(
		unix.Sethostname([]byte(name)),
		unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("tmpfs", "/run", "tmpfs", 0, ""),
		os.MkdirAll("/run/netns", 0o755))
	for i, f := range kept {
		at := fmt.Sprintf("/run/netns/cni-%d", i)
		err = errors.Join(err, os.WriteFile(at, nil, 0o600),
			unix.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), at, "", unix.MS_BIND, ""))
	}
	if err != nil {
		return err
	}
	return syscall.Exec(args[1], args[1:], os.Environ())
}

// nested runs the tool inside a node that is a container itself. What it says there
// must be what it says of that node from outside.
func (c *checker) nested() error {
	inodes := map[string]uint32{}
	for _, name := range clusterNetns() {
		var st unix.Stat_t
		if err := unix.Stat(netnsPath(name), &st); err != nil {
			return err
		}
		inodes[name] = uint32(st.Ino) //nolint:gosec // 32 bits in the kernel
	}
	dir, err := os.MkdirTemp("", "lab-nested-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	names := filepath.Join(dir, "names")
	if err := writeJSON(names, nestedNames(inodes)); err != nil {
		return err
	}
	var faults []string
	for i, more := range [][]string{nil, {"--names", names}} {
		list, all, err := c.runInside(filepath.Join(dir, fmt.Sprint(i)), more, "5", "6")
		if err != nil {
			return fmt.Errorf("inside, %v: %w", more, err)
		}
		for _, t := range all {
			faults = append(faults, nestedFaults(inodes, t)...)
		}
		if more != nil {
			faults = append(faults, compareNode(nestedNode, list, all)...)
		}
		c.fact("inside %s, %d names given: %d traversals of cases 5 and 6", nestedNode, len(more)/2, len(all))
		if len(all) > 0 {
			c.fact("one of them: %s; %s", strings.Join(all[0].DataLink, " → "), all[0].Summary)
		}
	}
	return faultsError(faults)
}

// runInside traces cases, whose traffic is made outside.
func (c *checker) runInside(dir string, more []string, ids ...string) ([]*verified, []*events.Traversal, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, err
	}
	ready, results := filepath.Join(dir, "ready"), filepath.Join(dir, "results")
	args := slices.Concat([]string{"inside", nestedNode, c.tool.path, "trace", "-o", "json", "--no-kube", "--only-node", nestedNode, "--ready-file", ready}, more, []string{"tcp"})
	s, err := tool{path: c.me}.launch(args...)
	if err != nil {
		return nil, nil, err
	}
	if err := s.await(func() bool { _, err := os.Stat(ready); return err == nil }); err != nil {
		return nil, nil, err
	}
	if _, err := output(c.me, append([]string{"cases", "-json", "-o", results}, ids...)...); err != nil {
		return nil, nil, errors.Join(err, s.interrupt())
	}
	if err := s.interrupt(); err != nil {
		return nil, nil, err
	}
	all, err := s.traversals()
	if err != nil {
		return nil, nil, err
	}
	list, err := readResults(results)
	return list, all, err
}

// nestedFaults says which visits are not of the node and its pods, or not called so.
func nestedFaults(inodes map[string]uint32, t *events.Traversal) (faults []string) {
	kinds := map[uint32]string{inodes[nestedNode]: events.KindNode}
	for _, p := range pods {
		if p.node == nestedNode {
			kinds[inodes[p.name]] = events.KindPod
		}
	}
	for i := range t.Visits {
		v := &t.Visits[i]
		if kinds[v.Netns] == "" || kinds[v.Netns] != v.Kind || v.Node != nestedNode {
			faults = append(faults, fmt.Sprintf("visit %q of kind %q on %q, want kind %q: %s", v.Name, v.Kind, v.Node, kinds[v.Netns], t.Summary))
		}
	}
	return faults
}

// nestedNames names the node and its pods by their inodes: names under /run/netns
// are not those of outside.
func nestedNames(inodes map[string]uint32) any {
	type entry struct {
		Inode uint32 `json:"inode"`
		Kind  string `json:"kind"`
		Node  string `json:"node"`
		Pod   string `json:"pod,omitempty"`
	}
	list := []entry{{inodes[nestedNode], events.KindNode, nestedNode, ""}}
	for _, p := range pods {
		if p.node == nestedNode {
			list = append(list, entry{inodes[p.name], events.KindPod, p.node, "default/" + p.name})
		}
	}
	return map[string]any{"netns": list}
}
