// SPDX-License-Identifier: Apache-2.0

package events

import "time"

// Config says how a Stitcher reads its events. The zero value of each field
// is usable.
type Config struct {
	Hooks []Hook // the hook table of the run that produced the events
	Names Names  // nil: nothing is named
	// Wall turns monotonic nanoseconds into wall time; nil: since 1970.
	Wall func(mono uint64) time.Time
	Node string // name of the machine, where the namespaces do not say it
	// OnlyNode observes one node of a kernel that holds several: its own
	// namespace and those of its pods. A packet that comes back to it later
	// is a traversal of its own, as it would be on a machine of its own.
	OnlyNode string
	// Wires fills Traversal.In, Out and Packets, for joining what several nodes
	// saw of a packet.
	Wires bool
	// HasFunctions says that the kernel's functions were hooked. Without it
	// only devices, namespaces and drops are known, and nothing is claimed
	// about sockets and IP.
	HasFunctions bool
	// Reuse says that whoever is given a Traversal is done with it when he returns: the
	// largest parts of it, itself, its Visits and their Hooks, become those of a later
	// one. Texts, and all other slices, may be kept.
	Reuse bool

	Settle time.Duration // silence after which an ended packet is given out; 0: 100 ms
	Window time.Duration // how long a gap in Seq is waited for; 0: 250 ms
	Idle   time.Duration // silence after which an open packet is in flight; 0: 3 s
	// Hold is how long after a packet's last event its traversal is held back at
	// most, so that those come first that began before it. 0: 300 ms.
	Hold time.Duration

	// MaxPackets bounds the packets kept at once; beyond it the oldest is
	// given out early, as incomplete. 0: 65536.
	MaxPackets int
}

const (
	defaultSettle     = 100 * time.Millisecond
	defaultWindow     = 250 * time.Millisecond
	defaultIdle       = 3 * time.Second
	defaultHold       = 300 * time.Millisecond
	defaultMaxPackets = 65536

	// minPackets keeps room for the packets that one event may name.
	minPackets = 8
	// stepsPerPacket bounds the memory of all open packets together, as
	// MaxPackets times this many steps. A packet meets 20 to 60 hooks.
	stepsPerPacket = 32
	// maxSteps bounds one packet. A routing loop ends by TTL well below it.
	maxSteps = 4096
)

// StitchStats counts what a Stitcher did. All counts are since its creation,
// except Open.
type StitchStats struct {
	Events     uint64 // events added
	Packets    uint64 // socket buffer lives seen
	Traversals uint64 // finished; the sum of the five verdicts below
	Delivered  uint64
	LeftNode   uint64
	Terminated uint64
	InFlight   uint64
	Incomplete uint64
	// Late events came after their packet had been given out. The ordinary
	// one is the freeing of a buffer when a process reads its data.
	Late       uint64
	Duplicates uint64 // events with a Seq already seen
	Overlong   uint64 // events beyond the bound of one packet
	Lost       uint64 // events missing by Seq in what was given out
	Evicted    uint64 // packets given out early, because too many were open
	Discarded  uint64 // packets that turned out not to be selected
	Open       int    // packets kept at this moment
}

// Stitcher joins events into traversals. It is not safe for concurrent use.
type Stitcher struct {
	cfg    Config
	names  Names
	out    func(*Traversal)
	hooks  []Hook // by HookID
	settle uint64 // ns
	window uint64
	idle   uint64
	hold   uint64

	missed     uint64 // ns: see Missed; 0: nothing was lost
	unfollowed uint64 // ns: see Unfollowed
	now        uint64 // ns: the latest time heard of, from events or Advance
	open       map[uint64]*packet
	latest     *packet // of open, the one that had the last event; nil: none
	done       tombstones
	flows      flowTable
	due        dueHeap
	// oldest and newest are the ends of the list of groups by age.
	oldest, newest *group
	steps          int // in all open packets
	freePackets    []*packet
	freeGroups     []*group
	held           []held // finished, by the time of their beginning
	spares         []spare
	links          links
	segments       sentSegments
	translations   translations
	entered        entered
	stats          StitchStats
	away           Event // made by elsewhere
	b              builder
}

