// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errForbidden is what a sender is told whose packet a program refused.
const errForbidden = syscall.EPERM

// controlled is a function that is done to a socket before it binds or connects.
type controlled func(fd int) error

func (c controlled) control(_, _ string, raw syscall.RawConn) (err error) {
	if c == nil {
		return nil
	}
	if cerr := raw.Control(func(fd uintptr) { err = c(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// setInt is a socket option.
func setInt(level, option, value int) controlled {
	return func(fd int) error {
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, option, value))
	}
}

// spoofed sends a datagram from an address that the sender does not have.
func spoofed(src, dst string) func(*play) error {
	return func(p *play) error {
		p.flow("udp", src, dst)
		d := net.Dialer{
			LocalAddr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(src)),
			Control:   setInt(unix.SOL_IP, unix.IP_TRANSPARENT, 1).control,
		}
		conn, err := d.Dial("udp", dst)
		if err != nil {
			return err
		}
		p.open = append(p.open, conn)
		_, err = conn.Write([]byte("who am I?"))
		return err
	}
}

// datagrams is a UDP socket of the case, open to its end.
func (p *play) datagrams(dst string, set ...controlled) (*net.UDPConn, error) {
	conn, err := p.dial("udp", dst, dialTimeout)
	if err != nil {
		return nil, err
	}
	p.open = append(p.open, conn)
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return nil, errors.New("not a UDP socket")
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	for _, s := range set {
		if err := s.control("", "", raw); err != nil {
			return nil, err
		}
	}
	return udp, nil
}

// oneDatagram sends a datagram with a TTL, and may forbid its fragmenting.
func oneDatagram(dst string, ttl, bytes, pmtu int) func(*play) error {
	return func(p *play) error {
		conn, err := p.datagrams(dst, setInt(unix.SOL_IP, unix.IP_TTL, ttl), setInt(unix.SOL_IP, unix.IP_MTU_DISCOVER, pmtu))
		if err != nil {
			return err
		}
		_, err = conn.Write(make([]byte, bytes))
		return err
	}
}

// burst sends datagrams as fast as they go.
func burst(dst string, count, bytes int) func(*play) error {
	return func(p *play) error {
		conn, err := p.datagrams(dst)
		if err != nil {
			return err
		}
		for range count {
			if _, err := conn.Write(make([]byte, bytes)); err != nil && !errors.Is(err, errRefused) {
				return err
			}
		}
		return nil
	}
}

// segmented sends datagrams in one piece (UDP_SEGMENT), which the kernel cuts.
func segmented(dst string, count, bytes int) func(*play) error {
	return func(p *play) error {
		// Where a veth pair takes them uncut, it shall not; 5.10's never does.
		const device = "ethtool -K eth0 tx-udp-segmentation "
		if p.run(p.from, device+"off") == nil {
			defer p.run(p.from, device+"on") //nolint:errcheck // it may be fixed
		}
		conn, err := p.datagrams(dst, setInt(unix.SOL_UDP, unix.UDP_SEGMENT, bytes))
		if err != nil {
			return err
		}
		_, err = conn.Write(make([]byte, count*bytes))
		return err
	}
}

// withBacklog makes traffic while the CPUs' input queues have another length. It
// is a setting of the whole kernel, which only its first namespace shows.
func withBacklog(length string, traffic func(*play) error) func(*play) error {
	return func(p *play) (err error) {
		const first, key = "/proc/1/ns/net", "net.core.netdev_max_backlog="
		if err := p.run(first, "sysctl -q -w "+key+length); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.run(first, "sysctl -q -w "+key+"1000")) }()
		return traffic(p)
	}
}

// filtered makes traffic while a tc filter does something to what goes to a UDP port.
func filtered(netns, dev, way string, port int, action string, traffic func(*play) error) func(*play) error {
	return func(p *play) (err error) {
		// Below 6.6 the tool has its programs in this qdisc, too.
		mine := p.run(netns, "tc qdisc add dev "+dev+" clsact") == nil
		filter := "dev " + dev + " " + way + " prio 100"
		if err := p.run(netns, fmt.Sprintf("tc filter add %s protocol ip u32 match ip dport %d 0xffff action %s", filter, port, action)); err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, p.run(netns, "tc filter del "+filter))
			if mine {
				err = errors.Join(err, p.run(netns, "tc qdisc del dev "+dev+" clsact"))
			}
		}()
		return traffic(p)
	}
}

