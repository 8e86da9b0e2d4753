// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package tracer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/topology"
)

// errNeedsLinux is what every question to a kernel ends with here. Recordings
// are replayed without this package.
var errNeedsLinux = fmt.Errorf("tracing needs Linux, this is %s: run stackhop on the node and replay its recording here: %w", runtime.GOOS, errors.ErrUnsupported)

// Tracer cannot be made on this system.
type Tracer struct{}

// New refuses: there is no Linux kernel to attach to.
func New(Config) (*Tracer, error) { return nil, errNeedsLinux }

// Probe refuses: there is no Linux kernel to ask.
func Probe() (*Kernel, error) { return nil, errNeedsLinux }

// HookTable refuses: there is no Linux kernel to ask.
func HookTable() ([]HookStatus, error) { return nil, errNeedsLinux }

// ReadTopology refuses: there is no Linux kernel to ask.
func ReadTopology([]byte) (*topology.Topology, []error, error) { return nil, nil, errNeedsLinux }

// Run and the methods below exist for the sake of the commands' interface;
// nobody has a Tracer to call them on.
func (*Tracer) Run(context.Context, Sink) error { return errNeedsLinux }

// Table is empty here.
func (*Tracer) Table() []events.Hook { return nil }

// Names is nil here.
func (*Tracer) Names() events.Names { return nil }

// Wall is the zero time here.
func (*Tracer) Wall(uint64) time.Time { return time.Time{} }

// Clock is zero here.
func (*Tracer) Clock() ClockPair { return ClockPair{} }

// Now is zero here.
func (*Tracer) Now() ClockPair { return ClockPair{} }

// Facts is empty here.
func (*Tracer) Facts(FactsFilter) Facts { return Facts{} }

// BootID refuses: there is no Linux kernel to ask.
func BootID() (string, error) { return "", errNeedsLinux }

// HasFunctions is false here.
func (*Tracer) HasFunctions() bool { return false }

// Stats is empty here.
func (*Tracer) Stats() Stats { return Stats{} }

// Attached is empty here.
func (*Tracer) Attached() []HookStatus { return nil }

// DropPrivilege has nothing to drop.
func (*Tracer) DropPrivilege() error { return errNeedsLinux }

// Close has nothing to detach.
func (*Tracer) Close() error { return nil }

// IsCleaner is false here: nothing outlives a process that was never needed.
func IsCleaner() bool { return false }

// RunCleaner has nothing to do.
func RunCleaner() int { return 0 }
