// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
)

// After the COMMAND has ended its packets settle: until none is open and none
// was seen for settleQuiet, but settleLimit at most. The longest wait is for a
// neighbour that does not answer, three seconds.
const (
	settleQuiet = 300 * time.Millisecond
	settleLimit = 5 * time.Second
)

// lossInterval is how often is told of losses.
const lossInterval = time.Second

// outputPatience is how long the output may take after Ctrl-C; after another end, how
// long its reader may stand still. Together with childPatience it keeps the promise to
// end within two seconds.
const outputPatience = 800 * time.Millisecond

// bounds end a run.
type bounds struct {
	limit     time.Duration // 0: none
	count     int           // traversals shown; 0: no limit
	child     *child        // nil: none
	readyFile string        // empty: none
}

// session is one run of a tracer whose events become traversals on the output.
// Everything happens in the goroutine of Run, told the time by Tick: no clock of
// its own, so that a test's time is as good as the kernel's.
type session struct {
	bounds
	tr         liveTracer
	own        func(*os.File) error // gives new files to who called; nil: they are ours
	capture    *capture             // nil: none
	record     *recorder            // nil: none
	warn       func(text string)    // says what was lost so far; nil: nobody is told before the end
	asked      <-chan os.Signal     // see liveOptions
	answer     func(*outcome)       // tells him
	look       func()               // asks for the name of a namespace that is new; nil: nobody knows more
	spaces     map[uint32]struct{}  // that were seen
	collecting collecting
	stitcher   *events.Stitcher
	display    *display
	ctx        context.Context //nolint:containedctx // of the one Run
	cancel     context.CancelFunc

	begun   bool
	start   uint64            // all times in ns of Tick
	childAt uint64            // when the child was found to have ended; 0: not yet
	active  uint64            // last tick with events
	busy    bool              // events since then
	checked uint64            // last tick that asked for losses
	lost    uint64            // all that has been told of
	shed    uint64            // packets of that
	inRun   map[string]uint64 // what was lost so far, by stage, as traversals say it
	missed  missed            // that the stitcher knows of
	reason  string            // why it ended, where that is worth saying
	err     error             // what went wrong
}

// Event takes an event from the tracer.
func (s *session) Event(e *events.Event) {
	s.busy = true
	if s.look != nil {
		s.meet(e.Netns)
	}
	s.capture.add(e)
	if s.record != nil {
		s.record.prepare(e, s.stitcher)
	}
	s.stitcher.Add(e)
	if s.record != nil {
		// Behind the stitcher: what it asked about names is kept with the event.
		s.record.Event(e)
	}
}

// maxSpaces bounds the namespaces that are remembered to have been seen.
const maxSpaces = 1 << 16

// meet asks for the name of a namespace when it is first seen: its pod may not
// live for long.
func (s *session) meet(netns uint32) {
	if _, ok := s.spaces[netns]; ok {
		return
	}
	if s.spaces == nil || len(s.spaces) >= maxSpaces {
		s.spaces = map[uint32]struct{}{}
	}
	s.spaces[netns] = struct{}{}
	s.look()
}

// Tick is the clock of the session.
func (s *session) Tick(now, known uint64) (more bool) {
	if !s.begun {
		s.begun = true
		s.start = now
		if err := s.ready(); err != nil {
			s.end(err)
		}
	}
	if s.busy {
		s.busy = false
		s.active = now
	}
	if s.record != nil {
		if err := s.record.look(now); err != nil {
			s.end(err)
		}
	}
	s.tellMissed()
	more = s.stitcher.Advance(known)
	s.collecting.tick(now)
	s.display.flush(s.ctx)
	if s.record != nil {
		switch err := s.record.tick(now, known, s.stitcher); {
		case errors.Is(err, record.ErrFull):
			s.reason = "--max-bytes is reached"
			s.end(nil)
		case err != nil:
			s.end(err)
		}
	}
	if s.warn != nil && now-s.checked >= uint64(lossInterval) {
		s.checked = now
		s.tellLosses()
	}
	select {
	case <-s.asked:
		s.answer(s.outcome(0))
	default:
	}
	switch {
	case s.display.err() != nil:
		s.end(nil) // finish reports it
	case s.limit > 0 && now-s.start >= uint64(s.limit):
		s.end(nil)
	case s.child != nil && s.settled(now):
		s.end(nil)
	}
	return more
}

// missed is what liveTracer.Missed says.
type missed struct{ lost, unfollowed uint64 }

