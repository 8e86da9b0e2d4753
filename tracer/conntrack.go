// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
)

// Attributes of linux/netfilter/nfnetlink_conntrack.h that package nl lacks:
// enum ctattr_l4proto.
const (
	ctICMPID     = 4
	ctICMPType   = 5
	ctICMPCode   = 6
	ctICMPv6ID   = 7
	ctICMPv6Type = 8
	ctICMPv6Code = 9
)

// readConntrack asks for the entries of flows one by one: a node's table may
// have a million others.
func (f *Facts) readConntrack(k *kernel, paths map[uint32]string, flows []FlowAt) {
	if len(flows) == 0 || !k.has("nf_conntrack_in") {
		return
	}
	if !k.has("ctnetlink_get_conntrack") { // asking would load it
		f.miss("conntrack entries: the kernel's module nf_conntrack_netlink is not loaded")
		return
	}
	f.Unasked = max(0, len(flows)-MaxFacts)
	by := map[uint32][]FlowAt{}
	for _, flow := range flows[:len(flows)-f.Unasked] {
		by[flow.Netns] = append(by[flow.Netns], flow)
	}
	for inode, flows := range by {
		path, ok := paths[inode]
		if !ok {
			continue // Facts says so
		}
		if err := f.readEntries(inode, path, flows); err != nil {
			f.miss("conntrack entries of namespace %d: %v", inode, err)
		}
	}
}

// ctTimeout is how long an answer of the kernel may take.
var ctTimeout = unix.Timeval{Sec: 1}

// readEntries looks up the flows of one namespace.
func (f *Facts) readEntries(inode uint32, path string, flows []FlowAt) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer ns.Close()
	socket, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	defer socket.Close()
	if err := errors.Join(socket.SetSendTimeout(&ctTimeout), socket.SetReceiveTimeout(&ctTimeout)); err != nil {
		return err
	}
	sockets := map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: socket}}
	found := map[CTEntry]bool{}
	for _, flow := range flows {
		e, ok, err := lookUp(sockets, flow)
		if err != nil {
			return err
		}
		e.Netns = inode
		key := e
		key.Timeout = 0 // it passes between two looks
		if ok && !found[key] {
			found[key] = true
			f.Conntrack = append(f.Conntrack, e)
		}
	}
	return nil
}

// lookUp finds the entry that has the flow as either direction.
func lookUp(sockets map[int]*nl.SocketHandle, flow FlowAt) (CTEntry, bool, error) {
	family, types := uint8(unix.AF_INET), []uint8{8, 0}
	if flow.Tuple.Src.Is6() {
		family, types = unix.AF_INET6, []uint8{128, 129}
	}
	if p := flow.Tuple.Proto; p != unix.IPPROTO_ICMP && p != unix.IPPROTO_ICMPV6 {
		types = types[:1]
	}
	// An event does not say which of an echo's two types a tuple belongs to.
	for _, icmpType := range types {
		// The kernel marks the one answer as the first of several; only an
		// acknowledgement ends them.
		req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_ACK)
		req.Sockets = sockets
		req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
		req.AddData(tupleAttr(flow.Tuple, icmpType))
		if flow.Zone != 0 {
			req.AddData(nl.NewRtAttr(nl.CTA_ZONE, binary.BigEndian.AppendUint16(nil, flow.Zone)))
		}
		answer, err := req.Execute(unix.NETLINK_NETFILTER, 0)
		switch {
		case errors.Is(err, unix.ENOENT):
			continue
		case err != nil:
			return CTEntry{}, false, fmt.Errorf("ask for a conntrack entry: %w", err)
		case len(answer) == 1:
			e, err := parseEntry(answer[0])
			return e, err == nil, err
		}
	}
	return CTEntry{}, false, nil
}

