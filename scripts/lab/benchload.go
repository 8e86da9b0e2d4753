// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A benchSite is where the benchmark's traffic goes.
type benchSite struct {
	from     string     // the clients' namespace
	tcp, udp benchRoute // what is dialed, and where that is answered
	names    string     // the tool's --names file
	set      []string   // the tool's --hooks, if not all
	netns    []string   // all that there are, see bare
}

type benchRoute struct{ to, dst, listen string }

// clusterSite is a client on one node that asks ClusterIPs whose backends are on another.
var clusterSite = benchSite{from: "centos", names: namesFile, netns: clusterNetns(),
	tcp: benchRoute{to: "nginx1a", dst: vipNginx1 + ":80", listen: ":80"},
	udp: benchRoute{to: "dns", dst: vipDNS + ":53", listen: ":53"}}

// pairSite is one pod that asks another on the same bridge, with the hooks that
// kernels have which refuse function hooks.
func pairSite(p pairInfo) benchSite {
	to := benchRoute{to: p.B, dst: p.AddrB + ":8080", listen: ":8080"}
	return benchSite{from: p.A, tcp: to, udp: to, names: p.Names, set: []string{"--hooks", "tracepoints"},
		netns: []string{p.A, p.B, p.Node}}
}

// A benchLoad is one kind of traffic.
type benchLoad struct {
	name, unit string
	proto      string
	clients    int
	serve      func(net.Conn, *atomic.Int64)            // TCP: what the server does; it may count
	ask        func(*benchClient, time.Time) error      // until the time
	echo       func(net.PacketConn, *atomic.Int64) bool // UDP: one datagram; false: the end
}

const (
	questionSize = 64
	bulkWrite    = 64 << 10
	// benchPatience ends a call of a client's socket.
	benchPatience = 5 * time.Second
)

// keptLoad has questions and answers over kept connections.
var keptLoad = benchLoad{name: loadKept, unit: "requests/s", proto: "tcp", clients: 8, serve: serveEcho, ask: askKept}

var benchLoads = []benchLoad{
	// So few that nothing waits: what the tool takes when there is little to do. First: what
	// is left to do of another load would count here.
	{name: loadCalm, unit: "questions/s", proto: "udp", clients: 1, echo: echoOne, ask: askCalmly},
	keptLoad,
	{name: "connections", unit: "connections/s", proto: "tcp", clients: 8, serve: serveOnce, ask: askOnce},
	{name: loadBulk, unit: "bytes/s", proto: "tcp", clients: 1, serve: serveSink, ask: askBulk},
	{name: "dns", unit: "questions/s", proto: "udp", clients: 8, echo: echoOne, ask: askDatagram},
}

// A loadResult is what one run of a load came to.
type loadResult struct {
	rate   float64 // in the load's unit
	errors int64   // questions without an answer
}

// run makes the load's traffic for a time.
func (l benchLoad) run(site benchSite, lasts time.Duration) (loadResult, error) {
	route := site.tcp
	if l.proto == "udp" {
		route = site.udp
	}
	dst, err := netip.ParseAddrPort(route.dst)
	if err != nil {
		return loadResult{}, err
	}
	var count, failed atomic.Int64
	stop, err := l.server(route, &count)
	if err != nil {
		return loadResult{}, err
	}
	start := time.Now()
	errs := make([]error, l.clients)
	var wg sync.WaitGroup
	for i := range l.clients {
		c := &benchClient{dst: unix.SockaddrInet4{Addr: dst.Addr().As4(), Port: int(dst.Port())}, count: &count, failed: &failed}
		wg.Go(func() { errs[i] = inNetns(site.from, func() error { return l.ask(c, start.Add(lasts)) }) })
	}
	wg.Wait()
	stop() // what is on its way is counted yet
	took := time.Since(start).Seconds()
	if err := errors.Join(errs...); err != nil {
		return loadResult{}, fmt.Errorf("%s: %w", l.name, err)
	}
	return loadResult{float64(count.Load()) / took, failed.Load()}, nil
}

// server answers in the receiver's namespace until it is told to stop, which
// returns once all connections have ended.
func (l benchLoad) server(route benchRoute, count *atomic.Int64) (stop func(), err error) {
	var wg sync.WaitGroup
	err = inNetns(route.to, func() error {
		if l.proto == "udp" {
			conn, err := net.ListenPacket("udp4", route.listen)
			if err != nil {
				return err
			}
			for range 2 {
				wg.Go(func() {
					for l.echo(conn, count) {
					}
				})
			}
			stop = func() { conn.Close(); wg.Wait() }
			return nil
		}
		ln, err := net.Listen("tcp4", route.listen)
		if err != nil {
			return err
		}
		wg.Go(func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { defer conn.Close(); l.serve(conn, count) })
			}
		})
		stop = func() { ln.Close(); wg.Wait() }
		return nil
	})
	return stop, err
}