// tellMissed tells the stitcher of lost events and packets, before it judges what they
// may have been about. It goes by what a recording says, so that a replay judges alike.
func (s *session) tellMissed() {
	before := s.missed
	s.missed.lost, s.missed.unfollowed = s.tr.Missed()
	if s.missed == before {
		return
	}
	if s.record == nil {
		s.tellInRun()
		now := s.tr.Now().Mono
		if s.missed.lost != before.lost {
			s.stitcher.Missed(now)
		}
		if s.missed.unfollowed != before.unfollowed {
			s.stitcher.Unfollowed(now)
		}
		return
	}
	if err := s.record.status(); err != nil {
		s.end(err)
	}
}

// tellLosses warns while the run goes on: what is shown is not all there is.
func (s *session) tellLosses() {
	lost, sum := lossesOf(s.tellInRun()), uint64(0)
	for _, n := range lost {
		sum += n
	}
	if sum > s.lost {
		what := "events are being lost"
		shed := lost[stageShed]
		more := shed > s.shed
		s.lost, s.shed = sum, shed
		if more {
			what = "more packets pass than can be followed (select less, or --sample)"
		}
		s.warn(what + ", so far " + lossText(lost))
	}
}

// tellInRun has traversals say from now on what the run has lost, and returns that.
func (s *session) tellInRun() map[string]uint64 {
	lost := s.tr.Stats().Lost
	s.inRun = present(lost)
	return lost
}

// lastLosses takes the counters once more, before what is still open is given out.
func (s *session) lastLosses() {
	s.tellMissed()
	if s.record == nil {
		s.tellInRun()
	} else if err := s.record.status(); err != nil {
		s.end(err)
	}
}

// outcome is what the run has come to. At its end that is read after the last event and
// before the tracer is closed.
func (s *session) outcome(unwritten int64) *outcome {
	o := &outcome{shown: s.display.shown, unwritten: unwritten, kernel: s.tr.Stats(), stitched: s.stitcher.Stats(), reason: s.reason}
	if s.record != nil {
		o.recorded = s.record.Recorder
	}
	return o
}

// ready tells whoever waits for it that everything is attached and on.
func (s *session) ready() error {
	if s.readyFile != "" {
		text := strconv.Itoa(os.Getpid()) + "\n"
		if err := s.writeReady(text); err != nil {
			return fmt.Errorf("write the ready file: %w", err)
		}
	}
	if s.child != nil {
		return s.child.start()
	}
	return nil
}

// descriptors are links by which a shell names what a process has open, as >(cmd) does.
const descriptors = "/dev/fd/"

// writeReady makes the ready file: anew, so that nobody can have laid a link in its
// place, unless something that is no file is there to be written to, such as a pipe.
func (s *session) writeReady(text string) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	there, err := os.Lstat(s.readyFile)
	if err == nil && strings.HasPrefix(s.readyFile, descriptors) {
		there, err = os.Stat(s.readyFile)
	}
	if err == nil && there.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) != 0 {
		flags = os.O_WRONLY
	}
	f, err := os.OpenFile(s.readyFile, flags, 0o600)
	if err != nil {
		return err
	}
	if flags&os.O_CREATE == 0 {
		if now, serr := f.Stat(); serr != nil || !os.SameFile(there, now) {
			return errors.Join(errors.New("it became another file"), serr, f.Close())
		}
	} else if s.own != nil {
		err = s.own(f)
	}
	_, werr := f.WriteString(text)
	return errors.Join(err, werr, f.Close())
}

// settled says whether the child has ended and its packets have settled.
func (s *session) settled(now uint64) bool {
	if s.childAt == 0 {
		if s.err != nil || !s.child.ended() {
			return false
		}
		s.childAt = max(now, 1)
	}
	since := max(s.childAt, s.active)
	quiet := s.stitcher.Stats().Open == 0 && s.stitcher.Waiting() == 0 && now-since >= uint64(settleQuiet)
	return quiet || now-s.childAt >= uint64(settleLimit)
}

// end ends the run; the first error counts.
func (s *session) end(err error) {
	if s.err == nil {
		s.err = err
	}
	s.cancel()
}

// show is called by the stitcher for each traversal.
func (s *session) show(t *events.Traversal) {
	t.LostInRun = s.inRun
	if s.record != nil {
		s.record.traversal(t)
		t.LostInRun = s.record.inRun // as a replay knows it
	}
	full, err := s.display.show(s.ctx, t)
	if full || err != nil {
		s.end(err)
	}
}
