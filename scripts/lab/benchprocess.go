// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
)

// A benchProcess is a tracer that runs beside the traffic. Its output is read
// and thrown away, but for the beginning and the end.
type benchProcess struct {
	cmd    *exec.Cmd
	stdout ends
	lines  lineLag // of standard output
	stderr transcript
	done   chan struct{}
	err    error // how it ended; valid when done is closed
}

// endSize is how much of each end of an output is kept.
const endSize = 16 << 10

// ends keeps the beginning and the end of what is written.
type ends struct {
	mu         sync.Mutex
	head, tail []byte
}

func (e *ends) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	take := min(len(p), endSize-len(e.head))
	e.head = append(e.head, p[:take]...)
	rest := p[take:]
	e.tail = append(e.tail, rest[max(0, len(rest)-endSize):]...)
	if len(e.tail) > endSize {
		e.tail = append(e.tail[:0], e.tail[len(e.tail)-endSize:]...)
	}
	return len(p), nil
}

func (e *ends) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(e.head) + string(e.tail)
}

// startProcess starts a command in a process group of its own: a peer may be a
// shell with children, all of which Ctrl-C would reach. It is told to end when this
// program dies; the caller is on the program's first thread, which lives as long.
func startProcess(argv []string) (*benchProcess, error) {
	p := &benchProcess{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = io.MultiWriter(&p.stdout, &p.lines), &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// said is what it wrote, on both streams.
func (p *benchProcess) said() string { return p.stdout.String() + p.stderr.String() }

// await polls until it is ready; its end and too long a wait are errors.
func (p *benchProcess) await(ready func() bool) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(toolPatience)
	for !ready() {
		select {
		case <-p.done:
			return errors.Join(errors.New("it ended: "+lastLines(p.said(), 12)), p.err)
		case <-deadline:
			return errors.Join(errors.New("it took too long"), p.signal(syscall.SIGKILL))
		case <-tick.C:
		}
	}
	return nil
}

func (p *benchProcess) signal(sig syscall.Signal) error {
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// interrupt is Ctrl-C. A shell that dies by it has done as it was told.
func (p *benchProcess) interrupt() error {
	if err := p.signal(syscall.SIGINT); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(toolPatience):
		err := p.signal(syscall.SIGKILL)
		<-p.done
		return errors.Join(errors.New("it did not end on SIGINT"), err)
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) && (exit.ExitCode() == -1 || exit.ExitCode() == 130) {
		return nil
	}
	if p.err != nil {
		return fmt.Errorf("%w: %s", p.err, lastLines(p.said(), 12))
	}
	return nil
}

// memory is a figure of its memory in KiB; 0: the kernel does not tell. The
// kernel's own peak for a process that has ended counts its parent's memory in.
func (p *benchProcess) memory(field string) int { return memoryOf(p.cmd.Process.Pid, field) }

// forgetPeak has the kernel count the peak of its memory anew (man 5 proc, clear_refs).
func (p *benchProcess) forgetPeak() {
	// Where that may not be written the peak is that of the whole run.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0)
}

// answers is how often it has told its counters.
func (p *benchProcess) answers() int { return len(answerText.FindAllString(p.stderr.String(), -1)) }

// bpfPrograms are the programs that the kernel has now, by number.
func bpfPrograms() (map[uint32]bool, error) {
	all := map[uint32]bool{}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list BPF programs: %w", err)
		}
		all[uint32(next)] = true
		id = next
	}
}

var (
	matchedText = regexp.MustCompile(`([0-9]+) packets? matched with ([0-9]+) events?, ([0-9]+) delivered to user space, (.*)`)
	answerText  = regexp.MustCompile(`(?m)^stackhop: so far [0-9]+ packets? matched .*\n`)
	recordText  = regexp.MustCompile(`recorded ([0-9]+) events? in `)
	lostText    = regexp.MustCompile(`LOST (?:[a-z-]+ [0-9]+(?:, )?)+`)
	stageText   = regexp.MustCompile(`([a-z-]+) ([0-9]+)`)
	rateText    = regexp.MustCompile(`([0-9]+) packets? shed by --rate`)
	notRunText  = regexp.MustCompile(`the kernel left out ([0-9]+) hook run`)
	countText   = regexp.MustCompile(`(?m)^@: ([0-9]+)$`)
)

// eventsLost says whether a line of the closing summary tells of events that were lost.
// Packets that were shed have none: on a machine that is busy elsewhere the tool may have
// to let some be, and what a check is about is missing then, or whole.
func eventsLost(line string) bool {
	for _, stage := range stageText.FindAllStringSubmatch(lostText.FindString(line), -1) {
		if stage[1] != "shed" {
			return true
		}
	}
	return false
}

// parseSummary reads the tool's last summary.
func (c *benchCost) parseSummary(text string) error {
	all := matchedText.FindAllStringSubmatchIndex(text, -1)
	if all == nil {
		return fmt.Errorf("the tool gave no summary: %s", lastLines(text, 12))
	}
	text = text[all[len(all)-1][0]:]
	m := matchedText.FindStringSubmatch(text)
	c.Packets, c.Matched, c.Events = digits(m[1]), digits(m[2]), digits(m[3])
	for _, stage := range stageText.FindAllStringSubmatch(lostText.FindString(m[4]), -1) {
		if stage[1] == "shed" {
			c.Shed += digits(stage[2])
		} else {
			c.Lost += digits(stage[2])
		}
	}
	if m := rateText.FindStringSubmatch(m[4]); m != nil {
		c.Shed += digits(m[1])
	}
	if m := notRunText.FindStringSubmatch(m[4]); m != nil {
		c.NotRun = digits(m[1])
	}
	if m := recordText.FindStringSubmatch(text); m != nil {
		c.Recorded = digits(m[1])
	}
	return nil
}

// since is what came since an earlier cost.
func (c benchCost) since(before *benchCost) benchCost {
	c.User -= before.User
	c.System -= before.System
	c.Packets -= before.Packets
	c.Matched -= before.Matched
	c.Events -= before.Events
	c.Lost -= before.Lost
	c.Shed -= before.Shed
	c.NotRun -= before.NotRun
	return c
}

// parseCount reads the map that bpftrace prints at its end.
func parseCount(text string) (uint64, bool) {
	m := countText.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	return digits(m[1]), true
}

// digits is the number in the digits which an expression has found.
func digits(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0 // more than 64 bits: nothing counts so far
	}
	return n
}
