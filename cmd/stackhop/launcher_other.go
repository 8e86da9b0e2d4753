// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

const launcherEnv = "STACKHOP_LAUNCHER"

// canHold: there is no privilege to drop either.
const canHold = false

func isLauncher() bool { return false }
func runLauncher() int { return exitError }
