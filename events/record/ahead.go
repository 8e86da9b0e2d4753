// SPDX-License-Identifier: Apache-2.0

package record

import "github.com/stackhop/stackhop/events"

// Reading ahead: one goroutine finds the blocks of a file, decompresses and decodes
// them, while the one of Reader.Run hands their items to the sink, which as a rule
// is a stitcher and takes longer. What lies between them is bounded, and used again
// and again.
const (
	// aheadItems is how many items are handed over at a time: each time costs about
	// a microsecond, and what lies between the two has to stay in the cache.
	aheadItems  = 256
	aheadPieces = 4
	// maxKeptRaw bounds what a piece keeps of a large block once it is used.
	maxKeptRaw = 256 << 10
)

// item is an event or a tick.
type item struct {
	e    events.Event
	has  uint8 // what of e has to be cleared: bits of shape.has
	tick bool
	now  uint64 // of a tick, ns
	// bytes has e.Bytes: what the decoder has of them is used again for the next block.
	bytes []byte
}

// piece is a part of a file: some items of a block of events, another block, or
// damage.
type piece struct {
	at, off int64 // where the block begins and ends
	kind    kind
	raw     []byte // the block; of events: nothing
	items   []item
	first   int   // number of the first item in its block
	last    bool  // the block ends here
	err     error // what is wrong with it behind these items; of the last piece: why the file ends
	damage  *Damage
	end     bool // the last piece
}

// ahead is the goroutine that reads.
type ahead struct {
	s    *scanner
	dec  *decoder
	full chan *piece   // closed behind the last one; has room for all that there are
	free chan *piece   // likewise
	stop chan struct{} // closed: nobody wants more
}

// readAhead begins to read. The scanner and the decoder belong to it until its last
// piece.
func readAhead(s *scanner, dec *decoder) *ahead {
	a := &ahead{
		s: s, dec: dec, full: make(chan *piece, aheadPieces), free: make(chan *piece, aheadPieces), stop: make(chan struct{}),
	}
	for range aheadPieces {
		a.free <- &piece{}
	}
	s.damage = func(d *Damage) {
		if p := a.piece(); p != nil {
			p.damage = d
			a.full <- p
		}
	}
	go a.run()
	return a
}

// piece waits for one that is not in use; nil: nobody wants it.
func (a *ahead) piece() *piece {
	select {
	case p := <-a.free:
		raw := p.raw[:0]
		if cap(raw) > maxKeptRaw {
			raw = nil
		}
		*p = piece{at: a.s.at, off: a.s.off, raw: raw, items: p.items[:0]}
		return p
	case <-a.stop:
		return nil
	}
}

func (a *ahead) run() {
	defer close(a.full)
	for {
		k, raw, err := a.s.next()
		if err == nil && k == kindEvents {
			if !a.events(raw) {
				return
			}
			continue
		}
		p := a.piece()
		if p == nil {
			return
		}
		p.kind, p.err, p.end = k, err, err != nil
		if k <= maxKind { // nobody knows the others
			p.raw = append(p.raw, raw...)
		}
		a.full <- p
		if err != nil {
			return
		}
	}
}

// events decodes a block of events. It says whether somebody wants more.
func (a *ahead) events(raw []byte) bool {
	d := a.dec
	err := d.begin(raw)
	for first := 0; ; {
		p := a.piece()
		if p == nil {
			return false
		}
		p.kind, p.first = kindEvents, first
		if err == nil {
			p.items, err = d.some(p.items, min(aheadItems, d.items-first))
			first += len(p.items)
		}
		p.last = err != nil || first == d.items
		if p.last && err == nil {
			err = d.end()
		}
		p.err = err
		a.full <- p
		if p.last {
			return true
		}
	}
}

// some reads the next n items into a slice of which the memory is used again. Those
// before a malformed one are of use.
func (d *decoder) some(into []item, n int) ([]item, error) {
	for range n {
		if len(into) < cap(into) {
			into = into[:len(into)+1]
		} else {
			into = append(into, item{})
		}
		it := &into[len(into)-1]
		if it.tick = d.item(it); it.tick {
			it.now = d.tick
		}
		if d.wrong != "" {
			return into[:len(into)-1], d.error()
		}
		if it.e.Bytes != nil {
			it.bytes = append(it.bytes[:0], it.e.Bytes...)
			it.e.Bytes = it.bytes
		}
	}
	return into, nil
}
