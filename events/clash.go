// SPDX-License-Identifier: Apache-2.0

package events

import "strings"

// A clashKind says why a packet's new conntrack entry could not stand beside
// another one.
type clashKind uint8

const (
	clashNone clashKind = iota
	// clashSame: the same connection was entered for another packet of it
	// meanwhile, with another translation.
	clashSame
	// clashTaken: what the connection was translated to belongs to another one.
	clashTaken
)

// entryAt is the packet's own conntrack entry as it was last seen up to a hop;
// nil: it was not.
func entryAt(hops []hop, at int) *Conntrack {
	for i := at; i >= 0; i-- {
		if ct := hops[i].entry(); ct != nil && ct.Info&CTOther == 0 {
			return ct
		}
	}
	return nil
}

// other is the entry that a packet's new one clashed with at a hop; nil: it is
// not such a hop.
func (h *hop) other() *Conntrack {
	if ct := h.entry(); ct != nil && ct.Info&CTOther != 0 {
		return ct
	}
	return nil
}

// entry is the conntrack entry that a hop tells; nil: none.
func (h *hop) entry() *Conntrack {
	if h.kind() != ExtConntrack {
		return nil
	}
	return &h.p.cts[h.at()]
}

// clashOf compares two entries that clashed.
func clashOf(own, other *Conntrack) clashKind {
	switch {
	case own == nil || other == nil:
		return clashNone
	case own.Original == other.Original:
		return clashSame
	case own.Reply != own.Original.Reverse() && (own.Reply == other.Reply || own.Reply == other.Original):
		return clashTaken
	}
	return clashNone
}

// clash notes what the packet's entry clashed with, and says whether this hop told.
func (ev *evidence) clash(b *builder, hops []hop, at int) bool {
	other := hops[at].other()
	if other == nil || ev.clashed != clashNone {
		return false
	}
	own := entryAt(hops, at)
	ev.clashed = clashOf(own, other)
	switch ev.clashed {
	case clashSame:
		ev.winner = "another packet of " + tupleWords(own.Original, true) + " was entered first, on its way to " + replyEnd(other)
		if own.Reply != other.Reply {
			ev.winner += " (this one: to " + replyEnd(own) + ")"
		}
		if id := b.s.entered.find(other); id != 0 {
			ev.winner += ": " + hexID(id)
		}
	case clashTaken:
		ev.winner = tupleWords(own.Reply.Reverse(), true) + ", the only translation left for it, belongs to the connection of " + tupleWords(other.Original, true)
	}
	return true
}

// replyEnd is where an entry's packets go to: the source of its replies.
func replyEnd(ct *Conntrack) string {
	to := ct.Reply.Reverse()
	words := tupleWords(to, true)
	return words[strings.Index(words, "→")+len("→"):]
}

// maxEntered bounds the connections whose first packet is remembered. A clash is
// between packets of the same moment.
const maxEntered = 1024

// entered remembers which packets made which conntrack entries valid.
type entered struct {
	ring []enteredEntry
	next int
}

type enteredEntry struct {
	original, reply Tuple
	id              uint64 // of the packet's traversal
}

// put takes note of a packet whose entry is about to become valid.
func (r *entered) put(ct *Conntrack, id uint64) {
	e := enteredEntry{ct.Original, ct.Reply, id}
	if len(r.ring) < maxEntered {
		r.ring = append(r.ring, e)
		return
	}
	r.ring[r.next] = e
	r.next = (r.next + 1) % maxEntered
}

// find is the traversal of the packet whose entry this is; 0: not known.
func (r *entered) find(ct *Conntrack) uint64 {
	near := uint64(0)
	for i := range r.ring {
		e := &r.ring[i]
		switch {
		case e.original != ct.Original || e.reply.Src != ct.Reply.Src || e.reply.SrcPort != ct.Reply.SrcPort:
		case e.reply == ct.Reply:
			return e.id
		default:
			// Its source was translated last: the entry was seen before that.
			near = e.id
		}
	}
	return near
}

// noteEntry remembers who made an entry valid.
func (s *Stitcher) noteEntry(p *packet) {
	for i := len(p.steps) - 1; i >= 0; i-- {
		st := &p.steps[i]
		if st.kind() != ExtConntrack || p.cts[st.at()].Info&CTOther != 0 {
			continue
		}
		if ct := &p.cts[st.at()]; ct.Status&CTConfirmed == 0 {
			s.entered.put(ct, s.traversalID(p.id, p.steps[0].time))
		}
		return
	}
}

// evictionNote says that another connection's entry had to go for the packet's.
// Where nothing could go, that ended the packet.
func (b *builder) evictionNote(hops []hop, e *ending) string {
	full := e.reason == reasonTableFull
	for i := len(hops) - 1; i >= 0; i-- {
		h := &hops[i]
		switch {
		case h.station != StationConntrackFull:
		case full:
			full = false
		default:
			return "conntrack evicted an entry without traffic in both directions, to make room for this one: its table in " +
				b.s.netnsName(h.netns) + " is at its limit"
		}
	}
	return ""
}
