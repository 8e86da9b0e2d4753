// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
)

// Protocol numbers (IPPROTO_*).
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// Bits of Header.TCPFlags.
const (
	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpPSH = 1 << 3
	tcpACK = 1 << 4
)

// ProtoName names an IPPROTO_*: a word for those that have their own rules here,
// else the number.
func ProtoName(p uint8) string {
	switch p {
	case protoICMP:
		return "icmp"
	case protoTCP:
		return "tcp"
	case protoUDP:
		return "udp"
	case protoICMPv6:
		return "icmp6"
	case protoSCTP:
		return "sctp"
	}
	return strconv.Itoa(int(p))
}

// flagWords writes TCP flags by their first letters, SYN first: SA, FA, PA, R.
func flagWords(flags uint8) string {
	const order = "SFRPAUEC"
	bits := [...]uint8{1, 0, 2, 3, 4, 5, 6, 7}
	b := make([]byte, 0, len(order))
	for i, bit := range bits {
		if flags>>bit&1 != 0 {
			b = append(b, order[i])
		}
	}
	return string(b)
}

// hasPorts says whether the ports of a header mean anything.
func hasPorts(h *Header) bool {
	return (h.Proto == protoTCP || h.Proto == protoUDP || h.Proto == protoSCTP) &&
		(!h.Fragment || h.SrcPort != 0 || h.DstPort != 0)
}

