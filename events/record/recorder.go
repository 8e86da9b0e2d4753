// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/stackhop/stackhop/events"
)

// Options says where a Recorder writes, and how much.
type Options struct {
	// Path is the file. With Parts it is the pattern of their names: x.hop
	// stands for x.0001.hop, x.0002.hop and so on.
	Path string
	// Stream is written to in place of Path; nil: Path.
	Stream io.Writer
	// Force replaces a file that is there, with Parts all parts that are. A link is
	// never followed.
	Force bool
	// MaxBytes ends the recording; 0: no bound. Beside it goes what is in flight:
	// what half a second brings, and the end.
	MaxBytes int64
	// Parts is how many of the last parts are kept, of PartBytes each and what half
	// a second brings; 0: one file without end. They need a Path.
	Parts     int
	PartBytes int64
	// OnFailure keeps only what was observed that long before and after a call of
	// Failed; 0: everything.
	OnFailure time.Duration
	// Own is called with each file that was created; nil: nothing is done.
	Own func(*os.File) error
}

const (
	// flushInterval is how much is lost, at most, if the process is killed.
	flushInterval = 500 * time.Millisecond
	// tickInterval is how long ticks are recorded behind the last event. Nothing
	// that a Stitcher waits for takes longer.
	tickInterval = 10 * time.Second
	// maxHeldBack bounds the memory of what waits for a failure.
	maxHeldBack = 64 << 20
)

// ErrFull says that a recording has reached Options.MaxBytes.
var ErrFull = errors.New("the recording has reached its size")

// Recorder writes a run's recording: one file, a ring of parts, or what was
// around failures. It is not safe for concurrent use.
type Recorder struct {
	o     Options
	meta  Meta
	inner events.Names

	names   *NamesRecorder
	w       *Writer
	file    *os.File // nil with Options.Stream
	gate    *gate
	parts   []string // paths of the parts that are there
	events  uint64   // in parts before this one
	bytes   int64
	now     uint64 // ns, of the last Tick
	flushed uint64
	active  uint64 // tick of the last event
	busy    bool
	behind  bool   // the last Tick is not among the items written last
	closed  bool   // no recording has been begun, or the last one was ended
	facts   *Facts // as last told: every part has them
	sets    []*toldSet
}

// Create begins a recording. Names are asked of names, and what they answer is
// recorded.
func Create(o Options, m *Meta, names events.Names) (*Recorder, error) {
	p, err := newPacker()
	if err != nil {
		return nil, err
	}
	if o.Parts > 0 && o.Stream == nil {
		if err := removeParts(o.Path, o.Force); err != nil {
			return nil, err
		}
	}
	r := &Recorder{o: o, meta: *m, inner: names, gate: &gate{p: p, around: uint64(o.OnFailure), most: maxHeldBack}, closed: true}
	if err := r.begin(); err != nil {
		return nil, err
	}
	return r, nil
}

// begin begins a file. If that fails there is none.
func (r *Recorder) begin() error {
	out := r.o.Stream
	if out == nil {
		if err := r.create(); err != nil {
			return err
		}
		out = r.file
	}
	r.gate.begin(out)
	err := r.next()
	if err == nil && r.facts != nil {
		err = r.w.Facts(r.facts)
	}
	if err == nil {
		err = r.tellSets()
	}
	r.closed = err != nil
	if err != nil && r.file != nil {
		err = errors.Join(err, r.file.Close(), os.Remove(r.file.Name()))
		r.file, r.parts = nil, r.parts[:len(r.parts)-1]
	}
	return err
}

// create creates the file that is next.
func (r *Recorder) create() error {
	path := r.o.Path
	if r.o.Parts > 0 {
		path = partPath(path, r.meta.Part)
	}
	f, err := CreateFile(path, r.o.Force)
	if err != nil {
		return err
	}
	if r.o.Own != nil {
		if err := r.o.Own(f); err != nil {
			return errors.Join(err, f.Close(), os.Remove(path))
		}
	}
	r.file = f
	r.parts = append(r.parts, path)
	return nil
}

