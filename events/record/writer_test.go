// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackhop/stackhop/events"
)

// TestEverything: all that an event and a recording can hold comes back.
func TestEverything(t *testing.T) {
	addr := netip.MustParseAddr
	v6 := events.Tuple{Src: addr("fd00::1"), Dst: addr("::ffff:1.2.3.4"), SrcPort: 1, DstPort: 65535, Proto: 17}
	full := events.Header{
		Tuple: v6, Length: 1<<32 - 1, TCPFlags: 255, TTL: 1, TOS: 2, ICMPType: 3, ICMPCode: 4, Fragment: true, IPID: 65535,
		Seq: 1<<32 - 1, Ack: 1 << 31, Mark: 7, GSOSize: 1448, GSOSegs: 45, Inner: v6.Reverse(), HasInner: true,
	}
	link := events.Link{Dst: [6]byte{1, 2, 3, 4, 5, 6}, Src: [6]byte{9}, Proto: 0x86dd, VLAN: 0x1fff, TTL: 255, Hash: 1<<32 - 1}
	evs := []events.Event{
		{Packet: 9, Seq: 3},
		{
			Time: 1<<64 - 1, Packet: 1<<64 - 1, Flow: 1 << 63, Hook: 1, Seq: 65535, CPU: 65535, Flags: 255, Netns: 1<<32 - 1, Ifindex: 1<<32 - 1,
			Other: 3, NFFamily: 255, NFHook: 254, Reason: 1<<32 - 1, Location: 1<<64 - 1, Ret: -1 << 31, ICMPType: 253, ICMPCode: 252,
			Backend: netip.AddrPortFrom(addr("::ffff:1.2.3.4"), 65535),
			Socket:  events.Socket{Inode: 1<<32 - 1, PID: 1<<32 - 1, Comm: [16]byte{0, 1, 0xff, 15: 1}},
			Ext:     events.ExtHeader, Header: full, Link: link, Bytes: bytes.Repeat([]byte("payload "), 200),
		},
		{Time: 5, Packet: 9, Hook: 2, Ext: events.ExtHeader, Link: events.Link{Hash: 5}},
		{Time: 4, Packet: 9, Hook: 2, Seq: 1, Ext: events.ExtHeader, Header: full, Bytes: []byte{1}},
		{Time: 3, Packet: 9, Hook: 2, Seq: 2, Ext: events.ExtHeader, Header: full, Bytes: []byte{1, 2}, Link: link},
		{Packet: 9, Seq: 7},
		{Time: 1 << 40, Packet: 1<<64 - 1, Hook: 2, Seq: 0, Ext: events.ExtConntrack, CT: events.Conntrack{Original: v6, Info: 7, Status: 1<<32 - 1, Zone: 65535}},
		{Time: 1 << 40, Packet: 1<<64 - 1, Hook: 2, Seq: 1, Flags: events.FlagReply, Ext: events.ExtHeader, Bytes: bytes.Repeat([]byte{7}, MaxBytes)},
		{Time: 1 << 40, Packet: 2, Hook: 2},
	}
	m := &Meta{
		Tool: "v1", Kernel: "6.12", Arch: "arm64", Node: "n1\x1b", OnlyNode: "n1", BootID: "b", RunID: "r", Part: 3, Args: []string{"record", "<script>"},
		Filter: "tcp", HasFunctions: true, SnapLen: 96, Redacted: true, Clock: ClockPair{1, -2},
		Hooks: []Hook{{1, "f", "ip-in", "fentry", ""}, {2, "g", "drop", HowAbsent, "no such function"}, {MaxHookID, "h", "of a later version", "", ""}},
	}
	facts := &Facts{
		Services: []Service{{Netns: 1, Proto: 6, Addr: netip.MustParseAddrPort("8.8.8.8:80"), Scheduler: "rr", Destinations: []Destination{
			{Addr: netip.MustParseAddrPort("[fd00::2]:80"), Weight: 1, Forward: "masquerade"}}}},
		Sysctls:   []Sysctl{{1, "net.ipv4.ip_forward", "1"}},
		Conntrack: []CTEntry{{Netns: 2, Original: Tuple{Proto: 6, Src: netip.MustParseAddrPort("1.2.3.4:5")}, Status: 8, State: "ESTABLISHED"}},
	}
	status := &Status{Clock: ClockPair{5, 6}, Since: 1, Lost: map[string]uint64{"ring": 3}, Matched: 9, Delivered: 6, Packets: 2}
	end := &End{Lost: map[string]uint64{"ring": 3}, Reason: "interrupted"}

	var buf bytes.Buffer
	w, err := NewWriter(&buf, m)
	if err != nil {
		t.Fatal(err)
	}
	for i := range evs {
		w.Event(&evs[i])
	}
	w.Tick(1<<64 - 1)
	w.Tick(0)
	if err := errors.Join(w.Facts(facts), w.Status(status), w.Facts(facts), w.Close(end)); err != nil {
		t.Fatal(err)
	}
	k := &keeper{}
	r := replay(t, buf.Bytes(), k)
	if !reflect.DeepEqual(r.Meta(), m) {
		t.Errorf("%+v, not %+v", r.Meta(), m)
	}
	for i := range evs {
		if !reflect.DeepEqual(k.events[i], evs[i]) {
			t.Errorf("event %d: %+v, not %+v", i, k.events[i], evs[i])
		}
	}
	end.Events, end.Ticks = uint64(len(evs)), 2
	if !reflect.DeepEqual(k.ticks, []uint64{1<<64 - 1, 0}) || !reflect.DeepEqual(r.End(), end) {
		t.Errorf("ticks %v, totals %+v", k.ticks, r.End())
	}
	if !reflect.DeepEqual(k.status, []Status{*status}) || !reflect.DeepEqual(k.facts, []Facts{*facts, *facts}) || len(r.Facts().Services) != 2 {
		t.Errorf("%+v, %+v", k.status, k.facts)
	}
	if got := r.Wall(2).UnixNano(); got != -1 {
		t.Errorf("wall time %d", got)
	}
}

