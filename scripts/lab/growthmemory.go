// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/scripts/internal/plot"
)

// clockTicks is how many of them a second has in /proc, whatever the kernel's HZ.
const clockTicks = 100

// parseCPU reads /proc/PID/stat. The program's name may hold anything, brackets too.
func parseCPU(stat string) (user, system float64) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, 0
	}
	seconds := func(field string) float64 {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0
		}
		return float64(n) / clockTicks
	}
	return seconds(fields[11]), seconds(fields[12])
}

// mostDetach is how soon Ctrl-C must be answered, whatever happens.
const mostDetach = 2 * time.Second

var errSlowEnd = errors.New("the tool was slow to end after Ctrl-C")

// memoryStep is how often memory is looked at.
const memoryStep = time.Second

// mostFloods bounds how often the load of memory is raised.
const mostFloods = 6

// beyond is a load of which the tool can read half at most: twice what it follows of a
// flood that nothing holds back, where all want the processors, or half as much again,
// until that is enough or all that the machine makes.
func (g *growth) beyond(w benchWay, site benchSite) (rate float64, err error) {
	able, err := g.capacity(w, site)
	if err != nil {
		return 0, err
	}
	rate = 2 * able
	for n := 1; ; n++ {
		flood, cost, err := w.aroundOne(floodLoad(int(rate)), site, g.lasts)
		if err != nil {
			return 0, err
		}
		g.tell("%s datagrams/s of %s meant: %.1f times what is read", scaled(flood.rate), scaled(rate), cost.times())
		if cost.times() >= 2 || flood.rate < rate*2/3 || n == mostFloods {
			return rate, nil
		}
		rate *= 1.5
	}
}

// times is how many times what was read has happened: packets were shed, events lost.
func (c *benchCost) times() float64 {
	return float64(c.Packets+c.Shed) / float64(max(c.Packets, 1)) * float64(c.Matched) / float64(max(c.Events, 1))
}

// memory is what the tool takes while twice as much happens as it can follow.
func (g *growth) memory() (*plot.Chart, error) {
	c := &plot.Chart{Title: "Memory against time, beyond capacity", X: "time [s]", Y: "resident memory, rings counted once [MiB]"}
	return c, withPair(func(p pairInfo) error {
		w := g.selecting(pairSite(p), selectAll)
		rate, err := g.beyond(w, pairSite(p))
		if err != nil {
			return err
		}
		r, err := w.start()
		if err != nil {
			return err
		}
		twice, err := ringsTwice(r.proc.cmd.Process.Pid)
		if err != nil {
			_, stopped := r.stop()
			return errors.Join(err, stopped)
		}
		atRest := memoryParts(r.proc, twice)
		watched := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { watchMemory(r.proc, twice, c, watched) })
		flood, err := floodLoad(int(rate)).run(pairSite(p), g.long)
		inTheEnd := memoryParts(r.proc, twice)
		close(watched)
		wg.Wait()
		cost, stopped := r.stop()
		if err := errors.Join(err, stopped); err != nil {
			return err
		}
		c.Title = fmt.Sprintf("Memory against time, at %.1f times what is read", cost.times())
		c.Note = g.note(fmt.Sprintf("%s datagrams/s of the %s meant, %s events/s of packets that are followed, %.1f times what was read, %d events lost", scaled(flood.rate), scaled(rate),
			scaled(float64(cost.Matched)/g.long.Seconds()), cost.times(), cost.Lost))
		g.tell("at rest %s; in the end %s", atRest, inTheEnd)
		g.tell("%s; at most %s; Ctrl-C was answered in %.2f s", c.Note, mebibytes(cost.PeakRSS-twice), cost.Detach)
		if cost.Detach > mostDetach.Seconds() {
			return fmt.Errorf("%w: %.2f s, want %v", errSlowEnd, cost.Detach, mostDetach)
		}
		return nil
	})
}

// memoryParts says what resident memory is of, as man 5 proc has it, the rings counted once.
func memoryParts(p *benchProcess, twice int) string {
	return fmt.Sprintf("%s (anonymous %s, of files %s, shared %s)", mebibytes(p.memory("VmRSS")-twice),
		mebibytes(p.memory("RssAnon")), mebibytes(p.memory("RssFile")-twice), mebibytes(p.memory("RssShmem")))
}

func watchMemory(p *benchProcess, twice int, c *plot.Chart, done <-chan struct{}) {
	tick := time.NewTicker(memoryStep)
	defer tick.Stop()
	for begun := time.Now(); ; {
		if now, peak := p.memory("VmRSS"), p.memory("VmHWM"); now > 0 {
			c.Add(plot.Point{Series: seriesResident, X: time.Since(begun).Seconds(), Y: float64(now-twice) / 1024})
			c.Add(plot.Point{Series: seriesPeak, X: time.Since(begun).Seconds(), Y: float64(peak-twice) / 1024})
		}
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// ringsTwice is how much of a process's resident memory, in KiB, is counted twice: the
// kernel maps a ring buffer's pages a second time behind themselves, so that an event that
// goes over the end can be read in one piece.
func ringsTwice(pid int) (kib int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return 0, err
	}
	return twiceMapped(string(text)), nil
}

// twiceMapped adds up what the mappings of BPF maps have in Rss and not in Pss, their
// share of pages that are mapped more than once (man 5 proc).
func twiceMapped(smaps string) (kib int) {
	ring := false
	for line := range strings.Lines(smaps) {
		key, value, _ := strings.Cut(line, ":")
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch {
		case strings.Contains(key, "-"): // a range of addresses begins a mapping
			ring = strings.HasSuffix(line, "anon_inode:bpf-map\n")
		case !ring || err != nil:
		case key == "Rss":
			kib += n
		case key == "Pss":
			kib -= n
		}
	}
	return kib
}

// floodBurst is how many datagrams one port sends.
const floodBurst = 64

// floodLoad sends datagrams without waiting for an answer, so many a second (0:
// as fast as two threads can), and counts them.
func floodLoad(rate int) benchLoad {
	pace := newPacer(rate / floodBurst)
	return benchLoad{name: "flood", unit: "datagrams/s", proto: "udp", clients: 2, echo: swallowOne, ask: func(c *benchClient, until time.Time) error {
		buf := make([]byte, questionSize)
		for time.Now().Before(until) {
			pace.wait()
			if err := c.burst(buf); err != nil {
				return err
			}
		}
		return nil
	}}
}

// burst sends from one port.
func (c *benchClient) burst(buf []byte) error {
	fd, err := c.dial(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for range floodBurst {
		if err := writeAll(fd, buf); err != nil {
			c.failed.Add(1)
			continue
		}
		c.count.Add(1)
	}
	return nil
}

func swallowOne(conn net.PacketConn, _ *atomic.Int64) bool {
	var buf [1024]byte
	_, _, err := conn.ReadFrom(buf[:])
	return !errors.Is(err, net.ErrClosed)
}
