// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events"
)

// expectOnlyLost fails a test if another stage than one has lost anything.
func expectOnlyLost(t *testing.T, s Stats, stage string) {
	t.Helper()
	for other, n := range s.Lost {
		if other != stage && n != 0 {
			t.Errorf("stage %s lost %d, where only %s is to lose", other, n, stage)
		}
	}
}

// A reader that never comes: what does not fit into the ring is counted.
func TestNativeRingOverflow(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	r := startRun(t, Config{Select: expression(t, "udp and host "+b.addr.String()), RingBytes: 4096, RingMark: 4096, Poll: time.Hour}, nil)
	const n = 200
	say(t, c, a, b, 4300, n, 64)
	s := r.stop() // checks that matched = delivered + lost
	if s.Lost["ring"] == 0 || s.Delivered == 0 {
		t.Errorf("delivered %d, lost %d: a page holds some of %d packets' events, not all", s.Delivered, s.Lost["ring"], n)
	}
	expectOnlyLost(t, s, "ring")
	if s.Packets != n {
		t.Errorf("%d packets followed, want %d: they are, whether their events fit or not", s.Packets, n)
	}
	if got := len(r.seen()); uint64(got) != s.Delivered {
		t.Errorf("the sink got %d events, counted are %d", got, s.Delivered)
	}
}

// A record that is none: it is counted, and the rest goes on.
func TestNativeDecode(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	r := startRun(t, Config{Select: expression(t, "udp and host "+b.addr.String())}, nil)
	const short = 8 // bytes, of a record that has 64 at least
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "test_record", Type: ebpf.RawTracepoint, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R0, 0), asm.StoreMem(asm.RFP, -short, asm.R0, asm.DWord),
			asm.LoadMapPtr(asm.R1, r.tracer.rings.maps[0].FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -short), asm.Mov.Imm(asm.R3, short), asm.Mov.Imm(asm.R4, 0),
			asm.FnRingbufOutput.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return(),
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	if _, err := prog.Run(&ebpf.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	say(t, c, a, b, 4301, 1, 64)
	eventually(t, "the packet has arrived", func() bool { _, arrived := r.arrivals(b); return arrived == 1 })
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	// Nobody counted this record as an event before it was in the ring.
	s := r.tracer.Stats()
	if s.Lost["decode"] != 1 || s.Delivered != s.Matched || s.Packets != 1 {
		t.Errorf("%+v, want 1 lost by decode beside all of 1 packet", s)
	}
	expectOnlyLost(t, s, "decode")
	if lost, unfollowed := r.tracer.Missed(); lost != 1 || unfollowed != 0 {
		t.Errorf("%d events and %d packets missed, want the one event", lost, unfollowed)
	}
}

// More connections than can be followed: each direction of those beyond is counted.
func TestNativeFlowTable(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	var got atomic.Uint64
	r := startRun(t, Config{Select: expression(t, "udp and dst "+b.addr.String()), RingBytes: 16 << 20}, func(*events.Event) { got.Add(1) })
	caughtUp := func() bool {
		s, err := r.tracer.state.stats()
		if err != nil {
			t.Fatal(err)
		}
		return got.Load() == s.Matched
	}
	const sockets, ports, batch = 2, 40_000, 2000 // connections of two directions
	for range sockets {
		conn := c.openUDP(a)
		for port := 1; port <= ports; port++ {
			// Nobody listens: what comes back is one ICMP error a second.
			if _, err := conn.WriteTo([]byte("?"), &net.UDPAddr{IP: b.addr.AsSlice(), Port: port}); err != nil {
				t.Fatal(err)
			}
			if port%batch == 0 {
				eventually(t, "the reader has caught up", caughtUp)
			}
		}
	}
	room := int(r.tracer.loader.maps[bpf.MapFlows].MaxEntries())
	s := r.stop()
	over := 2*sockets*ports - room
	if lost := int(s.Lost["flow-table"]); lost < over || lost > over+2*100 {
		t.Errorf("%d directions of %d connections, room for %d: %d counted, want %d", 2*sockets*ports, sockets*ports, room, lost, over)
	}
	t.Logf("%d connections, room for %d directions, %d counted as not followed", sockets*ports, room, s.Lost["flow-table"])
	expectOnlyLost(t, s, "flow-table")
}

