// SPDX-License-Identifier: Apache-2.0

package events

// tombstones remembers the packets that were given out, so that their late
// events are not taken for new packets, and effects find their cause.
type tombstones struct {
	recent[uint64, uint64] // packet to its traversal's id; 0: it was not given out
}

func (t *tombstones) put(packet, id uint64) {
	of, _ := t.recent.put(packet)
	*of = id
}

func (t *tombstones) has(packet uint64) bool { return t.get(packet) != nil }

func (t *tombstones) id(packet uint64) uint64 {
	if id := t.get(packet); id != nil {
		return *id
	}
	return 0
}

// flow is what is remembered of a connection.
type flow struct {
	matched bool
	replied uint64 // when a reply was last seen to begin, in ns; 0: never
}

// socketKey is a socket by its namespace and the addresses that it uses.
type socketKey struct {
	netns uint32
	tuple plainTuple // source: its own end
}

// flowTable remembers flows and the processes at their ends, up to a bound.
type flowTable struct {
	flows recent[uint64, flow]
	procs recent[socketKey, Socket]
	// last is what setProcess was told last: a packet's events say the same.
	last struct {
		at socketKey
		of Socket
	}
}

func (t *flowTable) init(n int) {
	t.flows.init(n)
	t.procs.init(n)
}

// see notes that a packet of the flow was seen.
func (t *flowTable) see(id uint64, matched bool) {
	f, _ := t.flows.put(id)
	f.matched = f.matched || matched
}

// replied notes that a packet in reply began in the flow.
func (t *flowTable) replied(id, time uint64) {
	if f := t.flows.get(id); f != nil {
		f.replied = max(f.replied, time)
	}
}

func (t *flowTable) matched(id uint64) bool {
	if id == 0 {
		return false
	}
	f := t.flows.get(id)
	return f != nil && f.matched
}

// repliedSince says whether a socket answered in the flow at time or later.
func (t *flowTable) repliedSince(id, time uint64) bool {
	var replied uint64
	if f := t.flows.get(id); f != nil {
		replied = f.replied
	}
	return replied >= time
}

func (t *flowTable) setProcess(netns uint32, tuple plainTuple, s *Socket) {
	at := socketKey{netns, tuple}
	if t.last.at == at && t.last.of == *s {
		return
	}
	t.last.at, t.last.of = at, *s
	of, known := t.procs.put(at)
	if !known || *of != *s {
		*of = *s
	}
}

func (t *flowTable) process(netns uint32, tuple plainTuple) (Socket, bool) {
	if s := t.procs.get(socketKey{netns, tuple}); s != nil {
		return *s, true
	}
	return Socket{}, false
}

// mix spreads the bits of a number (the finaliser of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// traversalID names the traversal of a packet by its number and the time of
// its first event, so that causes and effects can name each other before
// either is given out, and runs do not repeat each other's names.
func (s *Stitcher) traversalID(packet, first uint64) uint64 {
	node := s.cfg.Node
	if s.cfg.OnlyNode != "" {
		node = s.cfg.OnlyNode // other nodes of this kernel have the same packets
	}
	id := mix(mix(packet) ^ first ^ hashString(node))
	return max(id, 1) // 0 means none
}

// hashString is 64-bit FNV-1a.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// flowID names the flow of a packet that the kernel side gave none: by its
// addresses, the same in both directions.
func flowID(h *Header) uint64 {
	t := h.Tuple
	if h.HasInner {
		t = h.Inner
	}
	if t.Dst.Less(t.Src) || (t.Dst == t.Src && t.DstPort < t.SrcPort) {
		t = t.Reverse()
	}
	x := uint64(t.Proto)<<32 | uint64(t.SrcPort)<<16 | uint64(t.DstPort)
	return mix(hashString(t.Src.String()) ^ mix(hashString(t.Dst.String())^mix(x)))
}
