// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
)

// A capture is a run's events as text, for tests: they are stitched again
// without the kernel that produced them. It is a file of JSON lines. The first
// one is a CaptureHeader: the hook table and the names of the run. Each of the
// others is one event; fields that are 0 are left out:
//
//	{"t":…,"pkt":1,"flow":2,"hook":3,"seq":0,"cpu":1,"flags":5,"netns":…,"if":2,
//	 "other":…,"nf":[family,hook],"reason":…,"loc":"0x…","ret":…,"icmp":[type,code],"backend":"IP:PORT",
//	 "sock":{"inode":…,"pid":…,"comm":"…"},"hdr":{…},"ct":{…},"link":{…},"bytes":"base64"}
//
// Tuples are [proto,"SRC:PORT","DST:PORT"].

// CaptureVersion is the version of the format, in the header's field capture.
const CaptureVersion = 1

// Bounds of a capture that is read. A test's capture is far below them.
const (
	maxCaptureLine   = 8 << 20
	maxCaptureEvents = 1 << 20
	maxHookID        = 4096
)

// CaptureHeader is the first line of a capture.
type CaptureHeader struct {
	Capture      int                `json:"capture"` // CaptureVersion
	Kernel       string             `json:"kernel,omitempty"`
	Note         string             `json:"note,omitempty"` // what was done while it was taken
	HasFunctions bool               `json:"has_functions"`
	Hooks        []CaptureHook      `json:"hooks"`
	Namespaces   []CaptureNamespace `json:"namespaces"`
	Devices      []CaptureDevice    `json:"devices"`
	Addresses    []CaptureAddress   `json:"addresses,omitempty"`
	Processes    []CaptureProcess   `json:"processes,omitempty"`
	Symbols      map[string]string  `json:"symbols,omitempty"`      // by address, 0x…
	DropReasons  map[string]string  `json:"drop_reasons,omitempty"` // by number
}

// CaptureHook is a Hook, with its station by name.
type CaptureHook struct {
	ID      HookID `json:"id"`
	Name    string `json:"name"`
	Station string `json:"station"`
}

// CaptureNamespace names a network namespace.
type CaptureNamespace struct {
	Netns uint32 `json:"netns"`
	Name  string `json:"name,omitempty"`
	Kind  string `json:"kind,omitempty"`
	Node  string `json:"node,omitempty"`
	Pod   string `json:"pod,omitempty"`
}

// CaptureDevice describes a network device.
type CaptureDevice struct {
	Netns       uint32       `json:"netns"`
	Ifindex     uint32       `json:"ifindex"`
	Name        string       `json:"name"`
	Kind        string       `json:"kind,omitempty"`
	Master      uint32       `json:"master,omitempty"`
	PeerNetns   uint32       `json:"peer_netns,omitempty"`
	PeerIfindex uint32       `json:"peer_ifindex,omitempty"`
	Addrs       []netip.Addr `json:"addrs,omitempty"`
}

// CaptureAddress names an address.
type CaptureAddress struct {
	IP      string `json:"ip"`
	Port    uint16 `json:"port,omitempty"` // 0: with any port
	Pod     string `json:"pod,omitempty"`
	Service string `json:"service,omitempty"`
	Node    string `json:"node,omitempty"`
}

// CaptureProcess names the owner of a socket.
type CaptureProcess struct {
	Inode uint32 `json:"inode"`
	Comm  string `json:"comm"`
	PID   uint32 `json:"pid"`
}

// Capture is a capture that was read.
type Capture struct {
	Header CaptureHeader
	Hooks  []Hook
	Events []Event
	Names  Names // what the header says
}

// captureEvent is an Event as a line of a capture.
type captureEvent struct {
	Time    uint64          `json:"t"`
	Packet  uint64          `json:"pkt"`
	Flow    uint64          `json:"flow,omitempty"`
	Hook    HookID          `json:"hook"`
	Seq     uint16          `json:"seq"`
	CPU     uint16          `json:"cpu,omitempty"`
	Flags   Flags           `json:"flags,omitempty"`
	Netns   uint32          `json:"netns,omitempty"`
	Ifindex uint32          `json:"if,omitempty"`
	Other   uint64          `json:"other,omitempty"`
	NF      *[2]uint8       `json:"nf,omitempty"`
	Reason  uint32          `json:"reason,omitempty"`
	Loc     string          `json:"loc,omitempty"`
	Ret     int32           `json:"ret,omitempty"`
	ICMP    *[2]uint8       `json:"icmp,omitempty"`
	Backend *netip.AddrPort `json:"backend,omitempty"`
	Socket  *captureSocket  `json:"sock,omitempty"`
	Header  *captureHdr     `json:"hdr,omitempty"`
	CT      *captureCT      `json:"ct,omitempty"`
	Link    *captureLink    `json:"link,omitempty"`
	Bytes   []byte          `json:"bytes,omitempty"`
}

type captureLink struct {
	Dst   *[6]byte `json:"dst,omitempty"`
	Src   *[6]byte `json:"src,omitempty"`
	Proto uint16   `json:"proto,omitempty"`
	VLAN  uint16   `json:"vlan,omitempty"`
	TTL   uint8    `json:"ttl,omitempty"`
	Hash  uint32   `json:"hash,omitempty"`
}

