// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
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

	// Of a launcher that waits: word tells it to become the command, answer says that
	// it has; nil: there is none.
	word, answer *os.File
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

// hold makes the command ready to be started later with the privileges of now: a
// process waits to become it.
func (c *child) hold() error {
	own := &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"stackhop-launcher", c.cmd.Path}, c.cmd.Args...)}
	own.Stdin, own.Stdout, own.Stderr, own.WaitDelay = c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr, c.cmd.WaitDelay
	own.Env = append(os.Environ(), launcherEnv+"=1")
	theirWord, word, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start COMMAND: %w", err)
	}
	defer theirWord.Close()
	answer, theirAnswer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start COMMAND: %w", errors.Join(err, word.Close()))
	}
	defer theirAnswer.Close()
	own.ExtraFiles = []*os.File{theirWord, theirAnswer}
	if err := own.Start(); err != nil {
		return fmt.Errorf("start COMMAND: %w", errors.Join(err, word.Close(), answer.Close()))
	}
	c.cmd, c.word, c.answer = own, word, answer
	c.wait()
	theirAnswer.Close() // its end is the process's
	if _, err := io.ReadFull(answer, make([]byte, 1)); err != nil {
		return fmt.Errorf("start COMMAND: its launcher does not wait: %w", errors.Join(err, c.stop()))
	}
	return nil
}

// start starts the command.
func (c *child) start() error {
	if c.word != nil {
		return c.release()
	}
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start COMMAND: %w", err)
	}
	c.wait()
	return nil
}

// release lets the launcher become the command.
func (c *child) release() error {
	_, err := c.word.Write([]byte{1})
	err = errors.Join(err, c.word.Close())
	c.word = nil // stop is for the command from now on
	text, rerr := io.ReadAll(c.answer)
	rerr = errors.Join(rerr, c.answer.Close())
	if errors.Is(err, syscall.EPIPE) { // not to be taken for the end of who reads the output
		err = errors.New("its launcher has ended")
	}
	if err = errors.Join(err, rerr); err != nil {
		return fmt.Errorf("start COMMAND: %w", err)
	}
	if len(text) == 0 {
		return nil
	}
	number, err := strconv.Atoi(string(text))
	if err != nil {
		return fmt.Errorf("start COMMAND: %w", err)
	}
	<-c.done
	c.err = nil // it was the launcher that ended
	return fmt.Errorf("start COMMAND: %w", &os.PathError{Op: "fork/exec", Path: c.cmd.Args[1], Err: syscall.Errno(number)})
}

// wait has it known when the process has ended.
func (c *child) wait() {
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
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

// errNotOurs says that COMMAND could not be ended.
var errNotOurs = errors.New("it goes on: it has become another user, whose processes cannot be ended without CAP_KILL (--keep-caps late keeps it, where there is one)")

// stop ends the command if it still runs: politely, then not.
func (c *child) stop() error {
	if c.cmd.Process == nil || c.ended() {
		return nil
	}
	if c.word != nil { // it never began
		err := errors.Join(c.word.Close(), c.answer.Close())
		<-c.done
		return err
	}
	// Other errors say that it has ended in the meantime.
	if err := c.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrPermission) {
		return errNotOurs
	}
	timer := time.NewTimer(childPatience)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		if err := c.cmd.Process.Kill(); errors.Is(err, os.ErrPermission) {
			return errNotOurs
		}
		<-c.done
	}
	return nil
}
