// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/topology"
	"github.com/stackhop/stackhop/tracer"
)

// liveTracer is what the commands need of a tracer.Tracer.
type liveTracer interface {
	Run(ctx context.Context, sink tracer.Sink) error
	Table() []events.Hook
	Names() events.Names
	Wall(mono uint64) time.Time
	HasFunctions() bool
	Stats() tracer.Stats
	Missed() (lost, unfollowed uint64)
	Attached() []tracer.HookStatus
	Clock() tracer.ClockPair
	Now() tracer.ClockPair
	Devices() map[uint32][]uint32
	Facts(f tracer.FactsFilter) tracer.Facts
	UpdateSets() error
	DropPrivilege() error
	Close() error
}

// system is everything outside this program that it touches, so that tests can
// put something else in its place.
type system struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	hostname       func() (string, error)
	kernelRelease  func() string
	bootID         func() (string, error)
	// terminal says whether stdout is one, errTerminal whether stderr is.
	terminal, errTerminal bool
	// own gives a new file to who called us through sudo.
	own func(*os.File) error
	// gives says whether own would give it to another user, foreign whether a
	// directory is another user's, and whether its users may remove only their own files.
	gives   func() bool
	foreign func(dir string) (foreign, sticky bool)
	// ownConnections are those that what is shown may go out through.
	ownConnections func() []events.Tuple
	// signals delivers the signals that end a run, until stop is called.
	signals func() (ch <-chan os.Signal, stop func())
	// asks delivers those that ask what was counted so far, until stop is called.
	asks func() (ch <-chan os.Signal, stop func())
	// exit ends the process at once.
	exit func(code int)

	newTracer func(tracer.Config) (liveTracer, error)
	// newCluster finds Kubernetes; nil: there is none.
	newCluster func(clusterOptions) (cluster, error)
	probe      func() (*tracer.Kernel, error)
	hookTable  func() ([]tracer.HookStatus, error)
	// readTopology takes a names file; nil: none.
	readTopology func(namesFile []byte) (t *topology.Topology, missing []error, err error)
	// netnsAddrs lists the addresses of a namespace, given by its name in
	// /run/netns or its inode; netnsNames lists the names there are.
	netnsAddrs func(nameOrInode string) ([]netip.Addr, error)
	netnsNames func() []string
}

func newSystem() *system {
	return &system{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		getenv: os.Getenv, hostname: os.Hostname, kernelRelease: kernelRelease, bootID: tracer.BootID,
		terminal: isTerminal(os.Stdout), errTerminal: isTerminal(os.Stderr), own: ownFile, gives: givesFiles, foreign: foreignDir, ownConnections: ownConnections,
		signals: notifySignals, asks: notifyAsks, exit: os.Exit,
		newTracer: newTracer, newCluster: newCluster, probe: tracer.Probe, hookTable: tracer.HookTable, readTopology: tracer.ReadTopology,
		netnsAddrs: netnsAddrs, netnsNames: netnsNames,
	}
}

func notifySignals() (<-chan os.Signal, func()) {
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	// Without a handler a write to a closed standard output kills the
	// process. signal.Ignore would be inherited by the COMMAND.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	return ch, func() {
		signal.Stop(ch)
		signal.Stop(pipe)
	}
}

// interruptible returns a context that the first signal cancels. A second one
// ends the process at once: the kernel side goes with it.
func (sys *system) interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	ch, release := sys.signals()
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() {
		for range 2 {
			select {
			case <-ch:
				if ctx.Err() != nil {
					sys.exit(exitError)
					return
				}
				cancel()
			case <-over:
				return
			}
		}
	})
	return ctx, func() {
		cancel()
		close(over)
		wg.Wait()
		release()
	}
}

// lockedWriter lets several goroutines write whole messages, and one have a line
// that stays below them.
type lockedWriter struct {
	mu    sync.Mutex
	w     io.Writer
	width int // of the line; 0: there is none
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	return l.w.Write(p)
}

// line shows a line on a terminal until something else is written. It is ASCII.
func (l *lockedWriter) line(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	l.width = len(text)
	// Nobody is left to be told if standard error is gone.
	_, _ = io.WriteString(l.w, text)
}

// clear removes the line.
func (l *lockedWriter) clear() {
	if l.width > 0 {
		_, _ = io.WriteString(l.w, "\r"+strings.Repeat(" ", l.width)+"\r")
		l.width = 0
	}
}
