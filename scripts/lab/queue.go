// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of linux/netfilter/nfnetlink_queue.h, and the verdict of linux/netfilter.h.
const (
	subsysQueue   = 3
	queuePacket   = 0
	queueVerdict  = 1
	queueConfig   = 2
	attrCommand   = 1
	attrParams    = 2
	attrPacketHdr = 1
	attrVerdict   = 2
	commandBind   = 1
	copyMeta      = 1
	verdictAccept = 1
)

// A packetQueue is the process behind a rule's NFQUEUE: it holds packets, as a
// proxy or an intrusion detection does that looks at them.
type packetQueue struct {
	socket *nl.NetlinkSocket
	num    uint16
	held   []uint32
}

// bindQueue takes what rules of a namespace put into a queue.
func bindQueue(netns string, num uint16) (q *packetQueue, err error) {
	q = &packetQueue{num: num}
	err = inNetns(netns, func() error {
		if q.socket, err = nl.Subscribe(unix.NETLINK_NETFILTER); err != nil {
			return err
		}
		command := []byte{commandBind, 0, 0, 0}
		params := append(binary.BigEndian.AppendUint32(nil, 0), copyMeta)
		return errors.Join(q.socket.SetReceiveTimeout(&unix.Timeval{Sec: int64(dialTimeout.Seconds())}),
			q.send(queueConfig, nl.NewRtAttr(attrCommand, command)),
			q.send(queueConfig, nl.NewRtAttr(attrParams, params)))
	})
	if err != nil {
		return nil, fmt.Errorf("%s: queue %d: %w", netns, num, err)
	}
	return q, nil
}

func (q *packetQueue) send(kind int, attr *nl.RtAttr) error {
	req := nl.NewNetlinkRequest(subsysQueue<<8|kind, 0)
	num := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, q.num))
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, ResId: num})
	req.AddData(attr)
	return q.socket.Send(req)
}

// hold waits until so many packets are held.
func (q *packetQueue) hold(n int) error {
	for len(q.held) < n {
		messages, _, err := q.socket.Receive()
		if err != nil {
			return fmt.Errorf("%d of %d packets were queued: %w", len(q.held), n, err)
		}
		for _, m := range messages {
			if err := q.take(m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (q *packetQueue) take(m syscall.NetlinkMessage) error {
	if m.Header.Type != subsysQueue<<8|queuePacket || len(m.Data) < 4 {
		return nil
	}
	attrs, err := nl.ParseRouteAttr(m.Data[4:])
	if err != nil {
		return err
	}
	for _, a := range attrs {
		if int(a.Attr.Type)&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == attrPacketHdr && len(a.Value) >= 4 {
			q.held = append(q.held, binary.BigEndian.Uint32(a.Value))
		}
	}
	return nil
}

// release lets all go on, in the order in which they came.
func (q *packetQueue) release() (err error) {
	for _, id := range q.held {
		verdict := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, verdictAccept), id)
		err = errors.Join(err, q.send(queueVerdict, nl.NewRtAttr(attrVerdict, verdict)))
	}
	q.held = nil
	return err
}

func (q *packetQueue) close() { q.socket.Close() }
