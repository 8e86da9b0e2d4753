// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/binary"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events"
)

// Namespaces and devices of a manyFlows' packets.
const (
	flowsClient, flowsNode, flowsServer = 100, 101, 102
	flowsTask                           = 4321
)

// manyFlows are records of the ring of UDP datagrams, from pod to pod over a
// bridge, of one flow after the other. The records of one datagram are made once;
// for each further one only what differs is written into them.
type manyFlows struct {
	flows   uint64
	raws    [][]byte
	headers [][]byte // where the tuples are that name the client
	d       *decoder
	s       *events.Stitcher
	e       events.Event
	packet  uint64
	now     uint64
	at      int // of raws
}

// flowsNames know the pods' namespaces and devices.
type flowsNames struct{}

func (flowsNames) Device(netns, ifindex uint32) (events.Device, bool) {
	if netns == flowsNode {
		return events.Device{Name: "vethclient", Kind: "veth", Master: 9, PeerNetns: flowsClient}, ifindex != 0
	}
	return events.Device{Name: "eth0", Kind: "veth", PeerNetns: flowsNode}, ifindex != 0
}

func (flowsNames) Namespace(netns uint32) events.Namespace {
	switch netns {
	case flowsNode:
		return events.Namespace{Name: "n1", Kind: events.KindNode, Node: "n1"}
	case flowsClient:
		return events.Namespace{Name: "client", Kind: events.KindPod, Node: "n1", Pod: "default/client"}
	}
	return events.Namespace{Name: "server", Kind: events.KindPod, Node: "n1", Pod: "default/server"}
}

func (flowsNames) Address(string, uint16) events.AddressNames        { return events.AddressNames{} }
func (flowsNames) Process(uint32) (comm string, pid uint32, ok bool) { return "", 0, false }
func (flowsNames) Symbol(uint64) string                              { return "" }
func (flowsNames) DropReason(uint32) string                          { return "" }

// flowsPace is the time between two events: 400,000 a second.
const flowsPace = 2500

// newManyFlows makes the records. Datagrams that are not selected are stitched, and not
// given out: what is left is the price of an event.
func newManyFlows(tb testing.TB, flows uint64, selected bool) *manyFlows {
	m := &manyFlows{flows: flows, d: every(), now: 1}
	c := events.Config{HasFunctions: true, Node: "n1", Names: flowsNames{}, Reuse: true}
	for i, st := range m.d.stations {
		c.Hooks = append(c.Hooks, events.Hook{ID: events.HookID(i), Name: "hook_" + st.String(), Station: st}) //nolint:gosec // few
	}
	m.s = events.NewStitcher(c, func(t *events.Traversal) {
		if !selected || t.Verdict != events.Delivered {
			tb.Fatalf("%s: %s", t.Verdict, t.Summary)
		}
	})
	client, node, server := m.in(flowsClient, 2), m.in(flowsNode, 5), m.in(flowsServer, 2)
	client(events.StationSocketOut, events.StationNetfilter, events.StationConntrackIn, events.StationIPOut, events.StationNeighbour,
		events.StationTCEgress, events.StationTransmit, events.StationVeth)
	node(events.StationReceive, events.StationTCIngress, events.StationBridgeIn, events.StationBridgeForward, events.StationTCEgress,
		events.StationTransmit, events.StationVeth)
	server(events.StationReceive, events.StationIPIn, events.StationNetfilter, events.StationConntrackIn, events.StationConntrackConfirm,
		events.StationLocalDeliver, events.StationTransportIn, events.StationSocketIn, events.StationEnd)
	for i, raw := range m.raws {
		binary.LittleEndian.PutUint16(raw[34:], uint16(i)) //nolint:gosec // few
		if selected {
			raw[38] |= uint8(events.FlagMatched)
		}
	}
	m.raws[0][38] |= uint8(events.FlagFirst)
	m.raws[len(m.raws)-1][38] |= uint8(events.FlagEnd)
	return m
}

