// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"hash/maphash"
	"net/netip"
	"strconv"

	"github.com/stackhop/stackhop/events"
)

const (
	protoTCP = 6
	protoUDP = 17
	tcpPSH   = 1 << 3
	// minLength is the length to which Ethernet pads what is shorter.
	minLength = 46
)

// end is a packet at a wire, in as few bytes as needed.
type end struct {
	key      uint64 // hash of all that no hop changes
	kin      uint64 // hash of what segments or fragments of one packet have in common
	core     uint64 // hash of what not even a translation changes; 0: that is too little
	src, dst uint64 // hashes of the addresses with their ports
	time     int64  // ns on the node's wall clock
	peers    []int  // the ends at other nodes that are the same packet
	// rivals counts the ends that fit as well, where none could be chosen.
	rivals int
	trav   int // index into travs
	rival  int // one of the rivals
	seq    uint32
	length uint32
	hash   uint32
	node   uint8
	ttl    uint8
	in     bool
	strong bool // the key has a number that hardly comes twice
	ranged bool // TCP with data
	frag   bool
	late   bool   // one that may be it came, but at a time when it should not have
	parts  bool   // it may arrive as several packets of which nothing tells the order
	v6     bool   // the packet, or the one that it carries
	front  uint32 // bytes in front of the packet that it carries
}

// trav is a traversal in as few bytes as needed.
type trav struct {
	id, flow uint64
	in, out  int // indexes into ends; -1: none
	node     uint8
	reply    bool
	about    bool  // an ICMP error: it is a reply whatever it is about
	part     bool  // it continues another one
	next     int   // how the packet goes on: index into travs; -1: it does not
	arrived  int   // of the parts in which it went on
	outcome  uint8 // how badly it ended
	onWay    bool  // being followed
	followed bool  // next to outcome are found
	verdict  events.Verdict
}

// wireKey is what no hop between two nodes changes.
type wireKey struct {
	tuple, inner           events.Tuple
	seq, ack, length       uint32
	ipid                   uint16
	flags, icmpTyp, icmpCd uint8
}

// kinKey is what the segments or the fragments of a packet have in common.
type kinKey struct {
	tuple events.Tuple
	ipid  uint16
	frag  bool
}

// collect reads a source for the first time.
func (m *merger) collect(node int) error {
	return m.sources[node].Each(func(t *events.Traversal) {
		at := -1
		if t.In != nil || t.Out != nil {
			at = len(m.travs)
			m.take(node, t)
		}
		m.byOrd[node] = append(m.byOrd[node], int32(at)) //nolint:gosec // far more than memory holds
	})
}

// take keeps what is needed of a traversal that came or left by a wire.
func (m *merger) take(node int, t *events.Traversal) {
	at := len(m.travs)
	tr := trav{
		id: number(t.ID), flow: number(t.Flow), in: -1, out: -1, node: uint8(node), //nolint:gosec // see maxSources
		reply: t.Direction == "reply", verdict: t.Verdict, next: -1,
	}
	if t.In != nil {
		tr.in = m.addEnd(node, at, t.In, true)
		tr.about = t.In.Header.IsICMPError()
		m.arrivals.note(t.In.Header.Dst, node)
	}
	if t.Out != nil {
		tr.out = m.addEnd(node, at, t.Out, false)
		tr.about = tr.about || t.Out.Header.IsICMPError()
		if v := entered(t); v == events.ViaSocket || v == events.ViaKernel {
			m.arrivals.note(t.Out.Header.Src, node)
		}
	}
	m.travs = append(m.travs, tr)
}

// entered says how a traversal began.
func entered(t *events.Traversal) string {
	if len(t.Visits) == 0 {
		return events.ViaUnknown
	}
	return t.Visits[0].Entered
}

// addEnd keeps one end and returns its index.
func (m *merger) addEnd(node, trav int, w *events.WireEnd, in bool) int {
	h := &w.Header
	carried := h.Carried() // itself, but for a tunnel's
	tcp := carried.Proto == protoTCP
	e := end{
		time: m.sources[node].wall(w.Time), trav: trav, node: uint8(node), in: in, //nolint:gosec // see maxSources
		seq: h.Seq, length: max(h.Length, minLength), hash: w.Hash, ttl: h.TTL,
		strong: tcp || h.IPID != 0 || w.Hash != 0, frag: h.Fragment, v6: carried.Src.Is6(),
		front: h.Length - carried.Length, parts: !tcp && h.GSOSize != 0,
	}
	kin := kinKey{tuple: carried.Tuple}
	if h.Fragment {
		kin.tuple = h.Tuple
		kin.tuple.SrcPort, kin.tuple.DstPort = 0, 0 // the first one's only
		kin.ipid, kin.frag = h.IPID, true
	}
	e.ranged = tcp && !h.Fragment && (e.least() > 0 || (h.TCPFlags&tcpPSH != 0 && e.most() > 0))
	e.kin = maphash.Comparable(m.seed, kin)
	seq := h.Seq
	if carried.Proto == protoUDP {
		seq = 0 // UDP's length and checksum, which the device may complete
	}
	k := wireKey{
		tuple: h.Tuple, inner: h.Inner, seq: seq, ack: h.Ack, length: e.length, ipid: h.IPID,
		flags: h.TCPFlags, icmpTyp: h.ICMPType, icmpCd: h.ICMPCode,
	}
	e.key = maphash.Comparable(m.seed, k)
	if h.Proto == protoTCP && !h.Fragment && (h.IPID != 0 || w.Hash != 0) {
		k.tuple, k.inner = events.Tuple{Proto: h.Proto}, events.Tuple{}
		e.core = maphash.Comparable(m.seed, k)
		e.src = maphash.Comparable(m.seed, netip.AddrPortFrom(h.Src, h.SrcPort))
		e.dst = maphash.Comparable(m.seed, netip.AddrPortFrom(h.Dst, h.DstPort))
	}
	m.ends = append(m.ends, e)
	return len(m.ends) - 1
}

// Lengths of the IP and TCP headers together, without options.
const (
	headers4   = 40
	headers6   = 60
	maxOptions = 80
)

// most is how many bytes of data a TCP segment has at most, by its length.
func (e *end) most() uint32 {
	n := uint32(headers4)
	if e.v6 {
		n = headers6
	}
	return e.length - min(e.front+n, e.length)
}

// least is how many it has at least.
func (e *end) least() uint32 {
	n := e.most()
	return n - min(n, maxOptions)
}

// number reads an ID as the stitcher writes them; 0 if it is another's.
func number(id string) uint64 {
	n, err := strconv.ParseUint(id, 16, 64)
	if err != nil {
		return 0
	}
	return n
}

// badness orders verdicts: what did not arrive says more of a packet's parts
// than what did.
func badness(v events.Verdict) uint8 {
	switch v {
	case events.Terminated:
		return 3
	case events.Incomplete:
		return 2
	case events.InFlight:
		return 1
	}
	return 0
}
