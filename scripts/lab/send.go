// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// A sendPlan is one conversation with an echo server.
type sendPlan struct {
	network, addr string
	count         int           // messages; 0: as many as the time allows
	lasts         time.Duration // no message is begun later than this; 0: no limit
	every         time.Duration // between the beginnings of two messages
}

func cmdSend(args []string) error {
	fs := flags("send")
	var p sendPlan
	fs.IntVar(&p.count, "count", 1, "messages; 0: as many as -for allows")
	fs.DurationVar(&p.lasts, "for", 0, "begin no message later than this (0: no limit)")
	fs.DurationVar(&p.every, "every", 20*time.Millisecond, "time between two messages")
	rest, err := parse(fs, args, 2, "[-count N] [-for TIME] [-every TIME] tcp|udp ADDR:PORT")
	if err != nil {
		return err
	}
	p.network, p.addr = rest[0], rest[1]
	if p.network != "tcp" && p.network != "udp" || p.count <= 0 && p.lasts <= 0 || p.every <= 0 {
		return errors.New("want tcp or udp, -count or -for, and a time for -every")
	}
	return p.send()
}

// send sends messages and wants each back before it sends the next.
func (p sendPlan) send() error {
	start := time.Now()
	conn, err := net.DialTimeout(p.network, p.addr, dialTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for n := 1; ; n++ {
		if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
			return err
		}
		if err := echoed(conn, fmt.Sprintf("message %d", n)); err != nil {
			return fmt.Errorf("message %d to %s: %w", n, p.addr, err)
		}
		<-tick.C
		if n == p.count || p.lasts > 0 && time.Since(start) >= p.lasts {
			return hangUp(conn)
		}
	}
}

// echoed sends a message and reads it back.
func echoed(conn net.Conn, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("%q came back as %q", text, got)
	}
	return nil
}

// hangUp ends a TCP connection in good order: both ends' FIN before the close.
func hangUp(conn net.Conn) error {
	c, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("wait for the server's end of the connection: %w", err)
	}
	return nil
}

// pause is the process that holds a pod's namespaces.
func pause([]string) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	return nil
}
