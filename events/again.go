// SPDX-License-Identifier: Apache-2.0

package events

import "strings"

// segment is a piece of a TCP stream by the socket that sent it: a second
// packet with the same one is a retransmission.
type segment struct {
	netns uint32
	tuple plainTuple
	seq   uint32
}

// sentCopy is how the first packet with a segment ended.
type sentCopy struct {
	time       uint64 // ns: when it was sent
	verdict    Verdict
	where, say string
}

// sentSegments remembers the segments sent last.
type sentSegments struct {
	copies recent[segment, sentCopy]
}

// maxSegments bounds them. A retransmission comes within seconds.
const maxSegments = 8192

func (s *sentSegments) init() { s.copies.init(maxSegments) }

// longestACK is beyond the length of any IP packet with TCP options and no data.
const longestACK = 40 + 60

// takesSequence says whether a TCP packet surely has something that would be sent
// again: a SYN, a FIN or data. How long its options are is not known.
func takesSequence(tcpFlags uint8, length uint32) bool {
	return tcpFlags&tcpRST == 0 && (tcpFlags&(tcpSYN|tcpFIN|tcpPSH) != 0 || length > longestACK)
}

// again says of a retransmission where the first copy went, and remembers first
// copies; "" if it is none.
func (s *sentSegments) again(r *run, e *ending) string {
	first := &r.hops[0]
	h := first.hdr
	// 0 is what a recording says that has no sequence numbers.
	if h == nil || h.Proto != protoTCP || h.Seq == 0 || first.i > 0 || !takesSequence(h.TCPFlags, h.Length) {
		return ""
	}
	c, known := s.copies.put(segment{first.netns, plainTupleOf(&h.Tuple), h.Seq})
	switch {
	case !known:
		say := e.say
		if a, asks := e.ask.(*virtualAsk); asks {
			say = noneChosen(a.to) // why is not known yet
		}
		*c = sentCopy{first.time, e.verdict, e.where, say}
	case first.time > c.time:
		return "sent again: " + lapse(since(c.time, first.time)) + " later; the first copy ended: " + endingWords(c.verdict, c.where, c.say)
	}
	return ""
}

// endingWords say how a packet ended, without what it counts.
func endingWords(verdict Verdict, where, say string) string {
	switch verdict {
	case Terminated:
		return "terminated in " + orWords(whereWords[where], where) + ": " + say
	case InFlight:
		return "in flight: " + say
	case Delivered, LeftNode, Incomplete:
	}
	return strings.TrimSpace(say)
}
