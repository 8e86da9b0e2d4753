// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/zstd"
)

// What FORMAT.md fixes.
const (
	// fileMagic is what no text begins with. A transfer that takes a recording
	// for text changes its first byte or its line ends, which is then seen.
	fileMagic  = "\x8eHOP\r\n\x1a\n"
	fileHeader = 16
	// maxMajor is beyond any version there will be: what claims more is something
	// else.
	maxMajor = 255

	// Major is the version of the format: a reader refuses another one.
	// Minor says what was added that older readers may pass over.
	Major, Minor = 1, 2

	blockMagic  = "SHB\n"
	blockHeader = 20

	codecRaw  = 0
	codecZstd = 1

	maxBlock = 16 << 20 // bytes of a block, as stored and as what it stands for
	// Text is small beside what it becomes in memory.
	maxJSON  = 256 << 10 // bytes of a block that is one JSON object
	maxLines = 4 << 20   // bytes of a block that has one on each line
	// maxRatio bounds how much larger than stored a block may become, so that
	// a small file cannot keep a reader busy for long. What compresses better
	// is stored raw.
	maxRatio = 128
)

type kind uint8

// Kinds of block.
const (
	kindMeta kind = iota + 1
	kindNames
	kindEvents
	kindFacts
	kindStatus
	kindEnd
	kindSets
	maxKind = kindSets
)

// limit is the largest size of a block of this kind, uncompressed.
func (k kind) limit() int {
	switch k {
	case kindMeta, kindStatus, kindEnd:
		return maxJSON
	case kindNames, kindFacts, kindSets:
		return maxLines
	default:
		return maxBlock
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// packer makes blocks.
type packer struct {
	enc *zstd.Encoder
	z   []byte
}

func newPacker() (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	return &packer{enc: enc}, nil
}

// pack appends a block to dst. raw is not larger than the kind's limit.
func (p *packer) pack(dst []byte, k kind, raw []byte) []byte {
	stored, codec := raw, byte(codecRaw)
	p.z = p.enc.EncodeAll(raw, p.z[:0])
	if len(p.z) < len(raw) && len(raw) <= maxRatio*len(p.z) {
		stored, codec = p.z, codecZstd
	}
	at := len(dst)
	dst = append(dst, blockMagic...)
	dst = append(dst, byte(k), codec, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(stored))) //nolint:gosec // at most maxBlock
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(raw)))    //nolint:gosec // at most maxBlock
	sum := crc32.Update(crc32.Checksum(dst[at:], castagnoli), castagnoli, stored)
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	return append(dst, stored...)
}

// unpacker undoes what a packer did.
type unpacker struct {
	dec *zstd.Decoder
	raw []byte
}

func newUnpacker() (*unpacker, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxBlock), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	return &unpacker{dec: dec}, nil
}

// head is the header of a block.
type head struct {
	kind        kind
	codec       uint8
	stored, raw int
	sum         uint32
}

// parseHead reads a block's header and says what is wrong with it.
func parseHead(b []byte) (h head, wrong string) {
	if string(b[:4]) != blockMagic {
		return h, "there is no block"
	}
	stored, raw := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	h = head{kind: kind(b[4]), codec: b[5], sum: binary.LittleEndian.Uint32(b[16:])}
	switch {
	case stored > maxBlock || raw > uint32(h.kind.limit()): //nolint:gosec // at most maxBlock
		return h, fmt.Sprintf("a block of %d bytes, %d uncompressed, is larger than there are", stored, raw)
	case h.codec > codecZstd || (h.codec == codecRaw && stored != raw):
		return h, fmt.Sprintf("a block with codec %d, %d bytes for %d", h.codec, stored, raw)
	case raw > maxRatio*stored:
		return h, fmt.Sprintf("a block of %d bytes would become %d", stored, raw)
	}
	h.stored, h.raw = int(stored), int(raw)
	return h, ""
}

// unpack returns what a block's stored bytes stand for, valid until the next call.
func (u *unpacker) unpack(h head, stored []byte) ([]byte, error) {
	if h.codec == codecRaw {
		return stored, nil
	}
	if cap(u.raw) < h.raw {
		u.raw = make([]byte, 0, h.raw)
	}
	raw, err := u.dec.DecodeAll(stored, u.raw[:0:h.raw])
	if err != nil {
		return nil, err
	}
	if len(raw) != h.raw {
		return nil, fmt.Errorf("%d bytes, not %d", len(raw), h.raw)
	}
	return raw, nil
}