// next begins a recording within the run.
func (r *Recorder) next() error {
	if r.w != nil {
		return r.w.Next(r.gate, &r.meta)
	}
	w, err := NewWriter(r.gate, &r.meta)
	if err != nil {
		return err
	}
	r.w, r.names = w, w.Names(r.inner)
	return nil
}

// Names answers as the names given to Create do, and records what they answer.
func (r *Recorder) Names() events.Names { return r.names }

// Event records an event. Whatever asks Names because of it has done so before.
func (r *Recorder) Event(e *events.Event) {
	r.busy = true
	if r.behind && r.now != 0 {
		// What happens elsewhere has no time of its own but that of what came
		// last: it must not be one long past because ticks, or a part, were left out.
		r.behind = false
		r.w.Tick(r.now)
	}
	r.w.Event(e)
}

// Failed says that something ended badly just now.
func (r *Recorder) Failed() { r.gate.open(r.now) }

// Tick records the time up to which events were read, in ns on their clock, and
// writes what there is from time to time. As with Event, names were asked for before.
func (r *Recorder) Tick(now uint64) error {
	r.now = now
	r.gate.now = now
	if r.busy {
		r.busy = false
		r.active = now
	}
	r.behind = now-r.active > uint64(tickInterval)
	if !r.behind {
		r.w.Tick(now)
	}
	if now-r.flushed < uint64(flushInterval) {
		return nil
	}
	r.flushed, r.behind = now, true
	if err := r.flush(); err != nil {
		return err
	}
	if r.o.Parts > 0 && r.gate.written >= r.o.PartBytes {
		return r.nextPart()
	}
	if r.o.MaxBytes > 0 && r.bytes+r.gate.written >= r.o.MaxBytes {
		return ErrFull
	}
	return nil
}

// flush writes what there is.
func (r *Recorder) flush() error {
	if err := r.w.Flush(); err != nil {
		return err
	}
	if err := r.gate.release(); err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	return nil
}

// nextPart ends a part and begins the next; the oldest makes room.
func (r *Recorder) nextPart() error {
	if err := r.endPart(&End{Reason: "the next part follows"}); err != nil {
		return err
	}
	r.meta.Part++
	if len(r.parts) >= r.o.Parts {
		// Someone may have taken it away.
		if err := os.Remove(r.parts[0]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("make room for the next part: %w", err)
		}
		r.parts = r.parts[1:]
	}
	return r.begin()
}

// endPart ends a file. If it cannot be written any longer it is cut behind the
// last block that is whole, so that what is there can be read without complaint.
func (r *Recorder) endPart(e *End) error {
	r.closed = true
	err := r.flush()
	if err == nil {
		err = r.w.Close(e)
	}
	events, _ := r.w.Written()
	r.events += events
	r.bytes += r.gate.written
	if r.file == nil {
		return err
	}
	if err != nil {
		err = errors.Join(err, r.file.Truncate(r.gate.written))
	}
	err = errors.Join(err, r.file.Close())
	r.file = nil
	return err
}

// Facts records what else is known of the node; each part begins with the last.
func (r *Recorder) Facts(f *Facts) error {
	if err := r.w.Facts(f); err != nil {
		return err
	}
	r.facts = f
	return nil
}

// Status records counters and clocks.
func (r *Recorder) Status(s *Status) error { return r.w.Status(s) }

// Close ends the recording, also one that cannot be written any longer: then it
// says why.
func (r *Recorder) Close(e *End) error {
	if r.closed { // the next part could not be begun
		return nil
	}
	return r.endPart(e)
}

// Written is how many events were recorded, and how many bytes were written in
// all: also those in parts that are gone by now, or held back by Options.OnFailure.
func (r *Recorder) Written() (events uint64, bytes int64) {
	if r.closed {
		return r.events, r.bytes
	}
	events, _ = r.w.Written()
	return r.events + events, r.bytes + r.gate.written
}

// Files lists the files that are there.
func (r *Recorder) Files() []string { return r.parts }
