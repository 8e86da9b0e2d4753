// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Churn is the oracle for packet identity: each packet says in its payload's
// first 16 bytes which flow it belongs to and which packet of it it is, so that
// whoever mixes two packets up, or misses one, can be told so.

// minPayload holds the flow's and the packet's number, both big endian.
const minPayload = 16

// A churnPlan says what is sent.
type churnPlan struct {
	from, to       string // namespaces
	proto          string
	dst            string // address:port that is dialed
	listen         string // address:port that the receiver listens on
	packets, flows int
	size           int // payload of a packet (TCP: of a message)
	vary           int // packet N has N modulo vary bytes more
	window         int // packets of a flow on their way at once
	perConn        int // packets of a flow from one port; then another (0: all)
	rate           int // packets a second of all flows together (0: unlimited)
}

// A flowCount is one flow's oracle: what was sent, what the receiver got, what
// came back from it.
type flowCount struct {
	Flow       int      `json:"flow"`
	Locals     []string `json:"locals,omitempty"`
	Sent       int64    `json:"sent"`
	Received   int64    `json:"received"`
	Duplicates int64    `json:"duplicates"`
	Echoed     int64    `json:"echoed"`
	Errors     int64    `json:"errors"`
}

type churnReport struct {
	Proto      string      `json:"proto"`
	Dialed     string      `json:"dialed"`
	Sent       int64       `json:"sent"`
	Received   int64       `json:"received"`
	Duplicates int64       `json:"duplicates"`
	Echoed     int64       `json:"echoed"`
	Errors     int64       `json:"errors"`
	Seconds    float64     `json:"seconds"`
	Rate       float64     `json:"packets_per_second"`
	Flows      []flowCount `json:"flows,omitempty"`
}

// A tally is the receiver's record: a bit for each packet of each flow.
type tally struct {
	mu    sync.Mutex
	seen  [][]uint64
	count []flowCount
}

func newTally(flows, perFlow int) *tally {
	t := &tally{seen: make([][]uint64, flows), count: make([]flowCount, flows)}
	for i := range t.seen {
		t.seen[i] = make([]uint64, perFlow/64+1)
	}
	return t
}

// got records one payload; what is not ours is left alone.
func (t *tally) got(payload []byte) {
	if t == nil || len(payload) < minPayload {
		return
	}
	flow, seq := binary.BigEndian.Uint64(payload), binary.BigEndian.Uint64(payload[8:])
	t.mu.Lock()
	defer t.mu.Unlock()
	if flow >= uint64(len(t.seen)) || seq/64 >= uint64(len(t.seen[flow])) {
		return
	}
	word, bit := &t.seen[flow][seq/64], uint64(1)<<(seq%64)
	if *word&bit != 0 {
		t.count[flow].Duplicates++
		return
	}
	*word |= bit
	t.count[flow].Received++
}

// churn sends the plan's packets and reports what became of them.
func churn(p churnPlan) (churnReport, error) {
	t := newTally(p.flows, p.packets/p.flows+1)
	stop, err := p.receive(t)
	if err != nil {
		return churnReport{}, err
	}
	start := time.Now()
	pace := newPacer(p.rate)
	counts := make([]flowCount, p.flows)
	errs := make([]error, p.flows)
	var wg sync.WaitGroup
	for i := range p.flows {
		n := p.packets / p.flows
		if i < p.packets%p.flows {
			n++
		}
		wg.Go(func() { counts[i], errs[i] = p.sendFlow(i, n, pace) })
	}
	wg.Wait()
	report := churnReport{Proto: p.proto, Dialed: p.dst, Seconds: time.Since(start).Seconds()}
	// What a slow receiver has not read yet has arrived as well.
	errs = append(errs, stop.Close())
	for i, c := range counts {
		c.Received, c.Duplicates = t.result(i)
		report.Sent += c.Sent
		report.Received += c.Received
		report.Duplicates += c.Duplicates
		report.Echoed += c.Echoed
		report.Errors += c.Errors
		report.Flows = append(report.Flows, c)
	}
	report.Rate = float64(report.Sent) / report.Seconds
	return report, errors.Join(errs...)
}

func (t *tally) result(flow int) (received, duplicates int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count[flow].Received, t.count[flow].Duplicates
}

// receive starts the recording echo server in the receiver's namespace.
func (p churnPlan) receive(t *tally) (io.Closer, error) {
	var stop io.Closer
	err := inNetns(p.to, func() error {
		if p.proto == "udp" {
			conn, err := net.ListenPacket("udp", p.listen)
			if err != nil {
				return err
			}
			e := newEchoer(conn, t)
			stop = e
			go e.run()
			return roomFor(conn.(*net.UDPConn))
		}
		l, err := net.Listen("tcp", p.listen)
		if err != nil {
			return err
		}
		stop = l
		go echoTCP(l, t)
		return nil
	})
	return stop, err
}

// roomFor gives the receiver's socket room for all that can be on its way, so
// that what is missing was lost elsewhere. Beyond the system's limit, as root may.
func roomFor(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	}); err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt SO_RCVBUFFORCE", serr)
}

// An echoer sends every datagram back and records it.
type echoer struct {
	net.PacketConn
	tally   *tally
	closing atomic.Bool
	done    chan struct{}
}

func newEchoer(conn net.PacketConn, t *tally) *echoer {
	return &echoer{PacketConn: conn, tally: t, done: make(chan struct{})}
}

// drainWait is how long nothing may come before nothing is taken to come.
const drainWait = 300 * time.Millisecond

// Close ends it once it has read what came to its socket: on a slow machine it
// may be far behind the senders.
func (e *echoer) Close() error {
	e.closing.Store(true)
	err := e.SetReadDeadline(time.Now().Add(drainWait))
	<-e.done
	return errors.Join(err, e.PacketConn.Close())
}

