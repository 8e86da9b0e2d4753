// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/tracer"
)

// netnsDir is where iproute2 keeps named namespaces.
const netnsDir = "/run/netns"

func newTracer(cfg tracer.Config) (liveTracer, error) {
	t, err := tracer.New(cfg)
	if err != nil {
		return nil, err // not a nil pointer in a non-nil interface
	}
	return t, nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// kernelRelease is what uname -r prints; empty if it is not known.
func kernelRelease() string {
	data, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// notifyAsks is for SIGUSR1, which asks tcpdump and bpftrace for their counters, too.
func notifyAsks() (<-chan os.Signal, func()) {
	ch := make(chan os.Signal, 1) // asked twice before it is answered: one answer
	signal.Notify(ch, unix.SIGUSR1)
	return ch, func() { signal.Stop(ch) }
}

// swallowAsks has SIGUSR1 do nothing where nothing is counted: pkill goes by names. An
// ignored signal would be ignored in a COMMAND, too.
func swallowAsks() { signal.Notify(make(chan os.Signal, 1), unix.SIGUSR1) }

// sudoUser is who called us through sudo.
func sudoUser() (uid, gid int, ok bool) {
	uid, err1 := strconv.Atoi(os.Getenv("SUDO_UID"))
	gid, err2 := strconv.Atoi(os.Getenv("SUDO_GID"))
	return uid, gid, os.Geteuid() == 0 && err1 == nil && err2 == nil
}

// givesFiles says whether ownFile does anything that takes a capability.
func givesFiles() bool {
	uid, gid, ok := sudoUser()
	return ok && (uid != os.Geteuid() || gid != os.Getegid())
}

// foreignDir says whether files cannot be made in a directory by its owner's right, and
// whether those of other users cannot be removed there. One that is not there is not
// foreign: that is told elsewhere.
func foreignDir(dir string) (foreign, sticky bool) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return false, false
	}
	const mayMake = unix.S_IWUSR | unix.S_IXUSR
	own := int(st.Uid) == os.Geteuid()
	return !own || st.Mode&mayMake != mayMake, !own && st.Mode&unix.S_ISVTX != 0
}

// ownFile gives a file to the user who called us through sudo, who is the one
// that sends it.
func ownFile(f *os.File) error {
	uid, gid, ok := sudoUser()
	if !ok {
		return nil
	}
	if err := f.Chown(uid, gid); err != nil {
		return fmt.Errorf("give the file to the user of sudo: %w", err)
	}
	return nil
}

// netnsNames lists the named namespaces.
func netnsNames() []string {
	entries, err := os.ReadDir(netnsDir)
	if err != nil {
		return nil // there is no such directory before the first is named
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// netnsAddrs lists the addresses on the devices of a namespace that are up.
// Those that are down are left out: kube-ipvs0 holds every service of the
// cluster.
func netnsAddrs(nameOrInode string) ([]netip.Addr, error) {
	path, err := netnsPath(nameOrInode)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var addrs []netip.Addr
	done := make(chan error)
	go func() {
		// The thread is never unlocked: it is in another namespace now, and
		// ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the namespace: %w", err)
			return
		}
		var err error
		addrs, err = upAddrs()
		done <- err
	}()
	return addrs, <-done
}

// netnsPath finds the file of a namespace.
func netnsPath(nameOrInode string) (string, error) {
	inode, err := strconv.ParseUint(nameOrInode, 10, 32)
	if err != nil {
		path := filepath.Join(netnsDir, nameOrInode)
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("no such namespace in %s", netnsDir)
		}
		return path, nil
	}
	for _, pattern := range []string{netnsDir + "/*", "/proc/[0-9]*/ns/net"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		for _, p := range paths {
			var st unix.Stat_t
			// Processes come and go while we look.
			if unix.Stat(p, &st) == nil && st.Ino == inode {
				return p, nil
			}
		}
	}
	return "", errors.New("no process and no name has the namespace with this inode")
}

func upAddrs() ([]netip.Addr, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, d := range devices {
		if d.Flags&net.FlagUp == 0 || d.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := d.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			// Every namespace has link-local addresses, which select nothing
			// in particular.
			if err == nil && !p.Addr().IsLinkLocalUnicast() {
				out = append(out, p.Addr().Unmap())
			}
		}
	}
	return out, nil
}
