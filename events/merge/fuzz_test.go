// SPDX-License-Identifier: Apache-2.0

package merge

import (
	"errors"
	"testing"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/internal/cpubound"
)

// FuzzMerge: whatever three nodes say they saw, nothing panics, no part is given
// out twice but those that were merged, and none is joined to one at which it
// cannot have gone on.
func FuzzMerge(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef"))
	f.Add([]byte{0, 1, 9, 3, 4, 5, 1, 2, 9, 3, 4, 5, 2, 1, 9, 3, 4, 5, 2, 0, 9, 3, 4, 5})
	f.Fuzz(fuzzOnce)
}

func fuzzOnce(t *testing.T, data []byte) {
	defer cpubound.Run(t)()
	s := newSim(1, skew{}, skew{wall: 5, drift: 1e-3}, skew{wall: -1 << 40})
	for id := uint64(1); len(data) >= 6 && id < 500; id, data = id+1, data[6:] {
		h := header(int(data[0]%3), int(data[2]%3), int(data[2]>>4), []uint8{protoTCP, 17, 1}[data[3]%3])
		h.Seq, h.IPID, h.TTL, h.Fragment = uint32(data[4])*512, uint16(data[3]>>4), data[5]%3, data[3]>>2%4 == 3
		h.Length = uint32(data[5]) * 16
		h.TCPFlags = data[4]
		in, out := uint64(0), uint64(0)
		if data[1]&1 != 0 {
			in = 1e9 + uint64(data[1])<<12
		}
		if data[1]&2 != 0 || in == 0 {
			out = 1e9 + uint64(data[1])<<13
		}
		s.part(int(data[0]>>2)%3, id, in, out, &h, uint32(data[0]>>6), data[2]&8 != 0)
	}
	n, total := 0, 0
	if _, err := Merge(s.sources(), func(tr *events.Traversal) error {
		n++
		for i := 1; i < len(tr.Parts); i++ {
			if tr.Parts[i].Node == "" || tr.Verdict == "" {
				t.Fatalf("nonsense: %+v", tr)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, node := range s.nodes {
		total += len(node.all)
	}
	if n > total || (total > 0 && n == 0) {
		t.Fatalf("%d traversals of %d parts", n, total)
	}
}

// TestChanged: a source that hands out something else the second time, or
// fails, is named.
func TestChanged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		second func(out func(*events.Traversal), all []*events.Traversal) error
		want   error
	}{
		{"another", func(out func(*events.Traversal), all []*events.Traversal) error { out(all[1]); return nil }, errChanged},
		{"fewer", func(func(*events.Traversal), []*events.Traversal) error { return nil }, errChanged},
		{"more", func(out func(*events.Traversal), all []*events.Traversal) error {
			for _, t := range append(all, all...) {
				out(t)
			}
			return nil
		}, errChanged},
		{"an error", func(out func(*events.Traversal), all []*events.Traversal) error { return errors.ErrUnsupported }, errors.ErrUnsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSim(1, skew{}, skew{})
			s.warm(3)
			src := s.sources()
			first, times := src[1].Each, 0
			src[1].Each = func(out func(*events.Traversal)) error {
				if times++; times == 1 {
					return first(out)
				}
				return tt.second(out, s.nodes[1].all)
			}
			if _, err := Merge(src, func(*events.Traversal) error { return nil }); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// TestOutFails: an error of the receiver ends it at once.
func TestOutFails(t *testing.T) {
	s := newSim(1, skew{}, skew{})
	s.warm(3)
	n := 0
	if _, err := Merge(s.sources(), func(*events.Traversal) error { n++; return errors.ErrUnsupported }); !errors.Is(err, errors.ErrUnsupported) || n != 1 {
		t.Errorf("error %v behind %d", err, n)
	}
}