func (e *echoer) run() {
	defer close(e.done)
	buf := make([]byte, 1<<16)
	for {
		n, from, err := e.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if e.closing.Load() && e.SetReadDeadline(time.Now().Add(drainWait)) != nil {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		e.tally.got(buf[:n])
		// Whether the answer arrives is what is measured.
		_, _ = e.WriteTo(buf[:n], from)
	}
}

// echoTCP sends everything back. What it records are messages, which carry
// their length in front (see tcpMessage); without a tally it echoes bytes.
func echoTCP(l net.Listener, t *tally) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if t == nil {
				io.Copy(conn, conn)
				return
			}
			echoMessages(conn, t)
		}()
	}
}

// echoMessages records and returns messages. The first message tells the size
// of all: flow and number come first in the payload, so no length can.
func echoMessages(conn net.Conn, t *tally) {
	head := make([]byte, minPayload+4)
	if _, err := io.ReadFull(conn, head); err != nil {
		return
	}
	size := binary.BigEndian.Uint32(head[minPayload:])
	if size < uint32(len(head)) || size > 1<<20 {
		return
	}
	msg := make([]byte, size)
	copy(msg, head)
	rest := msg[len(head):]
	for {
		if _, err := io.ReadFull(conn, rest); err != nil {
			return
		}
		t.got(msg)
		if _, err := conn.Write(msg); err != nil {
			return
		}
		rest = msg
	}
}

// sendFlow sends n packets of one flow.
func (p churnPlan) sendFlow(flow, n int, pace *pacer) (flowCount, error) {
	c := flowCount{Flow: flow}
	msg := make([]byte, p.size+p.vary)
	binary.BigEndian.PutUint64(msg, uint64(flow))
	binary.BigEndian.PutUint32(msg[minPayload:], uint32(p.size))
	for seq := 0; seq < n; {
		end := n
		if p.perConn > 0 && seq+p.perConn < n {
			end = seq + p.perConn
		}
		conn, err := p.dialFrom(flow)
		if err != nil {
			return c, err
		}
		c.Locals = append(c.Locals, conn.LocalAddr().String())
		seq, err = p.exchange(conn, msg, seq, end, pace, &c)
		conn.Close()
		if err != nil {
			return c, fmt.Errorf("flow %d: %w", flow, err)
		}
	}
	if len(c.Locals) > 64 {
		c.Locals = nil // one port a packet or so: no reader wants the list
	}
	return c, nil
}

func (p churnPlan) dialFrom(flow int) (conn net.Conn, err error) {
	if derr := inNetns(p.from, func() error {
		conn, err = net.DialTimeout(p.proto, p.dst, dialTimeout)
		return err
	}); derr != nil {
		return nil, fmt.Errorf("flow %d: %w", flow, derr)
	}
	return conn, nil
}

// exchange sends packets seq to end with at most a window of them unanswered, so
// that nothing is lost for want of room. An answer that does not come within a
// moment is given up; its packet counts as not echoed.
func (p churnPlan) exchange(conn net.Conn, msg []byte, seq, end int, pace *pacer, c *flowCount) (int, error) {
	buf := make([]byte, len(msg))
	// The window opens one packet an echo: the first packets wait for the
	// neighbour's address, and the queue for that is short.
	waiting, window := 0, 1
	for seq < end || waiting > 0 {
		if seq < end && waiting < window {
			pace.wait()
			binary.BigEndian.PutUint64(msg[8:], uint64(seq))
			if _, err := conn.Write(msg[:p.length(seq)]); err != nil {
				if p.proto == "tcp" {
					return seq, err
				}
				c.Errors++ // the ICMP error of an earlier one
				continue
			}
			c.Sent++
			seq++
			waiting++
			continue
		}
		conn.SetReadDeadline(time.Now().Add(p.patience()))
		if err := p.readEcho(conn, buf); err != nil {
			if p.proto == "tcp" {
				return seq, fmt.Errorf("wait for an echo: %w", err)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				waiting = 0
			} else {
				c.Errors++
				waiting--
			}
			continue
		}
		c.Echoed++
		waiting--
		window = min(window+1, p.window)
	}
	return seq, nil
}

// length is that of a packet's payload.
func (p churnPlan) length(seq int) int {
	if p.vary == 0 {
		return p.size
	}
	return p.size + seq%p.vary
}

// patience is how long an echo is waited for. Where datagrams are sent as fast as they
// go, one that is not back soon is lost. A stream sends again, and a pace is such that
// nothing is lost: under emulation, with every hook attached, that may take its time, and
// who gives up sooner has echoes come to a closed socket.
func (p churnPlan) patience() time.Duration {
	if p.proto == "udp" && p.rate == 0 {
		return 2 * time.Second
	}
	return 30 * time.Second
}

// readEcho reads one datagram, or one message of a stream.
func (p churnPlan) readEcho(conn net.Conn, buf []byte) error {
	if p.proto == "udp" {
		_, err := conn.Read(buf)
		return err
	}
	_, err := io.ReadFull(conn, buf)
	return err
}

// A pacer spreads sends over time. A nil pacer does not wait.
type pacer struct {
	start time.Time
	gap   time.Duration
	n     atomic.Int64
}

func newPacer(rate int) *pacer {
	if rate <= 0 {
		return nil
	}
	return &pacer{start: time.Now(), gap: time.Second / time.Duration(rate)}
}

func (p *pacer) wait() {
	if p == nil {
		return
	}
	time.Sleep(time.Until(p.start.Add(time.Duration(p.n.Add(1)) * p.gap)))
}