// in returns what adds records of a device's namespace, one a station.
func (m *manyFlows) in(netns, ifindex uint32) func(...events.Station) {
	return func(stations ...events.Station) {
		for _, st := range stations {
			ext, size := uint8(0), bpf.EventSize
			switch st {
			case events.StationSocketOut:
				ext, size = 1, bpf.EventHeaderSize
			case events.StationConntrackIn:
				ext, size = 2, bpf.EventCTSize
			}
			raw := record(st, ext, size)
			binary.LittleEndian.PutUint32(raw[24:], netns)
			binary.LittleEndian.PutUint32(raw[28:], ifindex)
			if st == events.StationSocketOut || st == events.StationSocketIn {
				raw[38] |= uint8(events.FlagTask)
				binary.LittleEndian.PutUint32(raw[44:], flowsTask)
				copy(raw[48:], "resolver")
			}
			switch ext {
			case 1:
				tuple(raw[72:])
				m.headers = append(m.headers, raw[72:])
			case 2:
				tuple(raw[64:])
				m.headers = append(m.headers, raw[64:])
			}
			m.raws = append(m.raws, raw)
		}
	}
}

// tuple writes the addresses of a datagram as the kernel side does.
func tuple(b []byte) {
	copy(b, []byte{10, 0, 0, 1})
	copy(b[16:], []byte{10, 200, 0, 2})
	b[35], b[36], b[37] = 53, 17, 4
}

// step is one event, from its record on.
func (m *manyFlows) step(tb testing.TB) {
	raw := m.raws[m.at]
	if m.at == 0 {
		m.next()
	}
	m.now += flowsPace
	binary.LittleEndian.PutUint64(raw, m.now)
	binary.LittleEndian.PutUint64(raw[8:], m.packet)
	binary.LittleEndian.PutUint64(raw[16:], m.packet%m.flows+1)
	if err := m.d.decode(raw, &m.e); err != nil {
		tb.Fatal(err)
	}
	m.s.Add(&m.e)
	if m.at++; m.at == len(m.raws) {
		m.at = 0
		if m.packet%64 == 0 {
			m.s.Advance(m.now)
		}
	}
}

// next begins another datagram, of the next flow.
func (m *manyFlows) next() {
	m.packet++
	flow := m.packet % m.flows
	for _, b := range m.headers {
		b[1], b[2], b[3] = uint8(flow>>16), uint8(flow>>8), uint8(flow) //nolint:gosec // its bytes
	}
}

// fill goes on until each flow was seen, or all that is bounded is full.
func (m *manyFlows) fill(tb testing.TB) {
	const full = 4 << 16                                           // datagrams: of most things the last 64 Ki are kept
	for range len(m.raws) * int(min(max(m.flows, full/8), full)) { //nolint:gosec // bounded
		m.step(tb)
	}
}

// BenchmarkStitch is what an event costs from the ring's record on, with so many
// flows that live side by side. Of those that are not selected nothing is given out.
func BenchmarkStitch(b *testing.B) {
	for _, selected := range []bool{false, true} {
		for _, flows := range []uint64{1, 1000, 100_000, 1_000_000} {
			b.Run("selected="+strconv.FormatBool(selected)+"/flows="+strconv.FormatUint(flows, 10), func(b *testing.B) {
				m := newManyFlows(b, flows, selected)
				m.fill(b)
				b.ReportAllocs()
				before := cpuTime(b)
				for b.Loop() {
					m.step(b)
				}
				b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// cpuTime is what the process has taken, in all its threads: beside others on the same
// machine it says more than the time that went by.
func cpuTime(tb testing.TB) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// TestManyFlows: with a million flows an event costs no allocation, and what is
// remembered of them is bounded.
func TestManyFlows(t *testing.T) {
	const most = 24 << 20 // bytes: 16 MiB were seen, and 5 with one flow
	before := heapInUse()
	m := newManyFlows(t, 1_000_000, false)
	m.fill(t)
	if n := testing.AllocsPerRun(100_000, func() { m.step(t) }); n != 0 {
		t.Errorf("%v allocations per event", n)
	}
	if n := heapInUse() - before; n > most {
		t.Errorf("%d bytes are kept, want at most %d", n, most)
	}
	runtime.KeepAlive(m)
}

// TestManyFlowsSelected: the datagrams of the benchmark are delivered.
func TestManyFlowsSelected(t *testing.T) {
	m := newManyFlows(t, 10, true)
	for range 100 * len(m.raws) {
		m.step(t)
	}
	m.s.Flush()
	if st := m.s.Stats(); st.Delivered != 100 || st.Traversals != 100 {
		t.Errorf("%+v", st)
	}
}

// heapInUse is how many bytes live.
func heapInUse() int64 {
	var st runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&st)
	return int64(st.HeapAlloc) //nolint:gosec // far from 2^63
}
