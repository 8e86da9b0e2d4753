// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A verdictCase is a way for packets to fail that is made to happen, and what
// the tool must say of it. `lab verdicts` makes it happen, the check `verdicts`
// holds what the tool said against it, and labtest's TestVerdicts makes the
// matrix of all kernels out of that.
type verdictCase struct {
	name string
	// finding is what the case is about: "WHERE/REASON", or the beginning of a
	// note: "wrong server:".
	finding string
	// similar: it looks like the finding to whoever sends, and is not. None of
	// its packets may have the finding; want says what they have.
	similar bool
	// group is the run of the tool that it is made in, with all of its group.
	group string
	from  string   // the namespace that traffic runs in
	cause []change // in this order, taken back the other way round
	// lasting is changed before the first case of the run is made, and taken back when
	// the tool has ended: what it reads near the packets, as it was all the time.
	lasting []change
	// fed is changed before cause, and taken back when the tool has ended: for what
	// needs a text.
	fed []fedChange
	// traffic makes the packets. An error means that it did not go for the
	// client as it should, and is a fault of the case.
	traffic func(*play) error
	// want is what must be seen, each at least once. The first is the one whose
	// line stands in the matrix.
	want []verdictWant
	// instead is what kernels without the evidence show, in want's place.
	instead []shownInstead
}

// A verdictWant is what must be said of a packet of a case. Empty fields are
// not looked at, but for the verdict.
type verdictWant struct {
	kind          string // as kindOf writes it; a "*" at its end stands for any rest
	verdict       string // empty: terminated
	where, reason string
	line          string // the summary; "{client}" is the client's address and port, "*" at its end any rest
	note          string // the beginning of a note that it must have
	noNote        string // the beginning of a note that no packet of this kind may have
	because       string // what kind of packet caused it
}

// shownInstead is what some kernels show, and why.
type shownInstead struct {
	series []string
	why    string
	want   []verdictWant
}

// verdictCases are all of them.
var verdictCases = slices.Concat(ipvsVerdicts, conntrackVerdicts, netfilterVerdicts,
	routeVerdicts, deviceVerdicts, bpfVerdicts, socketVerdicts,
	ipvsMoreVerdicts, linkVerdicts, ipv6Verdicts, policyVerdicts, keptVerdicts)

// A play is one case being made to happen.
type play struct {
	verdictCase
	// Flows are the connections that it made: "PROTO SRC DST". Packets belong to
	// a case by these.
	Flows []string

	open   []io.Closer
	failed error // lasting could not be changed
}

// A playResult is what `lab verdicts` says of a case.
type playResult struct {
	Name  string   `json:"name"`
	Flows []string `json:"flows"`
	Error string   `json:"error,omitempty"` // it did not happen as it should
}

func cmdVerdicts(args []string) error {
	fs := flags("verdicts")
	file := fs.String("o", "", "write what happened to `FILE`, one object a line")
	pattern := fs.String("run", "", "only cases whose name matches the regular expression `PATTERN`")
	list := fs.Bool("list", false, "print the cases: name, finding, and whether it is one that only looks so")
	if err := fs.Parse(args); err != nil {
		return err
	}
	chosen, err := findVerdicts(*pattern)
	if err != nil {
		return err
	}
	if fs.NArg() > 0 {
		chosen = slices.DeleteFunc(chosen, func(c verdictCase) bool { return !slices.Contains(fs.Args(), c.group) })
	}
	if *list {
		for _, c := range chosen {
			fmt.Printf("%s\t%s\t%t\n", c.name, c.finding, c.similar)
		}
		return nil
	}
	plays := make([]play, len(chosen))
	for i := range plays {
		plays[i].verdictCase = chosen[i]
		plays[i].prepare()
	}
	var results strings.Builder
	for i := range plays {
		p := &plays[i]
		start := time.Now()
		r := playResult{Name: p.name}
		if err := p.make(); err != nil {
			r.Error = err.Error()
		}
		defer p.close()
		r.Flows = p.Flows
		fmt.Fprintf(os.Stderr, "lab: %s (%.1f s) %s\n", p.name, time.Since(start).Seconds(), r.Error)
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Fprintf(&results, "%s\n", text)
	}
	if *file == "" {
		_, err := os.Stdout.WriteString(results.String())
		return err
	}
	return writeFile(*file, results.String())
}

// findVerdicts returns the cases whose names match; an empty pattern is all.
func findVerdicts(pattern string) ([]verdictCase, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	var chosen []verdictCase
	for _, c := range verdictCases {
		if re.MatchString(c.name) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no case matches %q", pattern)
	}
	return chosen, nil
}

