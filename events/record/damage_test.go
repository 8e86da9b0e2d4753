// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stackhop/stackhop/events"
)

// blockAt is where a block is in a file, and what is in it.
type blockAt struct {
	kind   kind
	at     int
	size   int
	events int
}

// blocks lists the blocks of an undamaged file.
func blocks(tb testing.TB, data []byte) (all []blockAt) {
	tb.Helper()
	un, err := newUnpacker()
	if err != nil {
		tb.Fatal(err)
	}
	for at := fileHeader; at < len(data); {
		h, wrong := parseHead(data[at:])
		if wrong != "" {
			tb.Fatal(wrong)
		}
		b := blockAt{kind: h.kind, at: at, size: blockHeader + h.stored}
		if h.kind == kindEvents {
			raw, err := un.unpack(h, data[at+blockHeader:at+b.size])
			if err != nil {
				tb.Fatal(err)
			}
			n, _ := binary.Uvarint(raw)
			b.events = int(n)
		}
		all = append(all, b)
		at += b.size
	}
	return all
}

// small records a workload in blocks of so many events.
func (w *workload) small(tb testing.TB, every int) []byte {
	tb.Helper()
	var buf bytes.Buffer
	wr, err := NewWriter(&buf, w.meta)
	if err != nil {
		tb.Fatal(err)
	}
	wr.Names(w.names)
	for i := range w.events {
		wr.Event(&w.events[i])
		if i%every == every-1 {
			if err := wr.Flush(); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := wr.Close(&End{}); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// prefix checks that events are the first ones of those expected.
type prefix struct {
	t    testing.TB
	want []events.Event
	n    int
}

func (p *prefix) Tick(uint64) {}
func (p *prefix) Event(e *events.Event) {
	if p.n >= len(p.want) || e.Time != p.want[p.n].Time || e.Packet != p.want[p.n].Packet || e.Seq != p.want[p.n].Seq {
		p.t.Fatalf("event %d is not the one that was recorded: %+v", p.n, e)
	}
	p.n++
}

// TestCut: of a file that is cut off, all whole blocks are used, and where it
// is cut is told.
func TestCut(t *testing.T) {
	w := mixed(t, "6.12-case[4-7].jsonl", 1, 20, 0)
	data := w.small(t, 100)
	all := blocks(t, data)
	cuts := []int{}
	for at := len(data) - 4096; at < len(data); at++ {
		cuts = append(cuts, at)
	}
	rnd := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // a test repeats
	for range 1000 {
		cuts = append(cuts, all[1].at+rnd.IntN(len(data)-all[1].at))
	}
	every := 1
	if underRace { // which takes ten times as long
		every = 16
	}
	for i := 0; i < len(cuts); i += every {
		at := cuts[i]
		whole, end := 0, fileHeader
		for _, b := range all {
			if b.at+b.size <= at {
				whole, end = whole+b.events, b.at+b.size
			}
		}
		r, err := NewReader(bytes.NewReader(data[:at]))
		if err != nil {
			t.Fatalf("cut at %d: %v", at, err)
		}
		p := &prefix{t: t, want: w.events}
		err = r.Run(p)
		var d *Damage
		switch {
		case p.n != whole:
			t.Fatalf("cut at %d: %d events, not %d", at, p.n, whole)
		case r.End() != nil:
			t.Fatalf("cut at %d: it has an end", at)
		case at == end && err != nil:
			t.Fatalf("cut at %d, between blocks: %v", at, err)
		case at != end && (!errors.As(err, &d) || d.Offset != int64(end) || d.Length != int64(at-end) || !strings.Contains(err.Error(), "cut off")):
			t.Fatalf("cut at %d, in the block at %d: %v", at, end, err)
		}
	}
}

// TestCutBeginning: a file that ends before its first block does is no
// recording, whatever it ends in.
func TestCutBeginning(t *testing.T) {
	data := mixed(t, "6.12-case7.jsonl", 1, 1, 0).small(t, 1000)
	for at := range blocks(t, data)[1].at {
		if _, err := NewReader(bytes.NewReader(data[:at])); !errors.Is(err, ErrEmpty) && !errors.Is(err, ErrNotRecording) && !errors.Is(err, ErrNoMeta) {
			t.Fatalf("cut at %d: %v", at, err)
		}
	}
}

// TestFlippedBits: no flipped bit of a block goes unnoticed, and the block
// behind it is found.
func TestFlippedBits(t *testing.T) {
	data := mixed(t, "6.12-*.jsonl", 1, 1, 0).small(t, 12)
	all := blocks(t, data)
	un, err := newUnpacker()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 101 {
		t.Fatalf("only %d blocks", len(all))
	}
	flipped, buf := 0, make([]byte, scanStep)
	for i := range 100 {
		b, next := all[i], all[i+1]
		part := bytes.Clone(data[b.at : next.at+next.size])
		for bit := range 8 * b.size {
			part[bit/8] ^= 1 << (bit % 8)
			flipped++
			var found *Damage
			s := &scanner{r: bytes.NewReader(part), buf: buf, un: un, damage: func(d *Damage) { found = d }}
			k, _, err := s.next()
			if err != nil || k != next.kind || s.at != int64(b.size) {
				t.Fatalf("block %d, bit %d: a block of kind %d at %d, %v", i, bit, k, s.at, err)
			}
			if found == nil || found.Offset != 0 || found.Length != int64(b.size) {
				t.Fatalf("block %d, bit %d: %v", i, bit, found)
			}
			part[bit/8] ^= 1 << (bit % 8)
		}
	}
	t.Logf("%d bits flipped", flipped)
}

// subset checks that events are some of those expected, in their order.
type subset struct {
	t    testing.TB
	want []events.Event
	at   int
	n    int
}

func (p *subset) Tick(uint64) {}
func (p *subset) Event(e *events.Event) {
	for ; p.at < len(p.want); p.at++ {
		if sameEvent(e, &p.want[p.at]) {
			p.at++
			p.n++
			return
		}
	}
	p.t.Fatalf("an event that was not recorded: %+v", e)
}

// TestDamagedFile: bytes anywhere in a file are overwritten. The rest of it is
// read, and no event is a wrong one.
func TestDamagedFile(t *testing.T) {
	w := mixed(t, "6.12-case[4-7].jsonl", 1, 1, 0)
	data := w.small(t, 100)
	all := blocks(t, data)
	rnd := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // a test repeats
	for range 500 {
		bad := bytes.Clone(data)
		from := all[1].at + rnd.IntN(len(data)-all[1].at)
		to := min(len(data), from+1+rnd.IntN(300))
		for i := from; i < to; i++ {
			bad[i] ^= byte(1 + rnd.IntN(255))
		}
		whole := 0
		for _, b := range all {
			if b.at+b.size <= from || b.at >= to {
				whole += b.events
			}
		}
		r, err := NewReader(bytes.NewReader(bad))
		if err != nil {
			t.Fatal(err)
		}
		s := &subset{t: t, want: w.events}
		var d *Damage
		if err := r.Run(s); !errors.As(err, &d) || d.Offset > int64(from) || d.Offset+d.Length < int64(to) {
			t.Fatalf("bytes %d to %d are overwritten: %v", from, to, err)
		}
		if s.n != whole {
			t.Fatalf("bytes %d to %d are overwritten: %d events, not %d", from, to, s.n, whole)
		}
	}
}

// TestDamagedMeta: what the first block says is found again at the end.
func TestDamagedMeta(t *testing.T) {
	w := mixed(t, "6.12-*.jsonl", 12, 20, 0)
	data := w.small(t, 10_000)
	data[fileHeader+blockHeader+5] ^= 1
	c := &comparer{t: t, want: w.events}
	r, err := NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var d *Damage
	if err := r.Run(c); !errors.As(err, &d) || d.Offset != fileHeader || len(c.want) != 0 {
		t.Errorf("%d events are missing, %v", len(c.want), err)
	}
	// From a pipe nothing that came before can be had.
	r, err = NewReader(struct{ io.Reader }{bytes.NewReader(data)})
	if err != nil {
		t.Fatal(err)
	}
	n := &counter{}
	if err := r.Run(n); !errors.As(err, &d) || n.events != 0 || r.End() == nil {
		t.Errorf("%d events, %v", n.events, err)
	}
	if _, err = NewReader(bytes.NewReader(data[:len(data)/2])); !errors.Is(err, ErrNoMeta) {
		t.Errorf("without any description of the run: %v", err)
	}
}

// sealed sets the checksum of a block that a test has made.
func sealed(b []byte) []byte {
	sum := crc32.Update(crc32.Checksum(b[:blockHeader-4], castagnoli), castagnoli, b[blockHeader:])
	binary.LittleEndian.PutUint32(b[blockHeader-4:], sum)
	return b
}

// rawBlock makes a block of raw bytes that is whole, whatever is in it.
func rawBlock(k kind, raw []byte) []byte {
	b := append([]byte(blockMagic), byte(k), codecRaw, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(raw))) //nolint:gosec // a test's are short
	b = binary.LittleEndian.AppendUint32(b, uint32(len(raw))) //nolint:gosec // a test's are short
	return sealed(append(append(b, 0, 0, 0, 0), raw...))
}

// allocated is how many bytes a function allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestClaims: what a block claims of lengths and counts is checked before
// memory is taken for it.
func TestClaims(t *testing.T) {
	base := mixed(t, "6.12-case7.jsonl", 1, 1, 0).small(t, 1000)
	end := len(base)
	lengths := func(stored, raw uint32, codec byte) []byte {
		b := rawBlock(kindEvents, []byte("0123456789"))
		b[5] = codec
		binary.LittleEndian.PutUint32(b[8:], stored)
		binary.LittleEndian.PutUint32(b[12:], raw)
		return sealed(b)
	}
	columns := func(items uint64, first uint64) []byte {
		b := append(binary.AppendUvarint(nil, items), numColumns)
		b = binary.AppendUvarint(b, first)
		return rawBlock(kindEvents, append(b, make([]byte, numColumns-1)...))
	}
	tests := map[string][]byte{
		"count 1e9": columns(1e9, 0), "column 1e9": columns(1, 1e9), "column 2^63": columns(1, 1<<63), "items without columns": columns(5, 0),
		"no columns": rawBlock(kindEvents, []byte{5}), "few columns": rawBlock(kindEvents, []byte{0, 3, 0, 0, 0}), "nothing": rawBlock(kindEvents, nil), "names": rawBlock(kindNames, []byte("{")),
		"two names": rawBlock(kindNames, []byte(`{"sym":{"addr":1},"reason":{}}`)),
		"facts":     rawBlock(kindFacts, []byte(`[]`)), "status": rawBlock(kindStatus, []byte(`"x"`)), "end": rawBlock(kindEnd, nil),
	}
	for _, n := range []uint32{0, 7, 1 << 31, 1<<32 - 1} {
		for name, b := range map[string][]byte{"stored": lengths(n, 10, codecZstd), "raw": lengths(10, n, codecZstd), "both": lengths(n, n, codecRaw)} {
			tests[fmt.Sprintf("%s %d", name, n)] = b
		}
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			var err error
			n := &counter{}
			took := allocated(func() {
				var r *Reader
				if r, err = NewReader(bytes.NewReader(append(bytes.Clone(base), b...))); err == nil {
					err = r.Run(n)
				}
			})
			var d *Damage
			if !errors.As(err, &d) || d.Offset != int64(end) {
				t.Errorf("error %v, not of damage at %d", err, end)
			}
			if n.events != 59 || took > 16<<20 {
				t.Errorf("%d events, %d bytes allocated", n.events, took)
			}
		})
	}
}

