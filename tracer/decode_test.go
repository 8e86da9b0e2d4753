// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/internal/cpubound"
)

// every is a decoder that knows one hook for each station, by its number.
func every() *decoder {
	d := &decoder{}
	for s := range int(events.StationEnd) + 1 {
		d.stations = append(d.stations, events.Station(s))
	}
	return d
}

// record makes a record of a hook with an extension and data.
func record(hook events.Station, ext uint8, size int, data ...byte) []byte {
	raw := make([]byte, size)
	if size >= bpf.EventSize {
		binary.LittleEndian.PutUint16(raw[32:], uint16(hook))
		raw[39] = ext
		copy(raw[40:64], data)
	}
	return raw
}

func TestDecodeRefuses(t *testing.T) {
	sizes := map[uint8]int{0: bpf.EventSize, 1: bpf.EventHeaderSize, 2: bpf.EventCTSize}
	for ext, want := range sizes {
		for size := range bpf.EventHeaderSize + 16 {
			var e events.Event
			err := every().decode(record(events.StationReceive, ext, size), &e)
			if (err == nil) != (size >= want) {
				t.Errorf("%d bytes with extension %d: error %v", size, ext, err)
			}
			if err != nil && !errors.Is(err, errDecode) {
				t.Errorf("%v is not errDecode", err)
			}
		}
	}
	tests := []struct {
		name string
		raw  []byte
	}{
		{"nothing", nil},
		{"unknown extension", record(events.StationReceive, 3, 256)},
		{"largest extension", record(events.StationReceive, 255, 256)},
		{"hook 0", record(0, 0, bpf.EventSize)},
		{"hook beyond the table", record(events.StationEnd+1, 0, bpf.EventSize)},
		{"largest hook", bytes.Repeat([]byte{255}, 256)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := events.Event{Time: 1}
			if err := every().decode(tt.raw, &e); !errors.Is(err, errDecode) {
				t.Errorf("error %v", err)
			}
			if !reflect.DeepEqual(e, events.Event{Time: 1}) {
				t.Error("the event was changed all the same")
			}
		})
	}
}

func TestDecodeData(t *testing.T) {
	comm := [16]byte{'c', 'u', 'r', 'l'}
	socket := append([]byte{0x11, 0x22, 0, 0, 0x33, 0x44, 0, 0}, comm[:]...)
	wantSocket := events.Socket{Inode: 0x2211, PID: 0x4433, Comm: comm}
	link := [24]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x86, 0xdd, 0x2a, 0x10, 0xef, 0xbe, 0xad, 0xde, 63}
	wantLink := events.Link{Dst: [6]byte{2, 0, 0, 0, 0, 1}, Src: [6]byte{2, 0, 0, 0, 0, 9}, Proto: 0x86dd, VLAN: 0x102a, Hash: 0xdeadbeef, TTL: 63}
	tests := []struct {
		station events.Station
		data    []byte
		want    events.Event
	}{
		{events.StationSocketOut, socket, events.Event{Socket: wantSocket}},
		{events.StationSocketIn, socket, events.Event{Socket: wantSocket}},
		{events.StationIPOut, socket, events.Event{Socket: wantSocket}},
		{events.StationRawIn, socket, events.Event{Socket: wantSocket}},
		{events.StationNetfilter, []byte{2, 3}, events.Event{NFFamily: 2, NFHook: 3}},
		{events.StationTable, []byte{10, 1}, events.Event{NFFamily: 10, NFHook: 1}},
		{events.StationTable, []byte{10, 1, 1, 0, 0, 0x40, 0, 0x80}, events.Event{NFFamily: 10, NFHook: 1, NFMark: events.MarkTold | 0x80004000}},
		{events.StationVerdict, []byte{0xff, 0xff, 0xff, 0xff}, events.Event{Ret: -1}},
		{events.StationICMPSend, []byte{3, 1}, events.Event{ICMPType: 3, ICMPCode: 1}},
		{events.StationDrop, []byte{7, 0, 1, 0, 0, 0, 0, 0, 0xf0, 0, 0, 0x81, 0xff, 0xff, 0xff, 0xff},
			events.Event{Reason: 0x10007, Location: 0xffffffff810000f0}},
		{events.StationMerge, []byte{5, 0, 0, 0, 0, 0, 0, 1}, events.Event{Other: 0x0100000000000005}},
		{events.StationIPVSConn, []byte{10, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0x1f, 0x90, 2, 0},
			events.Event{Backend: netip.MustParseAddrPort("10.0.0.1:8080")}},
		{events.StationIPVSConn, append(sixA.AsSlice(), 0, 80, 10, 0),
			events.Event{Backend: netip.AddrPortFrom(sixA, 80)}},
		{events.StationQueue, link[:], events.Event{Link: wantLink}},
		{events.StationTransmit, link[:], events.Event{Link: wantLink}},
		{events.StationReceive, link[:], events.Event{Link: wantLink}},
		{events.StationTCEgress, link[:], events.Event{Link: wantLink}},
		{events.StationTCIngress, link[:], events.Event{Link: wantLink}},
		{events.StationForward, bytes.Repeat([]byte{0xff}, 24), events.Event{}}, // has no data
	}
	for _, tt := range tests {
		t.Run(tt.station.String(), func(t *testing.T) {
			e := events.Event{Ret: 99, Reason: 99, Socket: events.Socket{PID: 99}} // of the event before
			if err := every().decode(record(tt.station, 0, bpf.EventSize, tt.data...), &e); err != nil {
				t.Fatal(err)
			}
			tt.want.Hook = events.HookID(tt.station)
			if !reflect.DeepEqual(e, tt.want) {
				t.Errorf("%+v\nwant %+v", e, tt.want)
			}
		})
	}
}

