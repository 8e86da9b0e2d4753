// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// linkNews hears that devices come, go or change.
type linkNews struct{ socket *os.File }

// listenLinks begins to hear of the devices of the caller's namespace, and of those
// namespaces that have a number in it (man 7 netlink, NETLINK_LISTEN_ALL_NSID), as a
// pod's has in that of its node. Others are looked at every refreshEvery: a socket in
// them would keep them from ending.
func listenLinks() (*linkNews, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("hear of new devices: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "netlink")
	// Without CAP_NET_BROADCAST it is this namespace alone, which has the other end of
	// each pod's device.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		socket.Close()
		return nil, fmt.Errorf("hear of new devices: %w", err)
	}
	return &linkNews{socket}, nil
}

// follow calls changed after each change until ctx is done, and ends the listening.
func (l *linkNews) follow(ctx context.Context, changed func()) {
	stop := context.AfterFunc(ctx, func() { l.socket.Close() })
	defer stop()
	defer l.socket.Close()
	var message [4096]byte // what does not fit is cut: that something came is enough
	for {
		_, err := l.socket.Read(message[:])
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // ENOBUFS: there was more than the socket holds
			return
		}
		changed()
	}
}
