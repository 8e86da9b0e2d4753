// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// An oddity is traffic that the cases have none of: what becomes of it for its
// sender, and what the tool must say of its packets.
type oddity struct {
	name      string
	from      string // the client's namespace
	network   string // tcp, udp, ping (an ICMP socket for datagrams) or raw
	dial      string // HOST:PORT, for ping and raw HOST
	bytes     int    // sent, and echoed
	fails     error  // how the client is refused; nil: everything is echoed
	silent    bool   // the client waits for nothing
	meanwhile []change
	want      []kindWant
}

// A change is a command in a namespace, and the one that takes it back; ""
// where that of another change does.
type change struct{ netns, do, undo string }

// inserted is a rule at the head of a chain.
func inserted(netns, tool, rule string) change {
	return change{netns, tool + " -I " + rule, tool + " -D " + rule}
}

// runCommand runs a command line without quotes in a namespace.
func runCommand(netns, line string) error {
	argv := strings.Fields(line)
	return feed(netns, "", argv[0], argv[1:]...)
}

// An oddResult is what happened to an oddity, for whoever looks for its packets.
type oddResult struct {
	Name  string `json:"name"`
	Local string `json:"local"` // the client's address and port; of ping and raw the address only
	PID   int    `json:"pid"`
	Fault string `json:"fault,omitempty"` // what went for the client as it should not

	open io.Closer // a socket that finds out later what became of its packet
}

func cmdOddities(args []string) error {
	fs := flags("oddities")
	file := fs.String("o", "", "write what happened to `FILE`, one object a line, also of what did not go as it should")
	if err := fs.Parse(args); err != nil {
		return err
	}
	chosen, err := findOddities(fs.Args())
	if err != nil {
		return err
	}
	var results strings.Builder
	var errs []error
	good := true
	for _, o := range chosen {
		start := time.Now()
		r, err := o.play()
		if err != nil {
			good = false
			r.Fault = err.Error()
			err = fmt.Errorf("%s (%s %s): %w", o.name, o.network, o.dial, err)
			if *file == "" {
				errs = append(errs, err)
			} else {
				fmt.Fprintf(os.Stderr, "lab: %v\n", err)
			}
		}
		if r.open != nil {
			defer r.open.Close()
		}
		fmt.Fprintf(os.Stderr, "lab: %s (%.1f s)\n", o.name, time.Since(start).Seconds())
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Fprintf(&results, "%s\n", text)
	}
	if *file != "" {
		errs = append(errs, writeFile(*file, results.String()))
	}
	if good {
		fmt.Fprintf(os.Stderr, "lab: all %d oddities went as they should\n", len(chosen))
	}
	return errors.Join(errs...)
}

// findOddities returns the named ones, or all.
func findOddities(names []string) ([]oddity, error) {
	if len(names) == 0 {
		return oddities, nil
	}
	var chosen []oddity
	for _, name := range names {
		i := slices.IndexFunc(oddities, func(o oddity) bool { return o.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no oddity %q", name)
		}
		chosen = append(chosen, oddities[i])
	}
	return chosen, nil
}

// play makes the traffic, with the changes that belong to it. Those are taken
// back in any case.
func (o oddity) play() (r oddResult, err error) {
	r = oddResult{Name: o.name, PID: os.Getpid()}
	for i, c := range o.meanwhile {
		if err = runCommand(c.netns, c.do); err != nil {
			o.meanwhile = o.meanwhile[:i]
			break
		}
	}
	if err == nil {
		err = inNetns(o.from, func() error {
			return o.judge(o.talk(&r))
		})
	}
	for _, c := range slices.Backward(o.meanwhile) {
		if c.undo == "" {
			continue
		}
		err = errors.Join(err, runCommand(c.netns, c.undo))
	}
	return r, err
}

// judge says whether it went for the client as it should.
func (o oddity) judge(err error) error {
	switch {
	case o.fails == nil:
		return err
	case err == nil:
		return fmt.Errorf("want %w, but it went well", o.fails)
	case !errors.Is(err, o.fails):
		return fmt.Errorf("want %w, got %w", o.fails, err)
	}
	return nil
}

// talk is the client's side.
func (o oddity) talk(r *oddResult) (err error) {
	if o.network == "ping" || o.network == "raw" {
		r.Local, err = echoICMP(o.network, o.dial)
		return err
	}
	conn, local, err := dial(o.network, o.dial, dialTimeout)
	r.Local = local
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(4 * dialTimeout))
	if o.silent {
		r.open = conn
		_, err = conn.Write(make([]byte, o.bytes))
		return err
	}
	return errors.Join(o.echo(conn), conn.Close())
}

// echo sends and wants it back.
func (o oddity) echo(conn net.Conn) error {
	sent := make([]byte, o.bytes)
	for i := range sent {
		sent[i] = byte(i * 31 >> 3)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		failed <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if err := <-failed; err != nil {
		return err
	}
	if !slices.Equal(got, sent) {
		return errors.New("what came back is not what was sent")
	}
	if c, ok := conn.(*net.TCPConn); ok {
		// In good order: an acknowledgement behind the end would be reset.
		if err := c.CloseWrite(); err != nil {
			return err
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			return fmt.Errorf("wait for the server's end of the connection: %w", err)
		}
	}
	return nil
}

// errRefused is what the client's system calls tell of a refusal.
const errRefused = syscall.ECONNREFUSED
