// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Damage is a part of a file that could not be used.
type Damage struct {
	Offset, Length int64 // bytes in the file
	What           string
}

// Error implements error.
func (d *Damage) Error() string {
	return fmt.Sprintf("damaged at byte %d: %s; %d bytes are left out", d.Offset, d.What, d.Length)
}

const (
	// scanStep is how much is read at a time; memory grows only with what the
	// file really holds, whatever its lengths claim.
	scanStep = 256 << 10
	// maxSpent bounds, in bytes, the checksums of blocks that turn out not to
	// be one, beyond as many as there were good bytes. Without it a file made
	// for that would take time that is quadratic in its size.
	maxSpent = 256 << 20
)

// scanner finds the blocks of a file.
type scanner struct {
	r          io.Reader
	buf        []byte
	start, end int   // what is held of the file, in buf
	off        int64 // where in the file start is
	at         int64 // where the block that next returned last begins
	err        error // of r, once it gave one
	spent      int64
	un         *unpacker
	damage     func(*Damage)
}

func newScanner(r io.Reader, off int64, damage func(*Damage)) (*scanner, error) {
	un, err := newUnpacker()
	if err != nil {
		return nil, err
	}
	return &scanner{r: r, off: off, un: un, damage: damage}, nil
}

// need makes n bytes available at start, if the file has them.
func (s *scanner) need(n int) bool {
	for s.end-s.start < n && s.err == nil {
		if s.start > 0 && len(s.buf)-s.start < n {
			s.end = copy(s.buf, s.buf[s.start:s.end])
			s.start = 0
		}
		if s.end == len(s.buf) {
			s.buf = append(s.buf[:s.end], make([]byte, max(scanStep, min(len(s.buf), n)))...)
		}
		got, err := s.r.Read(s.buf[s.end:])
		s.end += got
		s.err = err
	}
	return s.end-s.start >= n
}

func (s *scanner) skip(n int) {
	s.start += n
	s.off += int64(n)
}

// next returns the next whole block, decompressed; it is valid until the next
// call. What lies before it and is none is told as damage. At the end of the
// file it returns io.EOF.
func (s *scanner) next() (kind, []byte, error) {
	from, wrong := int64(-1), ""
	tell := func() {
		if from >= 0 {
			s.damage(&Damage{from, s.off - from, wrong})
		}
	}
	for s.need(1) {
		h, raw, why := s.block()
		if why == "" {
			tell()
			s.at = s.off
			s.skip(blockHeader + h.stored)
			s.spent = max(0, s.spent-int64(h.stored))
			return h.kind, raw, nil
		}
		if from < 0 {
			from, wrong = s.off, why
		}
		s.resync()
	}
	tell()
	if errors.Is(s.err, io.EOF) {
		return 0, nil, io.EOF
	}
	return 0, nil, fmt.Errorf("read recording: %w", s.err)
}

// block looks at what is at start. Without a reason why it is none, it is a
// whole block with these contents.
func (s *scanner) block() (h head, raw []byte, why string) {
	if !s.need(blockHeader) {
		return h, nil, fmt.Sprintf("the file is cut off %d bytes into a block", s.end-s.start)
	}
	h, why = parseHead(s.buf[s.start:])
	if why != "" {
		return h, nil, why
	}
	if s.spent > maxSpent {
		return h, nil, "there is too much damage"
	}
	if !s.need(blockHeader + h.stored) {
		return h, nil, fmt.Sprintf("the file is cut off: a block of %d bytes has %d", blockHeader+h.stored, s.end-s.start)
	}
	b := s.buf[s.start : s.start+blockHeader+h.stored]
	stored := b[blockHeader:]
	s.spent += int64(h.stored)
	if crc32.Update(crc32.Checksum(b[:blockHeader-4], castagnoli), castagnoli, stored) != h.sum {
		return h, nil, "a block's checksum is wrong"
	}
	raw, err := s.un.unpack(h, stored)
	if err != nil {
		return h, nil, fmt.Sprintf("a block cannot be decompressed: %v", err)
	}
	return h, raw, ""
}

// resync goes on to where the next block may begin, or to the end.
func (s *scanner) resync() {
	s.skip(1)
	for s.need(len(blockMagic)) {
		at := bytes.Index(s.buf[s.start:s.end], []byte(blockMagic))
		if at >= 0 {
			s.skip(at)
			return
		}
		s.skip(s.end - s.start - (len(blockMagic) - 1))
	}
	s.skip(s.end - s.start)
}