// withBytes makes a record with headers, a packet's bytes and room behind them.
func withBytes(kept uint32, packet []byte, room int) []byte {
	raw := record(events.StationReceive, 1, bpf.EventHeaderSize+len(packet)+room)
	binary.LittleEndian.PutUint32(raw[capLenOffset:], kept)
	copy(raw[bpf.EventHeaderSize:], packet)
	return raw
}

func TestDecodeBytes(t *testing.T) {
	packet := []byte("E packet")
	tests := []struct {
		name string
		raw  []byte
		want []byte
	}{
		{"none", withBytes(0, nil, 128), nil},
		{"all of it", withBytes(8, packet, 0), packet},
		{"less than there is room", withBytes(8, packet, 120), packet},
		{"a part", withBytes(3, packet, 120), packet[:3]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := events.Event{Bytes: []byte("of the event before")}
			if err := every().decode(tt.raw, &e); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(e.Bytes, tt.want) || cap(e.Bytes) != len(tt.want) {
				t.Errorf("%q of capacity %d, want %q", e.Bytes, cap(e.Bytes), tt.want)
			}
		})
	}
	for _, kept := range []uint32{9, 1 << 16, 1<<32 - 1} {
		e := events.Event{Time: 1}
		if err := every().decode(withBytes(kept, packet, 0), &e); !errors.Is(err, errDecode) || !reflect.DeepEqual(e, events.Event{Time: 1}) {
			t.Errorf("%d bytes said, 8 there: %v, %+v", kept, err, e)
		}
	}
}

// A record longer than it must be is a newer kernel side's; what is known of it
// is read.
func TestDecodeNothingKept(t *testing.T) {
	raw := record(events.StationReceive, 1, bpf.EventHeaderSize)
	var e events.Event
	if err := every().decode(raw, &e); err != nil {
		t.Fatal(err)
	}
	before := e
	for i := range raw {
		raw[i] = 0xff
	}
	if !reflect.DeepEqual(e, before) {
		t.Error("the event changes with the record that it was read from")
	}
	if e.Header.Src.IsValid() || e.Header.HasInner {
		t.Errorf("a header without family gave %+v", e.Header)
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	d := every()
	var e events.Event
	for _, raw := range [][]byte{
		record(events.StationSocketOut, 0, bpf.EventSize, 1, 2, 3),
		record(events.StationIPVSConn, 0, bpf.EventSize, 1, 2, 3),
		record(events.StationReceive, 1, bpf.EventHeaderSize),
		record(events.StationReceive, 2, bpf.EventCTSize),
		withBytes(4, []byte("kept"), 4),
	} {
		raw[64-1] = 0
		if n := testing.AllocsPerRun(100, func() { _ = d.decode(raw, &e) }); n != 0 {
			t.Errorf("extension %d: %v allocations", raw[39], n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for ext, size := range []int{bpf.EventSize, bpf.EventHeaderSize, bpf.EventCTSize} {
		f.Add(record(events.StationIPVSConn, uint8(ext), size, 1, 2, 3))
		f.Add(record(events.StationDrop, uint8(ext), size-1))
	}
	f.Add(withBytes(4, []byte("kept"), 4))
	f.Add(withBytes(9, []byte("kept"), 4))
	d := every()
	f.Fuzz(func(t *testing.T, raw []byte) {
		defer cpubound.Run(t)()
		var e events.Event
		err := d.decode(raw, &e)
		if err != nil {
			if !errors.Is(err, errDecode) || !reflect.DeepEqual(e, events.Event{}) {
				t.Errorf("%v, %+v", err, e)
			}
			return
		}
		if e.Hook == 0 || int(e.Hook) >= len(d.stations) || e.Ext > events.ExtConntrack {
			t.Errorf("hook %d, extension %d were let through", e.Hook, e.Ext)
		}
		if len(e.Bytes) > max(0, len(raw)-bpf.EventHeaderSize) || e.Bytes != nil && e.Ext != events.ExtHeader {
			t.Errorf("extension %d with %d bytes of a packet, from a record of %d", e.Ext, len(e.Bytes), len(raw))
		}
		if n := testing.AllocsPerRun(1, func() { _ = d.decode(raw, &e) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	d := every()
	raw := record(events.StationReceive, 0, bpf.EventSize)
	var e events.Event
	b.ReportAllocs()
	for b.Loop() {
		if err := d.decode(raw, &e); err != nil {
			b.Fatal(err)
		}
	}
}
