// SPDX-License-Identifier: Apache-2.0

// Command stackhop follows each packet through every kernel protocol stack that
// it visits on a Kubernetes node, and says in one line where it ended and why.
// Under the name kubectl-stackhop it is a plugin of kubectl.
package main

import (
	"os"

	"github.com/stackhop/stackhop/tracer"
)

func main() {
	if tracer.IsCleaner() {
		os.Exit(tracer.RunCleaner())
	}
	os.Exit(run(newSystem(), os.Args))
}
