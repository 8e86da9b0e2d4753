// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFirstThreadIsKept: however many goroutines are locked to threads at a time,
// none is on the first one. /proc/PID/ns/net is that thread's.
func TestFirstThreadIsKept(t *testing.T) {
	const goroutines = 64
	var started, ended sync.WaitGroup
	threads, end := make(chan int, goroutines), make(chan struct{})
	started.Add(goroutines)
	for range goroutines {
		ended.Go(func() {
			runtime.LockOSThread()
			threads <- unix.Gettid()
			started.Done()
			<-end
			runtime.UnlockOSThread()
		})
	}
	started.Wait()
	close(end)
	ended.Wait()
	for range goroutines {
		if <-threads == os.Getpid() {
			t.Error("a goroutine is on the first thread")
		}
	}
}