// portState sends through a bridge of n1 of which a port has another STP state;
// neighbours have found each other before.
func portState(port, state, dst string) func(*play) error {
	const set = "bridge link set dev "
	return acquainted(dst, []change{{"n1", set + port + " state " + state, set + port + " state 3"}}, unanswered("udp", dst))
}

// toListener makes traffic while a UDP socket, which nobody reads, listens.
func toListener(netns, ip string, port int, set controlled, traffic func(*play) error) func(*play) error {
	return func(p *play) error {
		err := inNetns(netns, func() error {
			lc := net.ListenConfig{Control: set.control}
			conn, err := lc.ListenPacket(context.Background(), "udp4", net.JoinHostPort(ip, strconv.Itoa(port)))
			if err == nil {
				p.open = append(p.open, drained{conn})
			}
			return err
		})
		if err != nil {
			return err
		}
		return traffic(p)
	}
}

// drained is a socket that is read to its end before it is closed: a datagram
// that is freed with its socket is another case.
type drained struct{ net.PacketConn }

func (d drained) Close() error {
	err := d.SetReadDeadline(time.Now().Add(drainWait))
	for err == nil {
		_, _, err = d.ReadFrom(make([]byte, 1<<16))
	}
	return d.PacketConn.Close()
}

// smallBuffer is the smallest receive buffer that there is.
func smallBuffer(fd int) error { return setInt(unix.SOL_SOCKET, unix.SO_RCVBUF, 1)(fd) }

// filterAll is a classic filter that takes nothing.
func filterAll(fd int) error {
	none := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	return os.NewSyscallError("setsockopt",
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &none}))
}

// handmade sends a packet with a transport header of its own: a wrong checksum,
// or a protocol that nobody takes.
func handmade(dst string, proto, port int, sum uint16) func(*play) error {
	return func(p *play) error {
		const src = 5400
		message := make([]byte, 8+16)
		binary.BigEndian.PutUint16(message, src)
		binary.BigEndian.PutUint16(message[2:], uint16(port))
		binary.BigEndian.PutUint16(message[4:], uint16(len(message)))
		binary.BigEndian.PutUint16(message[6:], sum)
		conn, err := net.Dial("ip4:"+strconv.Itoa(proto), dst)
		if err != nil {
			return err
		}
		p.open = append(p.open, conn)
		from, network, srcPort := conn.LocalAddr().String(), strconv.Itoa(proto), 0
		switch proto {
		case unix.IPPROTO_UDP:
			network, srcPort = "udp", src
		case unix.IPPROTO_TCP:
			network, srcPort = "tcp", src
			message = append(message[:4], make([]byte, 16)...)
			message[12], message[13] = 5<<4, 2 // a SYN without options
			binary.BigEndian.PutUint16(message[14:], 1000)
			binary.BigEndian.PutUint16(message[16:], sum)
		case unix.IPPROTO_SCTP:
			network, srcPort = "sctp", src
		}
		p.flow(network, net.JoinHostPort(from, strconv.Itoa(srcPort)), net.JoinHostPort(dst, strconv.Itoa(port)))
		_, err = conn.Write(message)
		return err
	}
}

// keptAlive is a connection that says nothing but that it is still there.
func keptAlive(addr string) func(*play) error {
	return func(p *play) error {
		conn, err := p.dial("tcp", addr, dialTimeout)
		if err != nil {
			return err
		}
		defer conn.Close()
		tcp := conn.(*net.TCPConn)
		if err := tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 5}); err != nil {
			return err
		}
		tcp.SetDeadline(time.Now().Add(dialTimeout))
		if err := echoed(tcp, "hello"); err != nil {
			return err
		}
		// Two probes' time: nothing is sent, and nothing comes.
		tcp.SetReadDeadline(time.Now().Add(2500 * time.Millisecond))
		if _, err := tcp.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("read: %w", orEOF(err))
		}
		tcp.SetDeadline(time.Now().Add(dialTimeout))
		return errors.Join(echoed(tcp, "hello"), hangUp(tcp))
	}
}

func orEOF(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}
