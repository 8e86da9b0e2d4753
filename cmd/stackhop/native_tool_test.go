// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// toolPatience bounds every wait for a condition.
const toolPatience = 20 * time.Second

// inSpace runs f on a thread in a named network namespace, which ends afterwards.
func inSpace(t *testing.T, name string, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.GetFromName(name)
		if err == nil {
			err = errors.Join(netns.Set(ns), ns.Close())
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("in %s: %v", name, err)
	}
}

// newSpace makes a named network namespace that ends with the test.
func newSpace(t *testing.T, role string) string {
	t.Helper()
	name := fmt.Sprintf("shp%d-%s", os.Getpid(), role)
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.NewNamed(name)
		if err == nil {
			err = ns.Close()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netns.DeleteNamed(name) })
	return name
}

// newPod joins a new namespace to a node's by a pair of devices with addresses of their
// own. It returns the namespace, and the device's index at the node.
func newPod(t *testing.T, node string, n int) (name string, host int) {
	t.Helper()
	name = newSpace(t, "pod"+strconv.Itoa(n))
	pod, err := netns.GetFromName(name)
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	device := "veth" + strconv.Itoa(n)
	configure := func(device string, last byte) error {
		l, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 99, byte(n), last), Mask: net.CIDRMask(24, 32)}}
		return errors.Join(netlink.AddrAdd(l, addr), netlink.LinkSetUp(l))
	}
	inSpace(t, node, func() error {
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: device}, PeerName: "eth0", PeerNamespace: netlink.NsFd(pod)})
		if err != nil {
			return err
		}
		l, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		host = l.Attrs().Index
		return configure(device, 1)
	})
	inSpace(t, name, func() error { return configure("eth0", 2) })
	return name, host
}

// tcPrograms is how many programs a device of a namespace has at tc ingress.
func tcPrograms(t *testing.T, space string, ifindex int) (n int) {
	t.Helper()
	inSpace(t, space, func() error {
		got, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			n = len(got.Programs)
		}
		return err
	})
	return n
}

// send sends a datagram from a pod to its node.
func send(t *testing.T, pod string, n int) {
	t.Helper()
	inSpace(t, pod, func() error {
		conn, err := net.Dial("udp", fmt.Sprintf("10.99.%d.1:9", n))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("x"))
		return err
	})
}

// A toolRun is the tool, built as it is shipped, in a node's namespace.
type toolRun struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout bytes.Buffer
	mu     sync.Mutex // of said
	said   bytes.Buffer
	done   chan struct{}
	err    error
}

func (r *toolRun) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.Write(p)
}

func (r *toolRun) stderr() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

func startTool(t *testing.T, bin, node string, args ...string) *toolRun {
	t.Helper()
	return startToolInto(t, nil, bin, node, args...)
}

// startToolInto starts the tool with standard output somewhere else.
func startToolInto(t *testing.T, stdout *os.File, bin, node string, args ...string) *toolRun {
	t.Helper()
	r := &toolRun{t: t, cmd: exec.Command(bin, args...), done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, r
	if stdout != nil {
		r.cmd.Stdout = stdout
	}
	inSpace(t, node, r.cmd.Start)
	go func() { r.err = r.cmd.Wait(); close(r.done) }()
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); <-r.done })
	return r
}

// until waits for a condition, and fails if the tool ends before.
func (r *toolRun) until(what string, holds func() bool) {
	r.t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(toolPatience); !holds(); {
		select {
		case <-r.done:
			r.t.Fatalf("%s: it has ended before: %v\n%s", what, r.err, r.stderr())
		case <-look.C:
			if time.Now().After(deadline) {
				r.t.Fatalf("after %v still not: %s\n%s", toolPatience, what, r.stderr())
			}
		}
	}
}

// interrupt is Ctrl-C, and returns what was said.
func (r *toolRun) interrupt() string {
	r.t.Helper()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		r.t.Fatal(err)
	}
	<-r.done
	if r.err != nil {
		r.t.Errorf("ended with %v:\n%s", r.err, r.stderr())
	}
	return r.stderr()
}

// buildTool builds the tool without cgo, as it is shipped.
func buildTool(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "stackhop")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// TestNativeAsked: SIGUSR1 asks for what was counted so far, and ends nothing.
func TestNativeAsked(t *testing.T) {
	node := newSpace(t, "asked")
	pod, _ := newPod(t, node, 1)
	ready := filepath.Join(t.TempDir(), "ready")
	r := startTool(t, buildTool(t), node, "trace", "--hooks", "tracepoints", "--ready-file", ready, "udp port 9")
	r.until("ready", func() bool {
		_, err := os.Stat(ready)
		return err == nil
	})
	for asked := 1; asked <= 2; asked++ {
		send(t, pod, 1)
		if err := r.cmd.Process.Signal(unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		r.until("an answer", func() bool { return strings.Count(r.stderr(), "stackhop: so far ") == asked })
	}
	text := r.interrupt()
	if _, last, _ := strings.Cut(text, "\nstackhop: 4 packets matched with "); !strings.Contains(last, "0 lost") {
		t.Errorf("want two datagrams and their errors: %s", text)
	}
}

// TestNativeOwnOutput: what the tool writes into a connection, as with ssh, is not traced:
// each packet shown would be another one to show.
func TestNativeOwnOutput(t *testing.T) {
	node := newSpace(t, "own")
	pod, _ := newPod(t, node, 1)
	const port = ":7017"
	var reader net.Listener
	inSpace(t, pod, func() (err error) {
		reader, err = net.Listen("tcp4", port)
		return err
	})
	defer reader.Close()
	var out *os.File
	inSpace(t, node, func() error {
		conn, err := net.Dial("tcp4", "10.99.1.2"+port)
		if err != nil {
			return err
		}
		defer conn.Close() // out is another descriptor of it
		out, err = conn.(*net.TCPConn).File()
		return err
	})
	conn, err := reader.Accept()
	if err != nil {
		t.Fatal(err)
	}
	shown := &toolRun{done: make(chan struct{})} // what comes in, to be looked at
	go func() { _, _ = io.Copy(shown, conn); close(shown.done) }()
	ready := filepath.Join(t.TempDir(), "ready")
	r := startToolInto(t, out, buildTool(t), node, "trace", "--hooks", "tracepoints", "--ready-file", ready, "--all")
	out.Close()
	r.until("ready", func() bool {
		_, err := os.Stat(ready)
		return err == nil
	})
	for sent := 1; sent <= 3; sent++ { // what shows the first is on its way before the last
		send(t, pod, 1)
		r.until("a line of the datagram", func() bool { return strings.Count(shown.stderr(), "udp 10.99.1.2:") == sent })
	}
	text := r.interrupt()
	conn.Close()
	<-shown.done
	if strings.Contains(shown.stderr(), port) || !strings.Contains(text, "left out: the connection 10.99.1.1:") {
		t.Errorf("shown:\n%s\nsaid:\n%s", shown.stderr(), text)
	}
}
