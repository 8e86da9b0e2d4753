// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/stackhop/stackhop/events"
)

// An aftermath knows what connections refuse that have ended: a copy of something that
// was sent again, as slow guests do before an answer comes, or the last packets in
// another order than they were sent in, from two CPUs. The tool is right to show it.
type aftermath struct {
	resent map[string]bool // by flow, whether something was sent again in it
	// ends, by flow: when the first FIN or RST of it began.
	ends map[string]time.Time
	// overtaken, by flow: something came when its receiver was in TIME_WAIT, which
	// answers it with an ACK that the other end, having closed, refuses.
	overtaken map[string]bool
}

func newAftermath(all []*events.Traversal) aftermath {
	a := aftermath{resent: map[string]bool{}, ends: map[string]time.Time{}, overtaken: map[string]bool{}}
	for _, t := range all {
		a.resent[t.Flow] = a.resent[t.Flow] || noteOf(t, sentAgain) != ""
		a.overtaken[t.Flow] = a.overtaken[t.Flow] || strings.Contains(t.Summary, timeWait)
		if first, known := a.ends[t.Flow]; strings.ContainsAny(t.TCPFlags, "FR") && (!known || t.Time.Before(first)) {
			a.ends[t.Flow] = t.Time
		}
	}
	return a
}

// refused says whether a packet was, for one of these reasons.
func (a aftermath) refused(t *events.Traversal) bool {
	if t.Proto != "tcp" || t.Verdict != events.Terminated || t.Where != "socket" || t.Reason != "reset" && t.Reason != "no-socket" {
		return false
	}
	end, ended := a.ends[t.Flow]
	if !ended || t.Time.Before(end) || strings.Contains(t.TCPFlags, "S") {
		return false
	}
	return a.resent[t.Flow] || t.TCPFlags == "A" && a.overtaken[t.Flow]
}

// slowTCP lets the TCP of the pods and of the client outside take its time: an emulated
// guest on a busy machine answers later than in the 200 ms after which TCP takes data for
// lost. For the checks that compare each packet of healthy connections; quickTCP undoes it.
func slowTCP() error { return paceTCP(3*time.Second, "0") }

func quickTCP() error { return paceTCP(0, "3") }

// paceTCP sets how long TCP waits at least before it sends data again (0: what the kernel
// takes), and whether it probes for a lost tail after two round trips.
func paceTCP(wait time.Duration, probes string) error {
	names := []string{"outside"}
	for _, p := range pods {
		names = append(names, p.name)
	}
	return each(names, func(name string) error {
		h := openHost(name)
		defer h.close()
		h.rtoMin(wait)
		return errors.Join(h.err, inNetns(name, func() error {
			return setSysctls(map[string]string{"net.ipv4.tcp_early_retrans": probes})
		}))
	})
}

// withoutAftermath is packets without those that an ended connection refused.
func withoutAftermath(all []*events.Traversal) []*events.Traversal {
	return slices.DeleteFunc(slices.Clone(all), newAftermath(all).refused)
}
