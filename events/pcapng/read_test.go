// SPDX-License-Identifier: Apache-2.0

package pcapng

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// block is a block that was read.
type block struct {
	kind    uint32
	fixed   []byte // its part before the options
	data    []byte // of a packet
	options []option
}

type option struct {
	code  uint16
	value []byte
}

// text is the value of an option; "" if there is none.
func (b *block) text(code uint16) string {
	for _, o := range b.options {
		if o.code == code {
			return string(o.value)
		}
	}
	return ""
}

func (b *block) number(t *testing.T, code uint16) uint64 {
	t.Helper()
	for _, o := range b.options {
		switch {
		case o.code != code:
		case len(o.value) == 4:
			return uint64(binary.LittleEndian.Uint32(o.value))
		case len(o.value) == 8:
			return binary.LittleEndian.Uint64(o.value)
		default:
			t.Fatalf("option %d has %d bytes", code, len(o.value))
		}
	}
	return 0
}

// readBlocks reads a file strictly: what does not follow the format fails the test.
func readBlocks(t *testing.T, file []byte) []block {
	t.Helper()
	fixed := map[uint32]int{blockSection: 16, blockInterface: 8, blockPacket: 20, blockStatistics: 12}
	var blocks []block
	for len(file) > 0 {
		if len(file) < 12 {
			t.Fatalf("%d bytes behind the last block", len(file))
		}
		b := block{kind: binary.LittleEndian.Uint32(file)}
		length := int(binary.LittleEndian.Uint32(file[4:]))
		n, known := fixed[b.kind]
		if !known || length%4 != 0 || length > len(file) || length < 12+n || int(binary.LittleEndian.Uint32(file[length-4:])) != length {
			t.Fatalf("block %d of %d bytes: unknown, or its lengths do not fit", b.kind, length)
		}
		body := file[8 : length-4]
		b.fixed, body = body[:n], body[n:]
		if b.kind == blockPacket {
			kept := int(binary.LittleEndian.Uint32(b.fixed[12:]))
			b.data, body = body[:kept], body[(kept+3)&^3:]
		}
		b.options = readOptions(t, body)
		blocks, file = append(blocks, b), file[length:]
	}
	return blocks
}

func readOptions(t *testing.T, body []byte) []option {
	t.Helper()
	var all []option
	for {
		if len(body) < 4 {
			t.Fatal("options without an end")
		}
		o := option{code: binary.LittleEndian.Uint16(body)}
		n := int(binary.LittleEndian.Uint16(body[2:]))
		if o.code == optEnd {
			if n != 0 || len(body) != 4 {
				t.Fatalf("the end of the options has length %d, with %d bytes behind it", n, len(body)-4)
			}
			return all
		}
		if len(body) < 4+(n+3)&^3 {
			t.Fatalf("option %d of %d bytes is cut", o.code, n)
		}
		o.value, body = body[4:4+n], body[4+(n+3)&^3:]
		all = append(all, o)
	}
}

// dump writes a file as text.
func dump(t *testing.T, file []byte) string {
	t.Helper()
	var b strings.Builder
	for _, x := range readBlocks(t, file) {
		u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(x.fixed[at:]) }
		ns := func(at int) uint64 { return uint64(u32(at))<<32 | uint64(u32(at+4)) }
		switch x.kind {
		case blockSection:
			fmt.Fprintf(&b, "section\n  hardware %q os %q application %q\n  %s\n", x.text(shbHardware), x.text(shbOS), x.text(shbUserAppl), x.text(optComment))
		case blockInterface:
			fmt.Fprintf(&b, "interface %q\n  %s\n  os %q filter %q\n", x.text(ifName), x.text(ifDescription), x.text(ifOS), x.text(ifFilter))
		case blockPacket:
			way := map[uint64]string{inbound: "in", outbound: "out"}[x.number(t, epbFlags)]
			fmt.Fprintf(&b, "packet %d %s %d ns, %d of %d bytes, id %016x\n  %s\n", u32(0), way, ns(4), u32(12), u32(16), x.number(t, epbPacketID), x.text(optComment))
			for d := x.data; len(d) > 0; d = d[min(32, len(d)):] {
				fmt.Fprintf(&b, "  %x\n", d[:min(32, len(d))])
			}
		case blockStatistics:
			fmt.Fprintf(&b, "statistics %d: recv %d ifdrop %d accepted %d osdrop %d delivered %d\n  %s\n", u32(0), x.number(t, isbIfRecv),
				x.number(t, isbIfDrop), x.number(t, isbFilterAccept), x.number(t, isbOSDrop), x.number(t, isbUsrDeliv), x.text(optComment))
		}
	}
	return b.String()
}