type captureSocket struct {
	Inode uint32 `json:"inode,omitempty"`
	PID   uint32 `json:"pid,omitempty"`
	Comm  string `json:"comm,omitempty"`
}

type captureHdr struct {
	Tuple    captureTuple  `json:"tuple"`
	Length   uint32        `json:"len,omitempty"`
	TCPFlags uint8         `json:"tcp,omitempty"`
	TTL      uint8         `json:"ttl,omitempty"`
	TOS      uint8         `json:"tos,omitempty"`
	ICMP     *[2]uint8     `json:"icmp,omitempty"`
	Fragment bool          `json:"frag,omitempty"`
	IPID     uint16        `json:"ipid,omitempty"`
	Seq      uint32        `json:"seq,omitempty"`
	Ack      uint32        `json:"ack,omitempty"`
	Mark     uint32        `json:"mark,omitempty"`
	GSOSize  uint16        `json:"gso_size,omitempty"`
	GSOSegs  uint16        `json:"gso_segs,omitempty"`
	Inner    *captureTuple `json:"inner,omitempty"`
}

type captureCT struct {
	Original captureTuple `json:"orig"`
	Reply    captureTuple `json:"reply"`
	Info     uint8        `json:"info"`
	Status   uint32       `json:"status,omitempty"`
	Zone     uint16       `json:"zone,omitempty"`
}

// NewCaptureHeader describes a run: those of its hooks that occur in the
// events, and what its names say of the namespaces, devices, symbols, drop
// reasons, processes and addresses that do.
func NewCaptureHeader(hooks []Hook, names Names, evs []Event) CaptureHeader {
	h := CaptureHeader{
		Capture: CaptureVersion, Hooks: []CaptureHook{}, Namespaces: []CaptureNamespace{}, Devices: []CaptureDevice{},
		Symbols: map[string]string{}, DropReasons: map[string]string{},
	}
	used := map[HookID]bool{}
	for i := range evs {
		used[evs[i].Hook] = true
	}
	for _, k := range hooks {
		if used[k.ID] {
			h.Hooks = append(h.Hooks, CaptureHook{k.ID, k.Name, StationName(k.Station)})
		}
	}
	c := headerCollector{h: &h, names: names, netns: map[uint32]bool{}, devices: map[[2]uint32]bool{}, inodes: map[uint32]bool{}, ends: map[netip.AddrPort]bool{}}
	for i := range evs {
		c.event(&evs[i])
	}
	return h
}

// headerCollector gathers what a capture's events mention.
type headerCollector struct {
	h       *CaptureHeader
	names   Names
	netns   map[uint32]bool
	devices map[[2]uint32]bool
	inodes  map[uint32]bool
	ends    map[netip.AddrPort]bool
}

func (c *headerCollector) event(e *Event) {
	c.namespace(e.Netns)
	c.device(e.Netns, e.Ifindex)
	if sym := c.names.Symbol(e.Location); e.Location != 0 && sym != "" {
		c.h.Symbols["0x"+strconv.FormatUint(e.Location, 16)] = sym
	}
	if r := c.names.DropReason(e.Reason); e.Reason != 0 && r != "" {
		c.h.DropReasons[strconv.FormatUint(uint64(e.Reason), 10)] = r
	}
	if i := e.Socket.Inode; i != 0 && !c.inodes[i] {
		c.inodes[i] = true
		if comm, pid, ok := c.names.Process(i); ok {
			c.h.Processes = append(c.h.Processes, CaptureProcess{i, comm, pid})
		}
	}
	if h := &e.Header; e.Ext == ExtHeader {
		src, dst := h.SrcPort, h.DstPort
		if !hasPorts(h) { // an ICMP echo's identifier is none
			src, dst = 0, 0
		}
		c.address(h.Src, src)
		c.address(h.Dst, dst)
	}
}

func (c *headerCollector) namespace(netns uint32) {
	if netns == 0 || c.netns[netns] {
		return
	}
	c.netns[netns] = true
	ns := c.names.Namespace(netns)
	c.h.Namespaces = append(c.h.Namespaces, CaptureNamespace{netns, ns.Name, ns.Kind, ns.Node, ns.Pod})
}

// device takes in a device, its bridge and its peer.
func (c *headerCollector) device(netns, ifindex uint32) {
	key := [2]uint32{netns, ifindex}
	if netns == 0 || ifindex == 0 || c.devices[key] {
		return
	}
	c.devices[key] = true
	d, ok := c.names.Device(netns, ifindex)
	if !ok {
		return
	}
	c.h.Devices = append(c.h.Devices, CaptureDevice{netns, ifindex, d.Name, d.Kind, d.Master, d.PeerNetns, d.PeerIfindex, d.Addrs})
	c.namespace(d.PeerNetns)
	c.device(netns, d.Master)
	c.device(d.PeerNetns, d.PeerIfindex)
}

