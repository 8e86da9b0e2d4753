// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// kernelObjects are programs, maps and links, by id.
type kernelObjects map[string][]uint32

// heldBy lists what a process holds file descriptors of. Ids tell its objects
// from those of other tracers on this machine.
func heldBy(t *testing.T, pid int) kernelObjects {
	t.Helper()
	held := kernelObjects{}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, _ := os.ReadFile(f) // closed meanwhile: nothing held
		for line := range strings.Lines(string(data)) {
			kind, value, _ := strings.Cut(line, ":")
			switch kind {
			case "prog_id", "map_id", "link_id":
				id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
				if err != nil {
					t.Fatalf("%s: %q", f, line)
				}
				held[kind] = append(held[kind], uint32(id))
			}
		}
	}
	return held
}

// alive returns those that the kernel still has.
func (o kernelObjects) alive() (left []string) {
	for kind, ids := range o {
		for _, id := range ids {
			var object io.Closer
			var err error
			switch kind {
			case "prog_id":
				object, err = ebpf.NewProgramFromID(ebpf.ProgramID(id))
			case "map_id":
				object, err = ebpf.NewMapFromID(ebpf.MapID(id))
			default:
				object, err = link.NewFromID(link.ID(id))
			}
			if err == nil {
				object.Close()
			}
			if !errors.Is(err, os.ErrNotExist) {
				left = append(left, fmt.Sprintf("%s %d", kind, id))
			}
		}
	}
	return left
}

// child is this test binary as a tracer of its own.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	stdin io.Closer
}

// startChild returns once the child traces.
func startChild(t *testing.T) *child {
	t.Helper()
	c := spawn(t)
	if !c.lines.Scan() || c.lines.Text() != "ready" {
		t.Fatalf("the child said %q, %v", c.lines.Text(), c.lines.Err())
	}
	return c
}

func spawn(t *testing.T) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return &child{cmd: cmd, lines: bufio.NewScanner(out), stdin: in}
}

// kill ends the child as it stands, and returns what it held then.
func (c *child) kill(t *testing.T) kernelObjects {
	t.Helper()
	pid := c.cmd.Process.Pid
	if err := c.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child stands still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(stat), ") ")
		return err == nil && strings.HasPrefix(rest, "T")
	})
	held := heldBy(t, pid)
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	return held
}

// expectGone gives the kernel 2 s to let go.
func expectGone(t *testing.T, held kernelObjects) {
	t.Helper()
	var left []string
	if !becomes(2*time.Second, func() bool { left = held.alive(); return len(left) == 0 }) {
		t.Fatalf("left in the kernel: %v", left)
	}
}

func TestNativeKilled(t *testing.T) {
	newCluster(t, 2) // devices to be attached to
	c := startChild(t)
	held := c.kill(t)
	if len(held["prog_id"]) < 7 || len(held["map_id"]) < 4 || len(held["link_id"]) < 5+2*4 {
		t.Fatalf("while tracing the child held %v: this test would see nothing", held)
	}
	expectGone(t, held)
}

// Killed while it attaches, or at any later moment.
func TestNativeKilledAtRandomMoments(t *testing.T) {
	newCluster(t, 2)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for range 20 {
		c := spawn(t)
		// A timer on purpose: any moment of attaching and tracing must do, so
		// there is no condition to wait for.
		<-time.After(time.Duration(random.IntN(600)) * time.Millisecond)
		expectGone(t, c.kill(t))
	}
}

func TestNativeCloseLeavesNothing(t *testing.T) {
	newCluster(t, 2)
	c := startChild(t)
	held := heldBy(t, c.cmd.Process.Pid)
	c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("a tracer that ends in order: %v", err)
	}
	expectGone(t, held)
}

// hostIndex is the index of a pod's device on the node.
func (c *cluster) hostIndex(p *pod) (index int) {
	c.t.Helper()
	c.in(c.node, func(h *netlink.Handle) error {
		l, err := h.LinkByName(p.host)
		if err == nil {
			index = l.Attrs().Index
		}
		return err
	})
	return index
}

// The way of kernels below 6.6: a second process removes what the first one
// cannot. Here it is asked to, on a kernel that would not need it.
func TestNativeCleaner(t *testing.T) {
	c := newCluster(t, 1)
	prog, index := acceptAll(t), c.hostIndex(c.pods[0])
	clsact := func() (have bool) {
		c.within(c.node, func() error {
			l, err := netlink.LinkByIndex(index)
			have = err == nil && haveClsact(l)
			return err
		})
		return have
	}
	cl, err := startCleaner(KeepAll)
	if err != nil {
		t.Fatal(err)
	}
	c.within(c.node, func() error { return cl.attach(deviceKey{ifindex: uint32(index)}, prog, prog) })
	if !clsact() {
		t.Fatal("no clsact after attaching")
	}
	cl.close()
	if clsact() {
		t.Error("clsact is left")
	}
}

// Runs that begin and end side by side on one device: the last one takes the qdisc
// along, whoever made it.
func TestNativeCleanersSideBySide(t *testing.T) {
	c := newCluster(t, 1)
	prog, index := acceptAll(t), c.hostIndex(c.pods[0])
	for round := range 20 {
		var runs errgroup.Group
		for run := range 4 {
			cl, err := startCleaner(KeepAll)
			if err != nil {
				t.Fatal(err)
			}
			cl.handle = uint32(run + 1)
			runs.Go(func() error {
				var attached error
				err := inNamespace(filepath.Join(runNetns, c.node), func() { attached = cl.attach(deviceKey{ifindex: uint32(index)}, prog, prog) })
				cl.close()
				return errors.Join(err, attached)
			})
		}
		if err := runs.Wait(); err != nil {
			t.Fatal(err)
		}
		c.within(c.node, func() error {
			l, err := netlink.LinkByIndex(index)
			if err == nil && haveClsact(l) {
				err = fmt.Errorf("round %d: clsact is left", round)
			}
			return err
		})
	}
}

// What others have on the device stays.
func TestNativeCleanerKeepsOthers(t *testing.T) {
	c := newCluster(t, 1)
	prog := acceptAll(t)
	other := &cleaner{handle: 7} // a filter by another name
	var index int
	c.within(c.node, func() error {
		l, err := netlink.LinkByName(c.pods[0].host)
		if err != nil {
			return err
		}
		index = l.Attrs().Index
		q := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
		f := other.filter(index, netlink.HANDLE_MIN_INGRESS)
		f.Name, f.Priority, f.Fd = "somebody", 1, prog.FD()
		return errors.Join(netlink.QdiscAdd(q), netlink.FilterAdd(f))
	})
	cl, err := startCleaner(KeepAll)
	if err != nil {
		t.Fatal(err)
	}
	c.within(c.node, func() error { return cl.attach(deviceKey{ifindex: uint32(index)}, prog, prog) })
	cl.close()
	c.within(c.node, func() error {
		l, err := netlink.LinkByIndex(index)
		if err != nil {
			return err
		}
		if total, own := countFilters(l); total != 1 || own != 0 {
			return fmt.Errorf("%d filters, %d of them ours; want the other one alone", total, own)
		}
		return nil
	})
}
