// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"time"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/events/redact"
	"github.com/stackhop/stackhop/tracer"
)

// Intervals of what a recording says beside its events.
const (
	statusInterval   = 250 * time.Millisecond // other losses than of events, if there were any
	clockInterval    = 10 * time.Second
	progressInterval = time.Second
)

// recorder is the recording of a session.
type recorder struct {
	*record.Recorder
	tr       liveTracer
	say      func(format string, args ...any)
	redactor *redact.Redactor // nil: originals are recorded
	onlyNode bool
	progress *progress
	sets     *setLog
	stitcher *events.Stitcher // is told what was lost

	wanted    factsWanted
	facts     chan tracer.Facts // the first facts
	hasFacts  bool              // they were asked for
	told      reading           // as last recorded
	inRun     map[string]uint64 // what was lost by then, by stage
	seen      reading           // as last read, with the same losses
	checkedAt uint64
	shownAt   uint64
	asked     bool   // and not taken from facts yet
	now       uint64 // ns, of the last tick
	namedIn   string // file that has the names of all devices
}

// newRecorder begins the recording of a run whose stitcher is about to be made
// with cfg. Its names become those that the recording keeps.
func (a *app) newRecorder(tr liveTracer, o *liveOptions, cfg *events.Config) (*recorder, error) {
	clock := tr.Clock()
	meta := &record.Meta{
		Tool: versionText(), Kernel: a.sys.kernelRelease(), Arch: runtime.GOARCH, Node: cfg.Node, OnlyNode: cfg.OnlyNode,
		RunID: rand.Text(), Args: o.recording.args, Filter: o.recording.filter, Selection: o.recording.words, Sample: o.config.Sample,
		HasFunctions: cfg.HasFunctions, SnapLen: o.config.SnapLen, Hooks: recordedHooks(tr),
		Clock: record.ClockPair{Mono: clock.Mono, Real: clock.Real},
	}
	var err error
	if meta.BootID, err = a.sys.bootID(); err != nil {
		return nil, err
	}
	r := &recorder{tr: tr, say: a.say, onlyNode: cfg.OnlyNode != "", progress: newProgress(a), sets: &o.recording.sets, wanted: newFactsWanted(), facts: make(chan tracer.Facts, 1)}
	if o.recording.redact.given {
		if r.redactor, err = a.redactor(o.recording.redact.value, o.recording.ports); err != nil {
			return nil, fmt.Errorf("--redact: %w", err)
		}
		redacted := r.redactor.Meta(*meta)
		meta = &redacted
		cfg.Names, cfg.Node, cfg.OnlyNode = r.redactor.Names(cfg.Names), meta.Node, meta.OnlyNode
	}
	if r.Recorder, err = record.Create(o.recording.files, meta, cfg.Names); err != nil {
		return nil, fmt.Errorf("-w: %w", err)
	}
	cfg.Names = r.Names()
	// The kernel was told of them before anything was switched on.
	for _, s := range o.sets {
		if err := r.tellSet(record.SetState{Set: s.Name(), Members: s.ends()}); err != nil {
			return nil, errors.Join(err, r.Close(&record.End{}))
		}
	}
	return r, nil
}

// tellSets records what is new about the members of the selection's sets.
func (r *recorder) tellSets() (err error) {
	for _, s := range r.sets.take() {
		err = errors.Join(err, r.tellSet(s))
	}
	return err
}

func (r *recorder) tellSet(s record.SetState) error {
	if r.redactor != nil {
		for i, end := range s.Members {
			s.Members[i] = r.redactor.AddrPort(end)
		}
	}
	return r.SetState(&s)
}

// recordedHooks is the hook table for a recording: what was attached, and what
// was not and why.
func recordedHooks(tr liveTracer) []record.Hook {
	status := map[string]tracer.HookStatus{}
	for _, h := range tr.Attached() {
		status[h.Name] = h
	}
	var out []record.Hook
	for _, h := range tr.Table() {
		st := status[h.Name]
		out = append(out, record.Hook{ID: h.ID, Name: h.Name, Station: events.StationName(h.Station), How: st.How, Err: st.Err})
	}
	return out
}

// prepare takes out of an event what the recording must not hold. The stitcher
// gets the same event, so that a replay is given what the live view had.
func (r *recorder) prepare(e *events.Event, s *events.Stitcher) {
	if r.onlyNode && !s.Observes(r.netns(e.Netns)) {
		*e = events.Event{Packet: e.Packet, Hook: events.Elsewhere, Seq: e.Seq}
	} else {
		r.wanted.note(e)
	}
	if r.redactor != nil {
		r.redactor.Event(e)
	}
}

// netns is a namespace as it is recorded.
func (r *recorder) netns(inode uint32) uint32 {
	if r.redactor != nil {
		return r.redactor.Netns(inode)
	}
	return inode
}

