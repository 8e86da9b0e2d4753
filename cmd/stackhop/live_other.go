// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"errors"
	"net/netip"
	"os"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/tracer"
)

var errNotLinux = errors.New("packets can be traced on Linux only")

func newTracer(tracer.Config) (liveTracer, error) { return nil, errNotLinux }
func newCluster(clusterOptions) (cluster, error)  { return nil, nil }
func netnsAddrs(string) ([]netip.Addr, error)     { return nil, errNotLinux }
func netnsNames() []string                        { return nil }
func ownConnections() []events.Tuple              { return nil }
func ownFile(*os.File) error                      { return nil }
func givesFiles() bool                            { return false }
func foreignDir(string) (foreign, sticky bool)    { return false, false }
func notifyAsks() (<-chan os.Signal, func())      { return nil, func() {} }
func swallowAsks()                                {}
func kernelRelease() string                       { return "" }

// isTerminal is good enough to choose colours: the other character devices do
// not mind them.
func isTerminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