// TestManyFalseBlocks: a file made of the beginnings of large blocks does not
// keep the reader busy for a time that is quadratic in its size.
func TestManyFalseBlocks(t *testing.T) {
	b := rawBlock(kindEvents, nil)
	binary.LittleEndian.PutUint32(b[8:], 4<<20)
	binary.LittleEndian.PutUint32(b[12:], 4<<20)
	un, err := newUnpacker()
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	data := bytes.Repeat(b, 8<<20/len(b))
	s := &scanner{r: bytes.NewReader(data), un: un, damage: func(d *Damage) {
		told++
		if d.Offset != 0 || d.Length != int64(len(data)) {
			t.Errorf("%v", d)
		}
	}}
	if _, _, err := s.next(); !errors.Is(err, io.EOF) || told != 1 {
		t.Errorf("%v, %d damages", err, told)
	}
	if s.spent > maxSpent+maxBlock {
		t.Errorf("checksums of %d bytes", s.spent)
	}
}

// TestBombs: what a file becomes in memory is bounded, too.
func TestBombs(t *testing.T) {
	base := mixed(t, "6.12-case7.jsonl", 1, 1, 0).small(t, 1000)
	p, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	line := func(s string, n int) string { return strings.Repeat(s+"\n", n/(len(s)+1)) }
	for name, tt := range map[string]struct {
		k   kind
		raw string
	}{
		"names":   {kindNames, line(`{"addr":{"ip":"1"}}`, 1<<20)},
		"forget":  {kindNames, line(`{"forget":true}`, 900<<10)},
		"facts":   {kindFacts, line(`{"ct":{}}`, 100<<10)},
		"servers": {kindFacts, `{"svc":{"destinations":[` + strings.Repeat("{},", 100<<10) + "{}]}}"},
		"texts":   {kindFacts, `{"sysctl":{"value":"` + strings.Repeat("x", 400<<10) + `"}}`},
		"numbers": {kindFacts, `{"ct":{"netns":` + strings.Repeat("1", 300<<10) + `}}`},
		"zeros":   {kindEvents, strings.Repeat("\x00", 8<<20)},
		"nested":  {kindFacts, strings.Repeat(`{"ct":`, 60<<10)},
		"nesting": {kindNames, strings.Repeat("[", 500<<10)},
		"status":  {kindStatus, `{"lost":{"` + strings.Repeat(" ", 200<<10) + `":1}}`},
	} {
		t.Run(name, func(t *testing.T) {
			data := bytes.Clone(base)
			one := p.pack(nil, tt.k, []byte(tt.raw))
			for len(data)+len(one) < 1<<20 || len(data) == len(base) {
				data = append(data, one...)
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			r, err := NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			err = r.Run(&counter{})
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(r)
			kept := int64(after.HeapAlloc) - int64(before.HeapAlloc) //nolint:gosec // far below
			t.Logf("%d bytes kept, %v", kept, err != nil)
			if kept > 48<<20 {
				t.Errorf("%d bytes are kept of a file of %d", kept, len(data))
			}
			if err != nil && len(err.Error()) > 64<<10 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}
