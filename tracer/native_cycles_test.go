// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bufio"
	"flag"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

var cycles = flag.Int("cycles", 20, "how often TestNativeCycles starts and stops")

// Starting and stopping again and again leaves file descriptors, goroutines and the
// kernel's memory as they are after the first times.
func TestNativeCycles(t *testing.T) {
	c := newCluster(t, 2)
	filter := expression(t, "udp and host "+c.pods[0].addr.String())
	cycle := func(t *testing.T) { startRun(t, Config{Select: filter}, nil).stop() }
	const first = 3 // caches fill
	for range first {
		t.Run("first", cycle)
	}
	files, routines, kernel := openFiles(t), runtime.NumGoroutine(), vmalloc(t)
	for range *cycles - first {
		t.Run("cycle", cycle)
	}
	if !becomes(2*time.Second, func() bool { return runtime.NumGoroutine() <= routines }) {
		t.Errorf("%d goroutines, %d after %d times", runtime.NumGoroutine(), routines, first)
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d open files, %d after %d times", now, files, first)
	}
	// Each time takes a ring of 4 MiB for each processor, and frees it in its own time.
	const slack = 32 << 20
	if !becomes(10*time.Second, func() bool { return vmalloc(t) <= kernel+slack }) {
		t.Errorf("the kernel has %d MiB mapped, %d after %d times", vmalloc(t)>>20, kernel>>20, first)
	}
	t.Logf("%d times: %d files (%d), %d goroutines (%d), %d MiB of the kernel's (%d)", *cycles,
		openFiles(t), files, runtime.NumGoroutine(), routines, vmalloc(t)>>20, kernel>>20)
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// vmalloc is how many bytes the kernel has mapped for itself: rings and maps are
// among them.
func vmalloc(t *testing.T) int {
	t.Helper()
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if text, ok := strings.CutPrefix(in.Text(), "VmallocUsed:"); ok {
			kib, err := strconv.Atoi(strings.Fields(text)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmallocUsed in /proc/meminfo")
	return 0
}