// traversal is called for each one that is finished.
func (r *recorder) traversal(t *events.Traversal) {
	if t.Verdict == events.Terminated {
		r.Failed()
	}
}

// look reads the counters from time to time. It is called before the time goes on for
// the stitcher, as a replay tells its stitcher of losses before that.
func (r *recorder) look(now uint64) error {
	if now-r.checkedAt < uint64(statusInterval) {
		return nil
	}
	r.checkedAt = now
	return r.status()
}

// tick records what has come up to now and how far the stitcher went, and says how it
// goes.
func (r *recorder) tick(now, known uint64, s *events.Stitcher) error {
	// Each part must do without those before it.
	if files := r.Files(); r.now == 0 || (len(files) > 0 && files[len(files)-1] != r.namedIn) {
		if len(files) > 0 {
			r.namedIn = files[len(files)-1]
		}
		r.nameDevices(s)
	}
	r.now = now
	if err := r.tellSets(); err != nil { // before the events of this time are in the file
		return err
	}
	if err := r.firstFacts(); err != nil {
		return err
	}
	if now-r.shownAt >= uint64(progressInterval) {
		r.shownAt = now
		written, size := r.Written()
		r.progress.show(written, s.Stats().Traversals, size, lossesOf(r.told.Stats.Lost))
	}
	return r.Tick(known)
}

// nameDevices asks for the names of all devices, so that they are recorded:
// which addresses are on this node tells, later, whether a packet that left
// another node was on its way to here.
func (r *recorder) nameDevices(s *events.Stitcher) {
	for netns, list := range r.tr.Devices() {
		netns = r.netns(netns)
		if !s.Observes(netns) {
			continue
		}
		r.Names().Namespace(netns)
		for _, ifindex := range list {
			r.Names().Device(netns, ifindex)
		}
	}
}

// firstFacts records how the namespaces that were seen are set up, once there are
// some: a recorder that is killed never comes to its end. Reading may take time,
// and so is done beside the run.
func (r *recorder) firstFacts() error {
	if !r.hasFacts && len(r.wanted.netns) > 0 {
		r.hasFacts, r.asked = true, true
		f := r.wanted.filter()
		f.Flows = nil
		go func() { r.facts <- r.tr.Facts(f) }()
	}
	select {
	case f := <-r.facts:
		r.asked = false
		return r.tellFacts(&f)
	default:
		return nil
	}
}

func (r *recorder) tellFacts(f *tracer.Facts) error {
	facts := recordedFacts(f)
	if r.redactor != nil {
		facts = r.redactor.Facts(facts)
	}
	return r.Facts(facts)
}

// reading is what the counters said, between two moments.
type reading struct {
	tracer.Stats
	from, to tracer.ClockPair
}

// status records the counters if something was lost since they were last read, and
// the clocks from time to time. A loss casts doubt on all that time, so what was
// read before, without one, is recorded first.
func (r *recorder) status() error {
	now := reading{from: r.tr.Now()} // not the time of the tick: that was before its events were read
	now.Stats = r.tr.Stats()
	now.to = r.tr.Now()
	seen := r.seen
	r.seen = now
	if maps.Equal(now.Lost, r.told.Lost) {
		if r.now-r.told.from.Mono < uint64(clockInterval) {
			return nil
		}
		return r.tell(now)
	}
	var err error
	if seen.from.Mono > r.told.from.Mono {
		err = r.tell(seen)
	}
	return errors.Join(err, r.tell(now))
}

// tell records what the counters did since they were last recorded.
func (r *recorder) tell(now reading) error {
	was := r.told
	r.told, r.inRun = now, present(now.Lost)
	lost := maps.Clone(now.Lost)
	for stage, n := range was.Lost {
		lost[stage] = max(lost[stage], n) - n // what could not be read is not there
	}
	st := &record.Status{
		Clock: record.ClockPair{Mono: now.to.Mono, Real: now.to.Real}, Since: was.from.Mono, Lost: lost,
		Matched: now.Matched - was.Matched, Delivered: now.Delivered - was.Delivered, Packets: now.Packets - was.Packets,
	}
	if st.Missed() > 0 {
		r.stitcher.Missed(now.to.Mono)
	}
	if st.Unfollowed() > 0 {
		r.stitcher.Unfollowed(now.to.Mono)
	}
	return r.Status(st)
}

// close ends the recording.
func (r *recorder) close(o *outcome) error {
	if r.asked {
		<-r.facts // must not be asked any more once the tracer is closed
	}
	f := r.tr.Facts(r.wanted.filter())
	for _, what := range f.Missing {
		r.say("warning: the recording lacks %s", what)
	}
	err := errors.Join(r.tellSets(), r.status(), r.tellFacts(&f))
	return errors.Join(err, r.Close(&record.End{
		Stitched: o.stitched, Lost: o.kernel.Lost, Matched: o.kernel.Matched, Delivered: o.kernel.Delivered,
		Packets: o.kernel.Packets, Reason: o.reason,
	}))
}
