// SPDX-License-Identifier: Apache-2.0

//go:build kube

package kubetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/scripts/internal/apitest"
)

// A testPod is a network namespace with an address on a bridge that leads
// nowhere else, and a UDP socket at port 8080.
type testPod struct {
	netns, ip string
	server    *net.UDPConn
}

// startPods makes pods, by name, with addresses from 10.201.0.2 on.
func startPods(t *testing.T, names ...string) map[string]*testPod {
	t.Helper()
	prefix := fmt.Sprintf("kt%d-", os.Getpid())
	bridge := prefix + "bridge"
	addNetns(t, bridge)
	ip(t, "-n", bridge, "link", "add", "br0", "up", "type", "bridge")
	pods := map[string]*testPod{}
	for i, name := range names {
		p := &testPod{netns: prefix + name, ip: fmt.Sprintf("10.201.0.%d", i+2)}
		addNetns(t, p.netns)
		port := fmt.Sprintf("port%d", i)
		ip(t, "-n", bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", p.netns)
		ip(t, "-n", bridge, "link", "set", port, "master", "br0", "up")
		ip(t, "-n", p.netns, "addr", "add", p.ip+"/24", "dev", "eth0")
		ip(t, "-n", p.netns, "link", "set", "eth0", "up")
		p.server = p.listen(t, 8080)
		go p.read()
		pods[name] = p
	}
	return pods
}

func addNetns(t *testing.T, name string) {
	t.Helper()
	ip(t, "netns", "add", name)
	t.Cleanup(func() { ip(t, "netns", "del", name) })
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// listen makes a UDP socket in the pod; port 0: any.
func (p *testPod) listen(t *testing.T, port int) (conn *net.UDPConn) {
	t.Helper()
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		// The thread must not end with the goroutine: processes that it has
		// started would end with it (PR_SET_PDEATHSIG).
		runtime.LockOSThread()
		var home, ns netns.NsHandle
		if home, err = netns.Get(); err != nil {
			return
		}
		defer home.Close()
		if ns, err = netns.GetFromName(p.netns); err != nil {
			return
		}
		defer ns.Close()
		if err = netns.Set(ns); err != nil {
			return
		}
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(p.ip), Port: port})
		if err = errors.Join(err, netns.Set(home)); err == nil {
			runtime.UnlockOSThread()
		}
	})
	wg.Wait()
	if err != nil {
		t.Fatalf("socket in %s: %v", p.netns, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// leadTo has packets to an address go to another pod, which does not take them.
func (p *testPod) leadTo(t *testing.T, addr string, to *testPod) {
	t.Helper()
	out, err := exec.Command("ip", "-n", to.netns, "-br", "link", "show", "eth0").Output()
	if err != nil {
		t.Fatal(err)
	}
	ip(t, "-n", p.netns, "neigh", "add", addr, "lladdr", strings.Fields(string(out))[2], "dev", "eth0")
	ip(t, "-n", p.netns, "route", "add", addr, "dev", "eth0")
}

// read takes what comes, so that no buffer gets full.
func (p *testPod) read() {
	buf := make([]byte, 2048)
	for {
		if _, _, err := p.server.ReadFrom(buf); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// send sends n datagrams of size, size+1… bytes to a port of another pod.
func send(t *testing.T, conn *net.UDPConn, to *testPod, port, size, n int) {
	t.Helper()
	for i := range n {
		if _, err := conn.WriteTo(make([]byte, size+i), &net.UDPAddr{IP: net.ParseIP(to.ip), Port: port}); err != nil {
			t.Fatal(err)
		}
	}
}

// stackhop builds the tool.
var stackhop = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kubetest-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "stackhop")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/stackhop")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build stackhop: %w\n%s", err, out)
	}
	return path, nil
})

// A run is the tool at work, its output in files.
type run struct {
	t       *testing.T
	process *apitest.Process // standard error is in its log
	stdout  string
}

// startRun starts the tool with JSON output and waits until it is ready.
func startRun(t *testing.T, args ...string) *run {
	t.Helper()
	return startRunIn(t, nil, args...)
}

// startRunIn is startRun for a tool that a command becomes, of which this is the
// beginning.
func startRunIn(t *testing.T, command []string, args ...string) *run {
	t.Helper()
	binary, err := stackhop()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &run{t: t, stdout: filepath.Join(dir, "stdout")}
	ready := filepath.Join(dir, "ready")
	// The shell becomes the tool.
	script := `out=$1; shift; exec "$@" >"$out"`
	r.process = apitest.StartProcess(t, filepath.Join(dir, "stderr"), "sh",
		slices.Concat([]string{"-c", script, "sh", r.stdout}, command, []string{binary}, args,
			[]string{"-o", "json", "--hooks", "tracepoints", "--ready-file", ready})...)
	apitest.Eventually(t, "stackhop is ready", func() bool {
		select {
		case <-r.process.Done:
			t.Fatalf("stackhop ended: %v\n%s", r.process.Err, r.process.Tail())
		default:
		}
		_, err := os.Stat(ready)
		return err == nil
	})
	return r
}

// seen is what was written up to now.
func (r *run) seen() (all []*events.Traversal) {
	r.t.Helper()
	text, err := os.ReadFile(r.stdout)
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // the rest is still to come
		}
		one := new(events.Traversal)
		if err := json.Unmarshal(line, one); err != nil {
			r.t.Fatalf("%v: %s", err, line)
		}
		all = append(all, one)
	}
	return all
}

// stop ends the run as Ctrl-C does, and returns what it said.
func (r *run) stop() string {
	r.t.Helper()
	if err := r.process.Cmd.Process.Signal(syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-r.process.Done:
	case <-time.After(apitest.Patience):
		r.t.Fatalf("it does not end: %s", r.process.Tail())
	}
	if r.process.Err != nil {
		r.t.Errorf("stackhop: %v", r.process.Err)
	}
	text, err := os.ReadFile(r.process.Log)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}
