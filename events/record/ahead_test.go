// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

// manyPieces is a recording of some blocks, each of several pieces.
func manyPieces(tb testing.TB) []byte {
	w := mixed(tb, "6.12-*.jsonl", 40, 20, time.Second)
	if len(w.events) < 3*maxItems {
		tb.Fatalf("%d events are too few", len(w.events))
	}
	var buf bytes.Buffer
	w.record(tb, &buf)
	return buf.Bytes()
}

// TestReadAheadEnds: whoever has seen enough leaves nothing behind that reads or waits,
// and no more than the pieces that there are was read for it.
func TestReadAheadEnds(t *testing.T) {
	r, err := NewReader(bytes.NewReader(manyPieces(t)))
	if err != nil {
		t.Fatal(err)
	}
	a := readAhead(r.s, &r.dec)
	<-a.full // and never given back
	close(a.stop)
	n := 1
	for range a.full { // until it ends
		n++
	}
	if n > aheadPieces {
		t.Errorf("%d pieces, want at most %d", n, aheadPieces)
	}
}

// TestReadAheadFails: what was read before the file's reader failed is used first.
func TestReadAheadFails(t *testing.T) {
	data := manyPieces(t)
	failed := errors.New("the disk is gone")
	for _, part := range []int{len(data) / 2, len(data)} {
		r, err := NewReader(io.MultiReader(bytes.NewReader(data[:part]), iotest.ErrReader(failed)))
		if err != nil {
			t.Fatal(err)
		}
		var c counter
		if err := r.Run(&c); !errors.Is(err, failed) {
			t.Errorf("%d bytes: error %v", part, err)
		}
		if c.events < maxItems/2 {
			t.Errorf("%d bytes: %d events", part, c.events)
		}
	}
}

// TestReadAheadAllocates: once its memory is there, a block costs no allocation for
// each of its events.
func TestReadAheadAllocates(t *testing.T) {
	data := manyPieces(t)
	var c counter
	n := testing.AllocsPerRun(3, func() {
		c = counter{}
		replay(t, data, &c)
	})
	if most := float64(c.events) / 20; n > most {
		t.Errorf("%v allocations for %d events, want at most %v", n, c.events, most)
	}
}
