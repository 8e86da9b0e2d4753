// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// The oracle servers. Each says in its answer which server it is and whom it
// saw, so that the client's end of a connection knows the truth about both.

// serve starts one process for each pod that serves, writes readyFile once all
// of them listen, and ends them when it is told to.
func serve(readyFile string) error {
	// The pipe that -detach listens on is gone when it has returned.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	var wait sync.WaitGroup
	failed := make(chan error, len(pods))
	for _, p := range pods {
		if p.name == "centos" {
			continue
		}
		end, err := startServer(p.name, &wait, failed)
		if err != nil {
			return err
		}
		defer end.Close()
	}
	if readyFile != "" {
		if err := writeJSON(readyFile, map[string]int{"pid": os.Getpid()}); err != nil {
			return err
		}
	}
	fmt.Println("lab: the servers are listening")
	select {
	case <-stop:
		return nil
	case err := <-failed:
		return err
	}
}

// serveDetached starts serve as a process of its own and waits for its word.
func serveDetached(readyFile string) error {
	return detach("the servers", "serve", "-ready-file", readyFile)
}

// detach starts a command of this program as a process that goes on, and waits for
// the line by which it says that it is ready.
func detach(what string, args ...string) error {
	cmd, err := self(args...)
	if err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s did not come up: %w", what, errors.Join(err, cmd.Wait()))
	}
	fmt.Fprint(os.Stderr, line)
	return nil
}

// startServer starts a pod's server and waits until it listens. The server ends
// when the returned pipe is closed, so it never outlives this process.
func startServer(name string, wait *sync.WaitGroup, failed chan<- error) (io.Closer, error) {
	cmd, err := self("serve-pod", name)
	if err != nil {
		return nil, err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startIn(name, cmd); err != nil {
		return nil, fmt.Errorf("start the server of %s: %w", name, err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		return nil, fmt.Errorf("the server of %s did not come up (%q): %w", name, line, err)
	}
	wait.Go(func() { failed <- fmt.Errorf("the server of %s ended: %w", name, cmd.Wait()) })
	return stdin, nil
}

// servePod is one pod's server process. It says "ready" on standard output and
// ends when standard input does.
func servePod(name string) error {
	if name == "dns" {
		conn, err := net.ListenPacket("udp", ":53")
		if err != nil {
			return err
		}
		go serveDNS(conn, name)
	} else {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		go serveHTTP(l, name)
	}
	conn, err := net.ListenPacket("udp", ":7")
	if err != nil {
		return err
	}
	go newEchoer(conn, nil).run()
	l, err := net.Listen("tcp", ":7")
	if err != nil {
		return err
	}
	go echoTCP(l, nil)
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// serveHTTP answers requests with "server=… client=… seq=…", each
func serveHTTP(l net.Listener, name string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go answerHTTP(conn, name)
	}
}

func answerHTTP(conn net.Conn, name string) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		// A client that neither asks nor closes is not waited for.
		conn.SetDeadline(time.Now().Add(time.Minute))
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body := fmt.Sprintf("server=%s client=%s seq=%s\n", name, conn.RemoteAddr(), req.URL.Query().Get("seq"))
		// One write, so that the answer is one packet.
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

// serveDNS answers oracle questions ("seq=N") in their own format, and real DNS
// questions with a fixed address.
func serveDNS(conn net.PacketConn, name string) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		var seq uint64
		if _, err := fmt.Sscanf(string(buf[:n]), "seq=%d", &seq); err == nil {
			fmt.Fprintf(writerTo{conn, from}, "server=%s client=%s seq=%d\n", name, from, seq)
			continue
		}
		if answer := dnsAnswer(buf[:n]); answer != nil {
			conn.WriteTo(answer, from)
		}
	}
}

// writerTo makes a datagram of each write.
type writerTo struct {
	conn net.PacketConn
	to   net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.conn.WriteTo(b, w.to) }

// dnsAnswer makes the answer to a DNS query with one question: the address of
// pod nginx for A, nothing for other types. nil for what is no query.
func dnsAnswer(query []byte) []byte {
	const header = 12
	if len(query) < header+5 || query[2]&0x80 != 0 || query[4] != 0 || query[5] != 1 {
		return nil
	}
	end := header
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 5 // the root label, type and class
	if end > len(query) {
		return nil
	}
	answer := append([]byte(nil), query[:end]...)
	answer[2], answer[3] = 0x81|query[2]&0x01, 0x80 // response, recursion available
	clear(answer[6:header])
	if query[end-4] == 0 && query[end-3] == 1 {
		answer[7] = 1
		answer = append(answer, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 172, 23, 96, 24)
	}
	return answer
}