// tupleAttr is a tuple as netlink has it.
func tupleAttr(t events.Tuple, icmpType uint8) *nl.RtAttr {
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
	ip := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
	if t.Src.Is4() {
		ip.AddRtAttr(nl.CTA_IP_V4_SRC, t.Src.AsSlice())
		ip.AddRtAttr(nl.CTA_IP_V4_DST, t.Dst.AsSlice())
	} else {
		ip.AddRtAttr(nl.CTA_IP_V6_SRC, t.Src.AsSlice())
		ip.AddRtAttr(nl.CTA_IP_V6_DST, t.Dst.AsSlice())
	}
	proto := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{t.Proto})
	src, dst := binary.BigEndian.AppendUint16(nil, t.SrcPort), binary.BigEndian.AppendUint16(nil, t.DstPort)
	switch t.Proto {
	case unix.IPPROTO_ICMP:
		proto.AddRtAttr(ctICMPID, src)
		proto.AddRtAttr(ctICMPType, []byte{icmpType})
		proto.AddRtAttr(ctICMPCode, []byte{0})
	case unix.IPPROTO_ICMPV6:
		proto.AddRtAttr(ctICMPv6ID, src)
		proto.AddRtAttr(ctICMPv6Type, []byte{icmpType})
		proto.AddRtAttr(ctICMPv6Code, []byte{0})
	default:
		proto.AddRtAttr(nl.CTA_PROTO_SRC_PORT, src)
		proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, dst)
	}
	return tuple
}

// eachAttr calls f for the attributes in b. The netlink library's own parser
// takes a last attribute to be padded, and reads past the end if it is not.
func eachAttr(b []byte, f func(kind uint16, value []byte)) error {
	for len(b) >= unix.SizeofRtAttr {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < unix.SizeofRtAttr || size > len(b) {
			return fmt.Errorf("conntrack entry: an attribute of %d bytes where there are %d", size, len(b))
		}
		f(kind&nl.NLA_TYPE_MASK, b[unix.SizeofRtAttr:size])
		const align = unix.RTA_ALIGNTO - 1
		b = b[min(len(b), (size+align)&^align):]
	}
	return nil
}

// parseEntry reads a message about an entry.
func parseEntry(msg []byte) (CTEntry, error) {
	var e CTEntry
	if len(msg) < nl.SizeofNfgenmsg {
		return e, fmt.Errorf("conntrack entry: %d bytes", len(msg))
	}
	var nested error
	err := eachAttr(msg[nl.SizeofNfgenmsg:], func(kind uint16, v []byte) {
		switch {
		case kind == nl.CTA_TUPLE_ORIG:
			nested = errors.Join(nested, parseTuple(v, &e.Original))
		case kind == nl.CTA_TUPLE_REPLY:
			nested = errors.Join(nested, parseTuple(v, &e.Reply))
		case kind == nl.CTA_STATUS && len(v) >= 4:
			e.Status = binary.BigEndian.Uint32(v)
		case kind == nl.CTA_TIMEOUT && len(v) >= 4:
			e.Timeout = binary.BigEndian.Uint32(v)
		case kind == nl.CTA_ZONE && len(v) >= 2:
			e.Zone = binary.BigEndian.Uint16(v)
		}
	})
	return e, errors.Join(err, nested)
}

func parseTuple(b []byte, t *events.Tuple) error {
	var nested error
	err := eachAttr(b, func(kind uint16, v []byte) {
		switch kind {
		case nl.CTA_TUPLE_IP:
			nested = errors.Join(nested, eachAttr(v, func(kind uint16, v []byte) {
				addr, ok := netip.AddrFromSlice(v)
				switch {
				case ok && (kind == nl.CTA_IP_V4_SRC || kind == nl.CTA_IP_V6_SRC):
					t.Src = addr
				case ok && (kind == nl.CTA_IP_V4_DST || kind == nl.CTA_IP_V6_DST):
					t.Dst = addr
				}
			}))
		case nl.CTA_TUPLE_PROTO:
			nested = errors.Join(nested, eachAttr(v, func(kind uint16, v []byte) { parsePorts(kind, v, t) }))
		}
	})
	return errors.Join(err, nested)
}

func parsePorts(kind uint16, v []byte, t *events.Tuple) {
	if kind == nl.CTA_PROTO_NUM && len(v) >= 1 {
		t.Proto = v[0]
	}
	if len(v) < 2 {
		return
	}
	n := binary.BigEndian.Uint16(v)
	switch kind {
	case nl.CTA_PROTO_SRC_PORT:
		t.SrcPort = n
	case nl.CTA_PROTO_DST_PORT:
		t.DstPort = n
	case ctICMPID, ctICMPv6ID:
		t.SrcPort, t.DstPort = n, n
	}
}