type keeper struct {
	collector
	status []Status
	facts  []Facts
}

func (k *keeper) Status(s *Status) { k.status = append(k.status, *s) }
func (k *keeper) Facts(f *Facts)   { k.facts = append(k.facts, *f) }

// TestWholeBlocks: each write is of whole blocks, and a flush leaves nothing.
func TestWholeBlocks(t *testing.T) {
	w := mixed(t, "6.12-*.jsonl", 20, 20, time.Second)
	chunks := &chunkWriter{}
	wr, err := NewWriter(chunks, w.meta)
	if err != nil {
		t.Fatal(err)
	}
	wr.Names(w.names)
	for i := range w.events {
		wr.Event(&w.events[i])
		if i%20_000 != 0 {
			continue
		}
		if err := wr.Flush(); err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(bytes.NewReader(chunks.all))
		if err != nil {
			t.Fatal(err)
		}
		n := &counter{}
		if err := r.Run(n); err != nil || n.events != i+1 || r.End() != nil {
			t.Fatalf("after %d events %d are there, %v", i+1, n.events, err)
		}
		if evs, size := wr.Written(); evs != uint64(i+1) || size != int64(len(chunks.all)) {
			t.Errorf("it says that %d events, %d bytes are written", evs, size)
		}
	}
	ends := map[int]bool{}
	for _, b := range blocks(t, chunks.all) {
		ends[b.at+b.size] = true
	}
	for _, e := range chunks.ends {
		if !ends[e] {
			t.Errorf("a write ends at %d, within a block", e)
		}
	}
}

type chunkWriter struct {
	all  []byte
	ends []int
}

