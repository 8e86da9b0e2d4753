// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/tracer/pcapbpf"
)

// kernelStruct finds a structure of the committed object.
func kernelStruct(t *testing.T, name string) *btf.Struct {
	t.Helper()
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	var s *btf.Struct
	if err := spec.Types.TypeByName(name, &s); err != nil {
		t.Fatalf("struct %s: %v", name, err)
	}
	return s
}

// member finds the offset of a member such as "headers.tuple.sport", in bytes,
// and its size.
func member(t *testing.T, s *btf.Struct, path ...string) (offset, size int) {
	t.Helper()
	var typ btf.Type = s
	for _, name := range path {
		in, ok := btf.UnderlyingType(typ).(*btf.Struct)
		if !ok {
			t.Fatalf("%s: not within a structure", name)
		}
		found := false
		for _, m := range in.Members {
			if m.Name == name {
				offset, typ, found = offset+int(m.Offset.Bytes()), m.Type, true
			}
		}
		if !found {
			t.Fatalf("struct %s has no %s", in.Name, name)
		}
	}
	size, err := btf.Sizeof(typ)
	if err != nil {
		t.Fatal(err)
	}
	return offset, size
}

func TestSizes(t *testing.T) {
	for name, want := range map[string]int{
		"event": bpf.EventSize, "event_header": bpf.EventHeaderSize, "event_ct": bpf.EventCTSize,
		"hook_args": bpf.ArgsSize, "sel_input": pcapbpf.InputSize, "tuple": 40, "headers": 112,
		"stats": int(unsafe.Sizeof(bpf.Stats{})), "flow": int(unsafe.Sizeof(flowValue{})), "packet": int(unsafe.Sizeof(packetValue{})), "via": int(unsafe.Sizeof(viaKey{})), "target": int(unsafe.Sizeof(targetKey{})),
	} {
		if got := int(kernelStruct(t, name).Size); got != want {
			t.Errorf("struct %s has %d bytes, Go takes it for %d", name, got, want)
		}
	}
}

// The packet's bytes begin where the record's headers end, and the length of
// them stands where the decoder looks for it.
func TestBytesLayout(t *testing.T) {
	s := kernelStruct(t, "event_header")
	if offset, size := member(t, s, "headers", "caplen"); offset != capLenOffset || size != 4 {
		t.Errorf("caplen at %d, %d bytes; Go reads 4 at %d", offset, size, capLenOffset)
	}
}

func TestHookArgsLayout(t *testing.T) {
	s := kernelStruct(t, "hook_args")
	for name, want := range map[string]int{"skb": bpf.ArgSkb, "net": bpf.ArgNet, "sk": bpf.ArgSk, "state": bpf.ArgState,
		"a": bpf.ArgA, "b": bpf.ArgB, "c": bpf.ArgC, "hook": bpf.ArgHook} {
		if got, size := member(t, s, name); got != want || size != 8 {
			t.Errorf("hook_args.%s at %d, %d bytes; want it at %d, 8 bytes", name, got, size, want)
		}
	}
}

// The counters have the order of enum stat.
func TestStatsLayout(t *testing.T) {
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(kernelStruct(t, "stats").Members); n != 2 {
		t.Fatalf("struct stats has %d members", n)
	}
	size, err := btf.Sizeof(spec.Variables["stats"].Type.Type)
	if err != nil || size != bpf.CPUSlots*int(unsafe.Sizeof(bpf.Stats{})) {
		t.Errorf("stats of all CPUs: %d bytes, %v", size, err)
	}
}

func TestMapLayout(t *testing.T) {
	tests := []struct {
		name, member string
		offset       uintptr
	}{
		{"flow", "id", unsafe.Offsetof(flowValue{}.ID)},
		{"flow", "used", unsafe.Offsetof(flowValue{}.Used)},
		{"flow", "reply", unsafe.Offsetof(flowValue{}.Reply)},
		{"flow", "matched", unsafe.Offsetof(flowValue{}.Matched)},
		{"packet", "id", unsafe.Offsetof(packetValue{}.ID)},
		{"packet", "seq", unsafe.Offsetof(packetValue{}.Seq)},
		{"via", "dst", unsafe.Offsetof(viaKey{}.dst)},
		{"via", "port", unsafe.Offsetof(viaKey{}.port)},
		{"via", "proto", unsafe.Offsetof(viaKey{}.proto)},
		{"via", "family", unsafe.Offsetof(viaKey{}.family)},
		{"target", "addr", unsafe.Offsetof(targetKey{}.addr)},
		{"target", "port", unsafe.Offsetof(targetKey{}.port)},
		{"target", "family", unsafe.Offsetof(targetKey{}.family)},
	}
	for _, tt := range tests {
		if got, _ := member(t, kernelStruct(t, tt.name), tt.member); got != int(tt.offset) {
			t.Errorf("%s.%s at %d, in Go at %d", tt.name, tt.member, got, tt.offset)
		}
	}
}

