// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of linux/netfilter/nfnetlink_queue.h.
const (
	queueSubsystem = 3 << 8 // NFNL_SUBSYS_QUEUE
	queuePacket    = queueSubsystem
	queueVerdict   = queueSubsystem | 1
	queueConfig    = queueSubsystem | 2

	queueConfigCommand = 1 // NFQA_CFG_CMD; its value 1 is BIND
	queueConfigParams  = 2 // NFQA_CFG_PARAMS
	queueConfigMaximum = 3 // NFQA_CFG_QUEUE_MAXLEN
	queuePacketHeader  = 1 // NFQA_PACKET_HDR
	queueVerdictHeader = 2 // NFQA_VERDICT_HDR

	queueNever = ^uint32(0) // no answer at all
	queueDrop  = uint32(0)  // NF_DROP
	queueTake  = uint32(1)  // NF_ACCEPT
)

// A queueReader is what a policy agent or a scanner is: it reads the packets that
// NFQUEUE rules give it, and answers what shall become of them.
type queueReader struct {
	fd     int
	number uint16
}

// queueReaderIn reads a queue of a namespace that holds so many packets.
func queueReaderIn(netns string, number uint16, room uint32) (*queueReader, error) {
	q := &queueReader{number: number}
	err := within(netns, func() (err error) {
		q.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("queue %d: %w", number, err)
	}
	err = errors.Join(
		unix.SetsockoptTimeval(q.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(dialTimeout / time.Second)}),
		q.send(queueConfig, queueConfigCommand, []byte{1, 0, 0, 0}),
		q.send(queueConfig, queueConfigParams, []byte{0, 0, 0, 0, 1}), // NFQNL_COPY_META
		q.send(queueConfig, queueConfigMaximum, binary.BigEndian.AppendUint32(nil, room)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("queue %d: %w", number, err), q.Close())
	}
	return q, nil
}

// send sends one message with one attribute, and waits for the kernel's word on it.
func (q *queueReader) send(kind, attribute int, data []byte) error {
	req := nl.NewNetlinkRequest(kind, unix.NLM_F_ACK)
	req.AddData(queueFamily{number: q.number})
	req.AddData(nl.NewRtAttr(attribute, data))
	if err := unix.Sendto(q.fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		kind, body, err := q.next()
		if err != nil {
			return err
		}
		if kind != unix.NLMSG_ERROR || len(body) < 4 {
			continue // another packet meanwhile
		}
		if code := int32(nl.NativeEndian().Uint32(body)); code != 0 { //nolint:gosec // an errno below zero
			return unix.Errno(-code)
		}
		return nil
	}
}

// next is the next message, without its header.
func (q *queueReader) next() (kind uint16, body []byte, err error) {
	buf := make([]byte, 1<<16)
	n, _, err := unix.Recvfrom(q.fd, buf, 0)
	if err != nil {
		return 0, nil, err
	}
	if n < unix.SizeofNlMsghdr {
		return 0, nil, fmt.Errorf("a message of %d bytes", n)
	}
	return nl.NativeEndian().Uint16(buf[4:]), buf[unix.SizeofNlMsghdr:n], nil
}

// answer takes one packet and says what shall become of it.
func (q *queueReader) answer(verdict uint32) error {
	for {
		kind, body, err := q.next()
		if err != nil {
			return fmt.Errorf("queue %d: no packet: %w", q.number, err)
		}
		if kind != queuePacket || len(body) < 4 {
			continue
		}
		attrs, err := nl.ParseRouteAttr(body[4:])
		if err != nil {
			return err
		}
		for _, a := range attrs {
			if a.Attr.Type == queuePacketHeader && len(a.Value) >= 4 && verdict != queueNever {
				return q.send(queueVerdict, queueVerdictHeader, append(binary.BigEndian.AppendUint32(nil, verdict), a.Value[:4]...))
			}
		}
		return nil
	}
}

// Close ends the reading: the kernel drops what was not answered.
func (q *queueReader) Close() error { return unix.Close(q.fd) }

// queueFamily is struct nfgenmsg.
type queueFamily struct{ number uint16 }

func (queueFamily) Len() int { return 4 }

func (f queueFamily) Serialize() []byte {
	return binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, 0}, f.number)
}

// read makes traffic while a process reads the queue of n1 whose number is the port's
// and gives each of the first packets the answer that is meant for it.
func read(queue uint16, room uint32, traffic func(*play) error, answers ...uint32) func(*play) error {
	return func(p *play) error {
		q, err := queueReaderIn("n1", queue, room)
		if err != nil {
			return err
		}
		p.open = append(p.open, q)
		answered := make(chan error, 1)
		go func() {
			var err error
			for i := 0; i < len(answers) && err == nil; i++ {
				err = q.answer(answers[i])
			}
			answered <- err
		}()
		return errors.Join(traffic(p), <-answered)
	}
}
