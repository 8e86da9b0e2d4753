// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// maxBytesPerEvent is what an event may take in a recording, all else included.
const maxBytesPerEvent = 12

// inside looks at what a recording's events carry, and how much room they take.
func (r *recordingsCheck) inside(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	rd, err := record.NewReader(f)
	if err != nil {
		return err
	}
	in := recordCheck{names: rd.Names(), stations: map[events.HookID]events.Station{}, packets: map[uint64][]events.Event{}}
	for _, h := range rd.Hooks() {
		in.stations[h.ID] = h.Station
	}
	if err := rd.Run(&in); err != nil {
		return err
	}
	in.compare()
	r.fact("%d packets: %d links, %d payload hashes, headers %d times", len(in.packets), in.links, in.hashes, in.headers)
	if in.links == 0 || in.hashes == 0 || in.headers == 0 {
		in.fault("it recorded nothing of some kind")
	}
	r.faults = append(r.faults, in.faults...)
	return r.size(f, rd.End())
}

// size compares the size of a recording with its events.
func (r *recordingsCheck) size(f *os.File, end *record.End) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if end == nil {
		return errors.New("the recording has no end")
	}
	per := float64(st.Size()) / float64(end.Events)
	r.fact("%d bytes for %d events: %.1f each", st.Size(), end.Events, per)
	if per > maxBytesPerEvent {
		r.fault("%.1f bytes for an event, want at most %d", per, maxBytesPerEvent)
	}
	return nil
}

// recordCheck looks at what a recording's events carry.
type recordCheck struct {
	names    events.Names
	stations map[events.HookID]events.Station
	packets  map[uint64][]events.Event
	faults   []string

	links, hashes, headers int
}

func (r *recordCheck) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// Event implements record.Sink.
func (r *recordCheck) Event(e *events.Event) {
	if e.Ext == events.ExtHeader {
		r.header(e)
	}
	r.link(e)
	own := *e
	own.Bytes = nil // the reader's
	r.packets[e.Packet] = append(r.packets[e.Packet], own)
}

// Tick implements record.Sink.
func (r *recordCheck) Tick(uint64) {}

// compare compares the events of each packet.
func (r *recordCheck) compare() {
	for _, packet := range r.packets {
		slices.SortFunc(packet, func(x, y events.Event) int { return int(x.Seq) - int(y.Seq) })
		var netns, hash uint32
		for i := range packet {
			e := &packet[i]
			if r.stations[e.Hook] == events.StationReceive && e.Netns != netns && e.Ext != events.ExtHeader {
				r.fault("packet %d came from namespace %d to %d, and its headers were not told again", e.Packet, netns, e.Netns)
			}
			if e.Netns != 0 {
				netns = e.Netns
			}
			if e.Link.Hash == 0 {
				continue
			}
			r.hashes++
			if hash != 0 && e.Link.Hash != hash {
				r.fault("packet %d has the hashes %x and %x", e.Packet, hash, e.Link.Hash)
			}
			hash = e.Link.Hash
		}
	}
}

// link checks what a device saw. The lab's devices are all like Ethernet.
func (r *recordCheck) link(e *events.Event) {
	switch r.stations[e.Hook] {
	case events.StationQueue, events.StationTransmit, events.StationReceive, events.StationTCIngress, events.StationTCEgress:
	default:
		if e.Link != (events.Link{}) {
			r.fault("hook %d is at no device and has a link: %+v", e.Hook, e.Link)
		}
		return
	}
	r.links++
	d, _ := r.names.Device(e.Netns, e.Ifindex)
	if e.Link.Proto != 0x0800 || e.Link.TTL == 0 || e.Link.Src == [6]byte{} && d.Kind != "loopback" {
		r.fault("packet %d at %s, hook %d: %+v", e.Packet, d.Name, e.Hook, e.Link)
	}
}

// header compares the bytes with the header.
func (r *recordCheck) header(e *events.Event) {
	r.headers++
	addrs, err := addresses(e.Bytes)
	if err != nil {
		r.fault("packet %d, hook %d: %v", e.Packet, e.Hook, err)
		return
	}
	if want := [2]netip.Addr{e.Header.Src, e.Header.Dst}; addrs != want {
		r.fault("packet %d, hook %d: bytes from and to %v, headers %v", e.Packet, e.Hook, addrs, want)
	}
}

// addresses reads those of an IPv4 packet with a transport header.
func addresses(b []byte) (addrs [2]netip.Addr, err error) {
	if len(b) < 28 || b[0]>>4 != 4 {
		return addrs, errors.New("no IPv4 and transport headers")
	}
	return [2]netip.Addr{netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))}, nil
}
