// SPDX-License-Identifier: Apache-2.0

// Command stackhop follows each packet through every kernel protocol stack that
// it visits on a Kubernetes node, and says in one line where it ended and why.
// Under the name kubectl-stackhop it is a plugin of kubectl.
package main

import "os"

func main() { os.Exit(run(newSystem(), os.Args)) }
