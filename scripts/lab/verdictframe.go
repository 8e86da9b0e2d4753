// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// withTun makes traffic while a network is behind a tun device of n1 with room for
// a few packets, whose process hangs.
func withTun(name, network string, traffic func(*play) error) func(*play) error {
	return func(p *play) error {
		if err := p.run("n1", "modprobe tun"); err != nil {
			return err
		}
		var tun *os.File
		err := inNetns("n1", func() (err error) {
			tun, err = openTun(name)
			return err
		})
		if err != nil {
			return err
		}
		p.open = append(p.open, tun) // its name is asked for behind the packets
		for _, line := range []string{"ip link set " + name + " txqueuelen 2 up", "ip route add " + network + " dev " + name} {
			if err := p.run("n1", line); err != nil {
				return err
			}
		}
		return traffic(p)
	}
}

// openTun makes a tun device in the namespace that the thread is in. It is there
// as long as its file is open.
func openTun(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open /dev/net/tun", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("make "+name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// acquainted sends through a bridge of n1 that is changed when the neighbours have
// found each other.
func acquainted(dst string, list []change, traffic func(*play) error) func(*play) error {
	return func(p *play) (err error) {
		if err := echoes("udp", dst, 10)(&play{}); err != nil {
			return err
		}
		for _, c := range list {
			if err := p.run(c.netns, c.do); err != nil {
				return err
			}
			if c.undo != "" {
				defer func() { err = errors.Join(err, p.run(c.netns, c.undo)) }()
			}
		}
		return traffic(p)
	}
}

// linkLocal is a datagram whose source is the sender's link-local address.
func linkLocal(dst string) func(*play) error {
	return func(p *play) error {
		d, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := d.Addrs()
		if err != nil {
			return err
		}
		for _, a := range addrs {
			ip, ok := a.(*net.IPNet)
			if !ok || !ip.IP.IsLinkLocalUnicast() {
				continue
			}
			conn, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: ip.IP, Zone: "eth0"}}).Dial("udp", dst)
			if err != nil {
				return err
			}
			p.open = append(p.open, conn)
			at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
			p.flow("udp", netip.AddrPortFrom(at.Addr().WithZone(""), at.Port()).String(), dst)
			_, err = conn.Write([]byte("anybody there?"))
			return err
		}
		return errors.New("eth0 has no link-local address")
	}
}

// oneDatagram6 is oneDatagram over IPv6. It is not cut by its sender.
func oneDatagram6(dst string, hops, bytes int) func(*play) error {
	return func(p *play) error {
		conn, err := p.datagrams(dst, setInt(unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS, hops),
			setInt(unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE))
		if err != nil {
			return err
		}
		_, err = conn.Write(make([]byte, bytes))
		return err
	}
}

// at6 is an IPv6 address and port.
func at6(ip string, port int) string { return net.JoinHostPort(ip, strconv.Itoa(port)) }
