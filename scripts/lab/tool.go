// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stackhop/stackhop/events"
)

// toolPatience bounds one run of the tool: one that hangs. The traffic of churn took
// four minutes on 7, beside two other guests on two CPUs.
const toolPatience = 8 * time.Minute

// A tool is the program under test.
type tool struct {
	path  string
	names string               // its --names file; empty: it finds names by itself
	attr  *syscall.SysProcAttr // of its process; nil: as this one's
}

// findTool takes a path, or finds stackhop beside this program or on PATH.
func findTool(path string) (tool, error) {
	t := tool{path: path, names: namesFile}
	if path != "" {
		_, err := os.Stat(path)
		return t, err
	}
	if me, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(me), "stackhop")
		if _, err := os.Stat(beside); err == nil {
			t.path = beside
			return t, nil
		}
	}
	found, err := exec.LookPath("stackhop")
	if err != nil {
		return t, errors.New("no stackhop beside this program and none on PATH: build it with 'make build', or name it by -tool")
	}
	t.path = found
	return t, nil
}

// A session is one run of the tool that goes on until it is told to end.
type session struct {
	cmd            *exec.Cmd
	stdout, stderr transcript
	done           chan struct{} // closed when it has ended
	err            error         // how it ended; valid then
	timer          *time.Timer
}

// A transcript is what a program says; it may be read while it goes on.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// Bytes are those up to now.
func (o *transcript) Bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.text.Bytes())
}

func (o *transcript) String() string { return string(o.Bytes()) }

// begin starts `trace` with more arguments, without waiting for it.
func (t tool) begin(args ...string) (*session, error) {
	first := []string{"trace", "-o", "json"}
	if t.names != "" {
		first = append(first, "--names", t.names)
	}
	return t.launch(append(first, args...)...)
}

// launch starts the tool, without waiting for it.
func (t tool) launch(args ...string) (*session, error) {
	s := &session{done: make(chan struct{})}
	s.cmd = exec.Command(t.path, args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	s.cmd.SysProcAttr = t.attr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.timer = time.AfterFunc(toolPatience, func() { s.cmd.Process.Kill() })
	go func() {
		s.err = s.cmd.Wait()
		s.timer.Stop()
		close(s.done)
	}()
	return s, nil
}

// start starts `trace` and waits until everything is attached.
func (t tool) start(args ...string) (*session, error) {
	dir, err := os.MkdirTemp("", "lab-ready-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ready := filepath.Join(dir, "ready")
	s, err := t.begin(append([]string{"--ready-file", ready}, args...)...)
	if err != nil {
		return nil, err
	}
	if err := s.await(func() bool { _, err := os.Stat(ready); return err == nil }); err != nil {
		return nil, fmt.Errorf("stackhop did not get ready: %w", err)
	}
	return s, nil
}

// await polls a condition until it holds; the end of the tool is an error.
func (s *session) await(holds func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-s.done:
			return s.failure()
		case <-tick.C:
		}
	}
	return nil
}

func (s *session) failure() error {
	err := s.err
	if err == nil {
		err = errors.New("it ended")
	}
	return fmt.Errorf("%w: %s", err, lastLines(s.stderr.String(), 12))
}

// lastLines is the end of a program's messages.
func lastLines(text string, n int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}

// signal sends a signal and waits for the end. It returns the exit status; a
// death by the signal is -1, and no error.
func (s *session) signal(sig os.Signal) (status int, err error) {
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	return s.wait()
}

// interrupt is Ctrl-C.
func (s *session) interrupt() error {
	status, err := s.signal(syscall.SIGINT)
	if err == nil && status != 0 {
		err = fmt.Errorf("stackhop ended with status %d: %s", status, lastLines(s.stderr.String(), 12))
	}
	return err
}

func (s *session) wait() (status int, err error) {
	<-s.done
	var exit *exec.ExitError
	if errors.As(s.err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, s.err
}

// around runs `trace ARGS -- COMMAND...`: the tool starts the command when
// everything is attached, and ends when its packets have settled.
func (t tool) around(args []string, command ...string) (*session, []*events.Traversal, error) {
	s, err := t.begin(append(append([]string{}, args...), append([]string{"--"}, command...)...)...)
	if err != nil {
		return nil, nil, err
	}
	if err := s.good(); err != nil {
		return nil, nil, err
	}
	all, err := s.traversals()
	return s, all, err
}

// good waits for the end, which must be a good one of the tool and of the
// command that it ran, if any.
func (s *session) good() error {
	status, err := s.wait()
	if err != nil {
		return err
	}
	if status != 0 || strings.Contains(s.stderr.String(), "COMMAND: ") {
		return fmt.Errorf("stackhop ended with status %d: %s", status, lastLines(s.stderr.String(), 12))
	}
	return nil
}

// run runs the tool to its good end.
func (t tool) run(args ...string) (*session, error) {
	s, err := t.launch(args...)
	if err != nil {
		return nil, err
	}
	if err := s.good(); err != nil {
		return nil, fmt.Errorf("stackhop %s: %w", args[0], err)
	}
	return s, nil
}

// traversals are what the tool has written. The session has ended.
func (s *session) traversals() ([]*events.Traversal, error) {
	return parseTraversals(s.stdout.Bytes())
}

// soFar are the traversals that a session which goes on has written whole.
func (s *session) soFar() ([]*events.Traversal, error) {
	text := s.stdout.Bytes()
	return parseTraversals(text[:bytes.LastIndexByte(text, '\n')+1])
}

func parseTraversals(text []byte) ([]*events.Traversal, error) {
	var all []*events.Traversal
	in := bufio.NewReader(bytes.NewReader(text))
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if len(line) == 0 {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("line %d of the tool's output has no end", n)
		}
		t := &events.Traversal{}
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields() // what the tool writes and its own type does not know
		if err := dec.Decode(t); err != nil {
			return nil, fmt.Errorf("line %d of the tool's output: %w", n, err)
		}
		all = append(all, t)
	}
}

// summary is what the tool says at its end.
func (s *session) summary() []string {
	var out []string
	for _, line := range strings.Split(s.stderr.String(), "\n") {
		if strings.HasPrefix(line, "stackhop: ") {
			out = append(out, strings.TrimPrefix(line, "stackhop: "))
		}
	}
	return out
}
