// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of linux/ethtool.h.
const (
	ethtoolSetGSO      = 0x24
	ethtoolSetGRO      = 0x2c
	ethtoolStrings     = 0x1b
	ethtoolSetFeatures = 0x3b

	featureStrings = 4 // ETH_SS_FEATURES
	maxFeatures    = 128
	stringLength   = 32
)

// eachDevice runs f for every device of a namespace but lo, with a socket.
func (c *cluster) eachDevice(name string, f func(fd int, dev string) error) {
	c.t.Helper()
	c.within(name, func() error {
		devices, err := net.Interfaces()
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, d := range devices {
			if d.Name == "lo" {
				continue
			}
			if err := f(fd, d.Name); err != nil {
				return fmt.Errorf("offload of %s: %w", d.Name, err)
			}
		}
		return nil
	})
}

// setOffloads switches what makes one skb out of several packets, and several
// out of one, on all devices of the cluster.
func (c *cluster) setOffloads(gro, gso bool) {
	c.t.Helper()
	names := []string{c.node}
	for _, p := range c.pods {
		names = append(names, p.name)
	}
	for _, name := range names {
		c.eachDevice(name, func(fd int, dev string) error {
			if err := ethtool(fd, dev, unsafe.Pointer(&[2]uint32{ethtoolSetGRO, b2u(gro)})); err != nil {
				return err
			}
			if err := ethtool(fd, dev, unsafe.Pointer(&[2]uint32{ethtoolSetGSO, b2u(gso)})); err != nil {
				return err
			}
			// Without it GRO merges no UDP that is only passed on.
			return setFeature(fd, dev, "rx-udp-gro-forwarding", gro)
		})
	}
}

// setFeature switches a feature that has no command of its own.
func setFeature(fd int, dev, feature string, on bool) error {
	strings := struct {
		cmd, set, n uint32
		data        [maxFeatures * stringLength]byte
	}{cmd: ethtoolStrings, set: featureStrings}
	if err := ethtool(fd, dev, unsafe.Pointer(&strings)); err != nil {
		return err
	}
	var names []string
	for i := range min(int(strings.n), maxFeatures) {
		names = append(names, unix.ByteSliceToString(strings.data[i*stringLength:(i+1)*stringLength]))
	}
	i := slices.Index(names, feature)
	if i < 0 {
		return fmt.Errorf("%s is not a feature of this kernel", feature)
	}
	set := struct {
		cmd, size uint32
		blocks    [maxFeatures / 32]struct{ valid, requested uint32 }
	}{cmd: ethtoolSetFeatures, size: uint32(len(names)+31) / 32}
	set.blocks[i/32].valid = 1 << (i % 32)
	if on {
		set.blocks[i/32].requested = 1 << (i % 32)
	}
	return ethtool(fd, dev, unsafe.Pointer(&set))
}

// setThreaded lets a thread of its own receive a device's packets, several at a
// time: otherwise each would be received while it is sent, and GRO would never
// find two.
func (c *cluster) setThreaded(name, dev string) {
	c.t.Helper()
	c.within(name, func() error {
		// What sysfs shows depends on where it was mounted.
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
			return err
		}
		return os.WriteFile("/sys/class/net/"+dev+"/threaded", []byte("1"), 0)
	})
}

func ethtool(fd int, dev string, data unsafe.Pointer) error {
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: data}
	copy(req.name[:unix.IFNAMSIZ-1], dev)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}

func TestNativeOffloads(t *testing.T) {
	c := newCluster(t, 1)
	c.setOffloads(true, true)
	c.setOffloads(false, false)
}
