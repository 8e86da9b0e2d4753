// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// patience bounds every wait for a condition: on a busy machine of two cores.
const patience = 20 * time.Second

// needRoot fails a test that changes the kernel where it cannot: left out, it
// would seem to have passed.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to attach programs and make network namespaces: run make test as root")
	}
}

// eventually waits for a condition, and fails the test if it does not come.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !becomes(patience, ok) {
		t.Fatalf("after %v still not: %s", patience, what)
	}
}

// becomes looks again and again whether a condition holds, and says whether it
// did within the time.
func becomes(limit time.Duration, ok func() bool) bool {
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(limit); !ok(); <-look.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// onThread runs f on a thread that ends afterwards, whatever namespace it is in
// by then.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// A cluster is one node with a bridge and pods on it, in namespaces of their
// own with names and addresses that no other run has. Nothing else of the
// machine is changed.
type cluster struct {
	t      testing.TB
	prefix string
	subnet [3]byte
	node   string
	pods   []*pod
	made   int // pods, those that are no more among them
}

// A pod is a namespace with eth0, a port of the node's bridge.
type pod struct {
	name  string // of the namespace
	addr  netip.Addr
	mac   net.HardwareAddr
	inode uint32
	host  string // name of the device's other end
}

var clusters atomic.Uint32

func newCluster(t testing.TB, pods int) *cluster {
	t.Helper()
	needRoot(t)
	n := uint32(os.Getpid())*31 + clusters.Add(1)
	c := &cluster{t: t, prefix: fmt.Sprintf("sht%d-%d", os.Getpid(), n&0xff), subnet: [3]byte{10, 64 + byte(n>>8)&63, byte(n)}}
	c.node = c.addNetns("node")
	c.in(c.node, func(h *netlink.Handle) error {
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "cni0"}}); err != nil {
			return err
		}
		return up(h, "cni0")
	})
	for range pods {
		c.addPod()
	}
	return c
}

// addNetns makes a namespace that vanishes with the test.
func (c *cluster) addNetns(role string) string {
	c.t.Helper()
	name := c.prefix + "-" + role
	err := onThread(func() error {
		ns, err := netns.NewNamed(name)
		if err != nil {
			return err
		}
		defer ns.Close()
		// No traffic but the test's own.
		for _, s := range []string{"all", "default"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+s+"/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.t.Fatalf("make namespace %s: %v", name, err)
	}
	c.t.Cleanup(func() { c.dropNetns(name) })
	return name
}

// dropNetns may be called again.
func (c *cluster) dropNetns(name string) {
	if err := netns.DeleteNamed(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.t.Errorf("remove namespace %s: %v", name, err)
	}
}

// in gives f a netlink handle into a namespace.
func (c *cluster) in(name string, f func(h *netlink.Handle) error) {
	c.t.Helper()
	ns, err := netns.GetFromName(name)
	if err == nil {
		defer ns.Close()
		var h *netlink.Handle
		if h, err = netlink.NewHandleAt(ns, unix.NETLINK_ROUTE); err == nil {
			defer h.Close()
			err = f(h)
		}
	}
	if err != nil {
		c.t.Fatalf("in %s: %v", name, err)
	}
}

func up(h *netlink.Handle, dev string) error {
	l, err := h.LinkByName(dev)
	if err != nil {
		return err
	}
	return h.LinkSetUp(l)
}

// addPod makes a pod, known to all others and they to it: no packet waits for
// an address to be resolved.
func (c *cluster) addPod() *pod {
	c.t.Helper()
	n := c.made
	c.made++
	letter := string(rune('a' + n%26))
	if n >= 26 {
		letter += strconv.Itoa(n / 26)
	}
	p := &pod{addr: netip.AddrFrom4([4]byte{c.subnet[0], c.subnet[1], c.subnet[2], byte(2 + n)}), host: "veth" + letter}
	p.name = c.addNetns("pod" + letter)
	inode, err := netnsInode(filepath.Join(runNetns, p.name))
	if err != nil {
		c.t.Fatal(err)
	}
	p.inode = inode
	ns, err := netns.GetFromName(p.name)
	if err != nil {
		c.t.Fatal(err)
	}
	defer ns.Close()
	c.in(c.node, func(h *netlink.Handle) error {
		bridge, err := h.LinkByName("cni0")
		if err != nil {
			return err
		}
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: p.host, MasterIndex: bridge.Attrs().Index}, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}
		if err := h.LinkAdd(veth); err != nil {
			return err
		}
		return up(h, p.host)
	})
	c.in(p.name, func(h *netlink.Handle) error {
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		p.mac = eth0.Attrs().HardwareAddr
		address := &netlink.Addr{IPNet: &net.IPNet{IP: p.addr.AsSlice(), Mask: net.CIDRMask(24, 32)}}
		return errors.Join(h.AddrAdd(eth0, address), h.LinkSetUp(eth0), up(h, "lo"))
	})
	for _, other := range c.pods {
		c.know(p, other)
		c.know(other, p)
	}
	c.pods = append(c.pods, p)
	eventually(c.t, "bridge port "+p.host+" forwards", func() bool { return c.forwards(p.host) })
	return p
}

// know gives a pod the link address of another.
func (c *cluster) know(p, other *pod) {
	c.t.Helper()
	c.in(p.name, func(h *netlink.Handle) error {
		eth0, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		return h.NeighSet(&netlink.Neigh{LinkIndex: eth0.Attrs().Index, State: netlink.NUD_PERMANENT, IP: other.addr.AsSlice(), HardwareAddr: other.mac})
	})
}

// forwards says whether a bridge port has left the states of its beginning.
func (c *cluster) forwards(dev string) (ok bool) {
	c.in(c.node, func(h *netlink.Handle) error {
		l, err := h.LinkByName(dev)
		ok = err == nil && l.Attrs().OperState == netlink.OperUp
		return err
	})
	return ok
}

// names is the cluster as --names tells it to the tool.
func (c *cluster) names() []byte {
	type entry struct {
		Name string `json:"name"`
		Kind string `json:"kind"`
		Node string `json:"node,omitempty"`
		Pod  string `json:"pod,omitempty"`
	}
	list := []entry{{Name: c.node, Kind: "node"}}
	for _, p := range c.pods {
		list = append(list, entry{Name: p.name, Kind: "pod", Node: c.node, Pod: "default/" + p.name})
	}
	data, err := json.Marshal(map[string]any{"netns": list})
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

// within runs f in a pod's namespace: sockets made there stay there.
func (c *cluster) within(name string, f func() error) {
	c.t.Helper()
	var ferr error
	if err := inNamespace(filepath.Join(runNetns, name), func() { ferr = f() }); err != nil || ferr != nil {
		c.t.Fatalf("in %s: %v", name, errors.Join(err, ferr))
	}
}

// listenUDP opens a socket in a pod, with room for all that a test sends.
func (c *cluster) listenUDP(p *pod, port int) *net.UDPConn {
	c.t.Helper()
	var conn *net.UDPConn
	c.within(p.name, func() (err error) {
		if conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: p.addr.AsSlice(), Port: port}); err != nil {
			return err
		}
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		}), err)
	})
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// dialUDP connects a socket of a pod to another pod.
func (c *cluster) dialUDP(from, to *pod, port int) *net.UDPConn {
	c.t.Helper()
	var conn *net.UDPConn
	c.within(from.name, func() (err error) {
		conn, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: to.addr.AsSlice(), Port: port})
		return err
	})
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// port is the local port of a socket.
func port(c net.Conn) uint16 { return c.LocalAddr().(*net.UDPAddr).AddrPort().Port() }