// NewStitcher returns a Stitcher that hands each traversal to out, once, from
// within Add, Advance or Flush, in the order in which their packets began as
// far as Config.Hold allows. The traversal belongs to out from then on, but see
// Config.Reuse.
func NewStitcher(c Config, out func(*Traversal)) *Stitcher {
	if c.Settle <= 0 {
		c.Settle = defaultSettle
	}
	if c.Window <= 0 {
		c.Window = defaultWindow
	}
	if c.Idle <= 0 {
		c.Idle = defaultIdle
	}
	if c.Hold <= 0 {
		c.Hold = defaultHold
	}
	if c.MaxPackets <= 0 {
		c.MaxPackets = defaultMaxPackets
	}
	c.MaxPackets = max(c.MaxPackets, minPackets)
	if c.Wall == nil {
		c.Wall = func(mono uint64) time.Time { return time.Unix(0, int64(mono)).UTC() } //nolint:gosec // ns since boot fit
	}
	s := &Stitcher{
		cfg: c, names: c.Names, out: out,
		settle: uint64(c.Settle), window: uint64(max(c.Window, c.Settle)), idle: uint64(max(c.Idle, c.Window)),
		hold: uint64(c.Hold),
		open: make(map[uint64]*packet),
	}
	if s.names == nil {
		s.names = noNames{}
	}
	s.done.init(c.MaxPackets)
	s.flows.init(c.MaxPackets)
	s.links.init()
	s.segments.init()
	s.translations.init(c.MaxPackets)
	for _, h := range c.Hooks {
		for int(h.ID) >= len(s.hooks) {
			s.hooks = append(s.hooks, Hook{})
		}
		s.hooks[h.ID] = h
	}
	s.b.s = s
	return s
}

// Stats returns the counts so far.
func (s *Stitcher) Stats() StitchStats {
	st := s.stats
	st.Open = len(s.open)
	return st
}

// Add takes one event. The event is copied; the caller may reuse it.
func (s *Stitcher) Add(e *Event) {
	s.stats.Events++
	if e.Hook == Elsewhere {
		e = s.elsewhere(e)
	}
	s.now = max(s.now, e.Time)
	p := s.latest // a packet's events come in a row, mostly
	if p == nil || p.id != e.Packet {
		p = s.open[e.Packet]
	}
	if p == nil && s.done.has(e.Packet) {
		s.stats.Late++
		return
	}
	if s.makeRoom(p == nil, e.Other != 0) {
		// Its own packet may have been among the oldest.
		if p != nil && s.open[e.Packet] == nil {
			s.stats.Late++
			return
		}
	}
	if p == nil {
		p = s.newPacket(e.Packet)
	}
	s.latest = p
	st := s.station(e.Hook)
	switch p.add(e, st) {
	case addDuplicate:
		s.stats.Duplicates++
		return
	case addOverlong:
		s.stats.Overlong++
		return
	case addOK:
		s.steps++
	}
	s.note(p, e, st)
	s.link(p, e, st)
	if e.Ext == ExtHeader {
		s.translations.see(p)
	}
	p.group.last = s.now
	if e.Flags&FlagEnd != 0 || deliveryStation[st] {
		s.due.sooner(p.group, s.now+s.settle)
	}
}

// Missed says that events were lost, of whatever packets, and when that was noticed,
// in ns on the events' clock. A gap in Event.Seq shows only what is missing before
// another event of the packet: how one goes on that was last seen before then, and
// has not ended, is not known any more. It must be called before Advance is with a
// later time.
func (s *Stitcher) Missed(until uint64) { s.missed = max(s.missed, until) }

// Unfollowed says, as Missed does of events, that packets which would have been followed
// were not: that none of them was seen until then proves nothing.
func (s *Stitcher) Unfollowed(until uint64) { s.unfollowed = max(s.unfollowed, until) }

