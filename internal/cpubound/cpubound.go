// SPDX-License-Identifier: Apache-2.0

// Package cpubound fails a fuzz test's run that takes too long: whoever sends a file must
// not have its reader work on it without end.
package cpubound

import (
	"flag"
	"fmt"
	"testing"
	"time"
)

// Most is what one run may take of the CPU. A worker of a fuzz test runs one input at a
// time, and nothing else: what its process takes meanwhile is the run's, and the machine
// may be as busy as it likes.
const Most = time.Second

// Run begins a run, and returns what ends it: defer cpubound.Run(t)(). Without -fuzz other
// tests run beside, and nothing is bounded.
func Run(t testing.TB) func() {
	if f := flag.Lookup("test.fuzz"); f == nil || f.Value.String() == "" {
		return func() {}
	}
	end, ended := run(t, taken), make(chan struct{})
	go watch(ended, taken, func(took time.Duration) { panic(fmt.Sprintf("one run takes %v of the CPU already", took)) })
	return func() {
		close(ended)
		end()
	}
}

// watch is for a run that never ends, which the fuzzer would take for one that ends with
// its time: it calls tooLong after ten times Most.
func watch(ended <-chan struct{}, taken func() time.Duration, tooLong func(took time.Duration)) {
	begun, look := taken(), time.NewTicker(Most)
	defer look.Stop()
	for {
		select {
		case <-ended:
			return
		case <-look.C:
			if took := taken() - begun; took > 10*Most {
				tooLong(took)
				return
			}
		}
	}
}

func run(t testing.TB, taken func() time.Duration) func() {
	begun := taken()
	return func() {
		t.Helper()
		if took := taken() - begun; took > Most {
			t.Errorf("one run took %v of the CPU, more than %v", took, Most)
		}
	}
}
