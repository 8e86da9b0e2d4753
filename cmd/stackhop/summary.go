// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/record"
	"github.com/stackhop/stackhop/tracer"
)

// outcome is what a run came to.
type outcome struct {
	kernel    tracer.Stats
	stitched  events.StitchStats
	shown     int              // traversals given to the renderer
	unwritten int64            // traversals that could not be written
	recorded  *record.Recorder // nil: nothing was
	reason    string           // why the run ended, for the recording
}

// lost is what was lost, by stage: the tracer's stages and ours.
func (o *outcome) lost() map[string]uint64 {
	all := lossesOf(o.kernel.Lost)
	all["stitch"] = o.stitched.Overlong
	all["evicted"] = o.stitched.Evicted
	all["output"] = uint64(max(o.unwritten, 0))
	maps.DeleteFunc(all, func(_ string, n uint64) bool { return n == 0 })
	return all
}

// stageRate is the tracer's stage for packets that --rate shed. Nobody lost
// those: they were asked for not to be followed.
const stageRate = "rate"

// stageShed is the tracer's stage for packets that were not followed, so that those
// which were are whole.
const stageShed = "shed"

// stageNotRun is the tracer's stage for hooks that the kernel left out. Whose
// packets those were is not known, followed ones or others; a traversal that
// lacks its beginning for it is incomplete.
const stageNotRun = "hook-not-run"

// besides says what did not happen and is no loss of an event that was asked for.
func besides(lost map[string]uint64) (out []string) {
	if shed := lost[stageRate]; shed > 0 {
		out = append(out, plural(shed, "packet")+" shed by --rate")
	}
	if n := lost[stageNotRun]; n > 0 {
		out = append(out, "the kernel left out "+plural(n, "hook run"))
	}
	return out
}

// lossesOf leaves out what is not a loss of what was asked for.
func lossesOf(all map[string]uint64) map[string]uint64 {
	lost := map[string]uint64{}
	maps.Copy(lost, all)
	delete(lost, stageRate)
	delete(lost, stageNotRun)
	return lost
}

// present are the stages that lost something, all of them; nil: none did.
func present(lost map[string]uint64) map[string]uint64 {
	var out map[string]uint64
	for stage, n := range lost {
		if n > 0 {
			if out == nil {
				out = map[string]uint64{}
			}
			out[stage] = n
		}
	}
	return out
}

// lossText lists the stages that lost something.
func lossText(lost map[string]uint64) string {
	var parts []string
	for _, stage := range slices.Sorted(maps.Keys(lost)) {
		if lost[stage] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", events.Safe(stage), lost[stage]))
		}
	}
	return strings.Join(parts, ", ")
}

// summary is the text that closes a run.
func (o *outcome) summary() string {
	lost := o.lost()
	text := fmt.Sprintf("%s matched with %s, %d delivered to user space, ",
		plural(o.kernel.Packets, "packet"), plural(o.kernel.Matched, "event"), o.kernel.Delivered)
	if len(lost) == 0 {
		text += "0 lost"
	} else {
		text += "LOST " + lossText(lost)
	}
	for _, more := range besides(o.kernel.Lost) {
		text += "; " + more
	}
	text += "\nstackhop: " + o.traversals()
	if o.recorded != nil {
		text += "\nstackhop: " + recordedText(o.recorded, o.reason)
	}
	return text
}

// recordedText says what was recorded, and where.
func recordedText(r *record.Recorder, reason string) string {
	written, size := r.Written()
	text := fmt.Sprintf("recorded %s in %s", plural(written, "event"), sizeText(size))
	if files := r.Files(); len(files) == 1 {
		text += ": " + quoted(files[0])
	} else if len(files) > 1 {
		text += fmt.Sprintf(": %s to %s", quoted(files[0]), quoted(files[len(files)-1]))
	}
	if reason != "" {
		text += "; ended since " + reason
	}
	return text
}

// traversals is how many there were, by verdict.
func (o *outcome) traversals() string {
	st := &o.stitched
	text := plural(st.Traversals, "traversal")
	sep := ": "
	for _, v := range []struct {
		verdict events.Verdict
		n       uint64
	}{
		{events.Delivered, st.Delivered}, {events.LeftNode, st.LeftNode}, {events.Terminated, st.Terminated},
		{events.InFlight, st.InFlight}, {events.Incomplete, st.Incomplete},
	} {
		if v.n > 0 {
			text += fmt.Sprintf("%s%d %s", sep, v.n, v.verdict)
			sep = ", "
		}
	}
	if n := uint64(o.shown); n != st.Traversals {
		text += fmt.Sprintf("; %d shown", n)
	}
	return text
}

// status is the exit status that --exit-status asks for.
func (o *outcome) status() int {
	switch {
	case len(o.lost()) > 0 || o.stitched.Lost > 0:
		return exitLost
	case o.stitched.Terminated > 0:
		return exitTerminated
	case o.stitched.Traversals == 0:
		return exitNothing
	}
	return exitDone
}

func plural(n uint64, noun string) string {
	s := strconv.FormatUint(n, 10) + " " + noun
	if n != 1 {
		s += "s"
	}
	return s
}
