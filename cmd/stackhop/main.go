// SPDX-License-Identifier: Apache-2.0

// Command stackhop follows each packet through every kernel protocol stack that
// it visits on a Kubernetes node, and says in one line where it ended and why.
// Under the name kubectl-stackhop it is a plugin of kubectl.
package main

import (
	"os"
	"runtime"

	"github.com/stackhop/stackhop/tracer"
)

// The first thread is what /proc/PID shows of the whole process. No goroutine but
// this one gets it, so that none can leave it in another network namespace, where
// the tool would then seem to be to itself and to others.
func init() { runtime.LockOSThread() }

func main() {
	if tracer.IsCleaner() {
		os.Exit(tracer.RunCleaner())
	}
	if isLauncher() {
		os.Exit(runLauncher())
	}
	swallowAsks()
	// On a thread of its own a goroutine costs a switch each time that it waits.
	status := make(chan int)
	go func() { status <- run(newSystem(), os.Args) }()
	os.Exit(<-status)
}
