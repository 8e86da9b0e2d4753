// SPDX-License-Identifier: Apache-2.0

package events

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"testing"
)

// BenchmarkRemembered is what remembering a packet's flow and the sockets at its ends
// takes by itself, of so many flows one after the other: of more than are kept each comes
// as a new one, and another goes for it. "one table" is the least that knows flows at all.
func BenchmarkRemembered(b *testing.B) {
	for _, flows := range []uint64{1, 1_000_000} {
		b.Run("one table/flows="+strconv.FormatUint(flows, 10), func(b *testing.B) {
			var t flowTable
			t.init(defaultMaxPackets)
			for i := range uint64(2 * defaultMaxPackets) {
				t.see(i%flows+1, false)
			}
			for i := uint64(0); b.Loop(); i++ {
				t.see(i%flows+1, false)
			}
		})
		b.Run("all/flows="+strconv.FormatUint(flows, 10), func(b *testing.B) {
			var t flowTable
			t.init(defaultMaxPackets)
			packet := func(i uint64) {
				client := plainTuple{}
				client.src = netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(i%flows)))).As16() //nolint:gosec // below a million
				t.see(i%flows+1, false)
				t.setProcess(1, client, &Socket{PID: 1})
				t.setProcess(2, client.reverse(), &Socket{PID: 2})
			}
			for i := range uint64(2 * defaultMaxPackets) {
				packet(i)
			}
			for i := uint64(0); b.Loop(); i++ {
				packet(i)
			}
		})
	}
}
