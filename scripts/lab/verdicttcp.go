// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listener is a listening TCP socket that nobody accepts from.
func (p *play) listener(netns, ip string, port, backlog int, set ...controlled) (fd int, err error) {
	err = inNetns(netns, func() error {
		family, addr := unix.AF_INET, unix.Sockaddr(nil)
		if a := netip.MustParseAddr(ip); a.Is6() {
			family, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: a.As16()}
		} else {
			addr = &unix.SockaddrInet4{Port: port, Addr: a.As4()}
		}
		if fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("socket", err)
		}
		p.open = append(p.open, os.NewFile(uintptr(fd), "listener"))
		for _, s := range set {
			if err := s(fd); err != nil {
				return err
			}
		}
		if err := unix.Bind(fd, addr); err != nil {
			return os.NewSyscallError("bind", err)
		}
		return os.NewSyscallError("listen", unix.Listen(fd, backlog))
	})
	return fd, err
}

// overflowing connects to a socket whose accept queue has room for one.
func overflowing(netns, ip string, port int) func(*play) error {
	return func(p *play) error {
		if _, err := p.listener(netns, ip, port, 0); err != nil {
			return err
		}
		addr := net.JoinHostPort(ip, strconv.Itoa(port))
		conn, err := net.DialTimeout("tcp", addr, dialTimeout)
		if err != nil {
			return err
		}
		p.open = append(p.open, conn)
		return unanswered("tcp", addr)(p)
	}
}

// unread writes to a TCP connection that nobody reads, until its window is closed.
func unread(netns, ip string, port int) func(*play) error {
	return func(p *play) error {
		if _, err := p.listener(netns, ip, port, 4); err != nil {
			return err
		}
		conn, err := p.dial("tcp", net.JoinHostPort(ip, strconv.Itoa(port)), dialTimeout)
		if err != nil {
			return err
		}
		p.open = append(p.open, conn)
		if err := conn.(*net.TCPConn).SetWriteBuffer(1 << 16); err != nil {
			return err
		}
		for start := time.Now(); time.Since(start) < dialTimeout; {
			conn.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := conn.Write(make([]byte, 1<<16)); errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			} else if err != nil {
				return err
			}
		}
		return errors.New("the window did not close")
	}
}

// toTCPListener makes traffic while a TCP socket listens.
func toTCPListener(netns, ip string, port int, traffic func(*play) error, set ...controlled) func(*play) error {
	return func(p *play) error {
		if _, err := p.listener(netns, ip, port, 4, set...); err != nil {
			return err
		}
		return traffic(p)
	}
}

// accepted connects to a listener of its own, and returns both ends.
func (p *play) accepted(netns, ip string, port int, set ...controlled) (client *net.TCPConn, server int, err error) {
	listening, err := p.listener(netns, ip, port, 4, set...)
	if err != nil {
		return nil, -1, err
	}
	conn, err := p.dial("tcp", net.JoinHostPort(ip, strconv.Itoa(port)), dialTimeout)
	if err != nil {
		return nil, -1, err
	}
	conn.SetDeadline(time.Now().Add(dialTimeout))
	if server, _, err = unix.Accept4(listening, unix.SOCK_CLOEXEC); err != nil {
		return nil, -1, os.NewSyscallError("accept", errors.Join(err, conn.Close()))
	}
	return conn.(*net.TCPConn), server, nil
}

// closedAtOnce writes to a connection that the server has closed in good order:
// a request on an idle connection just when the server gives it up.
func closedAtOnce(netns, ip string, port int) func(*play) error {
	return func(p *play) error {
		conn, server, err := p.accepted(netns, ip, port)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := unix.Close(server); err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			return fmt.Errorf("wait for the server's end of the connection: %w", err)
		}
		if _, err := io.WriteString(conn, "one more"); err != nil {
			return err
		}
		for start := time.Now(); time.Since(start) < dialTimeout; time.Sleep(time.Millisecond) {
			if _, err := io.WriteString(conn, "more"); err != nil {
				return wantError(err, unix.EPIPE)
			}
		}
		return errors.New("the server took it")
	}
}

// closedUnread writes to a connection that the server closes without reading:
// its close makes an RST, and no packet did.
func closedUnread(netns, ip string, port int) func(*play) error {
	return func(p *play) error {
		conn, server, err := p.accepted(netns, ip, port)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "hello"); err != nil {
			return err
		}
		// Until it is there, there is nothing unread.
		if _, _, err := unix.Recvfrom(server, make([]byte, 5), unix.MSG_PEEK|unix.MSG_WAITALL); err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		if err := unix.Close(server); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1))
		return wantError(err, errReset)
	}
}

// abandoned sends a datagram to a socket that is closed before it is read.
func abandoned(netns, ip string, port int) func(*play) error {
	return func(p *play) error {
		var server net.PacketConn
		addr := net.JoinHostPort(ip, strconv.Itoa(port))
		err := inNetns(netns, func() (err error) {
			server, err = net.ListenPacket("udp", addr)
			return err
		})
		if err != nil {
			return err
		}
		defer server.Close()
		raw, err := server.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		conn, err := p.datagrams(addr)
		if err != nil {
			return err
		}
		if _, err := conn.Write([]byte("anybody there?")); err != nil {
			return err
		}
		// Until it is there, there is nothing unread.
		server.SetReadDeadline(time.Now().Add(dialTimeout))
		return raw.Read(func(fd uintptr) bool {
			_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
			return err == nil
		})
	}
}