// prepare changes what is to last.
func (p *play) prepare() {
	for _, c := range p.lasting {
		if p.failed = runCommand(c.netns, c.do); p.failed != nil {
			return
		}
	}
}

// make makes the case happen. What it changed is taken back in any case.
func (p *play) make() (err error) {
	if p.failed != nil {
		return p.failed
	}
	for i := range p.fed {
		if err := p.fed[i].make(); err != nil {
			return err
		}
	}
	done := 0
	for ; done < len(p.cause) && err == nil; done++ {
		if err = runCommand(p.cause[done].netns, p.cause[done].do); err != nil {
			break
		}
	}
	if err == nil {
		err = inNetns(p.from, func() error { return p.traffic(p) })
	}
	for _, c := range slices.Backward(p.cause[:done]) {
		if c.undo != "" {
			err = errors.Join(err, runCommand(c.netns, c.undo))
		}
	}
	return err
}

// settle takes back what was to last beyond the case. What a case that failed
// has not changed cannot be taken back, and says so.
func (c *verdictCase) settle() (err error) {
	for i := range slices.Backward(c.fed) {
		err = errors.Join(err, c.fed[i].takeBack())
	}
	for _, one := range slices.Backward(c.lasting) {
		if one.undo != "" {
			err = errors.Join(err, runCommand(one.netns, one.undo))
		}
	}
	return err
}

func (p *play) close() {
	for _, c := range p.open {
		c.Close()
	}
}

// dial connects, and notes the connection as the case's, also when it is refused.
func (p *play) dial(network, addr string, patience time.Duration) (net.Conn, error) {
	conn, local, err := dial(network, addr, patience)
	if local != "" {
		p.flow(network, local, addr)
	}
	return conn, err
}

// flow notes a connection as the case's.
func (p *play) flow(network, src, dst string) {
	p.Flows = append(p.Flows, strings.Join([]string{network, src, dst}, " "))
}

// run runs a command in a namespace, in mid-traffic.
func (p *play) run(netns, line string) error { return runCommand(netns, line) }

// refusal is a connection that must fail so.
func refusal(network, addr string, want error) func(*play) error {
	return func(p *play) error {
		conn, err := p.dial(network, addr, dialTimeout)
		if err == nil && network == "udp" {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(dialTimeout))
			if _, err = conn.Write([]byte("anybody there?")); err == nil {
				_, err = conn.Read(make([]byte, 64))
			}
		}
		return wantError(err, want)
	}
}

// wantError is nil if a call failed as it should.
func wantError(err, want error) error {
	switch {
	case err == nil:
		return fmt.Errorf("want %w, but it went well", want)
	case !errors.Is(err, want):
		return fmt.Errorf("want %w, got %w", want, err)
	}
	return nil
}

// wantTimeout is nil if a call waited in vain.
func wantTimeout(err error) error {
	if timeout := (net.Error)(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return fmt.Errorf("want a timeout, got %w", orNothing(err))
}

// orNothing is an error, also where there is none.
func orNothing(err error) error {
	if err == nil {
		return errors.New("an answer")
	}
	return err
}

// unanswered is a SYN or a datagram that nothing comes back for. The wait is
// short: the first copy is the one that counts.
func unanswered(network, addr string) func(*play) error {
	return func(p *play) error {
		conn, err := p.dial(network, addr, shortPatience)
		if err == nil && network == "udp" {
			p.open = append(p.open, conn) // it may hear of it later
			_, err := conn.Write([]byte("anybody there?"))
			return err
		}
		return wantTimeout(err)
	}
}

// unheard is a datagram whose answer does not come: what was changed for it stays as it
// is until that is clear.
func unheard(addr string) func(*play) error {
	return func(p *play) error {
		conn, err := p.dial("udp", addr, shortPatience)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("anybody there?")); err != nil {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(shortPatience))
		_, err = conn.Read(make([]byte, 64))
		return wantTimeout(err)
	}
}

// shortPatience is below the first retransmission of a SYN.
const shortPatience = 800 * time.Millisecond

// echoes is a connection that goes well: what is sent comes back.
func echoes(network, addr string, bytes int) func(*play) error {
	return func(p *play) error {
		conn, err := p.dial(network, addr, dialTimeout)
		if err != nil {
			return err
		}
		conn.SetDeadline(time.Now().Add(dialTimeout))
		return errors.Join(oddity{bytes: bytes}.echo(conn), conn.Close())
	}
}

// errReset is what the client's system calls tell of an RST in mid-connection.
const errReset = syscall.ECONNRESET
