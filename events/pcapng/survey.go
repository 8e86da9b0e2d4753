// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// survey is what the first pass learns of a source. It grows with the
// traversals of the source: about 300 bytes for each.
type survey struct {
	shown       []shown
	lives       []life // by packet, then by the time of the traversal
	parents     map[uint64]uint64
	stuck       map[place]bool // queued at a device, and not seen leaving by it
	transmits   bool           // some hook tells that a packet is handed to a driver
	first, last uint64         // ns, monotonic: the first and the last event; 0: there is none
}

// shown is a traversal as packets are to show it.
type shown struct {
	id      uint64
	start   int64 // ns since 1970
	comment string
}

// life says that a packet is, or was for a time, that of a traversal.
type life struct {
	packet    uint64
	traversal int32 // index into shown
}

// place is an event of a packet.
type place struct {
	packet uint64
	seq    uint16
}

// queued is a packet in a device's queue.
type queued struct {
	seq            uint16
	netns, ifindex uint32
}

func newSurvey() *survey {
	return &survey{parents: map[uint64]uint64{}, stuck: map[place]bool{}}
}

// traversal takes in a traversal that is to be shown, with what packets it was here.
func (v *survey) traversal(t *events.Traversal, packets []uint64) {
	id, err := strconv.ParseUint(t.ID, 16, 64)
	if err != nil {
		id = 0
	}
	for _, p := range packets {
		v.lives = append(v.lives, life{p, int32(len(v.shown))}) //nolint:gosec // memory ends before
	}
	v.shown = append(v.shown, shown{id, t.Time.UnixNano(), comment(t)})
}

// comment says in one line what became of a packet.
func comment(t *events.Traversal) string {
	var b strings.Builder
	b.WriteString("stackhop traversal " + events.Safe(t.ID) + " · " + events.SafeSentence(t.Summary))
	for i := range t.NAT {
		b.WriteString(" · " + t.NAT[i].String())
	}
	return b.String()
}

// learn goes through a source's events.
func (v *survey) learn(s *Source, st *events.Stitcher) {
	v.transmits = slices.ContainsFunc(s.Config.Hooks, func(h events.Hook) bool { return h.Station == events.StationTransmit })
	waiting := map[uint64]queued{}
	var err error // the second pass meets it again
	for x := range s.sights(st, &err) {
		if v.first == 0 {
			v.first = x.time
		}
		v.last = max(v.last, x.time)
		if x.parent != 0 {
			v.parents[x.packet] = x.parent
		}
		if !atDevice(x) {
			continue
		}
		switch x.station {
		case events.StationQueue:
			if !v.transmits {
				break // queuing is all there is to see
			}
			if old, ok := waiting[x.packet]; ok {
				v.stuck[place{x.packet, old.seq}] = true
			}
			waiting[x.packet] = queued{x.seq, x.netns, x.ifindex}
		case events.StationTransmit:
			v.transmitted(x, waiting)
		}
	}
	for packet, q := range waiting {
		v.stuck[place{packet, q.seq}] = true
	}
	v.settle()
}

// transmitted takes a packet, or the one that it is a part of, out of the queue.
func (v *survey) transmitted(x *sight, waiting map[uint64]queued) {
	for _, packet := range []uint64{x.packet, v.parents[x.packet]} {
		if q, ok := waiting[packet]; ok && q.netns == x.netns && q.ifindex == x.ifindex {
			delete(waiting, packet)
		}
	}
}

func hasEthernet(l *events.Link) bool {
	return l.Proto != 0 || l.Dst != [6]byte{} || l.Src != [6]byte{}
}

// settle makes the survey ready for find.
func (v *survey) settle() {
	slices.SortFunc(v.lives, func(a, b life) int {
		return cmp.Or(cmp.Compare(a.packet, b.packet), cmp.Compare(v.shown[a.traversal].start, v.shown[b.traversal].start),
			cmp.Compare(a.traversal, b.traversal))
	})
}

// maxAncestors bounds how far copies of copies are followed.
const maxAncestors = 64

// find returns the traversal that a packet belongs to at a time, in ns since
// 1970; nil: none. A copy that is not on the way of a traversal of its own
// belongs to that of what it was copied from.
func (v *survey) find(packet uint64, ns int64) (t *shown, copied bool) {
	for range maxAncestors {
		at, ok := slices.BinarySearchFunc(v.lives, packet, func(l life, p uint64) int { return cmp.Compare(l.packet, p) })
		if ok {
			for at+1 < len(v.lives) && v.lives[at+1].packet == packet && v.shown[v.lives[at+1].traversal].start <= ns {
				at++
			}
			return &v.shown[v.lives[at].traversal], copied
		}
		if packet = v.parents[packet]; packet == 0 {
			break
		}
		copied = true
	}
	return nil, false
}

// useful says whether an event is shown as a packet at its device. One that
// went through the device's queue is shown where it left it.
func (v *survey) useful(x *sight) bool {
	return atDevice(x) && (x.station != events.StationQueue || !v.transmits || v.stuck[place{x.packet, x.seq}])
}