// field is a member of a record, a value for it, and what the decoder must make
// of that.
type field struct {
	path  []string
	value any // uint64 in little endian, or bytes
	got   func(e *events.Event) any
	want  any
}

// write puts a value where the object's BTF says that the member is.
func (f field) write(t *testing.T, s *btf.Struct, raw []byte) {
	t.Helper()
	offset, size := member(t, s, f.path...)
	switch v := f.value.(type) {
	case int:
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(v))
		copy(raw[offset:offset+size], b[:])
	case []byte:
		if len(v) > size {
			t.Fatalf("%v: %d bytes for %d", f.path, len(v), size)
		}
		copy(raw[offset:], v)
	}
}

var (
	fourA = netip.MustParseAddr("192.0.2.1")
	fourB = netip.MustParseAddr("192.0.2.2")
	sixA  = netip.MustParseAddr("2001:db8::1")
	sixB  = netip.MustParseAddr("2001:db8::2")
)

// tupleFields are those of a tuple at path.
func tupleFields(get func(*events.Event) events.Tuple, family int, src, dst netip.Addr, path ...string) []field {
	at := func(name string) []string { return append(append([]string(nil), path...), name) }
	return []field{
		{at("src"), src.AsSlice(), func(e *events.Event) any { return get(e).Src }, src},
		{at("dst"), dst.AsSlice(), func(e *events.Event) any { return get(e).Dst }, dst},
		{at("sport"), []byte{0x12, 0x34}, func(e *events.Event) any { return get(e).SrcPort }, uint16(0x1234)},
		{at("dport"), []byte{0x56, 0x78}, func(e *events.Event) any { return get(e).DstPort }, uint16(0x5678)},
		{at("proto"), 17, func(e *events.Event) any { return get(e).Proto }, uint8(17)},
		{at("family"), family, func(*events.Event) any { return nil }, nil},
	}
}

func eventFields(ext int, path ...string) []field {
	at := func(name string) []string { return append(append([]string(nil), path...), name) }
	return []field{
		{at("time"), 0x1122334455667788, func(e *events.Event) any { return e.Time }, uint64(0x1122334455667788)},
		{at("packet"), 0x0102030405060708, func(e *events.Event) any { return e.Packet }, uint64(0x0102030405060708)},
		{at("flow"), 0x1112131415161718, func(e *events.Event) any { return e.Flow }, uint64(0x1112131415161718)},
		{at("netns"), 0x21222324, func(e *events.Event) any { return e.Netns }, uint32(0x21222324)},
		{at("ifindex"), 0x31323334, func(e *events.Event) any { return e.Ifindex }, uint32(0x31323334)},
		{at("hook"), 1, func(e *events.Event) any { return e.Hook }, events.HookID(1)},
		{at("seq"), 0x4142, func(e *events.Event) any { return e.Seq }, uint16(0x4142)},
		{at("cpu"), 0x51, func(e *events.Event) any { return e.CPU }, uint16(0x51)},
		{at("flags"), 0x15, func(e *events.Event) any { return e.Flags }, events.FlagFirst | events.FlagMatched | events.FlagTask},
		{at("ext"), ext, func(e *events.Event) any { return e.Ext }, events.Ext(ext)},
	}
}

// linkFields are the event's data at a device, byte by byte.
func linkFields() []field {
	data := []byte{2, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x08, 0x00, 0x64, 0x10, 0x44, 0x33, 0x22, 0x11, 64}
	want := events.Link{Dst: [6]byte{2, 1, 1, 1, 1, 1}, Src: [6]byte{2, 2, 2, 2, 2, 2}, Proto: 0x0800, VLAN: 0x1064, Hash: 0x11223344, TTL: 64}
	return append(eventFields(0), field{[]string{"data"}, data, func(e *events.Event) any { return e.Link }, want})
}

