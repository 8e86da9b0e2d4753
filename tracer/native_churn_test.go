// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var churnPackets = flag.Int("churn", 1_000_000, "packets of each churn test")

// The churn is the oracle for packet identity. Each packet's payload begins with
// the number of its flow and its own; its length and, through the IPv4
// identification that connected sockets count up, its headers tell the same. So
// each life that was traced names the one packet that it should be.
const (
	churnPort   = 4500
	churnBatch  = 8    // packets of one GSO buffer
	churnLength = 1024 // different lengths
	minLength   = 64
	// How many packets may be ahead of the reader of the rings and of the
	// receiver: nothing is to be lost for want of room. With GRO a veth device
	// has room for 256.
	aheadOfTracer      = 4096
	aheadOfReceiver    = 4096
	aheadOfReceiverGRO = 128
)

// payload is the length of packet (or of a GSO buffer, of each of its packets) n
// of a flow. Four in a row are alike, so that GRO finds something to merge.
func payload(n int) int { return minLength + n/4%churnLength }

type churnMode struct {
	name     string
	gro, gso bool
	flows    int
}

func (m churnMode) ahead() int64 {
	if m.gro {
		return aheadOfReceiverGRO
	}
	return aheadOfReceiver
}

func (m churnMode) batch() int {
	if m.gso {
		return churnBatch
	}
	return 1
}

// receiver counts each packet that the receiving process got.
type receiver struct {
	got        [][]uint64 // a bit for each packet of each flow
	count      atomic.Int64
	duplicates int
	strange    int
	done       chan struct{}
}

func newReceiver(conn *net.UDPConn, flows, perFlow int) *receiver {
	r := &receiver{done: make(chan struct{})}
	for range flows {
		r.got = append(r.got, make([]uint64, perFlow/64+1))
	}
	go func() {
		defer close(r.done)
		buf := make([]byte, 2048)
		for {
			n, _, err := conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			r.take(buf[:n])
		}
	}()
	return r
}

func (r *receiver) take(b []byte) {
	r.count.Add(1)
	flow, seq := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	if len(b) < minLength || flow >= uint64(len(r.got)) || seq/64 >= uint64(len(r.got[flow])) {
		r.strange++
		return
	}
	word, bit := &r.got[flow][seq/64], uint64(1)<<(seq%64)
	if *word&bit != 0 {
		r.duplicates++
	}
	*word |= bit
}

func (r *receiver) has(flow, seq int) bool { return r.got[flow][seq/64]&(1<<(seq%64)) != 0 }

// sender sends all flows' packets, from a few goroutines.
type sender struct {
	mode     churnMode
	conns    []*net.UDPConn
	perFlow  int // packets of each flow
	batches  atomic.Int64
	packets  atomic.Int64
	began    *atomic.Int64 // lives that the tracer told of
	received *atomic.Int64
}

func (s *sender) run() error {
	workers := min(4, len(s.conns))
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { errs[w] = s.work(w, workers) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// work sends the flows w, w+workers, …, one packet of each in turn.
func (s *sender) work(w, workers int) error {
	batch := s.mode.batch()
	buf := make([]byte, batch*(minLength+churnLength))
	for n := range s.perFlow / batch {
		for flow := w; flow < len(s.conns); flow += workers {
			if err := s.wait(); err != nil {
				return err
			}
			size := payload(n)
			for i := range batch {
				binary.BigEndian.PutUint64(buf[i*size:], uint64(flow))
				binary.BigEndian.PutUint64(buf[i*size+8:], uint64(n*batch+i))
			}
			if err := s.send(s.conns[flow], buf[:batch*size], size); err != nil {
				return fmt.Errorf("flow %d, packet %d: %w", flow, n, err)
			}
			s.batches.Add(1)
			s.packets.Add(int64(batch))
		}
	}
	return nil
}

// keepsUp says whether the tracer and the receiver do.
func (s *sender) keepsUp() bool {
	return s.batches.Load()-s.began.Load() < aheadOfTracer && s.packets.Load()-s.received.Load() < s.mode.ahead()
}

func (s *sender) wait() error {
	if s.keepsUp() {
		return nil
	}
	for deadline := time.Now().Add(patience); !s.keepsUp(); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("stuck: %d buffers sent, %d seen by the tracer; %d packets sent, %d received",
				s.batches.Load(), s.began.Load(), s.packets.Load(), s.received.Load())
		}
	}
	return nil
}

func (s *sender) send(conn *net.UDPConn, b []byte, size int) error {
	if !s.mode.gso {
		_, err := conn.Write(b)
		return err
	}
	control := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], uint16(size))
	_, _, err := conn.WriteMsgUDP(b, control, nil)
	return err
}

func TestNativeChurn(t *testing.T) {
	for _, flows := range []int{1, 64} {
		for _, m := range []churnMode{{name: "off"}, {name: "gro", gro: true}, {name: "gso", gso: true}} {
			m.flows = flows
			t.Run(fmt.Sprintf("%d flows, %s", flows, m.name), func(t *testing.T) { churn(t, m) })
		}
	}
}

func churn(t *testing.T, m churnMode) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	c.setOffloads(m.gro, m.gso)
	if m.gro {
		c.setThreaded(c.node, a.host)
	}
	o := newOracle(m, *churnPackets/m.flows)
	r := startRun(t, Config{Select: expression(t, fmt.Sprintf("dst %s and udp port %d", b.addr, churnPort)),
		RingBytes: 16 << 20, Poll: time.Millisecond}, o.event)
	r.mu.Lock()
	o.expect(r, c)
	r.mu.Unlock()
	server := c.listenUDP(b, churnPort)
	got := newReceiver(server, m.flows, o.perFlow)
	s := &sender{mode: m, perFlow: o.perFlow, began: &o.began, received: &got.count}
	for range m.flows {
		conn := c.dialUDP(a, b, churnPort)
		o.flow[port(conn)] = len(s.conns)
		s.conns = append(s.conns, conn)
	}
	start := time.Now()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all packets have been received", func() bool { return got.count.Load() >= s.packets.Load() })
	took := time.Since(start)
	stats := r.stop()
	server.Close()
	<-got.done
	o.judge(t, got, stats)
	t.Logf("%d packets in %v (%.0f a second), %d events, lost %v, %d buffers merged by GRO",
		s.packets.Load(), took.Round(time.Millisecond), float64(s.packets.Load())/took.Seconds(), stats.Delivered, stats.Lost, o.merged)
}
