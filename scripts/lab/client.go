// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A result is what happened to one connection of a case, as both ends saw it.
type result struct {
	Case        string `json:"case"`
	Slug        string `json:"slug"`
	ClientLocal string `json:"client_local"`
	Dialed      string `json:"dialed"`
	SawClient   string `json:"saw_client"`
	Server      string `json:"server"`
	Seq         int    `json:"seq"`
	PID         int    `json:"pid"`
	Started     int64  `json:"started_ns"` // of the kernel's monotonic clock
	Err         string `json:"err"`

	refused, silent bool
}

// check compares a result with what the scenarios say; nil is as expected.
func (c testCase) check(r result) error {
	if c.silent {
		if !r.silent {
			return fmt.Errorf("case %s: want no answer at all, got server %q, error %q", c.id, r.Server, r.Err)
		}
		return nil
	}
	if len(c.servers) == 0 {
		if !r.refused {
			return fmt.Errorf("case %s: want connection refused, got server %q, error %q", c.id, r.Server, r.Err)
		}
		return nil
	}
	if r.Err != "" {
		return fmt.Errorf("case %s: %s", c.id, r.Err)
	}
	host, _, err := net.SplitHostPort(r.SawClient)
	if err != nil {
		return fmt.Errorf("case %s: the server saw %q: %w", c.id, r.SawClient, err)
	}
	if !slices.Contains(c.servers, r.Server) || host != c.saw {
		return fmt.Errorf("case %s: server %s saw %s, want one of %v seeing %s", c.id, r.Server, host, c.servers, c.saw)
	}
	return nil
}

// runClient makes a case's connections. It runs as a process of the client's
// pod, and prints one result a line. The error says what was not as expected.
func runClient(c testCase, count int) error {
	out := json.NewEncoder(os.Stdout)
	var unexpected []error
	for seq := range count {
		r := connect(c, seq+1)
		if err := out.Encode(r); err != nil {
			return err
		}
		unexpected = append(unexpected, c.check(r))
	}
	return errors.Join(unexpected...)
}

func connect(c testCase, seq int) result {
	r := result{Case: c.id, Slug: c.slug, Dialed: c.dial, Seq: seq, PID: os.Getpid(), Started: monotonic()}
	network := c.network
	if network == "" {
		network = "tcp"
	}
	if err := converse(network, &r); err != nil {
		r.Err = err.Error()
		r.refused = errors.Is(err, syscall.ECONNREFUSED)
		var network net.Error
		r.silent = errors.As(err, &network) && network.Timeout()
	}
	return r
}

// converse is one question and its answer; a TCP connection is closed in good
// order by both ends before it returns.
func converse(network string, r *result) error {
	conn, local, err := dial(network, r.Dialed, dialTimeout)
	r.ClientLocal = local
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(dialTimeout))
	if network == "udp" {
		return converseUDP(conn, r)
	}
	if _, err := fmt.Fprintf(conn, "GET /?seq=%d HTTP/1.1\r\nHost: lab\r\n\r\n", r.Seq); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if err := r.parse(string(body)); err != nil {
		return err
	}
	// The server's FIN answers ours; waiting for it makes the close orderly.
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("wait for the server's end of the connection: %w", err)
	}
	return nil
}

func converseUDP(conn net.Conn, r *result) error {
	if _, err := fmt.Fprintf(conn, "seq=%d", r.Seq); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	return r.parse(string(buf[:n]))
}

// parse reads a server's answer: whom it saw, and that it is the answer to this question.
func (r *result) parse(answer string) error {
	var seq string
	for _, field := range strings.Fields(answer) {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "server":
			r.Server = value
		case "client":
			r.SawClient = value
		case "seq":
			seq = value
		}
	}
	if seq != strconv.Itoa(r.Seq) {
		return fmt.Errorf("the answer %q is not to question %d", answer, r.Seq)
	}
	return nil
}

// dialTimeout is beyond the second SYN (after 1 s) and the third (after 3 s):
// an ICMP error that was rate-limited away once is seen all the same.
const dialTimeout = 6 * time.Second

// dial connects, and tells the local address also of a connection that was
// refused: whoever looks for its packets needs the port.
func dial(network, addr string, timeout time.Duration) (net.Conn, string, error) {
	local := ""
	d := net.Dialer{Timeout: timeout, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if cerr := raw.Control(func(fd uintptr) { local, err = bindAny(int(fd), addr) }); cerr != nil {
			return cerr
		}
		return err
	}}
	conn, err := d.Dial(network, addr)
	return conn, local, err
}

// bindAny gives a socket its port before it connects, and finds the address
// that it will have by asking for the route (connecting UDP sends nothing).
func bindAny(fd int, addr string) (string, error) {
	probe, err := net.Dial("udp", addr)
	if err != nil {
		return "", err
	}
	defer probe.Close()
	ip := probe.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	var any unix.Sockaddr = &unix.SockaddrInet4{}
	if ip.Is6() {
		any = &unix.SockaddrInet6{}
	}
	if err := unix.Bind(fd, any); err != nil {
		return "", os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return "", os.NewSyscallError("getsockname", err)
	}
	port := 0
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		port = name.Port
	case *unix.SockaddrInet6:
		port = name.Port
	}
	return net.JoinHostPort(ip.String(), strconv.Itoa(port)), nil
}

// monotonic is the clock that events carry.
func monotonic() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return ts.Nano()
}
