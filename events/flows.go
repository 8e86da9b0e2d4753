// SPDX-License-Identifier: Apache-2.0

package events

// ageRing holds keys in the order of their arrival, up to a limit.
type ageRing[K any] struct {
	limit int
	keys  []K
	next  int
}

// add takes a key in. When full it returns the oldest one, which it forgot.
func (r *ageRing[K]) add(key K) (oldest K, full bool) {
	if len(r.keys) < r.limit {
		r.keys = append(r.keys, key)
		return oldest, false
	}
	oldest, r.keys[r.next] = r.keys[r.next], key
	r.next = (r.next + 1) % len(r.keys)
	return oldest, true
}

// tombstones remembers the packets that were given out, so that their late
// events are not taken for new packets, and effects find their cause. The
// oldest one is forgotten for each new one beyond the bound.
type tombstones struct {
	ids map[uint64]uint64 // packet to its traversal's id; 0: it was not given out
	age ageRing[uint64]
}

func (t *tombstones) init(n int) {
	t.ids = make(map[uint64]uint64)
	t.age.limit = n
}

func (t *tombstones) put(packet, id uint64) {
	if _, ok := t.ids[packet]; !ok {
		if old, full := t.age.add(packet); full {
			delete(t.ids, old)
		}
	}
	t.ids[packet] = id
}

func (t *tombstones) has(packet uint64) bool {
	_, ok := t.ids[packet]
	return ok
}

func (t *tombstones) id(packet uint64) uint64 { return t.ids[packet] }

// flow is what is remembered of a connection.
type flow struct {
	matched bool
	replied uint64 // when a socket last sent something in reply, in ns; 0: never
}

// socketKey is a socket by its namespace and the addresses that it uses.
type socketKey struct {
	netns uint32
	tuple Tuple // source: its own end
}

// flowTable remembers flows and the processes at their ends, up to a bound.
type flowTable struct {
	flows   map[uint64]flow
	flowAge ageRing[uint64]
	procs   map[socketKey]Socket
	procAge ageRing[socketKey]
}

func (t *flowTable) init(n int) {
	t.flows = make(map[uint64]flow)
	t.procs = make(map[socketKey]Socket)
	t.flowAge.limit, t.procAge.limit = n, n
}

// see notes that a packet of the flow was seen.
func (t *flowTable) see(id uint64, matched bool) {
	f, ok := t.flows[id]
	if !ok {
		if old, full := t.flowAge.add(id); full {
			delete(t.flows, old)
		}
	}
	if !ok || (matched && !f.matched) {
		f.matched = f.matched || matched
		t.flows[id] = f
	}
}

// replied notes that a socket answered in the flow.
func (t *flowTable) replied(id, time uint64) {
	if f, ok := t.flows[id]; ok && f.replied < time {
		f.replied = time
		t.flows[id] = f
	}
}

func (t *flowTable) matched(id uint64) bool { return id != 0 && t.flows[id].matched }

// repliedSince says whether a socket answered in the flow at time or later.
func (t *flowTable) repliedSince(id, time uint64) bool { return t.flows[id].replied >= time }

func (t *flowTable) setProcess(netns uint32, tuple Tuple, s Socket) {
	k := socketKey{netns, tuple}
	old, ok := t.procs[k]
	if ok && old == s {
		return
	}
	if !ok {
		if old, full := t.procAge.add(k); full {
			delete(t.procs, old)
		}
	}
	t.procs[k] = s
}

func (t *flowTable) process(netns uint32, tuple Tuple) (Socket, bool) {
	s, ok := t.procs[socketKey{netns, tuple}]
	return s, ok
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
