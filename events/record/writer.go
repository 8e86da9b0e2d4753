// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/stackhop/stackhop/events"
)

const (
	// MaxHookID is the largest number that a hook may have in a recording.
	MaxHookID = 4096
	// MaxBytes is how much of a packet's bytes is kept at most.
	MaxBytes = 64 << 10

	maxOut = 1 << 20 // bytes of whole blocks that wait to be written
	// maxLine bounds a name or a fact, and how much of them waits for its block.
	maxLine = 512 << 10 // bytes
	// metaEvery is after how many bytes the first block is told again, so that
	// a file whose beginning is damaged can still be read.
	metaEvery = 4 << 20
)

var errClosed = errors.New("the recording is closed")

// Writer writes a recording. It is for one goroutine. What it was given is
// written when a block is full, and by Flush.
//
// A Writer that failed to write says so in Err, Flush and Close, and drops
// what it is given from then on: a part of a block may have been written, so
// that what follows would not be found.
type Writer struct {
	w       io.Writer
	meta    []byte // the block, as JSON
	p       *packer
	enc     *encoder
	rec     *NamesRecorder // nil: names are not asked for
	adding  bool           // an event is being added, and may bring names
	names   []byte         // JSON lines for the next block of names
	out     []byte         // whole blocks
	err     error
	events  uint64
	ticks   uint64
	written int64
	metaAt  int64 // bytes written when the first block was last told
}

// NewWriter begins a recording: the header and the first block are in w when
// it returns. Each write to w is of whole blocks. The caller closes w.
func NewWriter(w io.Writer, m *Meta) (*Writer, error) {
	p, err := newPacker()
	if err != nil {
		return nil, err
	}
	wr := &Writer{p: p, enc: newEncoder(), err: errClosed}
	return wr, wr.Next(w, m)
}

// Next begins another recording with a Writer that was closed: the next part
// of a run. Its NamesRecorder stays, and tells everything again.
func (w *Writer) Next(to io.Writer, m *Meta) error {
	for _, h := range m.Hooks {
		if h.ID < 1 || h.ID > MaxHookID {
			return fmt.Errorf("begin recording: hook %q: its number %d is not within 1 and %d", h.Name, h.ID, MaxHookID)
		}
	}
	meta, err := json.Marshal(m)
	if err == nil && len(meta) > kindMeta.limit() {
		err = fmt.Errorf("its description has %d bytes, more than %d", len(meta), kindMeta.limit())
	}
	if err != nil {
		return fmt.Errorf("begin recording: %w", err)
	}
	w.w, w.meta, w.err = to, meta, nil
	w.events, w.ticks, w.written, w.metaAt = 0, 0, 0, 0
	w.enc.reset()
	w.names = w.names[:0]
	if w.rec != nil {
		w.rec.forget()
	}
	w.out = append(w.out[:0], fileMagic...)
	w.out = binary.LittleEndian.AppendUint16(w.out, Major)
	w.out = binary.LittleEndian.AppendUint16(w.out, Minor)
	w.out = append(w.out, 0, 0, 0, 0)
	w.out = w.p.pack(w.out, kindMeta, meta)
	w.write()
	return w.err
}

// Names returns names that answer as inner does, and write down the answers.
// The Writer also asks it for what events mention. There is one for a Writer.
func (w *Writer) Names(inner events.Names) *NamesRecorder {
	w.rec = newNamesRecorder(inner, w)
	w.enc.notes = w.rec
	return w.rec
}

// Event adds an event. It is copied. Of one with the hook Elsewhere only
// Packet and Seq are kept; of packets' bytes, MaxBytes. What a hook's station
// does not set is kept all the same.
func (w *Writer) Event(e *events.Event) {
	if w.err != nil {
		return
	}
	w.adding = true
	w.enc.event(e)
	w.adding = false
	w.events++
	w.added()
	if w.rec != nil {
		w.rec.item()
	}
}

// Tick adds a moment at which Stitcher.Advance was called, in ns on the
// events' clock.
func (w *Writer) Tick(now uint64) {
	if w.err != nil {
		return
	}
	w.enc.tickItem(now)
	w.ticks++
	w.added()
	if w.rec != nil {
		w.rec.item()
	}
}

