// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"errors"
	"net/netip"

	"github.com/stackhop/stackhop/tracer"
)

var errNotLinux = errors.New("packets can be traced on Linux only")

func newTracer(tracer.Config) (liveTracer, error) { return nil, errNotLinux }
func netnsAddrs(string) ([]netip.Addr, error)     { return nil, errNotLinux }
func netnsNames() []string                        { return nil }
func kernelRelease() string                       { return "" }
