// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"errors"

	"github.com/stackhop/stackhop/events"
)

// maxItems is how many events and ticks a block holds at most.
const maxItems = 32768

// Columns of a block of events, in their order.
const (
	colRef     = iota // per item: which packet it is of, or a tick
	colControl        // per event: what is not as foreseen
	colTimeLow
	colTimeHigh
	colTime // times that are not a little after the one before
	colTick
	colPacket
	colFlow
	colShape
	colSeq
	colCPU
	colLink
	colHash
	colOther
	colBackend
	colSocket
	colHeaderMask
	colHeader
	colConntrack
	colLength // of the packets' bytes
	colBytes
	// What the columns above refer to, told where it first occurs.
	colShapes
	colLinks
	colSockets
	colTuples
	colAddrs
	numColumns
)

// Codes in colRef; the others are refSlot + zigzag(slot - the slot before).
const (
	refSame = iota // the packet of the event before
	refNew         // a packet that this block has no slot for yet
	refTick
	refSlot
)

// Bits in colControl: what is not as foreseen and so is told.
const (
	ctlShape = 1 << iota
	ctlSeq
	ctlCPU
	ctlFlow
	ctlLink
	ctlHash
	ctlTime
)

// Bits of shape.has: what an event of that shape carries.
const (
	hasOther = 1 << iota
	hasSocket
	hasBackend
	hasLink
	hasHash
	hasBytes
	hasAll = 1<<iota - 1
)

// Bits of colHeaderMask: what differs from the header that is referred to.
const (
	hdrTuple = 1 << iota
	hdrLength
	hdrTCPFlags
	hdrTTL
	hdrTOS
	hdrICMP
	hdrFragment
	hdrIPID
	hdrSeq
	hdrAck
	hdrMark
	hdrGSO
	hdrInner
	hdrAll = 1<<iota - 1
)

// xorBytes is how much of a packet's bytes is told as the difference to the
// packet before in its flow: the headers. Payload is not like other payload.
const xorBytes = 80

// shape is all of an event that is the same each time a packet of some kind
// passes a hook. Packets that go the same way meet the same shapes in the same
// order, so that each foretells the next.
type shape struct {
	location        uint64
	netns, ifindex  uint32
	reason          uint32
	ret             int32
	hook            events.HookID
	flags           events.Flags
	ext             events.Ext
	has             uint8
	family, nfHook  uint8
	icmpType, icmpC uint8
}

// guess is what is remembered of a shape.
type guess struct {
	next int32 // the shape that came after it in a packet
	link int32 // the link that an event of it had; -1: none yet
}

// slot is what is remembered of a packet within a block.
type slot struct {
	flow            int32
	shape           int32
	header          int32 // index of its last header; -1: none yet
	bytes, bytesLen int32 // where its last bytes are; 0 long: none yet
	hash            uint32
	seq             uint16
	cpu             uint16
}

// flowRef is what is remembered of a flow within a block.
type flowRef struct {
	first [2]firstOf // of the last packet of each direction: as it began
	ct    int32      // its last conntrack entry; -1: none yet
}

type firstOf struct {
	header          events.Header
	bytes, bytesLen int32
}

// memory is what writer and reader both remember while a block is made or
// read. What they foresee depends on it and on nothing else, so it must change
// in the same way on both sides.
type memory struct {
	shapes  []shape
	guesses []guess
	slots   []slot
	packets []uint64 // by slot
	flows   []flowRef
	flowIDs []uint64
	headers []events.Header
	arena   []byte

	time, tick uint64
	slot       int32
	cpu        uint16
	lastPacket uint64
}

// reset forgets all. Shape 0, the one before any other, and flow 0, of packets
// without one, are always known.
func (m *memory) reset() {
	m.shapes = append(m.shapes[:0], shape{})
	m.guesses = append(m.guesses[:0], guess{link: -1})
	m.slots, m.packets, m.headers, m.arena = m.slots[:0], m.packets[:0], m.headers[:0], m.arena[:0]
	m.flows = append(m.flows[:0], flowRef{ct: -1})
	m.flowIDs = append(m.flowIDs[:0], 0)
	m.time, m.tick, m.slot, m.cpu, m.lastPacket = 0, 0, -1, 0, 0
}

// newSlot remembers a packet.
func (m *memory) newSlot(packet uint64) {
	m.slot = int32(len(m.slots)) //nolint:gosec // at most maxItems
	m.slots = append(m.slots, slot{header: -1, seq: 0xffff, cpu: m.cpu})
	m.packets = append(m.packets, packet)
	m.lastPacket = packet
}

// direction is the index of an event in flowRef.first.
func direction(f events.Flags) int {
	if f&events.FlagReply != 0 {
		return 1
	}
	return 0
}

func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) } //nolint:gosec // the bits are kept
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }    //nolint:gosec // the bits are kept

// errColumns is wrapped by all complaints about a block of events.
var errColumns = errors.New("malformed events")

var le = binary.LittleEndian
