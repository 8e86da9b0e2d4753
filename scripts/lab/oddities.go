// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// An oddity is traffic that the cases have none of, with how it must end.
type oddity struct {
	name, from, network, dial string
	refused                   bool
	bytes                     int // sent and echoed
}

// oddities pass the parts of the kernel that well-behaved requests never see.
var oddities = []oddity{
	{name: "a pod that does not listen resets", from: "centos", network: "tcp", dial: "172.23.96.163:81", refused: true},
	{name: "a pod that does not listen resets, IPv6", from: "centos", network: "tcp", dial: "[fd00:10:96:2::163]:81", refused: true},
	{name: "UDP to a port without socket", from: "centos", network: "udp", dial: "172.23.96.163:81", refused: true, bytes: 10},
	{name: "UDP to a port without socket, IPv6", from: "centos", network: "udp", dial: "[fd00:10:96:2::163]:81", refused: true, bytes: 10},
	{name: "fragments", from: "centos", network: "udp", dial: "172.23.96.163:7", bytes: 6000},
	{name: "fragments, IPv6", from: "centos", network: "udp", dial: "[fd00:10:96:2::163]:7", bytes: 6000},
	{name: "bulk between nodes", from: "centos", network: "tcp", dial: "172.23.96.163:7", bytes: 1 << 20},
	{name: "bulk on one node", from: "centos", network: "tcp", dial: "172.23.96.24:7", bytes: 1 << 20},
}

func cmdOddities([]string) error {
	var errs []error
	for _, o := range oddities {
		err := inNetns(o.from, o.run)
		if err != nil {
			err = fmt.Errorf("%s (%s %s): %w", o.name, o.network, o.dial, err)
		}
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	if err == nil {
		fmt.Fprintf(os.Stderr, "lab: all %d oddities went as they should\n", len(oddities))
	}
	return err
}

func (o oddity) run() error {
	conn, _, err := dial(o.network, o.dial)
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(4 * dialTimeout))
		err = o.echo(conn)
	}
	switch {
	case o.refused && errors.Is(err, syscall.ECONNREFUSED):
		return nil
	case o.refused:
		return fmt.Errorf("want connection refused, got %w", err)
	}
	return err
}

// echo sends and wants it back.
func (o oddity) echo(conn net.Conn) error {
	sent := make([]byte, o.bytes)
	for i := range sent {
		sent[i] = byte(i * 31 >> 3)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		failed <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if err := <-failed; err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return errors.New("what came back is not what was sent")
	}
	return nil
}
