// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// wires carry frames between two namespaces as a cable does: what comes out of one
// is another buffer than what went in, while a veth pair hands over the same one.
// To a tracer each end is then a machine of its own.
type wires struct {
	ends []*os.File
	// lose says which frames get lost; nil: none.
	lose atomic.Pointer[func(frame []byte) bool]
}

// veth is host.veth with a wire.
func (w *wires) veth(a *host, aDev string, b *host, bDev string) {
	if a.err == nil && b.err != nil {
		a.err = b.err
	}
	var ends [2]*os.File
	a.do("make the wire "+aDev, func() error {
		var err error
		if ends[0], err = openTAP(a.name, aDev); err != nil {
			return err
		}
		w.ends = append(w.ends, ends[0])
		if ends[1], err = openTAP(b.name, bDev); err != nil {
			return err
		}
		w.ends = append(w.ends, ends[1])
		go w.carry(ends[0], ends[1])
		go w.carry(ends[1], ends[0])
		return nil
	})
	a.up(aDev)
	b.up(bDev)
}

// openTAP makes a device of which the frames are read and written here.
func openTAP(netns, name string) (*os.File, error) {
	var f *os.File
	err := inNetns(netns, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		req, err := unix.NewIfreq(name)
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return errors.Join(fmt.Errorf("make the device %s: %w", name, err), unix.Close(fd))
		}
		f = os.NewFile(uintptr(fd), name)
		return nil
	})
	return f, err
}

// carry copies frames until an end is closed. What a device that is not up, or is
// full, does not take is lost, as on a cable.
func (w *wires) carry(from, to *os.File) {
	frame := make([]byte, 1<<16)
	for {
		n, err := from.Read(frame)
		if err != nil {
			if errors.Is(err, os.ErrClosed) {
				return
			}
			continue
		}
		if lose := w.lose.Load(); lose != nil && (*lose)(frame[:n]) {
			continue
		}
		_, _ = to.Write(frame[:n])
	}
}

func (w *wires) close() {
	for _, f := range w.ends {
		f.Close()
	}
}

// isTunnelled says whether a frame is VXLAN's over IPv4 to some address.
func isTunnelled(frame []byte, dst [4]byte) bool {
	const eth, ip = 14, 20
	return len(frame) > eth+ip+8 && binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_IP && frame[eth+9] == unix.IPPROTO_UDP &&
		[4]byte(frame[eth+16:]) == dst && binary.BigEndian.Uint16(frame[eth+ip+2:]) == vxlanPort
}
