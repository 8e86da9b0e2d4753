// SPDX-License-Identifier: Apache-2.0

package redact

import "github.com/stackhop/stackhop/events"

// Event replaces what is in an event, in place. It allocates nothing once what
// occurs has been seen. The Bytes of the event are then the Redactor's, and valid
// until the next call. Parts that the event does not carry (see events.Ext) are
// cleared: a reader that fills one event again and again may have left something
// there.
func (r *Redactor) Event(e *events.Event) {
	e.Packet, e.Other, e.Flow = r.PacketID(e.Packet), r.PacketID(e.Other), r.PacketID(e.Flow)
	e.Netns = r.Netns(e.Netns)
	e.Location = r.Location(e.Location)
	if e.Backend.IsValid() {
		e.Backend = r.AddrPort(e.Backend)
	}
	if e.Socket != (events.Socket{}) {
		s := &e.Socket
		s.Inode, s.PID, s.Comm = r.Inode(s.Inode), r.PID(s.PID), r.comm(s.Comm)
	}
	if e.Ext == events.ExtHeader {
		r.Header(&e.Header)
		e.Bytes = r.Packet(e.Bytes)
	} else {
		e.Header, e.Bytes = events.Header{}, nil
	}
	if e.Ext == events.ExtConntrack {
		e.CT.Original, e.CT.Reply = r.Tuple(e.CT.Original), r.Tuple(e.CT.Reply)
	} else {
		e.CT = events.Conntrack{}
	}
	if l := &e.Link; *l != (events.Link{}) {
		l.Dst, l.Src, l.Hash = r.MAC(l.Dst), r.MAC(l.Src), r.Hash(l.Hash)
	}
}

// Header replaces what is in a packet's headers, in place.
func (r *Redactor) Header(h *events.Header) {
	h.Tuple = r.Tuple(h.Tuple)
	if h.HasInner {
		h.Inner = r.Tuple(h.Inner)
	} else {
		h.Inner = events.Tuple{}
	}
}
