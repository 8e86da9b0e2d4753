// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/stackhop/stackhop/events"
)

// An aftermath knows what connections refuse that have ended: a copy of something that
// was sent again, as slow guests do before an answer comes, or the last packets in
// another order than they were sent in, from two CPUs. The tool is right to show it.
type aftermath struct {
	resent map[string]bool // by flow, whether something was sent again in it
	// overtaken, by flow: something came when its receiver was in TIME_WAIT, which
	// answers it with an ACK that the other end, having closed, refuses.
	overtaken map[string]bool
}

func newAftermath(all []*events.Traversal) aftermath {
	a := aftermath{resent: map[string]bool{}, overtaken: map[string]bool{}}
	for _, t := range all {
		a.resent[t.Flow] = a.resent[t.Flow] || noteOf(t, sentAgain) != ""
		a.overtaken[t.Flow] = a.overtaken[t.Flow] || strings.Contains(t.Summary, timeWait)
	}
	return a
}

// refused says whether a packet was, for one of these reasons.
func (a aftermath) refused(t *events.Traversal) bool {
	if t.Proto != "tcp" || t.Verdict != events.Terminated || t.Where != "socket" || t.Reason != "reset" && t.Reason != "no-socket" {
		return false
	}
	return t.TCPFlags != "S" && a.resent[t.Flow] || t.TCPFlags == "A" && a.overtaken[t.Flow]
}
