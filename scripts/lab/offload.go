// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ethtool commands that switch what makes one skb out of several packets,
// or several out of one.
var offloads = []struct {
	name string
	cmd  uint32
}{
	{"tso", 0x1f}, // ETHTOOL_STSO
	{"gso", 0x24}, // ETHTOOL_SGSO
	{"gro", 0x2c}, // ETHTOOL_SGRO
}

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct{ cmd, data uint32 }

// ifreqData is struct ifreq with ifru_data.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// setOffloads switches the offloads of one device of a namespace, or of all.
func setOffloads(netns, dev string, on bool) error {
	return inNetns(netns, func() error {
		devs := []string{dev}
		if dev == "all" {
			var err error
			if devs, err = deviceNames(); err != nil {
				return err
			}
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, d := range devs {
			for _, o := range offloads {
				err := ethtoolSet(fd, d, o.cmd, on)
				if errors.Is(err, unix.EOPNOTSUPP) && dev == "all" {
					continue // a device without that offload has nothing to switch
				}
				if err != nil {
					return fmt.Errorf("%s of %s in %s: %w", o.name, d, netns, err)
				}
			}
		}
		return nil
	})
}

func deviceNames() ([]string, error) {
	h := openHost("/proc/thread-self/ns/net")
	defer h.close()
	if h.err != nil {
		return nil, h.err
	}
	links, err := h.h.LinkList()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return names, nil
}

func ethtoolSet(fd int, dev string, cmd uint32, on bool) error {
	value := &ethtoolValue{cmd: cmd}
	if on {
		value.data = 1
	}
	req := ifreqData{data: unsafe.Pointer(value)}
	copy(req.name[:unix.IFNAMSIZ-1], dev)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	runtime.KeepAlive(value)
	if errno != 0 {
		return errno
	}
	return nil
}
