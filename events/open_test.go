// SPDX-License-Identifier: Apache-2.0

package events

import (
	"net/netip"
	"runtime"
	"testing"
)

// openStations are what an open packet met, and where it was told its headers (h) or
// its conntrack entry (c), or a socket (s).
var openStations = map[string]struct {
	way  []Station
	told string
}{
	// Pod to pod over a bridge; its end is not seen.
	"tracepoints": {
		[]Station{
			StationTCEgress, StationQueue, StationTransmit, StationReceive, StationTCIngress, StationTCEgress, StationQueue, StationTransmit, StationReceive, StationTCIngress,
		}, "h    h    ",
	},
	"functions": {
		[]Station{
			StationSocketOut, StationNetfilter, StationConntrackIn, StationIPOut, StationNeighbour, StationTCEgress, StationTransmit, StationVeth,
			StationReceive, StationTCIngress, StationBridgeIn, StationNetfilter, StationTable, StationBridgeForward, StationTCEgress, StationTransmit, StationVeth,
			StationReceive, StationIPIn, StationNetfilter, StationConntrackIn, StationConntrackConfirm, StationLocalDeliver, StationTransportIn,
		}, "h c       h        h c  ",
	},
}

// TestOpenPacketMemory: what an open packet takes. In an overload tens of thousands are
// open, and most of what the tool takes is theirs.
func TestOpenPacketMemory(t *testing.T) {
	const packets = 40_000
	for _, tt := range []struct {
		of   string
		most int64 // bytes
	}{{"tracepoints", 900}, {"functions", 1900}} {
		t.Run(tt.of, func(t *testing.T) {
			is := openStations[tt.of]
			c := Config{HasFunctions: tt.of == "functions"}
			for st := range 256 {
				c.Hooks = append(c.Hooks, Hook{ID: HookID(st + 1), Station: Station(st)}) //nolint:gosec // 256
			}
			s := NewStitcher(c, func(*Traversal) { t.Fatal("given out") })
			header := Header{Tuple: Tuple{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 1234, 80, protoTCP}, Length: 60, TTL: 64}
			before := heapInUse()
			for p := range uint64(packets) {
				for i, st := range is.way {
					e := Event{Time: p*1000 + uint64(i), Packet: p + 1, Flow: 1, Hook: HookID(st) + 1, Seq: uint16(i), Netns: 1, Ifindex: 2, Flags: FlagMatched} //nolint:gosec // few
					switch is.told[min(i, len(is.told)-1)] {
					case 'h':
						e.Ext, e.Header = ExtHeader, header
					case 'c':
						e.Ext, e.CT = ExtConntrack, Conntrack{Original: header.Tuple, Reply: header.Reverse()}
					}
					if socketStation(st) {
						e.Socket = Socket{Inode: 1, PID: 2}
					}
					s.Add(&e)
				}
			}
			each := (heapInUse() - before) / packets
			t.Logf("%d bytes with %d events", each, len(is.way))
			if each > tt.most {
				t.Errorf("want at most %d", tt.most)
			}
			runtime.KeepAlive(s)
		})
	}
}

// heapInUse is how many bytes live.
func heapInUse() int64 {
	var st runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&st)
	return int64(st.HeapAlloc) //nolint:gosec // far from 2^63
}
