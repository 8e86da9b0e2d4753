// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"
	"time"
)

func TestParseCPU(t *testing.T) {
	for _, tt := range []struct {
		name, stat   string
		user, system float64
	}{
		{"usual", "7 (stackhop) S 1 7 7 0 -1 4194304 100 0 0 0 150 25 3 4 20 0 1 0 99", 1.5, 0.25},
		{"odd name", "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 9 1 3 4 20 0 1 0 99", 0.09, 0.01},
		{"too short", "7 (stackhop) S 1", 0, 0},
		{"no numbers", "7 (stackhop) S 1 7 7 0 -1 4194304 100 0 0 0 x y 3 4", 0, 0},
		{"empty", "", 0, 0},
	} {
		if user, system := parseCPU(tt.stat); user != tt.user || system != tt.system {
			t.Errorf("%s: %v, %v; want %v, %v", tt.name, user, system, tt.user, tt.system)
		}
	}
}

func TestFlowMesh(t *testing.T) {
	for _, flows := range append([]int{2, 3, 5}, flowCounts...) {
		senders, receivers := flowMesh{flows: flows}.sides()
		if senders*receivers < flows || (senders-1)*receivers >= flows || receivers > 1000 {
			t.Errorf("%d flows: %d senders, %d receivers", flows, senders, receivers)
		}
	}
}

// TestFlowMeshRuns asks over many flows of a pair, each at least once.
func TestFlowMeshRuns(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces need root: run make test as root")
	}
	err := withPair(func(p pairInfo) error {
		done := make(chan struct{})
		time.AfterFunc(300*time.Millisecond, func() { close(done) })
		answered, err := flowMesh{from: p.A, to: p.B, addr: p.AddrB, flows: 100}.run(done)
		if answered < 100 {
			t.Errorf("%d questions were answered, want at least 100", answered)
		}
		result, ferr := floodLoad(1000).run(pairSite(p), 300*time.Millisecond)
		if ferr != nil || result.errors != 0 || result.rate <= 0 || result.rate > 3000 {
			t.Errorf("a flood of 1000 datagrams/s: %+v, %v", result, ferr)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTwiceMapped(t *testing.T) {
	const smaps = `00400000-0206a000 r-xp 00000000 fe:00 1234    /usr/bin/stackhop
Size:              29096 kB
Rss:               20696 kB
Pss:               20000 kB
VmFlags: rd ex mr mw me
7f0000001000-7f0000801000 r--s 00001000 00:0e 15    anon_inode:bpf-map
Size:               8192 kB
Rss:                8192 kB
Pss:                4096 kB
Pss_Dirty:          4096 kB
7f0000900000-7f0000901000 rw-s 00000000 00:0e 15    anon_inode:bpf-map
Size:                  4 kB
Rss:                   4 kB
Pss:                   4 kB
7f0001000000-7f0001100000 rw-p 00000000 00:00 0
Rss:                 512 kB
Pss:                 256 kB
`
	if got := twiceMapped(smaps); got != 4096 {
		t.Errorf("%d KiB are counted twice, want 4096", got)
	}
	if got := twiceMapped(""); got != 0 {
		t.Errorf("of nothing %d KiB", got)
	}
}