func (c *headerCollector) address(a netip.Addr, port uint16) {
	key := netip.AddrPortFrom(a, port)
	if !a.IsValid() || c.ends[key] {
		return
	}
	c.ends[key] = true
	if n := c.names.Address(a.String(), port); n != (AddressNames{}) {
		c.h.Addresses = append(c.h.Addresses, CaptureAddress{a.String(), port, n.Pod, n.Service, n.Node})
	}
}

// WriteCapture writes a header and its events.
func WriteCapture(w io.Writer, h *CaptureHeader, evs []Event) error {
	bw := bufio.NewWriter(w)
	enc := json.NewEncoder(bw)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(h); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	for i := range evs {
		if err := enc.Encode(toCapture(&evs[i])); err != nil {
			return fmt.Errorf("write capture: event %d: %w", i, err)
		}
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}

func toCapture(e *Event) *captureEvent {
	c := &captureEvent{
		Time: e.Time, Packet: e.Packet, Flow: e.Flow, Hook: e.Hook, Seq: e.Seq, CPU: e.CPU, Flags: e.Flags,
		Netns: e.Netns, Ifindex: e.Ifindex, Other: e.Other, Reason: e.Reason, Ret: e.Ret, Bytes: e.Bytes,
	}
	if l := e.Link; l != (Link{}) {
		c.Link = &captureLink{Proto: l.Proto, VLAN: l.VLAN, TTL: l.TTL, Hash: l.Hash}
		if l.Dst != l.Src { // neither is there, or both are 0 as on loopback
			c.Link.Dst, c.Link.Src = &l.Dst, &l.Src
		}
	}
	if e.NFFamily != 0 || e.NFHook != 0 {
		c.NF = &[2]uint8{e.NFFamily, e.NFHook}
	}
	if e.ICMPType != 0 || e.ICMPCode != 0 {
		c.ICMP = &[2]uint8{e.ICMPType, e.ICMPCode}
	}
	if e.Location != 0 {
		c.Loc = "0x" + strconv.FormatUint(e.Location, 16)
	}
	if e.Backend.IsValid() {
		c.Backend = &e.Backend
	}
	if e.Socket != (Socket{}) {
		c.Socket = &captureSocket{e.Socket.Inode, e.Socket.PID, commWords(e.Socket.Comm)}
	}
	switch h := &e.Header; e.Ext {
	case ExtHeader:
		c.Header = &captureHdr{
			Tuple: captureTuple(h.Tuple), Length: h.Length, TCPFlags: h.TCPFlags, TTL: h.TTL, TOS: h.TOS, Fragment: h.Fragment,
			IPID: h.IPID, Seq: h.Seq, Ack: h.Ack, Mark: h.Mark, GSOSize: h.GSOSize, GSOSegs: h.GSOSegs,
		}
		if h.ICMPType != 0 || h.ICMPCode != 0 {
			c.Header.ICMP = &[2]uint8{h.ICMPType, h.ICMPCode}
		}
		if h.HasInner {
			inner := captureTuple(h.Inner)
			c.Header.Inner = &inner
		}
	case ExtConntrack:
		c.CT = &captureCT{captureTuple(e.CT.Original), captureTuple(e.CT.Reply), e.CT.Info, e.CT.Status, e.CT.Zone}
	}
	return c
}

// ReadCapture reads a capture. Its errors say in which line they are.
func ReadCapture(r io.Reader) (*Capture, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxCaptureLine)
	c := &Capture{}
	for line := 1; sc.Scan(); line++ {
		var err error
		if line == 1 {
			err = c.header(sc.Bytes())
		} else {
			err = c.event(sc.Bytes())
		}
		if err != nil {
			return nil, fmt.Errorf("read capture: line %d: %w", line, err)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read capture: %w", err)
	}
	if c.Names == nil {
		return nil, errors.New("read capture: it is empty")
	}
	return c, nil
}

func strictJSON(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func (c *Capture) header(b []byte) error {
	h := &c.Header
	if err := strictJSON(b, h); err != nil {
		return err
	}
	if h.Capture != CaptureVersion {
		return fmt.Errorf("capture version %d, not %d", h.Capture, CaptureVersion)
	}
	for _, k := range h.Hooks {
		st, ok := StationByName(k.Station)
		if !ok {
			return fmt.Errorf("hook %q: unknown station %q", k.Name, k.Station)
		}
		if k.ID > maxHookID {
			return fmt.Errorf("hook %q: its number %d is above %d", k.Name, k.ID, maxHookID)
		}
		c.Hooks = append(c.Hooks, Hook{k.ID, k.Name, st})
	}
	names, err := newCaptureNames(h)
	if err != nil {
		return err
	}
	c.Names = names
	return nil
}

func (c *Capture) event(b []byte) error {
	if len(c.Events) >= maxCaptureEvents {
		return fmt.Errorf("more than %d events", maxCaptureEvents)
	}
	var l captureEvent
	if err := strictJSON(b, &l); err != nil {
		return err
	}
	if !slices.ContainsFunc(c.Hooks, func(h Hook) bool { return h.ID == l.Hook }) {
		return fmt.Errorf("unknown hook %d", l.Hook)
	}
	e, err := l.event()
	if err != nil {
		return err
	}
	c.Events = append(c.Events, e)
	return nil
}
