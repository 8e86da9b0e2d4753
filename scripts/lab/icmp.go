// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// echoICMP sends an echo request to an IPv4 address and waits for the reply, by
// a socket for datagrams ("ping") or a raw one. It returns the address it sent
// from.
func echoICMP(network, host string) (local string, err error) {
	to, err := netip.ParseAddr(host)
	if err != nil {
		return "", err
	}
	kind := unix.SOCK_RAW
	if network == "ping" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return "", os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(dialTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return "", os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
		return "", os.NewSyscallError("connect", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return "", os.NewSyscallError("getsockname", err)
	}
	if in4, ok := name.(*unix.SockaddrInet4); ok {
		local = net.IP(in4.Addr[:]).String()
	}
	if _, err := unix.Write(fd, echoRequest(uint16(os.Getpid()))); err != nil {
		return local, os.NewSyscallError("write", err)
	}
	return local, awaitEcho(fd, network == "raw")
}

// awaitEcho reads until an echo reply comes; a raw socket gets the IP header
// in front, and all other ICMP as well.
func awaitEcho(fd int, raw bool) error {
	buf := make([]byte, 1500)
	for start := time.Now(); time.Since(start) < dialTimeout; {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		message := buf[:n]
		if raw && n > 20 {
			message = buf[int(buf[0]&15)*4 : n]
		}
		if len(message) > 0 && message[0] == 0 {
			return nil
		}
	}
	return fmt.Errorf("no echo reply after %v", dialTimeout)
}

// echoRequest is an ICMP message. A socket for datagrams puts its own
// identifier in, and both their checksum.
func echoRequest(id uint16) []byte {
	m := make([]byte, 8+56)
	m[0] = 8
	binary.BigEndian.PutUint16(m[4:], id)
	binary.BigEndian.PutUint16(m[6:], 1)
	sum := uint32(0)
	for i := 0; i < len(m); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(m[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(m[2:], ^uint16(sum))
	return m
}
