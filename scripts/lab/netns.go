// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

// createNetns makes a named network namespace, as `ip netns add` does.
func createNetns(name string) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread is in the new namespace and ends with this goroutine.
		runtime.LockOSThread()
		h, err := netns.NewNamed(name)
		if err == nil {
			h.Close()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("network namespace %s exists already: run 'lab down' first", name)
		}
		return fmt.Errorf("create network namespace %s: %w", name, err)
	}
	return nil
}

// inNetns runs fn on a thread that is in the named namespace. Sockets and
// processes that fn makes belong to that namespace; so does what it reads and
// writes below /proc/sys/net.
func inNetns(name string, fn func() error) error {
	done := make(chan error)
	go func() { done <- enterNetns(name, fn) }()
	return <-done
}

// within is inNetns, or for no name the namespace that this program is in.
func within(name string, fn func() error) error {
	if name != "" {
		return inNetns(name, fn)
	}
	// The caller's thread may be in another one: a goroutine's own never is.
	done := make(chan error)
	go func() { done <- fn() }()
	return <-done
}

// enterNetns does inNetns's work on its own goroutine. The thread is never
// unlocked, so it dies with the goroutine instead of serving others in the
// wrong namespace.
func enterNetns(name string, fn func() error) error {
	runtime.LockOSThread()
	h, err := netns.GetFromPath(netnsPath(name))
	if err != nil {
		return fmt.Errorf("network namespace %s: %w (build the lab with 'lab up')", name, err)
	}
	defer h.Close()
	if err := netns.Set(h); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	return fn()
}

// netnsPath takes a name under /run/netns or a path.
func netnsPath(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return filepath.Join(netnsDir, name)
}

// execIn replaces this process by a command in the named namespace. All of its
// threads are in that namespace then, as a pod's would be.
func execIn(name string, argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return inNetns(name, func() error {
		return fmt.Errorf("run %s: %w", path, unix.Exec(path, argv, os.Environ()))
	})
}

// startIn starts a command as a process of the named namespace.
func startIn(name string, cmd *exec.Cmd) error {
	// fork takes the namespace of the thread that calls it.
	return inNetns(name, cmd.Start)
}

// setSysctls writes kernel settings of the namespace that the thread is in.
func setSysctls(settings map[string]string) error {
	for key, value := range settings {
		path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set %s=%s: %w", key, value, err)
		}
	}
	return nil
}

// self is a command that starts this program again. By its own path, not by
// /proc/self/exe: the path is what names the process to whoever looks at it.
func self(args ...string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's file: %w", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stderr = os.Stderr
	return cmd, nil
}
