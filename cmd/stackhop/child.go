// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// childPatience is how long a COMMAND that was told to end may take.
const childPatience = 700 * time.Millisecond

// child is the COMMAND behind "--".
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; valid once done is closed
}

// newChild prepares a command. That it exists is checked now, before anything
// is attached. Its standard output goes to our standard error, so that what we
// write to standard output stays one thing that a program can read.
func newChild(sys *system, errw io.Writer, words []string) (*child, error) {
	path, err := exec.LookPath(words[0])
	if err != nil {
		return nil, fmt.Errorf("COMMAND %s: %w", quoted(words[0]), errors.Unwrap(err))
	}
	out := errw
	if f, ok := sys.stderr.(*os.File); ok {
		out = f // directly: a pipe between would keep Wait waiting for grandchildren
	}
	cmd := exec.Command(path, words[1:]...)
	cmd.Args[0] = words[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = sys.stdin, out, out
	cmd.WaitDelay = childPatience
	return &child{cmd: cmd, done: make(chan struct{})}, nil
}

// start starts the command.
func (c *child) start() error {
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start COMMAND: %w", err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return nil
}

// ended says whether the command has ended.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// stop ends the command if it still runs: politely, then not.
func (c *child) stop() {
	if c.cmd.Process == nil || c.ended() {
		return
	}
	// Errors say that it has ended in the meantime.
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(childPatience)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}
