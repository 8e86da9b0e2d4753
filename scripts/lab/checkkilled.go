// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// How recorders are killed while packets pass, and what may be missing then.
const (
	killedRecorders = 2
	killedFiles     = 6 // as they were at random moments, the last ones when their recorder was killed
	killedAfter     = time.Second
	killedWithin    = 5 * time.Second
	killedRate      = 20 // packets a second
	killedSize      = 64 // bytes of payload; packet N has N more
	killedPort      = 9
	maxMissing      = time.Second
)

// killed starts recorders and kills each at a random moment: what they wrote
// replays, and only the last moment is missing. Before that it copies their files
// at other moments: a file is what it would be, had its recorder been killed then.
// The recorders have few hooks, which are quickly attached and gone; how they
// write does not depend on that.
func (r *recordingsCheck) killed() error {
	var recorders []*session
	var names []string
	for i := range killedRecorders {
		name := fmt.Sprintf("killed%d", i)
		s, err := r.startRecorder(name, "--hooks", "tracepoints")
		if err != nil {
			return err
		}
		recorders, names = append(recorders, s), append(names, name)
	}
	if err := r.ready(recorders, names...); err != nil {
		return err
	}
	watch := newStallWatch()
	packets := fmt.Sprint(killedRate * int((killedWithin + time.Second).Seconds()))
	sent := make(chan error, 1)
	go func() {
		_, err := output(r.me, "churn", "-totals", "-from", "centos", "-to", "nginx1a", "-dst", fmt.Sprintf("172.23.96.163:%d", killedPort),
			"-packets", packets, "-vary", packets, "-size", fmt.Sprint(killedSize), "-rate", fmt.Sprint(killedRate))
		sent <- err
	}()
	files, err := r.killAtMoments(recorders, names)
	stall := watch.end()
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	var said []string
	for _, f := range files {
		text, err := r.survived(f, stall)
		if err != nil {
			return err
		}
		said = append(said, text)
	}
	r.fact("killed: %s; nobody could run for %v", strings.Join(said, "; "), stall)
	return nil
}

// leftFile is what was left of a recording at a moment.
type leftFile struct {
	name string
	at   time.Time
}

// killAtMoments takes turns at the recorders.
func (r *recordingsCheck) killAtMoments(recorders []*session, names []string) ([]leftFile, error) {
	start := time.Now()
	var moments []time.Duration
	for range killedFiles {
		moments = append(moments, killedAfter+time.Duration(r.random.Int64N(int64(killedWithin-killedAfter))))
	}
	slices.Sort(moments)
	var files []leftFile
	for i, moment := range moments {
		<-time.After(time.Until(start.Add(moment)))
		which := i % len(recorders)
		f := leftFile{names[which], time.Now()}
		if i < killedFiles-len(recorders) {
			f.name = fmt.Sprintf("%s-at%d", names[which], i)
			data, err := os.ReadFile(r.path(names[which] + ".hop"))
			if err == nil {
				err = os.WriteFile(r.path(f.name+".hop"), data, 0o600)
			}
			if err != nil {
				return nil, err
			}
		} else if err := recorders[which].cmd.Process.Kill(); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	for i, s := range recorders {
		if status, err := s.wait(); err != nil || status != -1 {
			return nil, fmt.Errorf("%s ended with status %d, error %v, before it was killed", names[i], status, err)
		}
	}
	return files, nil
}

// survived looks at a file that a recorder left. stall is for how long the machine
// let nobody run.
func (r *recordingsCheck) survived(f leftFile, stall time.Duration) (string, error) {
	s, all, err := r.replay(r.path(f.name + ".hop"))
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.name, err)
	}
	if !strings.Contains(s.stderr.String(), "the recorder was killed") {
		r.fault("%s: the replay does not say that the recorder was killed", f.name)
	}
	var last time.Time
	var numbers []int
	for _, t := range all {
		if n := len(t.Visits); n > 0 {
			if end := t.Time.Add(time.Duration(t.Visits[n-1].EndNS)); end.After(last) {
				last = end
			}
		}
		if t.Direction == "request" && t.Dst.Port == killedPort && t.Src.Pod == podName("centos") {
			numbers = append(numbers, int(t.Length)-28-killedSize)
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != i {
			r.fault("%s: packet %d is missing, or is there twice, of %d", f.name, i, len(numbers))
			break
		}
	}
	missing := f.at.Sub(last)
	if len(numbers) == 0 || missing > maxMissing+stall {
		r.fault("%s: the last %v are missing, after %d packets; nobody could run for %v", f.name, missing, len(numbers), stall)
	}
	return fmt.Sprintf("%d packets, the last %d ms missing", len(numbers), missing.Milliseconds()), nil
}

// A stallWatch finds out for how long the machine, which may be emulated by a busy
// one, let this program wait for its turn.
type stallWatch struct {
	stop  chan struct{}
	worst chan time.Duration
}

func newStallWatch() *stallWatch {
	w := &stallWatch{stop: make(chan struct{}), worst: make(chan time.Duration, 1)}
	go func() {
		const every = 20 * time.Millisecond
		worst := time.Duration(0)
		for {
			asked := time.Now()
			select {
			case <-w.stop:
				w.worst <- worst
				return
			case <-time.After(every):
				worst = max(worst, time.Since(asked)-every)
			}
		}
	}()
	return w
}

// end ends the watch, and returns the longest wait.
func (w *stallWatch) end() time.Duration {
	close(w.stop)
	return <-w.worst
}