// added makes blocks if what waits for them is enough.
func (w *Writer) added() {
	if w.enc.full() || len(w.names) >= maxLine {
		w.cut()
	}
}

// Name adds a name as of the next item. A NamesRecorder does so by itself.
// A name that is too long to be read back (about 512 KiB) is left out.
func (w *Writer) Name(n *Name) { w.name(n) }

// name says whether the name was added.
func (w *Writer) name(n *Name) bool {
	if w.err != nil {
		return false
	}
	at := *n
	at.At = uint32(w.enc.items) //nolint:gosec // at most maxItems
	line, err := json.Marshal(&at)
	if err != nil || len(line) >= maxLine {
		return false
	}
	w.names = append(append(w.names, line...), '\n')
	if !w.adding {
		w.added()
	}
	return true
}

// Facts adds facts as of this moment. One that is too long to be read back, such as
// a service with thousands of destinations, is left out.
func (w *Writer) Facts(f *Facts) error {
	w.cut()
	var lines []byte
	err := f.lines(func(line []byte) error {
		if len(line) >= maxLine {
			return nil
		}
		lines = append(append(lines, line...), '\n')
		if len(lines) >= maxLine {
			w.put(kindFacts, lines)
			lines = lines[:0]
		}
		return nil
	})
	if len(lines) > 0 {
		w.put(kindFacts, lines)
	}
	return errors.Join(err, w.err)
}

// Status adds counts as of this moment.
func (w *Writer) Status(s *Status) error {
	w.cut()
	return w.json(kindStatus, s)
}

// Flush writes everything so far.
func (w *Writer) Flush() error {
	w.cut()
	w.write()
	return w.err
}

// Close ends the recording with its totals, of which it sets the events and
// ticks, and writes everything. It does not close the underlying writer.
func (w *Writer) Close(e *End) error {
	w.cut()
	end := *e
	end.Events, end.Ticks = w.events, w.ticks
	if w.written+int64(len(w.out)) > 16*int64(len(w.meta)) {
		w.put(kindMeta, w.meta)
	}
	err := w.json(kindEnd, &end)
	w.write()
	if err = errors.Join(err, w.err); err != nil {
		return err
	}
	w.err = errClosed
	return nil
}

// Err is why the Writer does not write any longer.
func (w *Writer) Err() error { return w.err }

// Written says how many events and bytes have been added so far. What Flush
// has not written yet is among the events, not among the bytes.
func (w *Writer) Written() (events uint64, bytes int64) { return w.events, w.written }

func (w *Writer) json(k kind, v any) error {
	if w.err != nil {
		return w.err
	}
	b, err := json.Marshal(v)
	if err == nil && len(b) > k.limit() {
		err = fmt.Errorf("it has %d bytes, more than %d", len(b), k.limit())
	}
	if err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	w.put(k, b)
	return w.err
}

// cut makes blocks of the names and items so far.
func (w *Writer) cut() {
	if w.err != nil {
		return
	}
	if len(w.names) > 0 {
		w.put(kindNames, w.names)
		w.names = w.names[:0]
	}
	if w.enc.items > 0 {
		w.put(kindEvents, w.enc.block())
	}
}

// put adds a block.
func (w *Writer) put(k kind, raw []byte) {
	if w.err != nil {
		return
	}
	w.out = w.p.pack(w.out, k, raw)
	if at := w.written + int64(len(w.out)); k == kindEvents && at-w.metaAt > metaEvery {
		w.metaAt = at
		w.out = w.p.pack(w.out, kindMeta, w.meta)
	}
	if len(w.out) >= maxOut {
		w.write()
	}
}

// write hands over all whole blocks at once.
func (w *Writer) write() {
	if w.err != nil || len(w.out) == 0 {
		return
	}
	n, err := w.w.Write(w.out)
	w.written += int64(n)
	w.out = w.out[:0]
	if err != nil {
		w.err = fmt.Errorf("write recording: %w", err)
	}
}
