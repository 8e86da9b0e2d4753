// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"bufio"
	"encoding/binary"
	"io"
	"unicode/utf8"
)

// Block types of the format (draft-ietf-opsawg-pcapng). All numbers are written
// little-endian, all parts padded to 4 bytes.
const (
	blockSection    = 0x0A0D0D0A
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6
)

// Options; the numbers above 1 have their own meaning in each block type.
const (
	optEnd     = 0
	optComment = 1

	shbHardware = 2
	shbOS       = 3
	shbUserAppl = 4

	ifName        = 2
	ifDescription = 3
	ifTsresol     = 9
	ifFilter      = 11
	ifOS          = 12

	epbFlags    = 2
	epbPacketID = 5

	isbStart        = 2
	isbEnd          = 3
	isbIfRecv       = 4
	isbIfDrop       = 5
	isbFilterAccept = 6
	isbOSDrop       = 7
	isbUsrDeliv     = 8
)

// Values of epbFlags.
const (
	inbound  = 1
	outbound = 2
)

// linkEthernet is the link type of all interfaces.
const linkEthernet = 1

// maxText bounds the text of an option well below the format's 65,535 bytes.
const maxText = 8 << 10

// blockWriter writes blocks. The first error stays, and ends all writing.
type blockWriter struct {
	w   *bufio.Writer
	b   []byte // the block at hand
	err error
}

func newBlockWriter(w io.Writer) *blockWriter {
	return &blockWriter{w: bufio.NewWriterSize(w, 64<<10)}
}

// begin starts a block; end finishes and writes it.
func (w *blockWriter) begin(kind uint32) {
	w.b = binary.LittleEndian.AppendUint32(w.b[:0], kind)
	w.u32(0) // the length, which end knows
}

func (w *blockWriter) end() {
	w.u32(optEnd)                  // code and length 0
	length := uint32(len(w.b) + 4) //nolint:gosec // a block is far below 4 GiB
	binary.LittleEndian.PutUint32(w.b[4:], length)
	w.u32(length)
	if w.err == nil {
		_, w.err = w.w.Write(w.b)
	}
}

func (w *blockWriter) flush() error {
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}

func (w *blockWriter) u16(v uint16) { w.b = binary.LittleEndian.AppendUint16(w.b, v) }
func (w *blockWriter) u32(v uint32) { w.b = binary.LittleEndian.AppendUint32(w.b, v) }

// stamp writes a time in ns since 1970, its upper half first.
func (w *blockWriter) stamp(ns int64) {
	w.u32(uint32(uint64(ns) >> 32)) //nolint:gosec // the two halves of it
	w.u32(uint32(uint64(ns)))       //nolint:gosec // likewise
}

// pad fills up to the next multiple of 4. The block begins at one.
func (w *blockWriter) pad() {
	for len(w.b)%4 != 0 {
		w.b = append(w.b, 0)
	}
}

func (w *blockWriter) option(code uint16, value []byte) {
	w.u16(code)
	w.u16(uint16(len(value))) //nolint:gosec // text is bounded by maxText, the rest is fixed
	w.b = append(w.b, value...)
	w.pad()
}

// text writes an option of text; none if it is empty.
func (w *blockWriter) text(code uint16, s string) {
	if len(s) > maxText {
		cut := maxText
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	if s != "" {
		w.option(code, []byte(s))
	}
}

func (w *blockWriter) option32(code uint16, v uint32) {
	w.option(code, binary.LittleEndian.AppendUint32(nil, v))
}

func (w *blockWriter) option64(code uint16, v uint64) {
	w.option(code, binary.LittleEndian.AppendUint64(nil, v))
}

// optionStamp writes an option that is a time in ns since 1970.
func (w *blockWriter) optionStamp(code uint16, ns int64) {
	w.u16(code)
	w.u16(8)
	w.stamp(ns)
}

// section is what the section header says.
type section struct{ hardware, os, application, comment string }

func (w *blockWriter) section(s *section) {
	w.begin(blockSection)
	w.u32(0x1A2B3C4D) // byte order
	w.u16(1)          // version 1.0
	w.u16(0)
	w.u32(0xffffffff) // length of the section: not given
	w.u32(0xffffffff)
	w.text(optComment, s.comment)
	w.text(shbHardware, s.hardware)
	w.text(shbOS, s.os)
	w.text(shbUserAppl, s.application)
	w.end()
}

// iface is what an interface description says.
type iface struct{ name, description, filter, os string }

func (w *blockWriter) iface(i *iface) {
	w.begin(blockInterface)
	w.u16(linkEthernet)
	w.u16(0)
	w.u32(0) // snap length: no limit; tools want it to be the same for all
	w.text(ifName, i.name)
	w.text(ifDescription, i.description)
	w.option(ifTsresol, []byte{9}) // ns
	if i.filter != "" {
		w.text(ifFilter, "\x00"+i.filter) // 0: a libpcap expression
	}
	w.text(ifOS, i.os)
	w.end()
}

// frame is a packet at a device.
type frame struct {
	iface     uint32
	ns        int64  // since 1970
	data      []byte // as far as it was kept
	original  uint32 // its length
	direction uint32 // inbound or outbound
	id        uint64 // of its traversal; 0: none
	comment   string
}

func (w *blockWriter) packet(f *frame) {
	w.begin(blockPacket)
	w.u32(f.iface)
	w.stamp(f.ns)
	w.u32(uint32(len(f.data))) //nolint:gosec // bounded by maxKept
	w.u32(f.original)
	w.b = append(w.b, f.data...)
	w.pad()
	w.text(optComment, f.comment)
	w.option32(epbFlags, f.direction)
	if f.id != 0 {
		w.option64(epbPacketID, f.id)
	}
	w.end()
}

// counter is one number of an interface's statistics.
type counter struct {
	code  uint16
	value uint64
}

// statistics writes an interface's counters from start to end, in ns since 1970.
func (w *blockWriter) statistics(iface uint32, start, end int64, comment string, counters ...counter) {
	w.begin(blockStatistics)
	w.u32(iface)
	w.stamp(end)
	w.text(optComment, comment)
	w.optionStamp(isbStart, start)
	w.optionStamp(isbEnd, end)
	for _, c := range counters {
		w.option64(c.code, c.value)
	}
	w.end()
}
