// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// captureTuple is a Tuple as [proto,"SRC:PORT","DST:PORT"].
type captureTuple Tuple

// MarshalJSON implements json.Marshaler.
func (t captureTuple) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{
		t.Proto, netip.AddrPortFrom(t.Src, t.SrcPort), netip.AddrPortFrom(t.Dst, t.DstPort),
	})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *captureTuple) UnmarshalJSON(b []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) != 3 {
		return fmt.Errorf("a tuple has 3 elements, not %d", len(parts))
	}
	var src, dst netip.AddrPort
	for i, into := range []any{&t.Proto, &src, &dst} {
		if err := json.Unmarshal(parts[i], into); err != nil {
			return err
		}
	}
	t.Src, t.SrcPort, t.Dst, t.DstPort = src.Addr(), src.Port(), dst.Addr(), dst.Port()
	return nil
}

// event turns a line of a capture into an Event.
func (l *captureEvent) event() (Event, error) {
	e := Event{
		Time: l.Time, Packet: l.Packet, Flow: l.Flow, Hook: l.Hook, Seq: l.Seq, CPU: l.CPU, Flags: l.Flags,
		Netns: l.Netns, Ifindex: l.Ifindex, Other: l.Other, Reason: l.Reason, Ret: l.Ret, Bytes: l.Bytes,
	}
	if k := l.Link; k != nil {
		e.Link = Link{Proto: k.Proto, VLAN: k.VLAN, TTL: k.TTL, Hash: k.Hash}
		if k.Dst != nil {
			e.Link.Dst = *k.Dst
		}
		if k.Src != nil {
			e.Link.Src = *k.Src
		}
	}
	if l.NF != nil {
		e.NFFamily, e.NFHook = l.NF[0], l.NF[1]
	}
	if l.ICMP != nil {
		e.ICMPType, e.ICMPCode = l.ICMP[0], l.ICMP[1]
	}
	if l.Loc != "" {
		loc, err := strconv.ParseUint(l.Loc, 0, 64)
		if err != nil {
			return Event{}, fmt.Errorf("loc: %w", err)
		}
		e.Location = loc
	}
	if l.Backend != nil {
		e.Backend = *l.Backend
	}
	if s := l.Socket; s != nil {
		if len(s.Comm) > len(e.Socket.Comm) {
			return Event{}, fmt.Errorf("comm: %d bytes are more than %d", len(s.Comm), len(e.Socket.Comm))
		}
		e.Socket.Inode, e.Socket.PID = s.Inode, s.PID
		copy(e.Socket.Comm[:], s.Comm)
	}
	switch {
	case l.Header != nil && l.CT != nil:
		return Event{}, errors.New("an event has hdr or ct, not both")
	case l.Header != nil:
		e.Ext, e.Header = ExtHeader, l.Header.header()
	case l.CT != nil:
		e.Ext = ExtConntrack
		e.CT = Conntrack{Tuple(l.CT.Original), Tuple(l.CT.Reply), l.CT.Info, l.CT.Status, l.CT.Zone}
	}
	return e, nil
}

func (l *captureHdr) header() Header {
	h := Header{
		Tuple: Tuple(l.Tuple), Length: l.Length, TCPFlags: l.TCPFlags, TTL: l.TTL, TOS: l.TOS, Fragment: l.Fragment,
		IPID: l.IPID, Seq: l.Seq, Ack: l.Ack, Mark: l.Mark, GSOSize: l.GSOSize, GSOSegs: l.GSOSegs,
	}
	if l.ICMP != nil {
		h.ICMPType, h.ICMPCode = l.ICMP[0], l.ICMP[1]
	}
	if l.Inner != nil {
		h.Inner, h.HasInner = Tuple(*l.Inner), true
	}
	return h
}

// captureNames answers from the header of a capture.
type captureNames struct {
	spaces    map[uint32]Namespace
	devices   map[[2]uint32]Device
	addresses map[CaptureAddress]AddressNames // keyed by IP and Port only
	processes map[uint32]process
	symbols   map[uint64]string
	reasons   map[uint32]string
}

var _ Names = (*captureNames)(nil)

func newCaptureNames(h *CaptureHeader) (*captureNames, error) {
	n := &captureNames{
		spaces: map[uint32]Namespace{}, devices: map[[2]uint32]Device{}, addresses: map[CaptureAddress]AddressNames{},
		processes: map[uint32]process{}, symbols: map[uint64]string{}, reasons: map[uint32]string{},
	}
	for _, s := range h.Namespaces {
		n.spaces[s.Netns] = Namespace{Name: s.Name, Kind: s.Kind, Node: s.Node, Pod: s.Pod}
	}
	for _, d := range h.Devices {
		n.devices[[2]uint32{d.Netns, d.Ifindex}] = Device{
			Name: d.Name, Kind: d.Kind, Master: d.Master, PeerNetns: d.PeerNetns, PeerIfindex: d.PeerIfindex, Addrs: d.Addrs,
		}
	}
	for _, a := range h.Addresses {
		n.addresses[CaptureAddress{IP: a.IP, Port: a.Port}] = AddressNames{Pod: a.Pod, Service: a.Service, Node: a.Node}
	}
	for _, p := range h.Processes {
		n.processes[p.Inode] = process{p.Comm, p.PID}
	}
	for addr, name := range h.Symbols {
		a, err := strconv.ParseUint(addr, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("symbols: %w", err)
		}
		n.symbols[a] = name
	}
	for num, name := range h.DropReasons {
		r, err := strconv.ParseUint(num, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("drop_reasons: %w", err)
		}
		n.reasons[uint32(r)] = name
	}
	return n, nil
}

func (n *captureNames) Device(netns, ifindex uint32) (Device, bool) {
	d, ok := n.devices[[2]uint32{netns, ifindex}]
	return d, ok
}

func (n *captureNames) Namespace(netns uint32) Namespace { return n.spaces[netns] }

func (n *captureNames) Address(ip string, port uint16) AddressNames {
	if a, ok := n.addresses[CaptureAddress{IP: ip, Port: port}]; ok {
		return a
	}
	return n.addresses[CaptureAddress{IP: ip}]
}

func (n *captureNames) Process(inode uint32) (comm string, pid uint32, ok bool) {
	p, ok := n.processes[inode]
	return p.comm, p.pid, ok
}

func (n *captureNames) Symbol(addr uint64) string       { return n.symbols[addr] }
func (n *captureNames) DropReason(reason uint32) string { return n.reasons[reason] }
