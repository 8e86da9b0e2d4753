// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// rings are the ring buffers, one a CPU.
type rings struct {
	maps    []*ebpf.Map
	readers []*ringbuf.Reader
	record  ringbuf.Record
}

// maxBatch bounds what is read from one ring before the others have their
// turn, so that a busy CPU does not keep back the events of a quiet one.
const maxBatch = 4096

func newRings(outer *ebpf.Map, cpus []uint32, size int) (*rings, error) {
	r := &rings{}
	for _, cpu := range cpus {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "sh_ring", Type: ebpf.RingBuf, MaxEntries: uint32(size)})
		if err != nil {
			r.close()
			return nil, fmt.Errorf("create ring of %d bytes for CPU %d: %w", size, cpu, err)
		}
		r.maps = append(r.maps, m)
		reader, err := ringbuf.NewReader(m)
		if err != nil {
			r.close()
			return nil, fmt.Errorf("map ring of CPU %d: %w", cpu, err)
		}
		// The kernel side wakes nobody: reads return at once when a ring is
		// empty, and drain is called again soon.
		reader.SetDeadline(time.Unix(1, 0))
		r.readers = append(r.readers, reader)
		if err := outer.Put(cpu, m); err != nil {
			r.close()
			return nil, fmt.Errorf("hand over ring of CPU %d: %w", cpu, err)
		}
	}
	return r, nil
}

// drain gives all records that lie in the rings to f, which must not keep them.
func (r *rings) drain(f func(raw []byte)) error {
	for busy := true; busy; {
		busy = false
		for _, reader := range r.readers {
			n, err := r.drainOne(reader, f)
			if err != nil {
				return err
			}
			busy = busy || n == maxBatch
		}
	}
	return nil
}

func (r *rings) drainOne(reader *ringbuf.Reader, f func(raw []byte)) (n int, err error) {
	// Even a read that may not wait asks epoll first.
	if reader.AvailableBytes() == 0 {
		return 0, nil
	}
	for n = 0; n < maxBatch; n++ {
		err := reader.ReadInto(&r.record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("read ring: %w", err)
		}
		f(r.record.RawSample)
	}
	return n, nil
}

func (r *rings) close() {
	for _, reader := range r.readers {
		reader.Close()
	}
	for _, m := range r.maps {
		m.Close()
	}
}

// onlineCPUs lists the CPUs that need a ring: far fewer than the possible ones
// on many virtual machines. An event on a CPU that comes later is counted as
// lost.
func onlineCPUs() ([]uint32, error) {
	data, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return nil, fmt.Errorf("online CPUs: %w", err)
	}
	return parseCPUs(strings.TrimSpace(string(data)))
}

// parseCPUs reads a list such as "0-3,8".
func parseCPUs(list string) ([]uint32, error) {
	var cpus []uint32
	for part := range strings.SplitSeq(list, ",") {
		first, last, ok := strings.Cut(part, "-")
		if !ok {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || to < from {
			return nil, fmt.Errorf("CPU list %q: %w", list, strconv.ErrSyntax)
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus = append(cpus, uint32(cpu))
		}
	}
	return cpus, nil
}