// A packet that was shed is remembered for a while, so that no later hook takes it for
// one that begins there: not for good, or packets that have nothing of their own in their
// headers (here no IPv4 ID, as all of IPv6) would never be followed at the same address.
func TestNativeShedIsForgotten(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	conn := c.openUDP(a)
	raw, err := conn.SyscallConn()
	if err == nil {
		err = errors.Join(err, raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		}))
	}
	if err != nil {
		t.Fatal(err)
	}
	say := func() {
		if _, err := conn.WriteTo([]byte("always the same and more than that"), &net.UDPAddr{IP: b.addr.AsSlice(), Port: 4701}); err != nil {
			t.Fatal(err)
		}
	}
	var followed atomic.Uint64
	const perSecond = 20 // one packet in a tenth of a second on each CPU
	r := startRun(t, Config{Select: expression(t, "udp and dst "+b.addr.String()), Rate: perSecond}, func(e *events.Event) {
		if e.Flags&events.FlagFirst != 0 {
			followed.Add(1)
		}
	})
	for range 500 { // which have some addresses, by turns
		say()
	}
	slow := time.NewTicker(150 * time.Millisecond)
	defer slow.Stop()
	const want = 30
	deadline := time.Now().Add(patience)
	for run := 0; run < want; {
		<-slow.C
		before := followed.Load()
		if say(); becomes(100*time.Millisecond, func() bool { return followed.Load() > before }) {
			run++
		} else if run = 0; time.Now().After(deadline) {
			t.Fatalf("behind a burst not even %d packets of one in 150 ms are followed, of %d a second that may be", want, perSecond)
		}
	}
	expectOnlyLost(t, r.stop(), "rate")
}

// openUDP opens a socket in a pod that sends to anybody.
func (c *cluster) openUDP(p *pod) *net.UDPConn {
	c.t.Helper()
	var conn *net.UDPConn
	c.within(p.name, func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: p.addr.AsSlice()})
		return err
	})
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// The kernel leaves a program out that interrupts itself. Here a process takes copies
// of packets out of a raw socket, which runs the program of their end, on the CPU on
// which the packets themselves end in softirqs that another CPU raises.
func TestNativeHookNotRun(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	const softirqs = 1 // the CPU
	steerPackets(t, b, 1<<softirqs)
	r := startRun(t, Config{Select: expression(t, "icmp and host "+b.addr.String()), RingBytes: 64 << 20}, func(*events.Event) {})
	reader, sender := rawICMP(t, c, b), rawICMP(t, c, a)
	over := make(chan struct{})
	var work sync.WaitGroup
	onCPU := func(cpu int, what func()) {
		work.Go(func() {
			_ = onThread(func() error {
				var set unix.CPUSet
				set.Set(cpu)
				if err := unix.SchedSetaffinity(0, &set); err != nil {
					t.Error(err)
				}
				for {
					select {
					case <-over:
						return nil
					default:
						what()
					}
				}
			})
		})
	}
	buf := make([]byte, 256)
	onCPU(softirqs, func() { unix.Recvfrom(reader, buf, unix.MSG_DONTWAIT) })
	echo := []byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1} // a request, with its checksum
	onCPU(0, func() { unix.Sendto(sender, echo, 0, &unix.SockaddrInet4{Addr: b.addr.As4()}) })
	missed := becomes(patience, func() bool { return r.tracer.notRun() > 0 })
	close(over)
	work.Wait()
	s := r.stop()
	t.Logf("%d packets, %d events: the kernel left out %d hook runs", s.Packets, s.Matched, s.Lost["hook-not-run"])
	if !missed || s.Lost["hook-not-run"] == 0 {
		t.Error("the kernel ran each hook")
	}
	expectOnlyLost(t, s, "hook-not-run")
}

// rawICMP opens a raw socket in a pod. It does not block, so that no reader waits.
func rawICMP(t *testing.T, c *cluster, p *pod) (fd int) {
	t.Helper()
	c.within(p.name, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		return err
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// steerPackets lets the packets that come to a pod's device be taken up by some CPUs
// (RPS). The files for that show themselves in a sysfs of the pod's namespace alone.
func steerPackets(t *testing.T, p *pod, cpus int) {
	t.Helper()
	dir := t.TempDir()
	err := onThread(func() error { // the mount ends with the thread
		ns, err := netns.GetFromName(p.name)
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			netns.Set(ns), unix.Mount("sysfs", dir, "sysfs", 0, "")); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "class/net/eth0/queues/rx-0/rps_cpus"), fmt.Appendf(nil, "%x", cpus), 0)
	})
	if err != nil {
		t.Fatalf("steer packets of %s: %v", p.name, err)
	}
}