func serveEcho(conn net.Conn, _ *atomic.Int64) {
	buf := make([]byte, questionSize)
	for {
		if _, err := io.ReadFull(conn, buf); err != nil {
			return
		}
		if _, err := conn.Write(buf); err != nil {
			return
		}
	}
}

// serveOnce answers one question and closes first, so that the client's port is
// free again at once.
func serveOnce(conn net.Conn, _ *atomic.Int64) {
	buf := make([]byte, questionSize)
	if _, err := io.ReadFull(conn, buf); err == nil {
		_, _ = conn.Write(buf) // the client sees to it
	}
}

func serveSink(conn net.Conn, count *atomic.Int64) {
	buf := make([]byte, 4*bulkWrite)
	for {
		n, err := conn.Read(buf)
		count.Add(int64(n))
		if err != nil {
			return
		}
	}
}

func echoOne(conn net.PacketConn, _ *atomic.Int64) bool {
	var buf [1024]byte
	n, from, err := conn.ReadFrom(buf[:])
	if err == nil {
		_, _ = conn.WriteTo(buf[:n], from) // the client counts what it misses
	}
	return !errors.Is(err, net.ErrClosed)
}

// A benchClient asks with blocking sockets on a thread of its own: nothing of
// Go's scheduler is measured with them.
type benchClient struct {
	dst           unix.SockaddrInet4
	count, failed *atomic.Int64
}

func (c *benchClient) dial(kind int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	patience := unix.NsecToTimeval(benchPatience.Nanoseconds())
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience))
	for err == nil {
		if err = unix.Connect(fd, &c.dst); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil && !errors.Is(err, unix.EISCONN) {
		unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// question sends one and reads its answer.
func question(fd int, buf []byte) error {
	if err := writeAll(fd, buf); err != nil {
		return err
	}
	for got := 0; got < len(buf); {
		n, err := unix.Read(fd, buf[got:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("read: %w", io.ErrUnexpectedEOF)
		}
		got += n
	}
	return nil
}

func writeAll(fd int, buf []byte) error {
	for len(buf) > 0 {
		n, err := unix.Write(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		buf = buf[n:]
	}
	return nil
}

// askKept asks over one connection, each question after the answer to the last.
func askKept(c *benchClient, until time.Time) error {
	fd, err := c.dial(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, questionSize)
	for time.Now().Before(until) {
		if err := question(fd, buf); err != nil {
			return err
		}
		c.count.Add(1)
	}
	return nil
}

// askOnce makes a connection for each question.
func askOnce(c *benchClient, until time.Time) error {
	return c.askAnew(unix.SOCK_STREAM, until, func(fd int, buf []byte) error {
		err := question(fd, buf)
		if err == nil {
			_, err = unix.Read(fd, buf) // the server's end
		}
		return err
	})
}

// askDatagram has a socket for each question, as resolvers do.
func askDatagram(c *benchClient, until time.Time) error {
	return c.askAnew(unix.SOCK_DGRAM, until, question)
}

// askCalmly asks at a steady pace over one socket.
func askCalmly(c *benchClient, until time.Time) error {
	fd, err := c.dial(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, questionSize)
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for time.Now().Before(until) {
		if err := question(fd, buf); err != nil {
			c.failed.Add(1)
		} else {
			c.count.Add(1)
		}
		<-pace.C
	}
	return nil
}

func (c *benchClient) askAnew(kind int, until time.Time, ask func(fd int, buf []byte) error) error {
	buf := make([]byte, questionSize)
	for time.Now().Before(until) {
		fd, err := c.dial(kind)
		if err == nil {
			err = ask(fd, buf)
			unix.Close(fd)
		}
		if err != nil {
			c.failed.Add(1)
			continue
		}
		c.count.Add(1)
	}
	return nil
}

// askBulk sends as fast as it goes; the receiver counts.
func askBulk(c *benchClient, until time.Time) error {
	fd, err := c.dial(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, bulkWrite)
	for time.Now().Before(until) {
		if err := writeAll(fd, buf); err != nil {
			return err
		}
	}
	return nil
}