func endWords(h *Header, a netip.Addr, port uint16) string {
	if !hasPorts(h) {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

// dstWords is a packet's destination at some moment.
func dstWords(h *Header) string {
	if h == nil {
		return "its destination"
	}
	return endWords(h, h.Dst, h.DstPort)
}

// tupleWords writes a tuple as 172.23.96.23:40932→192.168.13.23:80.
func tupleWords(t Tuple, ports bool) string {
	if !ports {
		return t.Src.String() + "→" + t.Dst.String()
	}
	if !t.Src.IsValid() || !t.Dst.IsValid() { // of which AppendTo says nothing
		return netip.AddrPortFrom(t.Src, t.SrcPort).String() + "→" + netip.AddrPortFrom(t.Dst, t.DstPort).String()
	}
	b := netip.AddrPortFrom(t.Src, t.SrcPort).AppendTo(make([]byte, 0, 128))
	b = append(b, "→"...)
	return string(netip.AddrPortFrom(t.Dst, t.DstPort).AppendTo(b))
}

// isICMPError says whether a packet is an ICMP error rather than a question
// or an answer.
func isICMPError(h *Header) bool {
	switch h.Proto {
	case protoICMP:
		return h.HasInner || h.ICMPType == 3 || h.ICMPType == 5 || h.ICMPType == 11 || h.ICMPType == 12
	case protoICMPv6:
		return h.HasInner || (h.ICMPType >= 1 && h.ICMPType <= 4)
	}
	return false
}

func isEchoRequest(h *Header) bool {
	return (h.Proto == protoICMP && h.ICMPType == 8) || (h.Proto == protoICMPv6 && h.ICMPType == 128)
}

func isEchoReply(h *Header) bool {
	return (h.Proto == protoICMP && h.ICMPType == 0) || (h.Proto == protoICMPv6 && h.ICMPType == 129)
}

// icmpNames are the ICMP messages that people know by name.
var icmpNames = map[[3]uint8]string{
	{protoICMP, 3, 0}: "network unreachable", {protoICMP, 3, 1}: "host unreachable",
	{protoICMP, 3, 2}: "protocol unreachable", {protoICMP, 3, 3}: "port unreachable",
	{protoICMP, 3, 4}: "fragmentation needed", {protoICMP, 3, 9}: "network prohibited",
	{protoICMP, 3, 10}: "host prohibited", {protoICMP, 3, 13}: "administratively prohibited",
	{protoICMP, 11, 0}: "TTL exceeded", {protoICMP, 11, 1}: "reassembly time exceeded",
	{protoICMPv6, 1, 0}: "no route", {protoICMPv6, 1, 1}: "administratively prohibited",
	{protoICMPv6, 1, 3}: "address unreachable", {protoICMPv6, 1, 4}: "port unreachable",
	{protoICMPv6, 2, 0}: "packet too big", {protoICMPv6, 3, 0}: "hop limit exceeded",

	{protoICMP, 5, 0}: "redirect for a network", {protoICMP, 5, 1}: "redirect for a host",
	{protoICMPv6, 130, 0}: "group membership query", {protoICMPv6, 143, 0}: "group membership report",
	{protoICMPv6, 133, 0}: "router solicitation", {protoICMPv6, 134, 0}: "router advertisement",
	{protoICMPv6, 135, 0}: "neighbour solicitation", {protoICMPv6, 136, 0}: "neighbour advertisement",
	{protoICMPv6, 137, 0}: "redirect",
}

func icmpKey(h *Header) [3]uint8 { return [3]uint8{h.Proto, h.ICMPType, h.ICMPCode} }

func icmpWords(h *Header) string {
	w := fmt.Sprintf("ICMP %d/%d", h.ICMPType, h.ICMPCode)
	if name := icmpNames[icmpKey(h)]; name != "" {
		w += ", " + name
	}
	return w
}

// chainNames are the netfilter hooks, as NF_INET_* numbers them.
var chainNames = [...]string{"PREROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POSTROUTING", "INGRESS"}

// bridgeChainNames are those of the first few for frames on a bridge: they come often.
var bridgeChainNames = [...]string{"bridge PREROUTING", "bridge LOCAL_IN", "bridge FORWARD", "bridge LOCAL_OUT", "bridge POSTROUTING"}

func hookWords(nfhook int) string {
	if nfhook >= 0 && nfhook < len(chainNames) {
		return chainNames[nfhook]
	}
	return "hook " + strconv.Itoa(nfhook)
}

// chainWords is a netfilter hook by the name of its built-in chain.
func chainWords(nfhook int) string {
	switch nfhook {
	case -1:
		return "netfilter"
	case 1:
		return "netfilter INPUT"
	case 3:
		return "netfilter OUTPUT"
	}
	return "netfilter " + hookWords(nfhook)
}

// verdictNames are the return values of netfilter functions.
var verdictNames = [...]string{"DROP", "ACCEPT", "STOLEN", "QUEUE", "REPEAT", "STOP"}

func verdictWords(ret int32) string {
	if v := ret & 0xff; int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return strconv.Itoa(int(ret))
}

// commWords is a command name as the kernel keeps it.
func commWords(comm [16]byte) string {
	b := comm[:]
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// process is who owned a socket.
type process struct {
	comm string
	pid  uint32
}

func processWords(p process) string {
	if p.pid == 0 {
		return p.comm
	}
	return p.comm + " " + strconv.FormatUint(uint64(p.pid), 10)
}

// stackWords writes a count of stacks: 1 stack, 1.5 stacks.
func stackWords(n float64) string {
	w := strconv.FormatFloat(n, 'f', -1, 64)
	if n == 1 {
		return w + " stack"
	}
	return w + " stacks"
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// noNames knows nothing.
type noNames struct{}

var _ Names = noNames{}

func (noNames) Device(_, _ uint32) (Device, bool)                 { return Device{}, false }
func (noNames) Namespace(uint32) Namespace                        { return Namespace{} }
func (noNames) Address(string, uint16) AddressNames               { return AddressNames{} }
func (noNames) Process(uint32) (comm string, pid uint32, ok bool) { return "", 0, false }
func (noNames) Symbol(uint64) string                              { return "" }
func (noNames) DropReason(uint32) string                          { return "" }

// hookName names a hook of the run's table.
func (s *Stitcher) hookName(id HookID) string {
	if int(id) < len(s.hooks) && s.hooks[id].Name != "" {
		return s.hooks[id].Name
	}
	return "hook-" + strconv.Itoa(int(id))
}

// netnsName is the shown name of a namespace.
func (s *Stitcher) netnsName(netns uint32) string {
	if ns := s.names.Namespace(netns); ns.Name != "" {
		return ns.Name
	} else if ns.Pod != "" {
		return ns.Pod
	}
	return "netns:" + strconv.FormatUint(uint64(netns), 10)
}

// ownerName is whom a delivery in a namespace is for.
func (s *Stitcher) ownerName(netns uint32) string {
	if ns := s.names.Namespace(netns); ns.Pod != "" {
		return ns.Pod
	}
	return s.netnsName(netns)
}

func (s *Stitcher) deviceName(netns, ifindex uint32) string {
	if d, ok := s.names.Device(netns, ifindex); ok && d.Name != "" {
		return d.Name
	}
	return namelessDevice(ifindex)
}

// namelessDevice is what a device is called of which the name is not known.
func namelessDevice(ifindex uint32) string { return "if" + strconv.FormatUint(uint64(ifindex), 10) }

// dropReason names a drop reason; "" where the kernel gives none.
func (s *Stitcher) dropReason(reason uint32) string {
	if reason == 0 {
		return ""
	}
	switch name := s.names.DropReason(reason); name {
	case "NOT_SPECIFIED", "NOT_DROPPED_YET", "CONSUMED":
		return ""
	case "":
		return "REASON_" + strconv.FormatUint(uint64(reason), 10)
	default:
		return name
	}
}