func headerFields() []field {
	h := func(name string) []string { return []string{"headers", name} }
	fields := append(eventFields(1, "event"),
		field{[]string{"other"}, 0x6162636465666768, func(e *events.Event) any { return e.Other }, uint64(0x6162636465666768)},
		field{h("len"), 0x71727374, func(e *events.Event) any { return e.Header.Length }, uint32(0x71727374)},
		field{h("seq"), []byte{1, 2, 3, 4}, func(e *events.Event) any { return e.Header.Seq }, uint32(0x01020304)},
		field{h("ack"), []byte{5, 6, 7, 8}, func(e *events.Event) any { return e.Header.Ack }, uint32(0x05060708)},
		field{h("mark"), 0x81828384, func(e *events.Event) any { return e.Header.Mark }, uint32(0x81828384)},
		field{h("ipid"), []byte{9, 10}, func(e *events.Event) any { return e.Header.IPID }, uint16(0x090a)},
		field{h("gso_size"), 1448, func(e *events.Event) any { return e.Header.GSOSize }, uint16(1448)},
		field{h("gso_segs"), 44, func(e *events.Event) any { return e.Header.GSOSegs }, uint16(44)},
		field{h("tcp_flags"), 0x12, func(e *events.Event) any { return e.Header.TCPFlags }, uint8(0x12)},
		field{h("ttl"), 63, func(e *events.Event) any { return e.Header.TTL }, uint8(63)},
		field{h("tos"), 0xb8, func(e *events.Event) any { return e.Header.TOS }, uint8(0xb8)},
		field{h("icmp_type"), 3, func(e *events.Event) any { return e.Header.ICMPType }, uint8(3)},
		field{h("icmp_code"), 13, func(e *events.Event) any { return e.Header.ICMPCode }, uint8(13)},
		field{h("fragment"), 2, func(e *events.Event) any { return e.Header.Fragment }, true},
	)
	fields = append(fields, tupleFields(func(e *events.Event) events.Tuple { return e.Header.Tuple }, 4, fourA, fourB, "headers", "tuple")...)
	return append(fields, tupleFields(func(e *events.Event) events.Tuple { return e.Header.Inner }, 6, sixA, sixB, "headers", "inner")...)
}

func conntrackFields() []field {
	fields := append(eventFields(2, "event"),
		field{[]string{"status"}, 0x91929394, func(e *events.Event) any { return e.CT.Status }, uint32(0x91929394)},
		field{[]string{"zone"}, 0xa1a2, func(e *events.Event) any { return e.CT.Zone }, uint16(0xa1a2)},
		field{[]string{"info"}, 5, func(e *events.Event) any { return e.CT.Info }, uint8(5)},
	)
	fields = append(fields, tupleFields(func(e *events.Event) events.Tuple { return e.CT.Original }, 6, sixA, sixB, "original")...)
	return append(fields, tupleFields(func(e *events.Event) events.Tuple { return e.CT.Reply }, 4, fourB, fourA, "reply")...)
}

// Every member is written where the object has it, and must come out of the
// decoder as what it is: so the decoder's offsets are those of the object.
func TestWireLayout(t *testing.T) {
	tests := []struct {
		record string
		fields []field
	}{
		{"event", eventFields(0)},
		{"event", linkFields()},
		{"event_header", headerFields()},
		{"event_ct", conntrackFields()},
	}
	for _, tt := range tests {
		t.Run(tt.record, func(t *testing.T) {
			s := kernelStruct(t, tt.record)
			raw := make([]byte, s.Size)
			for _, f := range tt.fields {
				f.write(t, s, raw)
			}
			d := &decoder{stations: []events.Station{0, events.StationReceive}}
			var e events.Event
			if err := d.decode(raw, &e); err != nil {
				t.Fatal(err)
			}
			for _, f := range tt.fields {
				if got := f.got(&e); fmt.Sprint(got) != fmt.Sprint(f.want) {
					t.Errorf("%v: %v, want %v", f.path, got, f.want)
				}
			}
		})
	}
}

// TestDeref: the rows that find their skb in a structure of the kernel's know
// where in it.
func TestDeref(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][2]string{
		"ip_fraglist_prepare":  {"ip_fraglist_iter", "frag"},
		"ip6_fraglist_prepare": {"ip6_fraglist_iter", "frag"},
		"nft_do_chain":         {"nft_pktinfo", "skb"},
	} {
		i := slices.IndexFunc(table, func(r row) bool { return r.name == name })
		var s *btf.Struct
		if err := spec.TypeByName(in[0], &s); err != nil {
			t.Fatalf("struct %s: %v", in[0], err)
		}
		if at, _ := member(t, s, in[1]); int(table[i].derefAt) != at {
			t.Errorf("%s: %s is at %d of struct %s, the row says %d", name, in[1], at, in[0], table[i].derefAt)
		}
	}
}
