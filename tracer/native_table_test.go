// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/pcapexpr"
)

// followed is how many packets the kernel side takes for being under way.
func (r *run) followed() (n int) {
	r.t.Helper()
	m := r.tracer.state.coll.Maps[bpf.MapPackets]
	keys, values := make([]uint64, 1024), make([]packetValue, 1024)
	for cursor := (ebpf.MapBatchCursor{}); ; {
		got, err := m.BatchLookup(&cursor, keys, values, nil)
		n += got
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return n
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// readAll takes n datagrams from a socket.
func readAll(t *testing.T, conn *net.UDPConn, n int) {
	t.Helper()
	buf := make([]byte, 256)
	for range n {
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNativePacketTable: as many packets at one time as 1, 100 and 200 % of those
// that may be followed. Those that are followed are whole, the others are counted, and
// once somebody has read them, which the tracepoints do not tell of, nothing is left
// of any within five seconds: neither an entry nor a mark of its address.
func TestNativePacketTable(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.pods[0], c.pods[1]
	const table = 200
	for i, percent := range []int{1, 100, 200} {
		t.Run(fmt.Sprintf("%d %%", percent), func(t *testing.T) {
			t.Parallel() // for their waits
			n, port := table*percent/100, 4400+i
			r := startRun(t, Config{Select: expression(t, fmt.Sprintf("udp and dst %s and port %d", b.addr, port)), MaxPackets: table}, nil)
			server, client := c.listenUDP(b, port), c.dialUDP(a, b, port) // nobody reads: the packets stay in the socket
			for range n {
				if _, err := client.Write(make([]byte, 64)); err != nil {
					t.Fatal(err)
				}
			}
			want := min(n, table)
			eventually(t, "the followed packets have arrived", func() bool { _, arrived := r.arrivals(b); return arrived == want })
			if got := r.followed(); got != want {
				t.Errorf("%d packets lie in the socket, %d in the table, want %d there", n, got, want)
			}
			readAll(t, server, n)
			start := time.Now()
			if !becomes(5*time.Second, func() bool { return r.followed() == 0 }) {
				t.Errorf("%d packets still in the table, 5 s after the last was read", r.followed())
			}
			gone := time.Since(start)
			if marks, err := r.tracer.state.tracked(); err != nil || marks != 0 {
				t.Errorf("%d marks of addresses that nothing is followed at any more, %v", marks, err)
			}
			s := r.stop()
			lost := s.Lost["packet-table"]
			t.Logf("%d packets: %d followed, not followed counted %d times; nothing left after %.1f s", n, s.Packets, lost, gone.Seconds())
			if s.Packets != uint64(want) || (lost > 0) != (n > table) || lost < uint64(n-want) {
				t.Errorf("followed %d of %d packets with room for %d, counted %d", s.Packets, n, table, lost)
			}
			expectOnlyLost(t, s, "packet-table")
			expectWhole(t, r, c, want)
		})
	}
}

// expectWhole compares a run's packets with the way between two pods: each has all of
// its events.
func expectWhole(t *testing.T, r *run, c *cluster, n int) {
	t.Helper()
	seqs := map[uint64][]uint16{}
	for _, e := range r.seen() {
		seqs[e.Packet] = append(seqs[e.Packet], e.Seq)
	}
	for id, list := range seqs {
		slices.Sort(list)
		for i, seq := range list {
			if int(seq) != i {
				t.Errorf("packet %x has the events %v", id, list)
				break
			}
		}
	}
	all := r.stitch()
	if len(seqs) != n || len(all) != n {
		t.Errorf("%d packets and %d traversals, want %d", len(seqs), len(all), n)
	}
	for _, tr := range all {
		if len(tr.Visits) != 3 || tr.Lost != 0 || tr.Verdict != events.Incomplete {
			t.Errorf("%d visits, %d lost, %s: %s", len(tr.Visits), tr.Lost, tr.Verdict, tr.Summary)
		}
	}
}

// TestNativeForgetUnprivileged: a packet can be forgotten by who has dropped all
// capabilities. In a process of its own: the library finds out once in a process whether
// programs can be run.
func TestNativeForgetUnprivileged(t *testing.T) {
	needRoot(t)
	const alone = "STACKHOP_TEST_ALONE"
	if os.Getenv(alone) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	tr, err := New(Config{Select: pcapexpr.None(), Hooks: HooksTracepoints})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	err = onThread(func() error {
		hdr, none := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			return err
		}
		_, err := tr.forget.Run(&ebpf.RunOptions{Context: [3]uint64{}})
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
