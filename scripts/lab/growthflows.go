// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/scripts/internal/plot"
)

// flowCounts are the connections that live side by side; flowPace is how many
// questions a second they ask together, which every machine can do.
var flowCounts = []int{1, 10, 100, 1000, 10_000, 100_000}

const (
	flowPace = 10_000
	flowPort = 20_000 // the first of the receiver's
)

// A flowMesh has many UDP flows of few sockets: each of the senders' asks each of
// the receiver's.
type flowMesh struct {
	from, to, addr string
	flows          int
}

// sides are how many sockets both sides have.
func (m flowMesh) sides() (senders, receivers int) {
	receivers = int(math.Ceil(math.Sqrt(float64(m.flows))))
	return (m.flows + receivers - 1) / receivers, receivers
}

// run asks over one flow after the other, paced, until done. It returns how many
// questions were answered.
func (m flowMesh) run(done <-chan struct{}) (answered int64, err error) {
	senders, receivers := m.sides()
	stop, err := m.answer(receivers)
	if err != nil {
		return 0, err
	}
	defer stop()
	err = inNetns(m.from, func() error {
		c := &benchClient{failed: new(atomic.Int64), count: new(atomic.Int64)}
		fds, err := openSenders(senders)
		defer closeAll(fds)
		if err != nil {
			return err
		}
		copy(c.dst.Addr[:], net.ParseIP(m.addr).To4())
		pace := newPacer(flowPace)
		buf := make([]byte, questionSize)
		for i := 0; ; i = (i + 1) % m.flows {
			select {
			case <-done:
				return nil
			default:
			}
			pace.wait()
			c.dst.Port = flowPort + i%receivers
			if err := askFrom(fds[i/receivers], &c.dst, buf); err == nil {
				answered++
			}
		}
	})
	return answered, err
}

// answer listens on many ports, and answers on all of them.
func (m flowMesh) answer(receivers int) (stop func(), err error) {
	var wg sync.WaitGroup
	var conns []net.PacketConn
	stop = func() {
		for _, c := range conns {
			c.Close()
		}
		wg.Wait()
	}
	err = inNetns(m.to, func() error {
		for i := range receivers {
			conn, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", flowPort+i))
			if err != nil {
				return err
			}
			conns = append(conns, conn)
			wg.Go(func() {
				for echoOne(conn, nil) {
				}
			})
		}
		return nil
	})
	if err != nil {
		stop()
	}
	return stop, err
}

// openSenders makes sockets of the thread's namespace; those made before an
// error are returned with it.
func openSenders(n int) (fds []int, err error) {
	patience := unix.NsecToTimeval((200 * time.Millisecond).Nanoseconds())
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fds, fmt.Errorf("socket: %w", err)
		}
		fds = append(fds, fd)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
			return fds, fmt.Errorf("socket's timeout: %w", err)
		}
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// askFrom sends one datagram and waits for one.
func askFrom(fd int, dst *unix.SockaddrInet4, buf []byte) error {
	for {
		if err := unix.Sendto(fd, buf, 0, dst); !errors.Is(err, unix.EINTR) {
			if err != nil {
				return err
			}
			break
		}
	}
	for {
		if _, err := unix.Read(fd, buf); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// flows is what an event costs against the flows that live.
func (g *growth) flows() (*plot.Chart, error) {
	c := &plot.Chart{Title: "Cost per event against live flows", X: "live flows", Y: "CPU of the tool per event [µs]", LogX: true,
		Note: g.note(fmt.Sprintf("UDP, %d questions/s over one flow after the other", flowPace))}
	return c, withPair(func(p pairInfo) error {
		for _, n := range flowCounts {
			var user, all []float64
			for range g.rounds {
				u, s, err := g.flowCost(p, n)
				if err != nil {
					return err
				}
				user, all = append(user, u), append(all, u+s)
			}
			c.Add(plot.Point{Series: "user and system", X: float64(n), Y: median(all)})
			c.Add(plot.Point{Series: "user", X: float64(n), Y: median(user)})
			g.tell("%d flows: %.2f µs of user CPU an event, %.2f µs with the system's", n, median(user), median(all))
		}
		return nil
	})
}

// flowCost is the tool's CPU time per event in µs, without attaching. It is taken at
// the end: with tracepoints only a packet may be given out seconds after it was last
// seen, which a short run would leave out, and a long one, for many flows, would not.
// Each flow is asked at least twice, so that all of them live.
func (g *growth) flowCost(p pairInfo, flows int) (user, system float64, err error) {
	r, err := g.selecting(pairSite(p), selectAll).start()
	if err != nil {
		return 0, 0, err
	}
	lasts := max(g.lasts, time.Duration(2*flows)*time.Second/flowPace)
	done := make(chan struct{})
	timer := time.AfterFunc(lasts, func() { close(done) })
	defer timer.Stop()
	u0, s0 := cpuOf(r.proc.cmd.Process.Pid)
	answered, err := flowMesh{from: p.A, to: p.B, addr: p.AddrB, flows: flows}.run(done)
	cost, stopped := r.stop()
	if err := errors.Join(err, stopped); err != nil {
		return 0, 0, err
	}
	if cost.Events == 0 || answered == 0 {
		return 0, 0, fmt.Errorf("%d flows: %d answers, %d events", flows, answered, cost.Events)
	}
	return 1e6 * (cost.User - u0) / float64(cost.Events), 1e6 * (cost.System - s0) / float64(cost.Events), nil
}

// cpuOf is the CPU time in seconds that a process has taken; 0: the kernel does
// not tell.
func cpuOf(pid int) (user, system float64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	return parseCPU(string(text))
}