// withoutMemory makes traffic while a protocol may use no memory. It is a setting
// of the whole kernel, which only its first namespace shows.
func withoutMemory(key string, traffic func(*play) error) func(*play) error {
	return func(p *play) (err error) {
		const first = "/proc/1/ns/net"
		file := "/proc/sys/net/ipv4/" + key
		var was []byte
		err = inNetns(first, func() (err error) {
			if was, err = os.ReadFile(file); err != nil {
				return err
			}
			return os.WriteFile(file, []byte("0 0 0"), 0)
		})
		if err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, inNetns(first, func() error { return os.WriteFile(file, was, 0) }))
		}()
		return traffic(p)
	}
}

// unreadWithoutMemory writes to a connection that nobody reads, while TCP may use no
// memory, until nothing more is taken.
func unreadWithoutMemory(netns, ip string, port int) func(*play) error {
	return func(p *play) error {
		conn, server, err := p.accepted(netns, ip, port, hugeBuffer)
		if err != nil {
			return err
		}
		defer unix.Close(server)
		defer conn.Close()
		return withoutMemory("tcp_mem", func(*play) error {
			for range 256 {
				conn.SetWriteDeadline(time.Now().Add(3 * time.Second)) // a few times of sending again
				if _, err := conn.Write(make([]byte, 1<<16)); err != nil {
					return wantTimeout(err)
				}
			}
			return errors.New("all of it was taken")
		})(p)
	}
}

// hugeBuffer is a receive buffer beyond what a CPU takes from the protocol's
// memory before it counts there.
func hugeBuffer(fd int) error { return setInt(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<24)(fd) }

// heldSocket sends to a connection whose process holds its socket: it reads into
// a page that is not there, as if its memory were swapped out, and the kernel
// waits for the page with the socket locked.
func heldSocket(netns, ip string, port int) func(*play) error {
	return func(p *play) error {
		conn, server, err := p.accepted(netns, ip, port, setInt(unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<13))
		if err != nil {
			return err
		}
		defer unix.Close(server)
		defer conn.Close()
		page, absent, err := absentPage()
		if err != nil {
			return err
		}
		defer unix.Munmap(page)
		read := make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			_, err := unix.Read(server, page)
			read <- os.NewSyscallError("read", err)
		}()
		defer func() { // when absent is closed, the page comes
			absent.Close()
			<-read
		}()
		if _, err := conn.Write([]byte{'x'}); err != nil {
			return err
		}
		// The kernel says that it waits for the page.
		if _, err := absent.Read(make([]byte, 32)); err != nil {
			return err
		}
		return straySegments(conn, 500)
	}
}

// straySegments sends segments of a connection that are far out of its window, each
// elsewhere: the kernel joins what follows each other in a backlog.
func straySegments(conn net.Conn, count int) error {
	src := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	dst := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	raw, err := net.Dial("ip4:"+strconv.Itoa(unix.IPPROTO_TCP), dst.Addr().Unmap().String())
	if err != nil {
		return err
	}
	defer raw.Close()
	for i := range count {
		from, to := src.Addr().As4(), dst.Addr().As4()
		b := slices.Concat(from[:], to[:], []byte{0, unix.IPPROTO_TCP, 0, 20})
		b = binary.BigEndian.AppendUint16(b, src.Port())
		b = binary.BigEndian.AppendUint16(b, dst.Port())
		b = binary.BigEndian.AppendUint32(b, uint32(i)<<20)
		b = append(b, 0, 0, 0, 0, 5<<4, 1<<4, 0, 0, 0, 0, 0, 0) // an acknowledgement
		sum := uint32(0)
		for j := 0; j < len(b); j += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[j:]))
		}
		sum = sum>>16 + sum&0xffff
		b = b[12:]
		binary.BigEndian.PutUint16(b[16:], ^uint16(sum+sum>>16))
		if _, err := raw.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// absentPage is memory that is there when the file is closed.
func absentPage() (page []byte, absent *os.File, err error) {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		return nil, nil, os.NewSyscallError("userfaultfd", errno)
	}
	absent = os.NewFile(fd, "userfaultfd")
	if page, err = unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return nil, nil, errors.Join(os.NewSyscallError("mmap", err), absent.Close())
	}
	// linux/userfaultfd.h: struct uffdio_api and struct uffdio_register.
	const api, register, missing = 0xc018aa3f, 0xc020aa00, 1
	hello := [3]uint64{0xaa}
	area := [4]uint64{uint64(uintptr(unsafe.Pointer(&page[0]))), uint64(len(page)), missing}
	for _, call := range []struct {
		request uintptr
		with    unsafe.Pointer
	}{{api, unsafe.Pointer(&hello)}, {register, unsafe.Pointer(&area)}} {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, call.request, uintptr(call.with)); errno != 0 {
			return nil, nil, errors.Join(os.NewSyscallError("ioctl", errno), absent.Close(), unix.Munmap(page))
		}
	}
	return page, absent, nil
}