func (c *chunkWriter) Write(b []byte) (int, error) {
	c.all = append(c.all, b...)
	c.ends = append(c.ends, len(c.all))
	return len(b), nil
}

// TestNext: a run's parts are recordings of their own, each with its names.
func TestNext(t *testing.T) {
	c := readCapture(t, captures+"/6.12-case4.jsonl")
	m := metaOf(c)
	var parts [3]bytes.Buffer
	w, err := NewWriter(&parts[0], m)
	if err != nil {
		t.Fatal(err)
	}
	rec := w.Names(c.Names)
	for i := range parts {
		if i > 0 {
			m.Part = i
			if err := w.Next(&parts[i], m); err != nil {
				t.Fatal(err)
			}
		}
		live := newStitched(t, m, c.Hooks, rec)
		for j := range c.Events {
			live.Add(&c.Events[j])
			w.Event(&c.Events[j])
		}
		live.Stitcher.Flush()
		if err := w.Close(&End{}); err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(&parts[i])
		if err != nil {
			t.Fatal(err)
		}
		s := newStitched(t, m, r.Hooks(), r.Names())
		if err := r.Run(s); err != nil || r.Meta().Part != i || r.End().Events != uint64(len(c.Events)) {
			t.Fatalf("%v, %+v", err, r.End())
		}
		s.Stitcher.Flush()
		if !bytes.Equal(s.Bytes(), live.Bytes()) {
			t.Errorf("part %d is replayed otherwise", i)
		}
	}
}

// failing fails after some bytes.
type failing struct{ left int }

var errFull = errors.New("no space left on device")

func (f *failing) Write(b []byte) (int, error) {
	n := min(len(b), f.left)
	f.left -= n
	if n < len(b) {
		return n, errFull
	}
	return n, nil
}