// note keeps what the event says of the packet as a whole and of its flow.
func (s *Stitcher) note(p *packet, e *Event, st Station) {
	matched := e.Flags&FlagMatched != 0
	if e.Flow != 0 && (p.flow != e.Flow || (matched && !p.matched)) {
		p.flow = e.Flow
		s.flows.see(e.Flow, matched)
	}
	if matched {
		p.matched = true
		p.group.matched = true
	}
	if e.Flags&FlagReply != 0 {
		p.reply = true
		// Where the kernel left out the sender's hook a packet begins later. A part of another
		// one is no answer of its own.
		begins := st == StationSocketOut || e.Flags&FlagFirst != 0
		if e.Flow != 0 && begins && st != StationClone && st != StationSegment && st != StationFragment {
			s.flows.replied(e.Flow, e.Time)
		}
	}
	if e.Flags&FlagEnd != 0 {
		p.ended = true
	}
	if deliveryStation[st] {
		p.group.delivered = true
	}
	if st == StationConntrackConfirm {
		s.noteEntry(p)
	}
	if socketStation(st) && e.Flags&FlagTask != 0 && e.Socket.PID != 0 {
		s.noteProcess(p, e, st)
	}
}

// noteProcess remembers whose socket it was, under the addresses that the
// socket itself uses, so that an ICMP error about them finds its process.
func (s *Stitcher) noteProcess(p *packet, e *Event, st Station) {
	h := p.told()
	if h == nil {
		return
	}
	t := h.plainTuple
	if st != StationSocketOut && st != StationIPOut {
		t = t.reverse()
	}
	s.flows.setProcess(e.Netns, t, &e.Socket)
}

// link joins the packet with those it came from, was merged into or was
// caused by. The other packet's own events may still be on their way from
// another CPU's ring, so an unknown one gets an empty record to wait in.
func (s *Stitcher) link(p *packet, e *Event, st Station) {
	if e.Other == 0 || e.Other == e.Packet {
		return
	}
	switch {
	case st == StationClone || st == StationSegment || st == StationFragment:
		p.born = st
		p.parent = e.Other
		if o := s.other(e.Other); o != nil && !o.descendsFrom(p) {
			p.up = o
			r := o.rarely()
			r.children = append(r.children, p)
			s.join(o.group, p.group)
		}
	case st == StationMerge:
		p.mergedID = e.Other
		if o := s.other(e.Other); o != nil {
			p.merged = o
			s.join(o.group, p.group)
		}
	case e.Flags&FlagFirst != 0:
		p.cause = e.Other
		if o := s.other(e.Other); o != nil {
			p.midStack = s.netfilterAnswers(o, e.Time)
			if r := o.rarely(); len(r.effects) < maxEffects {
				r.effects = append(r.effects, effect{packet: p.id, id: s.traversalID(p.id, e.Time), time: e.Time})
			}
		}
	}
}

// maxEffects bounds the effects remembered of one packet. Real ones have one
// or two; the rest is still linked from the effect's side.
const maxEffects = 16

// netfilterAnswers says whether p was in the hands of netfilter at a time:
// what answers it then is made by a rule, not by a transport layer.
func (s *Stitcher) netfilterAnswers(p *packet, time uint64) bool {
	for i := p.after(time) - 1; i >= 0; i-- {
		switch st := p.steps[i].station; {
		case st == StationReject, st == StationTable, st == StationNetfilter:
			return true
		case !quietStation[st]:
			return false
		}
	}
	return false
}

// other returns the record of a packet that an event names, made if need be;
// nil if that packet has been given out already.
func (s *Stitcher) other(id uint64) *packet {
	if p := s.open[id]; p != nil {
		return p
	}
	if s.done.has(id) {
		return nil
	}
	return s.newPacket(id)
}

// station returns what a hook stands for.
func (s *Stitcher) station(id HookID) Station {
	if int(id) < len(s.hooks) {
		return s.hooks[id].Station
	}
	return StationNone
}