// TestWriteFails: an error is told each time, and nothing more is written.
func TestWriteFails(t *testing.T) {
	c := readCapture(t, captures+"/6.12-case4.jsonl")
	if _, err := NewWriter(&failing{}, metaOf(c)); !errors.Is(err, errFull) {
		t.Errorf("at the beginning: %v", err)
	}
	to := &failing{left: 1 << 20}
	w, err := NewWriter(to, metaOf(c))
	if err != nil {
		t.Fatal(err)
	}
	to.left = 100
	for i := range c.Events {
		w.Event(&c.Events[i])
	}
	if err := w.Flush(); !errors.Is(err, errFull) {
		t.Error(err)
	}
	to.left = 1 << 20
	w.Event(&c.Events[0])
	w.Tick(1)
	w.Name(&Name{Forget: true})
	for i, err := range []error{w.Flush(), w.Facts(&Facts{}), w.Status(&Status{}), w.Close(&End{}), w.Err()} {
		if !errors.Is(err, errFull) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if to.left != 1<<20 {
		t.Error("it was written after an error")
	}
}

// TestClosed: nothing is added to a recording that is closed.
func TestClosed(t *testing.T) {
	w, err := NewWriter(io.Discard, &Meta{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	if w.Flush() == nil || w.Facts(&Facts{}) == nil || w.Close(&End{}) == nil {
		t.Error("no error")
	}
}

func TestRefused(t *testing.T) {
	for name, m := range map[string]*Meta{
		"hook 0":     {Hooks: []Hook{{ID: 0, Name: "f"}}},
		"hook 60000": {Hooks: []Hook{{ID: 60000, Name: "f"}}},
		"too long":   {Filter: strings.Repeat("x", maxJSON)},
	} {
		if _, err := NewWriter(io.Discard, m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	w, err := NewWriter(io.Discard, &Meta{})
	if err != nil {
		t.Fatal(err)
	}
	// One fact that nobody could read back is no reason to end a recording.
	if err := w.Facts(&Facts{Sysctls: []Sysctl{{Value: strings.Repeat("x", maxLine)}}}); err != nil {
		t.Errorf("a fact that is too long: %v", err)
	}
	if w.Status(&Status{Lost: map[string]uint64{strings.Repeat("x", maxJSON): 1}}) == nil {
		t.Error("a status that is too long: no error")
	}
}

// TestManyFacts: facts are told in several blocks.
func TestManyFacts(t *testing.T) {
	f := &Facts{}
	for i := range uint32(20_000) {
		f.Conntrack = append(f.Conntrack, CTEntry{Netns: i, State: "ESTABLISHED"})
	}
	var buf bytes.Buffer
	w, err := NewWriter(&buf, &Meta{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Facts(f), w.Close(&End{})); err != nil {
		t.Fatal(err)
	}
	if r := replay(t, buf.Bytes(), &counter{}); !reflect.DeepEqual(r.Facts(), f) {
		t.Errorf("%d of %d are there", len(r.Facts().Conntrack), len(f.Conntrack))
	}
}

// TestWriteAllocates: in the steady state an event costs no allocation.
func TestWriteAllocates(t *testing.T) {
	w := mixed(t, "6.12-*.jsonl", 8, 20, time.Second)
	wr, err := NewWriter(io.Discard, w.meta)
	if err != nil {
		t.Fatal(err)
	}
	rec := wr.Names(w.names)
	i := 0
	add := func() {
		e := &w.events[i]
		rec.Namespace(e.Netns)
		rec.Device(e.Netns, e.Ifindex)
		rec.Process(e.Socket.Inode)
		rec.Symbol(e.Location)
		wr.Event(e)
		i = (i + 1) % len(w.events)
	}
	for range 2 * len(w.events) {
		add()
	}
	if n := testing.AllocsPerRun(2*maxItems, add); n != 0 {
		t.Errorf("%v allocations per event", n)
	}
}

// TestPipe: a recording is read as it comes.
func TestPipe(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 1, 1, 0)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	data := w.small(t, 10)
	go func() {
		for i := 0; i < len(data); i += 7 {
			if _, err := in.Write(data[i:min(i+7, len(data))]); err != nil {
				break
			}
		}
		_ = in.Close()
	}()
	r, err := NewReader(out)
	if err != nil {
		t.Fatal(err)
	}
	c := &comparer{t: t, want: w.events}
	if err := r.Run(c); err != nil || len(c.want) != 0 {
		t.Errorf("%d events are missing, %v", len(c.want), err)
	}
}

// TestLaterVersion: what a later minor version adds is passed over.
func TestLaterVersion(t *testing.T) {
	w := mixed(t, "6.12-case4.jsonl", 1, 1, 0)
	var buf bytes.Buffer
	un, err := newUnpacker()
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range blocks(t, w.small(t, 100)) {
		if i == 0 {
			buf.Write(append([]byte(fileMagic), Major, 0, Minor+1, 0, 0, 0, 0, 0))
		} else {
			buf.Write(rawBlock(kindSets+1+kind(i), []byte("of a later version")))
		}
		data := w.small(t, 100)
		if b.kind != kindEvents {
			buf.Write(data[b.at : b.at+b.size])
			continue
		}
		h, _ := parseHead(data[b.at:])
		raw, err := un.unpack(h, data[b.at+blockHeader:b.at+b.size])
		if err != nil {
			t.Fatal(err)
		}
		buf.Write(rawBlock(kindEvents, oneMoreColumn(raw)))
	}
	c := &comparer{t: t, want: w.events}
	replay(t, buf.Bytes(), c)
	if len(c.want) != 0 {
		t.Errorf("%d events are missing", len(c.want))
	}
}

// oneMoreColumn adds a column to a block of events.
func oneMoreColumn(raw []byte) []byte {
	_, at := binary.Uvarint(raw)
	raw[at]++
	at++
	for range numColumns {
		_, n := binary.Uvarint(raw[at:])
		at += n
	}
	return append(slices.Insert(raw, at, 5), "later"...)
}
